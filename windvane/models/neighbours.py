"""Nearest neighbours: the mean target of the rows of the training part that are most alike."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.compiled import Encoded
from windvane.data.encoders import Encoder, float32
from windvane.data.store import join_rows, read_arrays, read_json, reading, split_rows, write_arrays, write_json
from windvane.data.table import Floats, Table
from windvane.data.task import Task
from windvane.models.base import Config, Param, Part, Setting, Value
from windvane.models.encoding import encoding_choices, encoding_space, weigh, weighing_space
from windvane.models.params import complete
from windvane.models.units import Units

# Every prediction looks at every row: above these, it takes seconds for a fold.
_MOST_ROWS, _MOST_CELLS = 50_000, 5_000_000
# Distances below this share of that to the farthest neighbour count as equal: a row that is there already would else
# decide alone, or not, by a rounding error.
CLOSEST = 1e-5


class Neighbours:
    """Nearest neighbours; they do not grow, so there is one step."""

    name = "neighbours"

    def supports(self, task: Task, table: Table) -> bool:
        """Tables that are small enough to be looked through for each prediction."""
        return task.n_rows <= _MOST_ROWS and task.n_rows * task.n_columns <= _MOST_CELLS

    def space(self, task: Task) -> dict[str, Param]:
        """How many neighbours, what each counts, by which metric, and encoding."""
        from optuna.distributions import CategoricalDistribution as Choice
        from optuna.distributions import IntDistribution as Int

        return {
            "n_neighbours": Param(Int(1, 100, log=True), 15),
            "weights": Param(Choice(["distance", "uniform"]), "distance"),
            "p": Param(Choice([1, 2]), 2),
            **encoding_space("standard"),
            **weighing_space(task),
        }

    def steps(self, config: Config, task: Task) -> tuple[int, ...]:
        """One."""
        return (1,)

    def start(
        self, config: Config, train: Part, valid: Part, setting: Setting, kept: Path | None = None
    ) -> NeighboursModel:
        """Encode the training part; the validation part is not needed."""
        config = complete(config, self.space(setting.task))
        encoder = Encoder(encoding_choices(config))
        features = float32(encoder.fit_transform(train.table, train.target, setting.task))
        units = Units.of(train.target, train.weight, setting.task)
        model = NeighboursModel(encoder, units, setting) if kept is None else self.load(kept, setting)
        weighed = weigh(config, train)
        weight = np.ones(len(train.target)) if weighed.weight is None else weighed.weight
        model.prepare(config, features, units.shrink(train.target), weight)
        return model

    def load(self, folder: Path, setting: Setting) -> NeighboursModel:
        """Open a kept state."""
        state = read_json(folder / "state.json")
        encoder = Encoder.load(folder)
        arrays = read_arrays(folder / "neighbours.npz")
        with reading(folder):
            model = NeighboursModel(encoder, Units(*state["units"]), setting)
            model.prepare(state["config"], join_rows(arrays), arrays["target"], arrays["weight"])
            model.finished = bool(state["finished"])
            model.iterations = model.best_iteration = int(model.finished)
            target, task = arrays["target"], setting.task
            sound = target.shape == arrays["weight"].shape == (model.rows.shape[0],)
            if task.is_classification:
                sound = sound and target.dtype.kind == "i" and 0 <= target.min() <= target.max() < task.n_classes
            if not sound:
                raise ValueError("rows and targets do not go together")
        return model


class NeighboursModel:
    """The rows to be compared with; see `windvane.models.base.Model`.

    Attributes
    ----------
    rows
        Encoded training part, float32, shape (n, q), dense or CSR.
    target, weight
        Its class codes, or numbers with mean 0 and spread 1, and its weights; shape (n,).
    classes
        Codes of the classes that it holds; empty for regression.
    config
        The hyperparameters that predict: ``n_neighbours``, ``weights`` and ``p``.
    """

    rows: Encoded
    target: NDArray[Any]
    weight: Floats

    def __init__(self, encoder: Encoder, units: Units, setting: Setting) -> None:
        self.iterations = self.best_iteration = 0
        self.finished = False
        self.classes: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.config: dict[str, Any] = {}
        self._encoder, self._units, self._setting = encoder, units, setting
        self._index: Any = None

    def prepare(self, config: dict[str, Value], rows: Encoded, target: NDArray[Any], weight: Floats) -> None:
        """Take the rows over."""
        self.config = {name: config[name] for name in ("n_neighbours", "weights", "p")}
        self.rows, self.target, self.weight = rows, target, weight
        if self._setting.task.is_classification:
            self.classes = np.unique(target).astype(np.intp)

    def grow(self, iterations: int, until: float = np.inf) -> None:
        """Nothing is left to be learned but the clock asked."""
        if not self.finished and time.monotonic() < until:
            self.iterations = self.best_iteration = 1
            self.finished = True

    def predict(self, table: Table) -> Floats:
        """Average the neighbours, or count their classes."""
        rows = float32(self._encoder.transform(table))
        if self._index is None:
            self._index = index_rows(self.rows, self.config["n_neighbours"], self.config["p"], self._setting.threads)
        distances, found = self._index.kneighbors(rows)  # (n, k) each
        counts = shares(distances, self.config["weights"])
        if self._setting.task.is_classification:
            return votes(counts, found, self.target, self.weight, self._setting.task.n_classes)
        return self._units.expand(mean_targets(counts, found, self.target, self.weight))

    def save(self, folder: Path) -> None:
        """Write the encoder, ``neighbours.npz`` and ``state.json``."""
        self._encoder.save(folder)
        arrays = {"target": self.target, "weight": self.weight, **split_rows(self.rows)}
        write_arrays(folder / "neighbours.npz", arrays)
        state = {"finished": self.finished, "config": self.config}
        write_json(folder / "state.json", {**state, "units": [self._units.mean, self._units.spread]})


def index_rows(rows: Encoded, n_neighbours: int, p: int, threads: int = 1) -> Any:
    """Make scikit-learn's index of rows, for as many neighbours as there are."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=min(n_neighbours, rows.shape[0]), p=p, n_jobs=threads).fit(rows)


def shares(distances: Floats, weights: str) -> Floats:
    """Say how much each neighbour counts, 1 on average: all the same, or by one over the distance; shape (n, k)."""
    if weights == "uniform":
        return np.ones(distances.shape)
    distances = distances.astype(np.float64)  # those of CSR rows are float32
    farthest = distances[:, -1:]
    share = 1 / np.maximum(distances / np.where(farthest > 0, farthest, 1.0), CLOSEST)
    return np.asarray(share / (share.sum(axis=1, keepdims=True) / distances.shape[1]))


def mean_targets(share: Floats, found: NDArray[np.intp], target: NDArray[Any], weight: Floats) -> Floats:
    """Average the targets of the neighbours found; shape (n,)."""
    counts = share * weight[found]  # (n, k)
    total = counts.sum(axis=1)
    return np.asarray((counts * target[found]).sum(axis=1) / np.where(total > 0, total, 1.0))


def votes(
    share: Floats, found: NDArray[np.intp], target: NDArray[Any], weight: Floats, n_classes: int
) -> Floats:  # (n, n_classes)
    """Count the classes of the neighbours found, and one row more that has them in the shares of all rows."""
    counts = share * weight[found]  # (n, k)
    flat = target[found] + n_classes * np.arange(len(found))[:, None]  # (n, k): cell of the table of votes
    cells = np.bincount(flat.ravel(), weights=counts.ravel(), minlength=len(found) * n_classes)
    prior = np.bincount(target, weights=weight, minlength=n_classes) / weight.sum()
    together = cells.reshape(-1, n_classes) + prior * weight.mean()  # (n, n_classes)
    return np.asarray(together / together.sum(axis=1, keepdims=True))

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
_SAME = 1e-5


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
    """

    rows: Encoded

    def __init__(self, encoder: Encoder, units: Units, setting: Setting) -> None:
        self.iterations = self.best_iteration = 0
        self.finished = False
        self._encoder, self._units, self._setting = encoder, units, setting
        self._index: Any = None

    def prepare(self, config: dict[str, Value], rows: Encoded, target: NDArray[Any], weight: Floats) -> None:
        """Take the rows over."""
        self._config = {name: config[name] for name in ("n_neighbours", "weights", "p")}
        self.rows, self._target, self._weight = rows, target, weight

    def grow(self, iterations: int, until: float = np.inf) -> None:
        """Nothing is left to be learned but the clock asked."""
        if not self.finished and time.monotonic() < until:
            self.iterations = self.best_iteration = 1
            self.finished = True

    def predict(self, table: Table) -> Floats:
        """Average the neighbours; to classes, one more row that has them in the shares of all rows belongs."""
        rows = float32(self._encoder.transform(table))
        if self._index is None:
            self._index = _index(self._config, self.rows, self._setting.threads)
        distances, found = self._index.kneighbors(rows)  # (n, k) each
        share = np.ones(distances.shape)
        if self._config["weights"] == "distance":
            farthest = distances[:, -1:]
            share = 1 / np.maximum(distances / np.where(farthest > 0, farthest, 1.0), _SAME)
            share /= share.sum(axis=1, keepdims=True) / distances.shape[1]
        weight = share * self._weight[found]  # (n, k)
        if not self._setting.task.is_classification:
            total = weight.sum(axis=1)
            mean = (weight * self._target[found]).sum(axis=1) / np.where(total > 0, total, 1.0)
            return self._units.expand(mean)
        n_classes = self._setting.task.n_classes
        flat = self._target[found] + n_classes * np.arange(len(found))[:, None]  # (n, k): cell of the table of votes
        votes = np.bincount(flat.ravel(), weights=weight.ravel(), minlength=len(found) * n_classes)
        prior = np.bincount(self._target, weights=self._weight, minlength=n_classes) / self._weight.sum()
        together = votes.reshape(-1, n_classes) + prior * self._weight.mean()  # (n, n_classes)
        return np.asarray(together / together.sum(axis=1, keepdims=True))

    def save(self, folder: Path) -> None:
        """Write the encoder, ``neighbours.npz`` and ``state.json``."""
        self._encoder.save(folder)
        arrays = {"target": self._target, "weight": self._weight, **split_rows(self.rows)}
        write_arrays(folder / "neighbours.npz", arrays)
        state = {"finished": self.finished, "config": self._config}
        write_json(folder / "state.json", {**state, "units": [self._units.mean, self._units.spread]})


def _index(config: Config, rows: Encoded, threads: int) -> Any:
    from sklearn.neighbors import NearestNeighbors

    k = min(int(config["n_neighbours"]), rows.shape[0])
    return NearestNeighbors(n_neighbors=k, p=config["p"], n_jobs=threads).fit(rows)

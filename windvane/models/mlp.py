"""Multilayer perceptrons of scikit-learn, trained epoch by epoch with Adam.

Early stopping is our own: on the validation part, with the best weights kept. Each epoch has its own seed, so that
growing in steps, or from a kept state, is exactly one training.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from windvane.data.encoders import Encoder, float32
from windvane.data.store import read_arrays, read_json, reading, write_arrays, write_json
from windvane.data.table import Floats, Table
from windvane.data.task import Task
from windvane.models.base import Config, Param, Part, Setting
from windvane.models.curve import Curve
from windvane.models.encoding import encoding_choices, encoding_space, weigh, weighing_space
from windvane.models.layers import PORTION
from windvane.models.params import complete
from windvane.models.units import Units

Single = NDArray[np.float32]

_STEPS = (4, 8, 16, 32, 64, 128, 256, 512)
_PATIENCE = 32  # Auto-Sklearn 2.0's
# Rows up to which a batch has so many; pytabkit's rule.
_BATCHES = ((1024, 64), (8192, 128), (30_000, 256), (100_000, 512))
_LARGEST_BATCH = 1024


class MLP:
    """Fully connected networks."""

    name = "mlp"

    def supports(self, task: Task, table: Table) -> bool:
        """Every task and table."""
        return True

    def space(self, task: Task) -> dict[str, Param]:
        """Ranges of Auto-Sklearn 2.0; wider by default, with a learning rate that cannot diverge so easily."""
        from optuna.distributions import CategoricalDistribution as Choice
        from optuna.distributions import FloatDistribution as Float
        from optuna.distributions import IntDistribution as Int

        return {
            "depth": Param(Int(1, 3), 2),
            "width": Param(Int(16, 264, log=True), 128),
            "activation": Param(Choice(["relu", "tanh"]), "relu"),
            "learning_rate": Param(Float(1e-4, 3e-2, log=True), 1e-3),
            "alpha": Param(Float(1e-7, 1e-1, log=True), 1e-4),
            **encoding_space("quantile"),
            **weighing_space(task),
        }

    def steps(self, config: Config, task: Task) -> tuple[int, ...]:
        """4 to 512 epochs."""
        return _STEPS

    def start(self, config: Config, train: Part, valid: Part, setting: Setting, kept: Path | None = None) -> MLPModel:
        """Encode, and take over weights and moments of a kept state."""
        task = setting.task
        config = complete(config, self.space(task))
        encoder = Encoder(encoding_choices(config))
        features = float32(encoder.fit_transform(train.table, train.target, task))
        units = Units.of(train.target, train.weight, task)
        model = MLPModel(encoder, units, setting) if kept is None else self.load(kept, setting)
        model.prepare(_network(config, len(train.target), task), features, weigh(config, train), valid)
        return model

    def load(self, folder: Path, setting: Setting) -> MLPModel:
        """Open a kept state; continuing needs `start`."""
        state = read_json(folder / "state.json")
        encoder = Encoder.load(folder)
        arrays = read_arrays(folder / "mlp.npz")
        with reading(folder):
            model = MLPModel(encoder, Units(*state["units"]), setting)
            model.curve = Curve(_PATIENCE, state["losses"])
            model.iterations, model.best_iteration = len(model.curve.losses), model.curve.best
            model.finished, model.updates = bool(state["finished"]), int(state["updates"])
            model.activation = state["activation"]
            for i in range(2 * int(state["layers"])):
                for name in ("best", "now", "means", "squares"):
                    getattr(model, name).append(arrays[f"{name}_{i}"].astype(np.float32, casting="safe"))
            model.check()
        return model


class MLPModel:
    """One network being trained; see `windvane.models.base.Model`.

    Attributes
    ----------
    best, now
        Weights, then biases of all layers: of the best epoch, and of the last.
    means, squares
        Adam's moments of the same shapes, after so many ``updates``.
    activation
        "relu" or "tanh".
    """

    def __init__(self, encoder: Encoder, units: Units, setting: Setting) -> None:
        self.iterations = self.best_iteration = 0
        self.finished = False
        self.curve = Curve(_PATIENCE)
        self.activation, self.updates = "relu", 0
        self.best: list[Single] = []
        self._widened: tuple[list[Single], list[Floats]] | None = None
        self.now: list[Single] = []
        self.means: list[Single] = []
        self.squares: list[Single] = []
        self._encoder, self._units, self._setting = encoder, units, setting

    def check(self) -> None:
        """Refuse weights and moments that do not go together."""
        shapes = [[array.shape for array in arrays] for arrays in (self.best, self.now, self.means, self.squares)]
        if shapes.count(shapes[0]) != len(shapes) or self.activation not in ("relu", "tanh"):
            raise ValueError("weights and moments do not go together")

    def prepare(self, network: Any, features: Any, train: Part, valid: Part) -> None:
        """Encode the validation part; put weights and moments that were kept into the network."""
        self._network, self._features, self._train = network, features, train
        target = self._units.shrink(train.target)
        # Float32 like the features, or scikit-learn would compute in float64.
        self._target = target if self._setting.task.is_classification else target.astype(np.float32)
        self._known = float32(self._encoder.transform(valid.table))
        self._valid = valid
        self.activation = network.activation
        if not self.iterations:
            return
        self._learn(slice(0, network.batch_size))  # makes everything that the network has, to be overwritten
        for arrays, kept in zip(self._inside(), (self.now, self.means, self.squares), strict=True):
            for array, values in zip(arrays, kept, strict=True):
                np.copyto(array, values)
        network._optimizer.t = self.updates

    def grow(self, iterations: int, until: float = np.inf) -> None:
        """Train up to this many epochs; the clock is asked before each."""
        while self.iterations < min(iterations, _STEPS[-1]) and not self.finished and time.monotonic() < until:
            self._epoch()

    def _epoch(self) -> None:
        seeds = np.random.SeedSequence([self._setting.seed, self.iterations])
        self._network.random_state = int(seeds.generate_state(1)[0])
        try:
            self._learn(slice(None))
        except ValueError:
            # scikit-learn refuses weights that are not finite: the learning rate is too high, the best ones remain.
            diverged = not all(np.isfinite(array).all() for array in self._inside()[0])
            if self.iterations == 0 or not diverged:
                raise
            self.finished = True
            return
        now, means, squares = self._inside()
        self.now, self.means, self.squares, self.updates = now, means, squares, int(self._network._optimizer.t)
        if self.curve.add(self._loss()):
            self.best = [array.copy() for array in now]
        self.iterations, self.best_iteration = len(self.curve.losses), self.curve.best
        self.finished = self.curve.stalled or self.iterations >= _STEPS[-1]

    def _learn(self, rows: slice) -> None:
        # Float32 as well: scikit-learn would make the network float64.
        weight = None if self._train.weight is None else self._train.weight[rows].astype(np.float32)
        task = self._setting.task
        classes = {"classes": np.arange(task.n_classes)} if task.is_classification else {}
        with np.errstate(over="ignore", invalid="ignore"):
            self._network.partial_fit(self._features[rows], self._target[rows], sample_weight=weight, **classes)

    def _inside(self) -> tuple[list[Single], list[Single], list[Single]]:
        network, optimizer = self._network, self._network._optimizer
        return [*network.coefs_, *network.intercepts_], optimizer.ms, optimizer.vs

    def _loss(self) -> float:
        scores, target = _forward(self._known, self._inside()[0], self.activation), self._valid.target
        if not self._setting.task.is_classification:
            losses = (scores[:, 0] - self._units.shrink(target)) ** 2
        else:
            losses = -log_softmax(_logits(scores), axis=1)[np.arange(len(target)), target]
        return float(np.average(losses, weights=self._valid.weight))

    def predict(self, table: Table) -> Floats:
        """Predict with the weights of the best epoch."""
        # In float64: a row's prediction then depends neither on its neighbours nor on threads beyond 1e-15.
        features = float32(self._encoder.transform(table)).astype(np.float64)
        portions = (features[start : start + PORTION] for start in range(0, max(features.shape[0], 1), PORTION))
        scores = np.vstack([_forward(rows, self._wide(), self.activation) for rows in portions])  # (n, outputs)
        if not self._setting.task.is_classification:
            return self._units.expand(scores[:, 0])
        return np.asarray(softmax(_logits(scores), axis=1))

    def _wide(self) -> list[Floats]:
        """Give the best weights in float64, converted once for many predictions."""
        if self._widened is None or self._widened[0] is not self.best:
            self._widened = (self.best, [array.astype(np.float64) for array in self.best])
        return self._widened[1]

    def save(self, folder: Path) -> None:
        """Write the encoder, ``mlp.npz`` and ``state.json``."""
        self._encoder.save(folder)
        groups = {"best": self.best, "now": self.now, "means": self.means, "squares": self.squares}
        arrays = {f"{name}_{i}": array for name, group in groups.items() for i, array in enumerate(group)}
        write_arrays(folder / "mlp.npz", arrays)
        state = {"finished": self.finished, "losses": self.curve.losses, "layers": len(self.best) // 2}
        state |= {"activation": self.activation, "updates": self.updates}
        write_json(folder / "state.json", {**state, "units": [self._units.mean, self._units.spread]})


def _forward(features: Any, arrays: list[Any], activation: str) -> Floats:
    """Run the network: scores of shape (n, outputs), before the last function."""
    layers = len(arrays) // 2
    hidden = features
    for i, (weights, bias) in enumerate(zip(arrays[:layers], arrays[layers:], strict=True)):
        hidden = hidden @ weights + bias
        if i < layers - 1:
            hidden = np.tanh(hidden) if activation == "tanh" else np.maximum(hidden, 0)
    return np.asarray(hidden, dtype=np.float64)


def _logits(scores: Floats) -> Floats:
    """Give two classes a score each, where the network has one for both."""
    return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores


def _network(config: Config, n_rows: int, task: Task) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    batch = next((size for most, size in _BATCHES if n_rows <= most), _LARGEST_BATCH)
    kind = MLPClassifier if task.is_classification else MLPRegressor
    return kind(
        hidden_layer_sizes=(config["width"],) * int(config["depth"]),
        activation=config["activation"],
        alpha=config["alpha"],
        learning_rate_init=config["learning_rate"],
        batch_size=min(batch, n_rows),
    )

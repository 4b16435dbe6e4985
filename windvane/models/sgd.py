"""Linear models by stochastic gradient descent, epoch by epoch: hinge, logistic and other losses.

Each epoch has its own seed, so that growing in steps, or from a kept state, is exactly one training. Early stopping is
our own, on the validation part. Losses that know no probabilities get them from a sigmoid, which is fitted to a fifth
of the training part that the coefficients are not learned from.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.compiled import Encoded
from windvane.data.encoders import Encoder
from windvane.data.store import read_arrays, read_json, reading, write_arrays, write_json
from windvane.data.table import Floats, Table
from windvane.data.task import Task
from windvane.models.base import Config, Param, Part, Setting, Value
from windvane.models.calibration import Sigmoids, held_out
from windvane.models.curve import Curve, validation_loss
from windvane.models.encoding import encoding_choices, encoding_space, weigh, weighing_space
from windvane.models.params import complete
from windvane.models.units import Units

_STEPS = (8, 16, 32, 64, 128, 256, 512, 1024)
_PATIENCE = 20
# Training ends, too, where the second half of the epochs made the loss less than this share lower.
_CREEPING, _FEWEST_EPOCHS = 1e-3, 32
_CLASSIFICATION = ("log_loss", "hinge", "modified_huber", "squared_hinge", "perceptron")
_REGRESSION = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")
_PASSIVE = "passive_aggressive"
# Every so-manieth row calibrates, of large parts fewer; below so many, all rows do, and all are learned from.
_EVERY, _ENOUGH, _FEWEST = 5, 4000, 10


class SGD:
    """Linear models trained on one row at a time."""

    name = "sgd"

    def supports(self, task: Task, table: Table) -> bool:
        """Every task and table."""
        return True

    def space(self, task: Task) -> dict[str, Param]:
        """Ranges of Auto-Sklearn 2.0's two families, SGD and passive-aggressive; the regression ones are alike."""
        from optuna.distributions import CategoricalDistribution as Choice
        from optuna.distributions import FloatDistribution as Float

        losses = _CLASSIFICATION if task.is_classification else _REGRESSION
        descent: dict[str, tuple[Value, ...]] = {"loss": losses}
        passive: dict[str, tuple[Value, ...]] = {"loss": (_PASSIVE,)}
        step = 1e-2 if task.is_classification else 1e-3
        margin = {} if task.is_classification else {"epsilon": _margin()}
        return {
            "loss": Param(Choice([*losses, _PASSIVE]), losses[0]),
            **margin,
            "penalty": Param(Choice(["l2", "l1", "elasticnet"]), "l2", when=descent),
            "alpha": Param(Float(1e-7, 1e-1, log=True), 1e-4, when=descent),
            "l1_ratio": Param(Float(1e-9, 1.0, log=True), 0.15, when={"penalty": ("elasticnet",)}),
            "schedule": Param(Choice(["optimal", "invscaling", "constant"]), "constant", when=descent),
            "eta0": Param(Float(1e-7, 1e-1, log=True), step, when={"schedule": ("invscaling", "constant")}),
            "power_t": Param(Float(1e-5, 1.0), 0.25, when={"schedule": ("invscaling",)}),
            "variant": Param(Choice(["pa1", "pa2"]), "pa1", when=passive),
            "C": Param(Float(1e-5, 10.0, log=True), 1.0, when=passive),
            "average": Param(Choice([False, True]), False),
            **encoding_space("standard"),
            **weighing_space(task),
        }

    def steps(self, config: Config, task: Task) -> tuple[int, ...]:
        """8 to 1024 epochs."""
        return _STEPS

    def start(self, config: Config, train: Part, valid: Part, setting: Setting, kept: Path | None = None) -> SGDModel:
        """Encode, and take over the coefficients of a kept state."""
        task = setting.task
        config = complete(config, self.space(task))
        encoder = Encoder(encoding_choices(config))
        features = encoder.fit_transform(train.table, train.target, task)
        units = Units.of(train.target, train.weight, task)
        model = SGDModel(encoder, units, setting) if kept is None else self.load(kept, setting)
        model.prepare(config, features, weigh(config, train), valid)
        return model

    def load(self, folder: Path, setting: Setting) -> SGDModel:
        """Open a kept state; continuing needs `start`."""
        state = read_json(folder / "state.json")
        encoder = Encoder.load(folder)
        arrays = read_arrays(folder / "sgd.npz")
        with reading(folder):
            model = SGDModel(encoder, Units(*state["units"]), setting)
            model.curve = Curve(_PATIENCE, state["losses"])
            model.iterations, model.best_iteration = len(model.curve.losses), model.curve.best
            model.finished = bool(state["finished"])
            model.now, model.mean, model.best = (
                arrays[name].astype(np.float64, casting="safe") for name in ("now", "mean", "best")
            )
            model.classes = arrays["classes"].astype(np.intp, casting="safe")
            model.sigmoids = Sigmoids(arrays["slope"].astype(np.float64), arrays["shift"].astype(np.float64))
            model.check()
        return model


class SGDModel:
    """One linear model being trained; see `windvane.models.base.Model`.

    Attributes
    ----------
    now, mean, best
        Coefficients and, last, the intercept: of the last epoch, their mean over all epochs, those that predict. Shape
        (k, q + 1): one row for two classes or a number, else one for each class of the training part.
    classes
        Codes of the classes that the training part holds; empty for regression.
    sigmoids
        What turns the scores of `best` into probabilities.
    """

    def __init__(self, encoder: Encoder, units: Units, setting: Setting) -> None:
        self.iterations = self.best_iteration = 0
        self.finished = False
        self.curve = Curve(_PATIENCE)
        self.now = self.mean = self.best = np.zeros((1, 1))
        self.classes: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.sigmoids = Sigmoids.plain(1)
        self._encoder, self._units, self._setting = encoder, units, setting

    def check(self) -> None:
        """Refuse coefficients that do not go together."""
        k = len(self.classes) if len(self.classes) > 2 else 1
        shapes = {array.shape for array in (self.now, self.mean, self.best)}
        if shapes != {(k, self.now.shape[1])} or not self.sigmoids.slope.shape == self.sigmoids.shift.shape == (k,):
            raise ValueError("coefficients and classes do not go together")

    def prepare(self, config: dict[str, Value], features: Encoded, train: Part, valid: Part) -> None:
        """Set rows aside for the sigmoids; make the estimator, with the coefficients that were kept in it."""
        self._valid, self._known = valid, self._encoder.transform(valid.table)
        self._average = bool(config["average"])
        target, weight = self._units.shrink(train.target), train.weight
        chosen = np.zeros(len(target), dtype=bool)
        if self._setting.task.is_classification:
            self.classes = np.unique(target).astype(np.intp)
            if config["loss"] != "log_loss":
                every = max(_EVERY, math.ceil(len(target) / _ENOUGH))
                chosen = held_out(target, every, np.random.default_rng(self._setting.seed))
        few = chosen.sum() < _FEWEST
        learned = np.flatnonzero(~chosen | few)
        self._rows = features[learned], target[learned], None if weight is None else weight[learned]
        self._sigmoid_rows: tuple[Encoded, Any, Any] | None = None
        if self._setting.task.is_classification and config["loss"] != "log_loss":
            rows = np.flatnonzero(chosen | few)
            codes = np.searchsorted(self.classes, target[rows])
            self._sigmoid_rows = features[rows], codes, None if weight is None else weight[rows]
        k = len(self.classes) if len(self.classes) > 2 else 1
        if self.iterations == 0:
            self.now = self.mean = self.best = np.zeros((k, features.shape[1] + 1))
            self.sigmoids = Sigmoids.plain(k)
        self._estimator = _estimator(config, self._setting.task)
        self._put_in()

    def _put_in(self) -> None:
        """Give the estimator what it would have after the epochs so far."""
        classify = self._setting.task.is_classification
        coefficients = np.ascontiguousarray(self.now[:, :-1])
        self._estimator.coef_ = coefficients if classify else coefficients[0]
        self._estimator.intercept_ = self.now[:, -1].copy()
        self._estimator.t_ = 1.0 + self.iterations * len(self._rows[1])
        if classify:
            self._estimator.classes_ = self.classes

    def grow(self, iterations: int, until: float = np.inf) -> None:
        """Train up to this many epochs; the clock is asked before each."""
        while self.iterations < min(iterations, _STEPS[-1]) and not self.finished and time.monotonic() < until:
            if len(self.classes) == 1:
                self.curve.add(0.0)
                self.iterations, self.best_iteration, self.finished = 1, 1, True
            else:
                self._epoch()

    def _epoch(self) -> None:
        seeds = np.random.SeedSequence([self._setting.seed, self.iterations])
        self._estimator.random_state = int(seeds.generate_state(1)[0])
        features, target, weight = self._rows
        try:
            self._estimator.partial_fit(features, target, sample_weight=weight)
        except ValueError:
            # scikit-learn refuses coefficients that are not finite: the steps are too long, the best ones remain.
            if np.isfinite(self._estimator.coef_).all() and np.isfinite(self._estimator.intercept_).all():
                raise
            self.finished = True
            self.curve.add(math.inf)
        else:
            self.now = np.column_stack([np.atleast_2d(self._estimator.coef_), self._estimator.intercept_])
            self.mean = self.mean + (self.now - self.mean) / (self.iterations + 1)
            self._judge(self.mean if self._average else self.now)
        self.iterations, self.best_iteration = len(self.curve.losses), self.curve.best
        self.finished |= self.curve.stalled or self._creeps() or self.iterations >= _STEPS[-1]

    def _creeps(self) -> bool:
        losses = self.curve.losses
        before = min(losses[: len(losses) // 2], default=math.inf)
        return len(losses) >= _FEWEST_EPOCHS and min(losses) > before - _CREEPING * abs(before)

    def _judge(self, coefficients: Floats) -> None:
        sigmoids = self.sigmoids
        if self._sigmoid_rows is not None:
            features, codes, weight = self._sigmoid_rows
            sigmoids = Sigmoids.fit(_scores(features, coefficients), codes, weight)
        found = self._finish(_scores(self._known, coefficients), sigmoids)
        if self.curve.add(validation_loss(found, self._valid, self._setting.task, self._units)):
            self.best, self.sigmoids = coefficients, sigmoids

    def _finish(self, scores: Floats, sigmoids: Sigmoids) -> Floats:
        if not self._setting.task.is_classification:
            return self._units.expand(scores[:, 0])
        found = np.zeros((len(scores), self._setting.task.n_classes))
        found[:, self.classes] = 1.0 if len(self.classes) == 1 else sigmoids(scores)
        return found

    def predict(self, table: Table) -> Floats:
        """Predict with the coefficients of the best epoch."""
        return self._finish(_scores(self._encoder.transform(table), self.best), self.sigmoids)

    def save(self, folder: Path) -> None:
        """Write the encoder, ``sgd.npz`` and ``state.json``."""
        self._encoder.save(folder)
        arrays = {"now": self.now, "mean": self.mean, "best": self.best, "classes": self.classes}
        write_arrays(folder / "sgd.npz", {**arrays, "slope": self.sigmoids.slope, "shift": self.sigmoids.shift})
        state = {"finished": self.finished, "losses": self.curve.losses}
        write_json(folder / "state.json", {**state, "units": [self._units.mean, self._units.spread]})


def _margin() -> Param:
    from optuna.distributions import FloatDistribution as Float

    losses = ("huber", "epsilon_insensitive", "squared_epsilon_insensitive", _PASSIVE)
    return Param(Float(1e-5, 1e-1, log=True), 0.1, when={"loss": losses})


def _scores(features: Encoded, coefficients: Floats) -> Floats:
    """Give scores of shape (n, k)."""
    return np.asarray(features @ coefficients[:, :-1].T + coefficients[:, -1])


def _estimator(config: Config, task: Task) -> Any:
    from sklearn.linear_model import SGDClassifier, SGDRegressor

    kind = SGDClassifier if task.is_classification else SGDRegressor
    margin = {"epsilon": config["epsilon"]} if "epsilon" in config else {}
    if config["loss"] == _PASSIVE:  # Crammer et al. (2006): a learning rate of its own, and no penalty
        loss = "hinge" if task.is_classification else "epsilon_insensitive"
        return kind(loss=loss, penalty=None, learning_rate=config["variant"], eta0=config["C"], **margin)
    return kind(
        loss=config["loss"],
        penalty=config["penalty"],
        alpha=config["alpha"],
        l1_ratio=config.get("l1_ratio", 0.15),
        learning_rate=config["schedule"],
        eta0=config.get("eta0", 0.01),
        power_t=config.get("power_t", 0.5),
        **margin,
    )

"""Kernel machines: logistic or ridge regression on the kernels between rows and landmarks.

Nystroem's method: landmarks are rows of the training part, drawn once; a larger set contains the smaller ones, and all
rows together are the exact kernel machine. So a model grows by landmarks: each total is solved from the beginning,
which costs a multiple of the total before it, and depends on nothing but the total.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from windvane.data.compiled import Encoded
from windvane.data.encoders import Encoder
from windvane.data.store import join_rows, read_arrays, read_json, reading, split_rows, write_arrays, write_json
from windvane.data.table import Floats, Table
from windvane.data.task import Task
from windvane.models.base import Config, Param, Part, Setting, Value
from windvane.models.encoding import encoding_choices, encoding_space, weigh, weighing_space
from windvane.models.links import from_scores
from windvane.models.logistic import descend
from windvane.models.params import complete
from windvane.models.units import Units

_STEPS = (64, 128, 256, 512, 1024)
# Kernels of a training part that are held at once; a row more, and the landmarks are fewer.
_MOST_KERNELS = 4e7
# Rows x outputs above which the first step alone takes longer than linear models that do as well there.
_MOST_ROWS = 300_000
_DISTANCE_ROWS = 500  # whose distances give the unit of gamma
# Steps of the optimiser between looks at the clock.
_PORTIONS = (20, 60, 120)
_JITTER = 1e-8  # added to the diagonal of the kernels between landmarks, as a share of its mean


class Kernel:
    """Kernel logistic and ridge regression."""

    name = "kernel"

    def supports(self, task: Task, table: Table) -> bool:
        """Tables with few enough rows for kernels to pay."""
        return task.n_rows * task.n_outputs <= _MOST_ROWS

    def space(self, task: Task) -> dict[str, Param]:
        """Kernel, its width in units of the median distance between rows, penalty and encoding."""
        from optuna.distributions import CategoricalDistribution as Choice
        from optuna.distributions import FloatDistribution as Float
        from optuna.distributions import IntDistribution as Int

        if task.is_classification:
            penalty = {"C": Param(Float(1e-2, 1e3, log=True), 30.0)}
        else:
            penalty = {"alpha": Param(Float(1e-3, 1e2, log=True), 0.1)}
        return {
            **penalty,
            "kernel": Param(Choice(["rbf", "laplacian", "polynomial"]), "rbf"),
            "gamma": Param(Float(1e-2, 10.0, log=True), 0.5),
            "degree": Param(Int(2, 4), 3, when={"kernel": ("polynomial",)}),
            **encoding_space("standard"),
            **weighing_space(task),
        }

    def steps(self, config: Config, task: Task) -> tuple[int, ...]:
        """64 to 1024 landmarks, fewer where rows are many."""
        return tuple(step for step in _STEPS if step * task.n_rows <= _MOST_KERNELS) or _STEPS[:1]

    def start(
        self, config: Config, train: Part, valid: Part, setting: Setting, kept: Path | None = None
    ) -> KernelModel:
        """Encode the training part; the validation part is not needed."""
        config = complete(config, self.space(setting.task))
        encoder = Encoder(encoding_choices(config))
        features = encoder.fit_transform(train.table, train.target, setting.task)
        units = Units.of(train.target, train.weight, setting.task)
        model = KernelModel(encoder, units, setting) if kept is None else self.load(kept, setting)
        model.prepare(config, features, weigh(config, train), self.steps(config, setting.task)[-1])
        return model

    def load(self, folder: Path, setting: Setting) -> KernelModel:
        """Open a kept state."""
        state = read_json(folder / "state.json")
        encoder = Encoder.load(folder)
        arrays = read_arrays(folder / "kernel.npz")
        with reading(folder):
            model = KernelModel(encoder, Units(*state["units"]), setting)
            model.iterations = model.best_iteration = int(state["iterations"])
            model.finished = bool(state["finished"])
            model.kernel, model.gamma, model.degree = state["kernel"], float(state["gamma"]), int(state["degree"])
            model.landmarks = join_rows(arrays)
            model.dual, model.intercept, model.classes = arrays["dual"], arrays["intercept"], arrays["classes"]
            if model.dual.shape != (model.landmarks.shape[0], len(model.intercept)):
                raise ValueError("landmarks and coefficients do not go together")
        return model


class KernelModel:
    """One kernel machine; see `windvane.models.base.Model`.

    Attributes
    ----------
    kernel, gamma, degree
        Name and parameters of the kernel.
    landmarks
        Encoded rows, shape (m, q), dense or CSR.
    dual, intercept
        Coefficients of the kernels, shape (m, k), and (k,): one column for two classes or a number, else one for each
        class of the training part.
    classes
        Codes of the classes that the training part holds; empty for regression.
    """

    landmarks: Encoded
    dual: Floats
    intercept: Floats

    def __init__(self, encoder: Encoder, units: Units, setting: Setting) -> None:
        self.iterations = self.best_iteration = 0
        self.finished = False
        self.kernel, self.gamma, self.degree = "rbf", 1.0, 3
        self.classes: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._encoder, self._units, self._setting = encoder, units, setting
        self._seconds = 0.0  # that the last total took

    def prepare(self, config: dict[str, Value], features: Encoded, train: Part, most: int) -> None:
        """Choose the unit of the kernel's width."""
        self._features, self._train = features, train
        self._most = min(most, features.shape[0])
        self._penalty = float(config["C"] if self._setting.task.is_classification else config["alpha"])
        self.kernel, self.degree = str(config["kernel"]), int(config.get("degree", 3))
        self._order = np.random.default_rng(self._setting.seed).permutation(features.shape[0])
        self.gamma = float(config["gamma"]) / _distance(features[self._order[:_DISTANCE_ROWS]], self.kernel)
        if self._setting.task.is_classification:
            self.classes = np.unique(train.target).astype(np.intp)

    def grow(self, iterations: int, until: float = np.inf) -> None:
        """Solve for this many landmarks; with a deadline for fewer first, as many as the time carries."""
        goal = min(iterations, self._most)
        while self.iterations < goal and not self.finished and time.monotonic() < until:
            total, factor = goal, 0.0
            if until < np.inf:
                total = min(goal, max(_STEPS[0], 2 * self.iterations))
                # Of the cost, nothing grows faster than with the third power.
                factor = (total / self.iterations) ** 3 if self.iterations else 0.0
            if time.monotonic() + factor * self._seconds > until:
                return
            self._solve(total, until)

    def _solve(self, total: int, until: float) -> None:
        begin = time.monotonic()
        if len(self.classes) == 1:  # a training part of one class: all certainty
            self.landmarks, self.dual, self.intercept = self._features[:1], np.zeros((1, 1)), np.zeros(1)
            self.iterations = self.best_iteration = self._most
        else:
            landmarks = self._features[self._order[:total]]
            root = _root(self._kernels(landmarks, landmarks))  # (m, m), lower triangle
            # Features whose products are the kernels, as seen from the landmarks; shape (n, m).
            mapped = solve_triangular(root, self._kernels(landmarks, self._features), lower=True).T
            estimator = self._descend(mapped, until) if self._setting.task.is_classification else self._ridge(mapped)
            if estimator is None:
                return
            coefficients = np.atleast_2d(estimator.coef_).T  # (m, k)
            self.landmarks = landmarks
            self.dual = solve_triangular(root, coefficients, lower=True, trans="T")
            self.intercept = np.atleast_1d(estimator.intercept_)
            self.iterations = self.best_iteration = total
        self.finished = self.iterations >= self._most
        self._seconds = time.monotonic() - begin

    def _kernels(self, rows: Encoded, others: Encoded) -> Floats:
        return kernels_between(rows, others, self.kernel, self.gamma, self.degree)

    def _ridge(self, mapped: Floats) -> Any:
        from sklearn.linear_model import Ridge

        target = self._units.shrink(self._train.target)
        return Ridge(alpha=self._penalty, solver="cholesky").fit(mapped, target, self._train.weight)

    def _descend(self, mapped: Floats, until: float) -> Any:
        """Fit a logistic regression; None where the clock ends it and there is an earlier total."""
        from sklearn.linear_model import LogisticRegression

        estimator = LogisticRegression(C=self._penalty, warm_start=True)
        ended = descend(estimator, mapped, self._train, _PORTIONS, until)
        return estimator if ended or not self.iterations else None

    def predict(self, table: Table) -> Floats:
        """Predict with the landmarks so far."""
        kernels = self._kernels(self._encoder.transform(table), self.landmarks)  # (n, m)
        scores = np.asarray(kernels @ self.dual + self.intercept)  # (n, k)
        return from_scores(scores, self.classes, self._setting.task, self._units)

    def save(self, folder: Path) -> None:
        """Write the encoder, ``kernel.npz`` and ``state.json``."""
        self._encoder.save(folder)
        arrays = {"dual": self.dual, "intercept": self.intercept, "classes": self.classes}
        write_arrays(folder / "kernel.npz", {**arrays, **split_rows(self.landmarks)})
        state: dict[str, Any] = {"iterations": self.iterations, "finished": self.finished}
        state |= {"kernel": self.kernel, "gamma": self.gamma, "degree": self.degree}
        write_json(folder / "state.json", {**state, "units": [self._units.mean, self._units.spread]})


def kernels_between(rows: Encoded, others: Encoded, kernel: str, gamma: float, degree: int) -> Floats:
    """Give the kernels between rows, shape (number of rows, number of others)."""
    from sklearn.metrics.pairwise import pairwise_kernels

    own = {"coef0": 1.0, "degree": degree} if kernel == "polynomial" else {}
    return np.asarray(pairwise_kernels(rows, others, metric=kernel, gamma=gamma, **own))


def _root(kernels: Floats) -> Floats:
    """Give the lower Cholesky factor, with as much on the diagonal as it takes."""
    jitter = _JITTER * float(np.mean(np.diagonal(kernels)))
    while True:
        try:
            return np.asarray(cholesky(kernels + jitter * np.eye(len(kernels)), lower=True))
        except LinAlgError:
            jitter *= 100


def _distance(rows: Encoded, kernel: str) -> float:
    """Give the median of what the kernel multiplies with gamma; 1 where rows do not differ."""
    from sklearn.metrics.pairwise import euclidean_distances, manhattan_distances

    if kernel == "polynomial":  # of products of rows, the squared lengths are the natural unit
        squares = np.asarray(rows.multiply(rows).sum(axis=1) if sp.issparse(rows) else (rows**2).sum(axis=1))
        middle = float(np.median(squares))
    else:
        distances = manhattan_distances(rows) if kernel == "laplacian" else euclidean_distances(rows, squared=True)
        middle = float(np.median(distances[np.triu_indices(len(distances), 1)])) if len(distances) > 1 else 0.0
    return middle if middle > 0 and math.isfinite(middle) else 1.0

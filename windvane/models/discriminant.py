"""Discriminant analysis: a normal distribution for each class, with one covariance for all or one for each.

Where columns are not normal, its probabilities are far too sure. A temperature for the log densities is found on a
fifth of the training part, with distributions of the rest; those that predict are of all rows.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from windvane.data.compiled import Encoded
from windvane.data.encoders import Encoder
from windvane.data.store import read_arrays, read_json, reading, write_arrays, write_json
from windvane.data.table import Floats, Table
from windvane.data.task import Task
from windvane.models.base import Config, Param, Part, Setting, Value
from windvane.models.calibration import held_out
from windvane.models.encoding import encoding_choices, encoding_space
from windvane.models.params import complete

_MOST_COLUMNS = 1000  # the work grows with their square
_MOST_NUMBERS = 5e7  # of all covariances: 400 MB
_EVERY, _FEWEST = 5, 10  # every so-manieth row tells the temperature, where they are enough
_SHARPEST = 1e4


class Discriminant:
    """Linear and quadratic discriminant analysis; they do not grow, so there is one step."""

    name = "discriminant"

    def supports(self, task: Task, table: Table) -> bool:
        """Classes, and tables of few enough dense columns for covariances."""
        return task.is_classification and table.sparse is None and table.n_columns <= _MOST_COLUMNS

    def space(self, task: Task) -> dict[str, Param]:
        """One covariance, shrunk by Ledoit and Wolf's rule or by so much, or one for each class; priors; encoding."""
        from optuna.distributions import CategoricalDistribution as Choice
        from optuna.distributions import FloatDistribution as Float

        shrunk: dict[str, tuple[Value, ...]] = {"kind": ("linear", "quadratic")}
        return {
            "kind": Param(Choice(["ledoit_wolf", "linear", "quadratic"]), "ledoit_wolf"),
            "shrinkage": Param(Float(1e-4, 1.0, log=True), 0.1, when=shrunk),
            "prior": Param(Choice(["shares", "uniform"]), "shares"),
            **encoding_space("standard"),
        }

    def steps(self, config: Config, task: Task) -> tuple[int, ...]:
        """One."""
        return (1,)

    def start(
        self, config: Config, train: Part, valid: Part, setting: Setting, kept: Path | None = None
    ) -> DiscriminantModel:
        """Encode the training part; the validation part is not needed. Weights of rows are not taken into account."""
        config = complete(config, self.space(setting.task))
        encoder = Encoder(encoding_choices(config))
        features = _dense(encoder.fit_transform(train.table, train.target, setting.task))
        model = DiscriminantModel(encoder, setting) if kept is None else self.load(kept, setting)
        model.prepare(config, features, train.target)
        return model

    def load(self, folder: Path, setting: Setting) -> DiscriminantModel:
        """Open a kept state."""
        state = read_json(folder / "state.json")
        encoder = Encoder.load(folder)
        arrays = read_arrays(folder / "discriminant.npz")
        with reading(folder):
            model = DiscriminantModel(encoder, setting)
            model.finished, model.linear = bool(state["finished"]), bool(state["linear"])
            model.iterations = model.best_iteration = int(model.finished)
            model.sharpness = float(state["sharpness"])
            model.means, model.maps, model.offsets = arrays["means"], arrays["maps"], arrays["offsets"]
            model.classes = arrays["classes"].astype(np.intp, casting="safe")
            k, q = model.means.shape
            if model.maps.shape[:2] != (k, q) or not model.offsets.shape == model.classes.shape == (k,):
                raise ValueError("means and covariances do not go together")
        return model


class DiscriminantModel:
    """Normal distributions of the classes; see `windvane.models.base.Model`.

    The log density of a row x in a class, up to what all classes share, is its offset less half the squared length of
    (x - mean) times its map; for the linear kind the map has one column, and the product is the score itself.

    Attributes
    ----------
    linear
        Whether all classes share one covariance.
    sharpness
        What log densities are multiplied with: one over the temperature.
    means, maps, offsets
        Shapes (k, q), (k, q, r), (k,); r is q, or 1 for the linear kind.
    classes
        Codes of the k classes of the training part that have more than one row.
    """

    means: Floats
    maps: Floats
    offsets: Floats
    classes: NDArray[np.intp]

    def __init__(self, encoder: Encoder, setting: Setting) -> None:
        self.iterations = self.best_iteration = 0
        self.finished, self.linear, self.sharpness = False, True, 1.0
        self._encoder, self._setting = encoder, setting

    def prepare(self, config: Config, features: Floats, target: NDArray[Any]) -> None:
        """Take what is needed to train."""
        self._config, self._features, self._target = config, features, target

    def grow(self, iterations: int, until: float = np.inf) -> None:
        """Train fully."""
        if self.finished or time.monotonic() >= until:
            return
        counts = np.bincount(self._target)
        # One row has no covariance. Such classes are left out, unless there is nothing else.
        chosen = np.flatnonzero(counts > 1) if (counts > 1).any() else np.flatnonzero(counts)[:1]
        self.classes = chosen.astype(np.intp)
        rows = np.isin(self._target, chosen)
        features, target = self._features[rows], self._target[rows]
        q = features.shape[1]
        covariances = len(chosen) if self._config["kind"] == "quadratic" else 1
        if covariances * q * q > _MOST_NUMBERS:
            raise ValueError(f"{covariances} covariances of {q:,} encoded columns are more than memory should hold")
        if len(chosen) == 1:
            self.means, self.maps, self.offsets = np.zeros((1, q)), np.zeros((1, q, 1)), np.zeros(1)
        else:
            prior = None if self._config["prior"] == "shares" else np.full(len(chosen), 1 / len(chosen))
            self.linear = self._config["kind"] != "quadratic"
            kind = _linear if self.linear else _quadratic
            told = held_out(target, _EVERY, np.random.default_rng(self._setting.seed))
            if told.sum() >= _FEWEST:
                self.means, self.maps, self.offsets = kind(self._config, prior, features[~told], target[~told])
                codes = np.searchsorted(self.classes, target[told])
                self.sharpness = _sharpness(self._scores(features[told]), codes)
            self.means, self.maps, self.offsets = kind(self._config, prior, features, target)
        self.iterations = self.best_iteration = 1
        self.finished = True

    def predict(self, table: Table) -> Floats:
        """Give the probabilities of the classes by Bayes' rule."""
        scores = self._scores(_dense(self._encoder.transform(table)))  # (n, k)
        found = np.zeros((len(scores), self._setting.task.n_classes))
        found[:, self.classes] = softmax(self.sharpness * scores, axis=1)
        return found

    def _scores(self, features: Floats) -> Floats:
        return log_densities(features, self.means, self.maps, self.offsets, linear=self.linear)

    def save(self, folder: Path) -> None:
        """Write the encoder, ``discriminant.npz`` and ``state.json``."""
        self._encoder.save(folder)
        arrays = {"means": self.means, "maps": self.maps, "offsets": self.offsets, "classes": self.classes}
        write_arrays(folder / "discriminant.npz", arrays)
        write_json(
            folder / "state.json", {"finished": self.finished, "linear": self.linear, "sharpness": self.sharpness}
        )


def log_densities(features: Floats, means: Floats, maps: Floats, offsets: Floats, *, linear: bool) -> Floats:
    """Give the log densities with the priors, up to what all classes share; shape (n, k). See `DiscriminantModel`."""
    if linear:
        return np.asarray(features @ maps[:, :, 0].T + offsets)
    parts = zip(means, maps, offsets, strict=True)
    return np.column_stack([c - 0.5 * (((features - mean) @ a) ** 2).sum(axis=1) for mean, a, c in parts])


def _linear(config: Config, prior: Any, features: Floats, target: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    shrinkage = config.get("shrinkage", "auto")
    found = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=prior).fit(features, target)
    coefficients, offsets = found.coef_, found.intercept_
    if len(found.classes_) == 2:  # one row of coefficients says which of two
        coefficients, offsets = np.vstack([0 * coefficients, coefficients]), np.append(0.0, offsets)
    return found.means_, coefficients[:, :, None], offsets


def _quadratic(config: Config, prior: Any, features: Floats, target: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

    found = QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=config["shrinkage"], priors=prior, tol=0.0)
    found.fit(features, target)
    scalings = np.stack(found.scalings_)  # (k, q): eigenvalues
    maps = np.stack(found.rotations_) / np.sqrt(scalings)[:, None, :]  # (k, q, q)
    return found.means_, maps, np.log(found.priors_) - 0.5 * np.log(scalings).sum(axis=1)


def _sharpness(scores: Floats, codes: NDArray[np.intp]) -> float:
    """Find the factor of the scores with the lowest log loss."""

    def loss(log_factor: float) -> float:
        return float(-log_softmax(np.exp(log_factor) * scores, axis=1)[np.arange(len(codes)), codes].mean())

    found = minimize_scalar(loss, bounds=(-np.log(_SHARPEST), np.log(2.0)), method="bounded")
    return float(np.exp(found.x))


def _dense(features: Encoded) -> Floats:
    return features.toarray() if isinstance(features, sp.csr_matrix) else features

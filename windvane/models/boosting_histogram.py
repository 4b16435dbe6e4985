"""Gradient boosting with scikit-learn's histograms.

A warm start goes on from the trees there are, so growing in portions is exactly one fit. The portions grow with the
model, since each begins by binning the rows anew. Early stopping is our own, on the validation part, and looks at each
round: the result does not depend on the portions either.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.encoders import NATIVE, Encoder
from windvane.data.store import read_arrays, read_json, reading, write_arrays, write_json
from windvane.data.table import Floats, Table
from windvane.data.task import Task
from windvane.models.base import Config, Param, Part, Setting
from windvane.models.curve import Curve, validation_loss
from windvane.models.effort import is_slow
from windvane.models.links import from_scores
from windvane.models.params import complete
from windvane.models.units import Units

_STEPS = (4, 8, 16, 32, 64, 128, 256, 512)
_PATIENCE = 50  # as for LightGBM
_MOST_LEVELS = 255  # of a native category; larger ones become target means
_ENCODING = replace(NATIVE, native_max=_MOST_LEVELS, large="target")
_SMALLEST_PORTION = 8


class HistGradientBoosting:
    """Leaf-wise boosted trees over histograms; categories and missing values are native."""

    name = "hist_gradient_boosting"

    def supports(self, task: Task, table: Table) -> bool:
        """Everything but sparse parts, which scikit-learn's histograms do not take."""
        return table.sparse is None

    def space(self, task: Task) -> dict[str, Param]:
        """Ranges and defaults of Auto-Sklearn 2.0, without its own ways of early stopping."""
        from optuna.distributions import FloatDistribution as Float
        from optuna.distributions import IntDistribution as Int

        return {
            "learning_rate": Param(Float(0.01, 1.0, log=True), 0.1),
            "max_leaf_nodes": Param(Int(3, 2047, log=True), 31),
            "min_samples_leaf": Param(Int(1, 200, log=True), 20),
            "l2_regularization": Param(Float(1e-10, 1.0, log=True), 1e-10),
        }

    def steps(self, config: Config, task: Task) -> tuple[int, ...]:
        """4 or 16 to 512 rounds of one tree (for each class, where there are more than two)."""
        return _STEPS if is_slow(task) else _STEPS[2:]

    def start(
        self, config: Config, train: Part, valid: Part, setting: Setting, kept: Path | None = None
    ) -> HistogramModel:
        """Encode, and take over the trees of a kept state."""
        encoder = Encoder(_ENCODING)
        features = encoder.fit_transform(train.table, train.target, setting.task)
        units = Units.of(train.target, train.weight, setting.task)
        model = HistogramModel(encoder, units, setting) if kept is None else self.load(kept, setting)
        model.prepare(complete(config, self.space(setting.task)), np.asarray(features), train, valid)
        return model

    def load(self, folder: Path, setting: Setting) -> HistogramModel:
        """Open a kept state; continuing needs `start`."""
        state = read_json(folder / "state.json")
        encoder = Encoder.load(folder)
        arrays = read_arrays(folder / "trees.npz")
        with reading(folder):
            model = HistogramModel(encoder, Units(*state["units"]), setting)
            model.curve = Curve(_PATIENCE, state["losses"])
            model.iterations, model.best_iteration = len(model.curve.losses), model.curve.best
            model.finished = bool(state["finished"])
            model.levels = Levels(arrays["ranks"].astype(np.float64, casting="safe"), encoder.n_numbers)
            model.classes = arrays["classes"].astype(np.intp, casting="safe")
            model.baseline = arrays["baseline"].astype(np.float64, casting="safe")
            model.trees = _unpacked(arrays, int(state["n_features"]), len(model.levels.ranks))
            model.n_features = int(state["n_features"])
            shapes = {len(trees) for trees in model.trees} | {model.baseline.size}
            one_class = len(model.classes) == 1
            if len(shapes) != 1 or (len(model.trees) != model.iterations and not one_class):
                raise ValueError("trees and losses do not go together")
        return model


class Levels:
    """The levels that training saw of each native category, numbered without gaps, and the order of the features.

    Parameters
    ----------
    ranks
        Shape (c, levels + 2): the number of each code; NaN for what training did not see, and for the last, missing.
    n_numbers
        Features before the categories.
    """

    def __init__(self, ranks: Floats, n_numbers: int) -> None:
        self.ranks, self._first = ranks, n_numbers
        counts = np.nan_to_num(np.nanmax(ranks, axis=1, initial=-1.0), nan=-1.0).astype(int) + 1  # (c,)
        words = [[((1 << int(k)) - 1) >> (32 * i) & 0xFFFFFFFF for i in range(8)] for k in counts]
        self.known: NDArray[np.uint32] = np.array(words, dtype=np.uint32).reshape(len(ranks), 8)

    @classmethod
    def of(cls, features: Floats, cardinalities: list[int], n_numbers: int) -> Levels:
        """Give each level of the training part its number."""
        ranks = np.full((len(cardinalities), max(cardinalities, default=0) + 2), np.nan)
        for j in range(len(cardinalities)):
            column = features[:, n_numbers + j]
            seen = np.unique(column[~np.isnan(column)]).astype(int)
            ranks[j, seen] = np.arange(len(seen))
            if len(seen) == 0:  # nothing to split by, but scikit-learn wants one level
                ranks[j] = 0.0
        return cls(ranks, n_numbers)

    def __call__(self, features: Floats) -> Floats:
        """Put the numbered categories first, where scikit-learn keeps them; shape (n, q) as before."""
        c = len(self.ranks)
        codes = features[:, self._first : self._first + c]  # (n, c)
        last = self.ranks.shape[1] - 1
        at = np.where(np.isnan(codes), last, np.minimum(np.nan_to_num(codes), last - 1)).astype(np.intp)
        numbered = self.ranks[np.arange(c), at]  # (n, c)
        return np.hstack([numbered, features[:, : self._first], features[:, self._first + c :]])


class HistogramModel:
    """One booster being grown; see `windvane.models.base.Model`.

    Attributes
    ----------
    trees
        For each round the predictors of scikit-learn: one, or one for each class.
    baseline
        What boosting begins with, shape (1, trees of a round).
    classes
        Codes of the classes that the training part holds; empty for regression.
    levels
        The native categories.
    n_features
        Features of a row.
    """

    levels: Levels

    def __init__(self, encoder: Encoder, units: Units, setting: Setting) -> None:
        self.iterations = self.best_iteration = self.n_features = 0
        self.finished = False
        self.curve = Curve(_PATIENCE)
        self.trees: list[list[Any]] = []
        self.baseline: Floats = np.zeros((1, 1))
        self.classes: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._encoder, self._units, self._setting = encoder, units, setting
        self._per_round = 0.0  # seconds of a round of the last portion, with its share of the binning

    def prepare(self, config: dict[str, Any], features: Floats, train: Part, valid: Part) -> None:
        """Find the levels of categories; make the estimator, with the trees that were kept in it."""
        cardinalities = [k for k in train.table.cardinalities if k <= _MOST_LEVELS]
        self.levels = Levels.of(features, cardinalities, train.table.n_numbers)
        self._features, self.n_features = self.levels(features), features.shape[1]
        # Binning fails on a column without any number; of one that is constant, no tree makes use.
        self._features[:, np.isnan(self._features).all(axis=0)] = 0.0
        self._train, self._valid = train, valid
        self._known = self._encode(valid.table)
        if self._setting.task.is_classification:
            self.classes = np.unique(train.target).astype(np.intp)
        self._estimator = _estimator(config, train, len(cardinalities), self._setting)
        if self.trees and not self.finished:
            self._fit(1)  # makes everything that going on needs but the trees
            self._estimator._predictors = self.trees
        self._scores = self._sum(self._known, self.trees)

    def grow(self, iterations: int, until: float = np.inf) -> None:
        """Boost up to this many rounds, in portions; the clock is asked before each what still fits."""
        goal = min(iterations, _STEPS[-1])
        while self.iterations < goal and not self.finished and time.monotonic() < until:
            if len(self.classes) == 1:
                self.iterations = self.best_iteration = 1
                self.curve.add(0.0)
                self.finished = True
                return
            count = min(goal - self.iterations, max(_SMALLEST_PORTION, self.iterations // 2))
            if until < np.inf:
                fitting = int((until - time.monotonic()) / self._per_round) if self._per_round else 1
                count = max(1, min(count, fitting))
            self._portion(count)

    def _portion(self, count: int) -> None:
        begin = time.monotonic()
        self._fit(self.iterations + count)
        self.trees, self.baseline = self._estimator._predictors, self._estimator._baseline_prediction
        if self.iterations == 0:
            self._scores = self._sum(self._known, [])
        for trees in self.trees[self.iterations :]:
            self._add(self._scores, self._known, trees)
            self.curve.add(validation_loss(self._finish(self._scores), self._valid, self._setting.task, self._units))
            if self.curve.stalled:
                break
        self.iterations, self.best_iteration = len(self.curve.losses), self.curve.best
        del self.trees[self.iterations :]
        self.finished = self.curve.stalled or self.iterations >= _STEPS[-1]
        self._per_round = (time.monotonic() - begin) / count

    def _fit(self, total: int) -> None:
        from threadpoolctl import threadpool_limits

        target = self._units.shrink(self._train.target)
        with threadpool_limits(self._setting.threads):
            self._estimator.set_params(max_iter=total).fit(self._features, target, self._train.weight)

    def _encode(self, table: Table) -> Floats:
        return self.levels(np.asarray(self._encoder.transform(table)))

    def _sum(self, features: Floats, rounds: list[list[Any]]) -> Floats:
        scores = np.tile(self.baseline, (len(features), 1))  # (n, trees of a round)
        for trees in rounds:
            self._add(scores, features, trees)
        return scores

    def _add(self, scores: Floats, features: Floats, trees: list[Any]) -> None:
        order = np.zeros(self.n_features, dtype=np.uint32)
        order[: len(self.levels.ranks)] = np.arange(len(self.levels.ranks))
        for k, tree in enumerate(trees):
            scores[:, k] += tree.predict(features, self.levels.known, order, self._setting.threads)

    def _finish(self, scores: Floats) -> Floats:
        """Turn sums of leaves into predictions."""
        return from_scores(scores, self.classes, self._setting.task, self._units)

    def predict(self, table: Table) -> Floats:
        """Predict with the trees up to the best round."""
        return self._finish(self._sum(self._encode(table), self.trees[: self.best_iteration]))

    def save(self, folder: Path) -> None:
        """Write the encoder, ``trees.npz`` and ``state.json``."""
        self._encoder.save(folder)
        arrays = {"ranks": self.levels.ranks, "classes": self.classes, "baseline": self.baseline}
        write_arrays(folder / "trees.npz", {**arrays, **packed(self.trees)})
        state = {"finished": self.finished, "losses": self.curve.losses, "n_features": self.n_features}
        write_json(folder / "state.json", {**state, "units": [self._units.mean, self._units.spread]})


def _estimator(config: dict[str, Any], train: Part, n_categories: int, setting: Setting) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if setting.task.is_classification else HistGradientBoostingRegressor
    # A leaf of more than a tenth of the rows would forbid nearly every split on small data.
    least = min(int(config["min_samples_leaf"]), max(1, len(train.target) // 10))
    return kind(
        **{**config, "min_samples_leaf": least},
        categorical_features=list(range(n_categories)) or None,
        early_stopping=False,
        warm_start=True,
        random_state=setting.seed,
    )


def packed(rounds: list[list[Any]]) -> dict[str, NDArray[Any]]:
    """Put the trees of all rounds one after the other: plain arrays.

    Parameters
    ----------
    rounds
        The predictors of scikit-learn.

    Returns
    -------
    dict
        ``per_round``: trees of each round. ``nodes``: scikit-learn's records of all nodes. ``sizes``: nodes of each
        tree. ``binned``, ``raw``: sets of categories that go left, shape (all sets, 8) of uint32, the first category
        being the lowest bit. ``bits``: sets of each tree.
    """
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    trees = [tree for some in rounds for tree in some]
    bits = np.zeros((0, 8), dtype=np.uint32)
    return {
        "per_round": np.array([len(some) for some in rounds], dtype=np.int64),
        "nodes": np.concatenate([np.empty(0, PREDICTOR_RECORD_DTYPE), *(tree.nodes for tree in trees)]),
        "sizes": np.array([len(tree.nodes) for tree in trees], dtype=np.int64),
        "binned": np.concatenate([bits, *(tree.binned_left_cat_bitsets for tree in trees)]),
        "raw": np.concatenate([bits, *(tree.raw_left_cat_bitsets for tree in trees)]),
        "bits": np.array([len(tree.raw_left_cat_bitsets) for tree in trees], dtype=np.int64),
    }


def _unpacked(arrays: dict[str, NDArray[Any]], n_features: int, n_categories: int) -> list[list[Any]]:
    """Make the trees of what `packed` gave; a descent reads memory by the numbers in them, so these are checked."""
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    nodes, sizes, bits = arrays["nodes"], arrays["sizes"], arrays["bits"]
    if nodes.dtype != PREDICTOR_RECORD_DTYPE or (sizes <= 0).any() or (bits < 0).any():
        raise ValueError("these are no nodes of trees")
    own = np.arange(len(nodes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # (N,): number within its tree
    size, n_bits = np.repeat(sizes, sizes), np.repeat(bits, sizes)
    inner, split = nodes["is_leaf"] == 0, (nodes["is_leaf"] == 0) & (nodes["is_categorical"] != 0)
    children = [nodes[side].astype(np.int64) for side in ("left", "right")]
    sound = (
        all(((child > own) & (child < size))[inner].all() for child in children)
        and ((nodes["feature_idx"] >= 0) & (nodes["feature_idx"] < n_features))[inner].all()
        and ((nodes["feature_idx"] < n_categories) & (nodes["bitset_idx"] < n_bits))[split].all()
        and arrays["binned"].shape == arrays["raw"].shape == (int(bits.sum()), 8)
        and arrays["binned"].dtype == arrays["raw"].dtype == np.uint32
        and int(arrays["per_round"].sum()) == len(sizes) == len(bits)
    )
    if not sound:
        raise ValueError("these are no possible trees")
    ends, bit_ends = np.cumsum(sizes)[:-1], np.cumsum(bits)[:-1]
    parts = zip(
        np.split(nodes, ends), np.split(arrays["binned"], bit_ends), np.split(arrays["raw"], bit_ends), strict=True
    )
    trees = [TreePredictor(*map(np.ascontiguousarray, part)) for part in parts] if len(sizes) else []
    starts = np.cumsum(arrays["per_round"]) - arrays["per_round"]
    return [trees[a : a + n] for a, n in zip(starts, arrays["per_round"], strict=True)]

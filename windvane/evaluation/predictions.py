"""Predictions with the target they are compared with: what scores, intervals, figures and importance are computed from.

Notation: n rows, k classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from windvane.data.rows import order_notes, take_rows
from windvane.data.target import counted_rows
from windvane.data.targets import encode_as_trained
from windvane.errors import InputError, MetricError, warn_user
from windvane.evaluation.bootstrap import bootstrap, bootstrap_interval
from windvane.evaluation.metrics import Metric, two_columns
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Integers, Table
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.targets import Targets

INTERVAL_RESAMPLES, MIN_INTERVAL_RESAMPLES = 200, 60
MAX_INTERVAL_SECONDS = 2.0
MOST_PROBABLE = Ensemble((), 0.0)  # decides for the most probable class
BIASED = ("expected_calibration_error",)  # noise makes these larger, never smaller
NEED_TWO_CLASSES = ("roc_auc", "average_precision")  # undefined where all rows are of one class


class FittedEnsemble(Protocol):
    """What `Predictions.of_test` reads of a fitted ensemble."""

    @property
    def schema(self) -> Schema: ...
    @property
    def classes(self) -> NDArray[Any] | None: ...
    @property
    def ensemble(self) -> Ensemble: ...
    @property
    def targets(self) -> Targets | None: ...
    def table(self, X: Any, owner: str = "the model") -> Table: ...
    def predict_raw(self, table: Table) -> Floats: ...


def lacks_a_class(target: NDArray[Any], metric: Metric) -> bool:
    """Whether a metric is undefined, as the rows (n,) or those of a label (n, t) are of one class alone."""
    return metric.name in NEED_TWO_CLASSES and bool((target == target[:1]).all(axis=0).any())


def labelled_rows(
    model: FittedEnsemble, X: Any, y: Any, sample_weight: Any, owner: str
) -> tuple[Table, Integers | None, NDArray[Any], Floats | None]:
    """Read rows with their target, as a user has them, by what a model was trained on; InputError if they do not fit.

    Returns the table of all rows, the positions of those that count (None: all), their target and their weights.
    """
    for warning in order_notes(X, {"y": y, "sample_weight": sample_weight}):
        warn_user(warning)
    table = model.table(X, owner)
    weight, rows = counted_rows(sample_weight, table.n_rows)
    if rows is not None:
        target = encode_as_trained(take_rows(y, rows, table.n_rows, "y"), model.classes, model.targets)
        return table, rows, target, weight
    target = encode_as_trained(y, model.classes, model.targets)
    if table.n_rows != len(target):
        raise InputError(f"X and y have different lengths: {table.n_rows} and {len(target)}.")
    return table, None, target, weight


@dataclass(frozen=True)
class Predictions:
    """Rows with known target and prediction."""

    table: Table  # holds the rows at the positions `rows`
    rows: Integers  # (n,)
    target: NDArray[Any]  # class codes or numbers, (n,), or several targets, (n, t)
    prediction: Floats  # probabilities, (n, k), or numbers, (n,), or of several targets, (n, t)
    weight: Floats | None = None  # (n,)
    fold: Integers | None = None  # whose models did not train on the row, (n,); None for a test set
    ensemble: Ensemble = MOST_PROBABLE  # whose threshold, weights or costs choose the labels
    # Predicts changed rows, given their folds, by models that did not train on them; None if that is impossible.
    predict: Callable[[Table, Integers | None], Floats] | None = None

    @classmethod
    def of_test(
        cls, model: FittedEnsemble, X: Any, y: Any, sample_weight: Any = None, *, owner: str = "the model"
    ) -> Self:
        """Predict rows that the model did not train on; raises InputError if they do not fit the model."""
        table, rows, target, weight = labelled_rows(model, X, y, sample_weight, owner)
        if rows is None:
            return cls.of_table(model, table, target, weight)
        return replace(cls.of_table(model, table.take(rows), target, weight), table=table, rows=rows)

    @classmethod
    def of_table(cls, model: FittedEnsemble, table: Table, target: NDArray[Any], weight: Floats | None = None) -> Self:
        """Predict typed rows, with class codes or numbers as target."""
        return cls(
            table,
            np.arange(table.n_rows),
            target,
            model.predict_raw(table),
            weight,
            ensemble=model.ensemble,
            predict=lambda table, _: model.predict_raw(table),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def weights(self) -> Floats:
        """Weight of each row, 1 where the rows have no weights, (n,)."""
        return np.ones(len(self)) if self.weight is None else self.weight

    @property
    def is_test(self) -> bool:
        """Whether the rows had no influence on the model."""
        return self.fold is None

    @property
    def labels(self) -> Integers:
        """Predicted class codes, (n,)."""
        return np.asarray(self.decided.argmax(axis=1))

    @property
    def decided(self) -> Floats:
        """The values whose largest in each row is the predicted class, (n, k), or labels above one half, (n, t)."""
        return self.ensemble.decision_values(self.prediction)

    def loss(self, metric: Metric) -> float:
        return metric.loss(self.target, self.decided if metric.of_labels else self.prediction, self.weight)

    def score(self, metric: Metric) -> float:
        """Value of the metric, in its own direction."""
        return metric.score(self.loss(metric))

    def interval(
        self, metric: Metric, seed: int, max_seconds: float = MAX_INTERVAL_SECONDS
    ) -> tuple[float, float] | None:
        """95 % bootstrap interval of the score.

        Resamples in which the metric is undefined do not count. None for metrics that do not accept resampled rows,
        where a class may be missing, and for so many rows that resampling takes long: there the interval is narrow.
        """
        values = self.decided if metric.of_labels else self.prediction

        def loss_of(rows: Integers) -> float:
            if lacks_a_class(self.target[rows], metric):
                return np.nan
            weight = None if self.weight is None else self.weight[rows]
            return metric.loss(self.target[rows], values[rows], weight)

        try:
            with warnings.catch_warnings():  # of scikit-learn, on classes that are missing
                warnings.simplefilter("ignore")
                losses = bootstrap(loss_of, len(self), INTERVAL_RESAMPLES, seed=seed, max_seconds=max_seconds)
        except (MetricError, ValueError):
            return None
        losses = losses[~np.isnan(losses)]
        if len(losses) < MIN_INTERVAL_RESAMPLES or not np.isfinite(losses).all():
            return None
        scores = np.array([metric.score(loss) for loss in losses])
        return bootstrap_interval(scores, self.score(metric) if metric.name in BIASED else None)

    def constant_score(self, metric: Metric, constant: Floats) -> float:
        """Score of one prediction for all rows, as `windvane.evaluation.baseline.constant_prediction` returns it."""
        repeated = np.broadcast_to(constant, self.prediction.shape)
        return metric.score(metric.loss(self.target, np.ascontiguousarray(repeated), self.weight))

    def of_target(self, target: int) -> Self:
        """The predictions of one of several targets: of a label, the probabilities of both classes."""
        true, found = self.target[:, target], self.prediction[:, target]
        are_labels = true.dtype.kind in "iu"
        prediction = two_columns(found) if are_labels else found
        return replace(self, target=true, prediction=prediction, ensemble=self.ensemble.of_label(target))

    def take(self, rows: Integers) -> Self:
        return replace(
            self,
            rows=self.rows[rows],
            target=self.target[rows],
            prediction=self.prediction[rows],
            weight=None if self.weight is None else self.weight[rows],
            fold=None if self.fold is None else self.fold[rows],
        )

    def sample(self, max_rows: int, seed: int) -> Self:
        if len(self) <= max_rows:
            return self
        return self.take(np.random.default_rng(seed).choice(len(self), max_rows, replace=False))

    def predict_again(self, table: Table) -> Self:
        """The same rows with the columns of `table`, (n, ...), predicted by models that did not train on them."""
        assert self.predict is not None
        return replace(self, table=table, rows=np.arange(table.n_rows), prediction=self.predict(table, self.fold))

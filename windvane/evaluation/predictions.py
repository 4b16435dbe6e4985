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

from windvane.data.files import to_frame
from windvane.data.rows import order_notes, take_rows
from windvane.data.target import counted_rows, encode_target
from windvane.errors import InputError
from windvane.evaluation.bootstrap import bootstrap
from windvane.evaluation.metrics import CLASSIFICATION, REGRESSION, Metric
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Integers, Table

INTERVAL_RESAMPLES, MIN_INTERVAL_RESAMPLES = 200, 60
MAX_INTERVAL_SECONDS = 2.0


class FittedEnsemble(Protocol):
    """What `Predictions.of_test` reads of a fitted ensemble."""

    @property
    def schema(self) -> Schema: ...
    @property
    def classes(self) -> NDArray[Any] | None: ...
    @property
    def ensemble(self) -> Any: ...
    def predict_raw(self, table: Table) -> Floats: ...


@dataclass(frozen=True)
class Predictions:
    """Rows with known target and prediction."""

    table: Table  # holds the rows at the positions `rows`
    rows: Integers  # (n,)
    target: NDArray[Any]  # class codes or numbers, (n,)
    prediction: Floats  # probabilities, (n, k), or numbers, (n,)
    weight: Floats | None = None  # (n,)
    fold: Integers | None = None  # whose models did not train on the row, (n,); None for a test set
    decision_weights: tuple[float, ...] | None = None  # (k,)
    # Predicts changed rows, given their folds, by models that did not train on them; None if that is impossible.
    predict: Callable[[Table, Integers | None], Floats] | None = None

    @classmethod
    def of_test(cls, model: FittedEnsemble, X: Any, y: Any, sample_weight: Any = None, *, owner: str = "") -> Self:
        """Predict rows that the model did not train on; raises InputError if they do not fit the model."""
        for warning in order_notes(X, {"y": y, "sample_weight": sample_weight}):
            warnings.warn(warning, UserWarning, stacklevel=3)
        table = model.schema.transform(to_frame(X), owner=owner or "the model")
        weight, rows = counted_rows(sample_weight, table.n_rows)
        if rows is not None:
            y, table = take_rows(y, rows, table.n_rows, "y"), table.take(rows)
        target, _ = encode_target(y, "regression" if model.classes is None else "classification", classes=model.classes)
        if table.n_rows != len(target):
            raise InputError(f"X and y have different lengths: {table.n_rows} and {len(target)}.")
        return cls.of_table(model, table, target, weight)

    @classmethod
    def of_table(cls, model: FittedEnsemble, table: Table, target: NDArray[Any], weight: Floats | None = None) -> Self:
        """Predict typed rows, with class codes or numbers as target."""
        return cls(
            table,
            np.arange(table.n_rows),
            target,
            model.predict_raw(table),
            weight,
            decision_weights=model.ensemble.decision_weights,
            predict=lambda table, _: model.predict_raw(table),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_test(self) -> bool:
        """Whether the rows had no influence on the model."""
        return self.fold is None

    @property
    def labels(self) -> Integers:
        """Predicted class codes, (n,)."""
        return np.asarray(self._decided.argmax(axis=1))

    @property
    def _decided(self) -> Floats:
        """The values whose largest in each row is the predicted class, (n, k)."""
        return self.prediction if self.decision_weights is None else self.prediction * np.array(self.decision_weights)

    def loss(self, metric: Metric) -> float:
        """Loss of the metric, lower is better."""
        return metric.loss(self.target, self._decided if metric.needs == "labels" else self.prediction, self.weight)

    def score(self, metric: Metric) -> float:
        """Value of the metric, in its own direction."""
        return metric.score(self.loss(metric))

    def interval(self, metric: Metric, seed: int) -> tuple[float, float] | None:
        """95 % bootstrap interval of the score.

        None for metrics of the user, which may not accept resampled rows, and for so many rows that resampling takes
        long: there the interval is narrow.
        """
        if not any(metric.function is known.function for known in (*CLASSIFICATION.values(), *REGRESSION.values())):
            return None
        values = self._decided if metric.needs == "labels" else self.prediction

        def loss_of(rows: Integers) -> float:
            weight = None if self.weight is None else self.weight[rows]
            return metric.loss(self.target[rows], values[rows], weight)

        losses = bootstrap(loss_of, len(self), INTERVAL_RESAMPLES, seed=seed, max_seconds=MAX_INTERVAL_SECONDS)
        if len(losses) < MIN_INTERVAL_RESAMPLES:
            return None
        low, high = np.quantile([metric.score(loss) for loss in losses], [0.025, 0.975])
        return float(low), float(high)

    def baseline(self, metric: Metric, training_target: NDArray[Any]) -> float:
        """Score of a constant: class frequencies, or the mean (for mae the median) of the training target."""
        constant: Floats
        if self.prediction.ndim == 2:
            counts = np.bincount(training_target.astype(np.int64), minlength=self.prediction.shape[1])
            constant = np.tile(counts / len(training_target), (len(self), 1))
        else:
            center = np.median if metric.name == "mae" else np.mean
            constant = np.full(len(self), float(center(training_target.astype(np.float64))))
        return metric.score(metric.loss(self.target, constant, self.weight))

    def sample(self, max_rows: int, seed: int) -> Self:
        """At most `max_rows` rows, drawn at random."""
        if len(self) <= max_rows:
            return self
        some = np.random.default_rng(seed).choice(len(self), max_rows, replace=False)
        return replace(
            self,
            rows=self.rows[some],
            target=self.target[some],
            prediction=self.prediction[some],
            weight=None if self.weight is None else self.weight[some],
            fold=None if self.fold is None else self.fold[some],
        )

    def predict_again(self, table: Table) -> Self:
        """The same rows with the columns of `table`, (n, ...), predicted by models that did not train on them."""
        assert self.predict is not None
        return replace(self, table=table, rows=np.arange(table.n_rows), prediction=self.predict(table, self.fold))

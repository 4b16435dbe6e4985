"""Everything that is asked of predictions with a known target, in one object: scores, classes, segments, worst rows.

Notation: n rows, k classes.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from windvane.data.task import Kind, Task
from windvane.errors import InputError, check_integer, unknown_name_error
from windvane.evaluation.curves import confusion
from windvane.evaluation.decisions.calibration import CALIBRATION_ERROR, outcome_and_probability, reliability
from windvane.evaluation.decisions.thresholds import threshold_of
from windvane.evaluation.evaluation_tables import EvaluationTables
from windvane.evaluation.metrics import ORDINAL, Metric, get_metric
from windvane.evaluation.predictions import Predictions, lacks_a_class
from windvane.runtime.columns.table import Floats, Integers
from windvane.runtime.output import log_probabilities
from windvane.runtime.rows_to_predict import rename_taken
from windvane.runtime.targets import Targets

# The usual metrics of a task, by name.
USUAL: dict[Kind, tuple[str, ...]] = {
    "binary": (
        *("roc_auc", "average_precision", "log_loss", "brier_score", "accuracy", "balanced_accuracy"),
        *("f1", "precision", "recall", "matthews_corrcoef"),
    ),
    "multiclass": (
        *("roc_auc", "log_loss", "brier_score", "accuracy", "balanced_accuracy", "f1_macro", "f1_weighted"),
        "matthews_corrcoef",
    ),
    "regression": ("rmse", "mae", "median_absolute_error", "r2"),
}
# The usual metrics of several targets together, and of each of them.
OF_TARGETS: dict[Kind, tuple[str, ...]] = {
    "binary": (
        *("roc_auc", "average_precision", "log_loss", "accuracy"),
        *("f1", "f1_micro", "f1_samples", "subset_accuracy"),
    ),
    "regression": ("relative_rmse", "relative_mae", "r2"),
}
OF_EACH_TARGET: dict[Kind, tuple[str, ...]] = {
    "binary": ("roc_auc", "log_loss", "f1", "precision", "recall"),
    "regression": ("rmse", "mae", "r2"),
}
N_LIFT_GROUPS = 10
MAX_SECONDS = 30.0  # for all intervals of the metrics, and again for those of the segments
MAX_SEGMENTS, N_SEGMENT_BINS = 12, 5
OTHERS, MISSING = "(others)", "(missing)"


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(EvaluationTables):
    """How well a model predicts rows with a known target.

    Printed, it is a text of at most 80 columns; in a notebook, tables and charts.

    Attributes
    ----------
    metric
        Name of the metric that the search optimized.
    n_rows
        Rows evaluated; those of weight 0 do not count.
    is_test
        Whether the rows had no influence on the model; False for the validation rows in a report.
    metrics
        One row a metric: metric, score, low and high (95 % bootstrap interval; NaN if it cannot be computed), n.
    classes
        One row a class: class, precision, recall, f1, support (rows), auc (against all other classes). None for
        regression.
    confusion
        Rows by true class and predicted class; None for regression.
    segments
        One row a segment of the columns ``by``: column, segment, n, score of the run's metric, low, high; for two
        classes and regression also the means of target and prediction. Empty without ``by``.
    worst_rows
        The rows that are predicted worst, by position in X: target, prediction, for classes the probability of the true
        one, loss (negative log of it, or the absolute error), and the columns of X.
    lift
        Of two classes, ten groups by falling probability of the positive class: share of all rows up to here, n,
        positives, lift of the group, gain (share of all positives up to here). None otherwise.
    calibration
        Reliability diagram of ten groups of equal size: mean probability, frequency, n; for two classes of the positive
        one, for more of whether the largest probability is right. None for regression.
    positive_class, threshold
        Of two classes; None otherwise.
    targets
        Of several targets, one row each: its name and the usual scores of it alone. None otherwise.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold: tables as lists of records, NaN as None."""
        single = ("metric", "task", "n_rows", "is_test", "positive_class", "threshold")
        found = {name: plain_value(getattr(self, name)) for name in single}
        for name in ("metrics", "classes", "segments", "worst_rows", "lift", "calibration", "targets"):
            table: pd.DataFrame | None = getattr(self, name)
            found[name] = None if table is None else records(table.reset_index() if name == "worst_rows" else table)
        if self.confusion is not None:
            found["confusion"] = {
                "classes": list(map(plain_value, self.confusion.index)),
                "counts": self.confusion.to_numpy().tolist(),
            }
        return found

    def to_json(self) -> str:
        """Return the content of `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained page.

        Parameters
        ----------
        path
            A name that ends in .html; an earlier page is replaced, any other file is left alone.

        Returns
        -------
        Path
            Of the page.
        """
        from windvane.evaluation.evaluation_page import evaluation_page
        from windvane.pages.html_builder import write_page

        return write_page(evaluation_page(self), Path(path))

    def __repr__(self) -> str:
        from windvane.evaluation.evaluation_text import evaluation_text

        return evaluation_text(self)

    def _repr_html_(self) -> str:
        from windvane.evaluation.evaluation_page import evaluation_fragment

        return evaluation_fragment(self)


def evaluate(
    predictions: Predictions,
    metric: Metric,
    task: Task,
    classes: NDArray[Any] | None,
    *,
    metrics: Any = None,
    segments: Mapping[str, Any] | None = None,
    columns: pd.DataFrame | None = None,
    targets: Targets | None = None,
    n_worst: int = 10,
    max_seconds: float = MAX_SECONDS,
    seed: int = 0,
) -> Evaluation:
    """Evaluate predictions.

    `metric` is the run's, `metrics` more of them (names, scorers or `Metric`; None for the usual ones). `segments` maps
    the name of a column to its n values, `columns` are those of the user's rows, to show the worst of them. `targets`
    are those of a model that has several.
    """
    check_integer("n_worst", n_worst, 0)
    labels = np.array([]) if classes is None else classes
    positive = metric.positive
    chosen = _choose_metrics(metric, metrics, predictions, task, classes)
    scores = _scores([(predictions, one) for one in chosen], seed, max_seconds)
    rows = [{"metric": one.name, **found} for one, found in zip(chosen, scores, strict=True)]
    is_class = task.is_classification
    return Evaluation(
        metric=metric.name,
        task=task.kind,
        n_rows=len(predictions),
        is_test=predictions.is_test,
        metrics=pd.DataFrame(rows).assign(n=len(predictions)),
        classes=class_table(predictions, labels) if is_class else None,
        confusion=_confusion_table(predictions, labels) if is_class else None,
        segments=segment_table(predictions, metric, segments or {}, seed, max_seconds),
        worst_rows=worst_rows(predictions, labels, n_worst, columns, targets),
        lift=None if positive is None else lift_table(predictions, positive),
        calibration=calibration_table(predictions, positive) if is_class else None,
        positive_class=None if positive is None else plain_value(labels[positive]),
        threshold=None if positive is None else threshold_of(predictions.ensemble, positive),
        targets=None if targets is None else target_table(predictions, task, targets),
    )


def target_table(predictions: Predictions, task: Task, targets: Targets) -> pd.DataFrame:
    """Score each of several targets alone; of labels also the share of rows that have it."""
    one, rows = task.of_one_target(), []
    for j, name in enumerate(targets.titles):
        part = predictions.of_target(j)
        share = {"share": _mean(part.target, part.weight)} if targets.are_labels else {}
        scores = {name: _score(part, get_metric(name, one)) for name in OF_EACH_TARGET[one.kind]}
        rows.append({"target": name, **share, **scores})
    return pd.DataFrame(rows)


def class_table(predictions: Predictions, labels: NDArray[Any]) -> pd.DataFrame:
    """Precision, recall, F1, support and area under the ROC curve of each class, weighted."""
    target, codes = predictions.target, np.arange(len(labels))
    precision, recall, f1, _ = precision_recall_fscore_support(
        target, predictions.labels, labels=codes, sample_weight=predictions.weight, zero_division=0.0
    )
    support = np.bincount(target, minlength=len(codes))
    areas = [
        roc_auc_score(target == code, predictions.prediction[:, code], sample_weight=predictions.weight)
        if 0 < support[code] < len(target)
        else np.nan
        for code in codes
    ]
    values = {"precision": precision, "recall": recall, "f1": f1, "support": support, "auc": areas}
    return pd.DataFrame({"class": list(map(plain_value, labels)), **values})


def lift_table(predictions: Predictions, positive: int) -> pd.DataFrame:
    """Groups of rows by falling probability of the positive class: lift of each, and gain up to it; weighted."""
    weight, order = predictions.weights, np.argsort(-predictions.prediction[:, positive], kind="stable")
    hits = (predictions.target == positive) * weight
    groups = np.array_split(order, min(N_LIFT_GROUPS, len(order)))
    sizes = np.array([weight[group].sum() for group in groups])
    positives = np.array([hits[group].sum() for group in groups])
    total = positives.sum()
    rate = total / sizes.sum()
    return pd.DataFrame(
        {
            "share": np.cumsum(sizes) / sizes.sum(),
            "n": [len(group) for group in groups],
            "positives": positives,
            "lift": positives / sizes / rate if total else np.nan,
            "gain": np.cumsum(positives) / total if total else np.nan,
        }
    )


def calibration_table(predictions: Predictions, positive: int | None) -> pd.DataFrame:
    """Mean probability and frequency in groups of equal size."""
    outcome, probability = outcome_and_probability(predictions.target, predictions.prediction, positive)
    found = reliability(outcome, probability, predictions.weight)
    return pd.DataFrame({"probability": found.probability, "frequency": found.frequency, "n": found.n})


def worst_rows(
    predictions: Predictions,
    labels: NDArray[Any],
    n_worst: int,
    columns: pd.DataFrame | None,
    targets: Targets | None,
) -> pd.DataFrame:
    """Return the rows with the largest loss, by position, with their columns if these are known."""
    target, prediction = predictions.target, predictions.prediction
    found: dict[str, Any]
    if targets is not None:
        loss = _loss_of_rows(predictions, targets)
        found = {"target": _as_texts(target, targets), "prediction": _as_texts(predictions.decided, targets)}
    elif prediction.ndim == 2:
        probability = prediction[np.arange(len(target)), target]  # (n,)
        loss = -log_probabilities(probability)
        found = {"target": labels[target], "prediction": labels[predictions.labels], "probability": probability}
    else:
        loss = np.abs(prediction - target)
        found = {"target": target, "prediction": prediction}
    worst = np.argsort(-loss, kind="stable")[:n_worst]
    index = pd.Index(predictions.rows[worst], name="row")
    table = pd.DataFrame({name: values[worst] for name, values in found.items()}, index=index)
    table["loss"] = loss[worst]
    if columns is None:
        return table
    shown = rename_taken(columns.iloc[predictions.rows[worst]], {"row", *table.columns}, "column").set_index(index)
    return pd.concat([table, shown], axis=1)


def _loss_of_rows(predictions: Predictions, targets: Targets) -> Floats:  # (n,)
    """Mean log loss of the labels, or absolute error of the numbers in standard deviations."""
    target, prediction = predictions.target, predictions.prediction
    if targets.are_labels:
        return np.asarray(-log_probabilities(np.where(target == 1, prediction, 1 - prediction)).mean(axis=1))
    spread = target.std(axis=0)
    return np.asarray((np.abs(prediction - target) / np.where(spread > 0, spread, 1.0)).mean(axis=1))


def _as_texts(matrix: NDArray[Any], targets: Targets) -> NDArray[np.object_]:  # (n, t) -> (n,)
    """Write the labels that are there, or the numbers, as one text for each row."""
    if targets.are_labels:
        titles = np.array(targets.titles, dtype=object)
        return np.array([", ".join(titles[row]) for row in matrix > 0.5], dtype=object)
    return np.array([", ".join(f"{value:.4g}" for value in row) for row in matrix.tolist()], dtype=object)


def segment_table(
    predictions: Predictions, metric: Metric, segments: Mapping[str, Any], seed: int, max_seconds: float
) -> pd.DataFrame:
    """Score of the metric in each segment of each column; `segments` has a value for each of the n rows."""
    parts: list[tuple[str, str, Predictions]] = []
    for column, values in segments.items():
        codes, names = make_segments(values)
        parts += [(column, name, predictions.take(np.flatnonzero(codes == code))) for code, name in enumerate(names)]
    found = []
    scores = _scores([(part, metric) for *_, part in parts], seed, max_seconds)
    for (column, name, part), scored in zip(parts, scores, strict=True):
        row: dict[str, Any] = {"column": column, "segment": name, "n": len(part), **scored}
        if metric.positive is not None:
            row["target"] = _mean(part.target == metric.positive, part.weight)
            row["prediction"] = _mean(part.prediction[:, metric.positive], part.weight)
        elif part.prediction.ndim == 1:
            row["target"] = _mean(part.target, part.weight)
            row["prediction"] = _mean(part.prediction, part.weight)
        found.append(row)
    return pd.DataFrame(found, columns=None if found else ["column", "segment", "n", "score", "low", "high"])


def columns_for_segments(by: Any, frame: pd.DataFrame | None, n_rows: int) -> dict[str, Any]:
    """Return the values of the columns `by`: names of columns of a frame, or n values; InputError for anything else."""
    if by is None:
        return {}
    is_name = isinstance(by, str | int)
    by = [by] if is_name else by
    if frame is not None and isinstance(by, list | tuple) and all(isinstance(one, str | int) for one in by):
        known = {str(name): name for name in frame.columns}
        unknown = [one for one in by if str(one) not in known]
        if not unknown:
            return {str(one): frame[known[str(one)]].array for one in by}
        if is_name or len(by) != n_rows:
            raise unknown_name_error("by", unknown[0], known)
    has_length = hasattr(by, "__len__")
    if is_name or isinstance(by, pd.DataFrame) or not has_length or len(by) != n_rows:
        raise InputError(
            f"by must be the name of a column of X, several names, or a value for each of the {n_rows} rows; "
            f"{f'{len(by)} values' if has_length and not is_name else repr(by)} came."
        )
    return {str(getattr(by, "name", None) or "by"): pd.Series(by).array}


def make_segments(values: Any) -> tuple[Integers, list[str]]:
    """Return the segment of each of n values, and the names of the segments.

    Numbers and instants with many distinct values are cut into bins of about equal counts; of other values the most
    frequent are segments, the rest is one together. Missing values are the last one.
    """
    column = pd.Series(values).reset_index(drop=True)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = pd.Series(column.cat.categories).reindex(column.cat.codes).reset_index(drop=True)
    is_ordered = types.is_datetime64_any_dtype(column.dtype) or (
        types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype)
    )
    distinct = column.nunique()
    if is_ordered and distinct > MAX_SEGMENTS:
        bins = pd.qcut(column, N_SEGMENT_BINS, duplicates="drop")
        codes = bins.cat.codes.to_numpy().astype(np.int64)
        ends = [(_bound(one.left), _bound(one.right)) for one in bins.cat.categories]
        names = [f"{low} to {high}" if i else f"up to {high}" for i, (low, high) in enumerate(ends)]
    else:
        counts = column.value_counts()
        kept = counts.index[:MAX_SEGMENTS] if len(counts) > MAX_SEGMENTS + 1 else counts.index
        kept = kept.sort_values() if is_ordered else kept
        codes = kept.get_indexer(pd.Index(column)).astype(np.int64)
        names = [str(value) for value in kept]
        rest = (codes < 0) & column.notna().to_numpy()
        if rest.any():
            codes[rest] = len(names)
            names.append(OTHERS)
    missing = column.isna().to_numpy()
    if missing.any():
        codes[missing] = len(names)
        names.append(MISSING)
    return codes, names


def plain_value(value: Any) -> Any:
    """Turn a value into one that JSON can hold: NaN becomes None, labels of other types become texts."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return None if value is pd.NaT or value is pd.NA else str(value)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as a list of plain records."""
    names = [str(name) for name in table.columns]
    return [dict(zip(names, map(plain_value, row), strict=True)) for row in table.itertuples(index=False, name=None)]


def _choose_metrics(
    metric: Metric, metrics: Any, predictions: Predictions, task: Task, classes: NDArray[Any] | None
) -> list[Metric]:
    """Return the run's metric first, then the others, none twice."""
    if metrics is None:
        given: Sequence[Any] = (USUAL if task.n_targets == 1 else OF_TARGETS)[task.kind]
    elif isinstance(metrics, str | Metric) or not isinstance(metrics, Sequence):
        given = [metrics]
    else:
        given = metrics
    chosen = [metric, *(get_metric(one, task, classes, metric.positive) for one in given)]
    if metrics is None:
        if task.n_classes > 2 and (task.ordered or metric.name in ORDINAL):
            chosen += [get_metric(one, task, classes) for one in ORDINAL]
        if task.is_classification:
            chosen.append(CALIBRATION_ERROR)
        elif task.n_targets == 1 and (predictions.target > 0).all():
            chosen.append(get_metric("mean_absolute_percentage_error", task))
    by_name: dict[str, Metric] = {}
    for one in chosen:
        by_name.setdefault(one.name, one)
    return list(by_name.values())


def _score(predictions: Predictions, metric: Metric) -> float:
    """Return a score; NaN where it is undefined."""
    if lacks_a_class(predictions.target, metric):
        return float("nan")
    with warnings.catch_warnings():  # of scikit-learn, on classes that are missing
        warnings.simplefilter("ignore")
        return predictions.score(metric)


def _scores(pairs: Sequence[tuple[Predictions, Metric]], seed: int, max_seconds: float) -> Iterator[dict[str, float]]:
    """Scores of predictions by their metrics, and 95 % intervals, NaN where they are unknown; all share the time."""
    end = time.monotonic() + max_seconds
    for i, (predictions, metric) in enumerate(pairs):
        interval = None
        if len(predictions) > 1 and not lacks_a_class(predictions.target, metric):
            interval = predictions.interval(metric, seed, (end - time.monotonic()) / (len(pairs) - i))
        low, high = interval or (float("nan"), float("nan"))
        yield {"score": _score(predictions, metric), "low": low, "high": high}


def _confusion_table(predictions: Predictions, labels: NDArray[Any]) -> pd.DataFrame:
    counts, names = confusion(predictions.target, predictions.labels, [str(label) for label in labels.tolist()])
    return pd.DataFrame(counts, index=pd.Index(names, name="true"), columns=pd.Index(names, name="predicted"))


def _mean(values: NDArray[Any], weight: Floats | None) -> float:
    return float(np.average(values, weights=weight)) if len(values) else float("nan")


def _bound(value: Any) -> str:
    return f"{value:%Y-%m-%d}" if isinstance(value, pd.Timestamp) else f"{value:.4g}"

"""The headline and the sections on how well the ensemble predicts.

Every figure says whether its rows selected the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from windvane.evaluation.columns.importance import Importance
from windvane.evaluation.curves import ClassCurves, ClassificationFigures, RegressionFigures
from windvane.evaluation.decisions.thresholds import DecisionTuning
from windvane.evaluation.evaluation import Evaluation
from windvane.evaluation.evaluation_page import (
    UNIT,
    class_tables,
    confusion_figure,
    confusions_table,
    figures,
    metrics_table,
    target_tables,
    threshold_figures,
    worst_rows_table,
)
from windvane.evaluation.predictions import Predictions
from windvane.pages.html_builder import (
    Html,
    Section,
    bars,
    details,
    figure,
    metric_cards,
    note,
    number,
    paragraph,
    side_by_side,
)
from windvane.pages.svg_charts import Axis, Series, histogram, plot
from windvane.pages.texts import counted
from windvane.report.report_data import ReportData
from windvane.report.search_section import describe_direction

MAX_PAIRS = 6  # of confused classes
MAX_COLUMNS = 15
OUT_OF_FOLD = "Each is predicted by models that did not train on it, but these rows selected the models and weights."


@dataclass(frozen=True)
class HeadlineScores:
    """The scores at the top of the page, in the direction of the metric; None for what is unknown."""

    validation: float
    test: float | None = None
    interval: tuple[float, float] | None = None  # of the test score
    constant: float | None = None  # of a constant prediction


def headline(data: ReportData, scores: HeadlineScores) -> list[Html]:
    """What was learned, and its scores: the test score first if there is one."""
    task, metric = data.task, data.metric
    direction = describe_direction(metric)
    entries: list[tuple[str, str, object]] = []
    if scores.test is not None:
        interval = ""
        if scores.interval is not None:
            interval = f"95 % interval {number(scores.interval[0])} to {number(scores.interval[1])}; "
        n_rows = "" if data.test is None else f"{len(data.test):,} "
        remark = f"{interval}{n_rows}rows that the search did not see; {direction}"
        entries.append((f"Test {data.metric_title}", number(scores.test), remark))
    remark = "selected the model, so it is optimistic" + ("" if entries else f"; {direction}")
    entries.append((f"Validation {data.metric_title}", number(scores.validation), remark))
    if scores.constant is not None:
        target = "class frequencies" if task.is_classification else "median" if metric.name == "mae" else "mean"
        if task.n_targets > 1:
            target = "of each target its best constant"
        elif task.quantile is not None:
            target = f"quantile {task.quantile:g}"
        entries.append(("Constant prediction", number(scores.constant), f"{target} of the training target"))
    if data.predictor.images is None:
        entries.append(("Data", f"{task.n_rows:,} x {len(data.schema.feature_names):,}", "rows x columns"))
    else:
        entries.append(("Data", f"{task.n_rows:,}", "images"))
    entries.append(("Ensemble", counted(len(data.ensemble.members), "member"), "models that predict together"))
    kind = "Classification" if task.is_classification else "Regression"
    if task.n_targets > 1:
        kind += f", {task.n_targets:,} targets"
    elif task.is_classification:
        kind += f", {task.n_classes:,} classes"
    content = [paragraph(f"{kind}, evaluated by {data.metric_title}."), metric_cards(entries)]
    if scores.test is None:
        hint = "There is no unbiased score yet. Pass rows that the search did not see: "
        content.append(note(hint + "model.report(path, X_test, y_test) or windvane report --test."))
    if data.manifest.get("own_metric") and data.manifest.get("metric") != metric.name:
        content.append(
            note(f"The metric of the run, {data.manifest['metric']}, is not available; this page uses another.", "warn")
        )
    return content


def evaluation_section(evaluation: Evaluation, predictions: Predictions, tuning: DecisionTuning | None) -> Section:
    """Every usual metric with its interval, each class, gain, calibration, the threshold, the worst rows."""
    text = f"On {len(predictions):,} {describe_rows(predictions)}"
    text += "." if predictions.weight is None else ", with their weights."
    if not predictions.is_test:
        text += " These rows selected the models, so the scores are optimistic, and the intervals do not cover that."
    pictures = figures(evaluation)
    if tuning is not None and tuning.curve is not None and tuning.threshold is not None:
        pictures += threshold_figures(tuning.curve, tuning.threshold, tuning.reason)
    content = [paragraph(text), metrics_table(evaluation), *class_tables(evaluation), *target_tables(evaluation)]
    content += [side_by_side(*pictures)] if pictures else []
    worst = worst_rows_table(evaluation)
    content += [details("The rows that are predicted worst", *worst)] if worst else []
    return Section("Evaluation", content)


def classification_section(found: ClassificationFigures, predictions: Predictions, labels: Sequence[str]) -> Section:
    """How a classifier errs: confusion and curves."""
    names = found.confusion.names
    remark = f" Accuracy {found.accuracy:.1%}."
    if len(names) < len(labels):
        remark += f" The {len(names) - 1} largest of {len(labels)} classes are shown."
    content = [_about_rows(predictions), confusion_figure(found.confusion.counts, names, remark)]
    if len(labels) > 2 and found.top_confusions:
        content.append(confusions_table(found.top_confusions[:MAX_PAIRS], "rows"))
    if found.curves:
        content.append(side_by_side(*_curve_figures(found.curves, is_binary=len(labels) == 2)))
    return Section("Predictions", content)


def regression_section(found: RegressionFigures, predictions: Predictions) -> Section:
    """How a regressor errs: predicted against true values, and the errors."""
    n_dots, n_rows = len(found.dots[0]), len(predictions)
    both = Axis.around("", np.concatenate(found.dots))
    ends = np.array([both.low, both.high])
    shown = f"{n_dots:,} rows drawn at random" if n_dots < n_rows else "all rows"
    scatter = plot(
        [Series(ends, ends, "dashed", 4), Series(*found.dots, "points")],
        Axis("predicted", both.low, both.high),
        Axis("true", both.low, both.high),
        "True over predicted values",
    )
    edges, counts = found.histogram
    median, quantile = found.absolute_errors
    caption = f"Half of the errors are below {number(median, 3)}, nine of ten below {number(quantile, 3)}. "
    caption += "The outer 1 % are not shown."
    content = side_by_side(
        figure("True over predicted", scatter, f"Dots: {shown}. Dashed: exact."),
        figure("Errors", histogram(counts, edges, "predicted - true", "Histogram of the errors"), caption),
        _grouped_errors_figure(found),
    )
    return Section("Predictions", [_about_rows(predictions), content])


def importance_section(importance: Importance, predictions: Predictions, metric: str) -> Section:
    """Bars of the most important columns."""
    entries = list(importance.drops.items())[:MAX_COLUMNS]
    largest = max((mean for mean, _ in importance.drops.values()), default=0.0)
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 0
    drawn = [(name, mean, _with_spread(mean, std, decimals, importance.n_repeats)) for name, (mean, std) in entries]
    times = "once" if importance.n_repeats == 1 else f"{importance.n_repeats} times"
    text = f"How much {metric} gets worse when a column is shuffled ({times}, "
    text += f"{importance.n_rows:,} {describe_rows(predictions)}). "
    text += "Columns with the same information share their importance or hide each other's."
    content = [paragraph(text), bars(drawn, label="Importance of the columns")]
    rest = len(importance.drops) - len(entries)
    if rest > 0:
        columns = "1 more column matters" if rest == 1 else f"{rest:,} more columns matter"
        content.append(paragraph(f"{columns} less."))
    if importance.n_omitted:
        columns = "1 column was" if importance.n_omitted == 1 else f"{importance.n_omitted:,} columns were"
        content.append(paragraph(f"{columns} omitted for lack of time, those that predict least on their own."))
    return Section("Columns that matter", content)


def describe_rows(predictions: Predictions) -> str:
    """What the rows are called on the page."""
    return "test rows" if predictions.is_test else "validation rows (out of fold)"


def _about_rows(predictions: Predictions) -> Html:
    text = f"On {len(predictions):,} {describe_rows(predictions)}. "
    text += "The search did not see them." if predictions.is_test else OUT_OF_FOLD
    if predictions.weight is not None:
        text += " The figures ignore the weights of the rows."
    return paragraph(text)


def _with_spread(mean: float, std: float, decimals: int, n_repeats: int) -> str:
    if round(mean, decimals) <= 0:
        return "none"
    return f"{mean:,.{decimals}f}" + (f" ± {std:,.{decimals}f}" if n_repeats > 1 else "")


def _curve_figures(curves: Sequence[ClassCurves], is_binary: bool) -> list[Html]:
    classes = f"“{curves[0].name}” against the other class" if is_binary else "the classes hardest to separate"
    areas = ", ".join(number(one.auc) for one in curves)
    roc, precision = [Series(UNIT, UNIT, "dashed", 4)], list[Series]()
    if is_binary:
        precision.append(Series(UNIT, np.full(2, curves[0].frequency), "dashed", 4))
    for i, one in enumerate(curves):
        name = "" if is_binary else one.name
        roc.append(Series(*one.roc, color=i, name=name))
        precision.append(Series(*one.precision_recall, color=i, name=name))
    roc_plot = plot(
        roc, Axis("false positive rate", 0.0, 1.0), Axis("true positive rate", 0.0, 1.0), f"ROC curve of {classes}"
    )
    precision_plot = plot(
        precision, Axis("recall", 0.0, 1.0), Axis("precision", 0.0, 1.0), f"Precision over recall of {classes}"
    )
    chance = " Dashed: chance." if is_binary else ""
    return [
        figure("ROC", roc_plot, f"ROC of {classes} (area {areas}). Dashed: chance.", roc),
        figure("Precision and recall", precision_plot, f"Precision over recall of {classes}.{chance}", precision),
    ]


def _grouped_errors_figure(found: RegressionFigures) -> Html:
    """Quartiles of the errors over the prediction: they show bias and growing spread."""
    x, (low, median, high) = found.group_predictions, found.group_errors
    series = [
        Series(x, low, "dashed", 0, "middle half"),
        Series(x, high, "dashed", 0),
        Series(x, median, "line", 1, "median"),
    ]
    across = Axis.around("predicted", x)
    zero = Series(np.array([across.low, across.high]), np.zeros(2), "dashed", 4)
    up = Axis.around("predicted - true", np.concatenate([low, high, [0.0]]))
    picture = plot([zero, *series], across, up, "Errors over the prediction")
    return figure("Errors over the prediction", picture, "A median off zero is a bias there.", series)

"""The headline and the sections on how well the ensemble predicts.

Every figure says whether its rows selected the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from windvane.evaluation.columns.importance import Importance
from windvane.evaluation.curves import ClassCurves, class_curves, confusion, top_confusions
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
from windvane.evaluation.score_text import natural_score
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
from windvane.runtime.columns.table import Floats

MAX_PAIRS = 6  # of confused classes
MAX_COLUMNS = 15
MAX_DOTS = 800  # of a scatter plot
N_BINS = 30  # of the histogram of errors
N_GROUPS = 10  # of rows with similar predictions
OUT_OF_FOLD = "Each is predicted by models that did not train on it, but these rows selected the models and weights."


def headline(data: ReportData, seed: int) -> list[Html]:
    """What was learned, and its scores: the test score first if there is one; `seed` is that of its interval."""
    task, metric = data.task, data.metric
    direction = describe_direction(metric)
    entries: list[tuple[str, str, object]] = []
    test, about = None, ""
    if data.test is not None:
        test, interval = data.test.score(metric), data.test.interval(metric, seed)
        if interval is not None:
            about = f"95 % interval {number(interval[0])} to {number(interval[1])}; "
        about += f"{len(data.test):,} "
    elif data.test_score is not None:
        test = natural_score(metric, data.test_score)
    if test is not None:
        remark = f"{about}rows that the search did not see; {direction}"
        entries.append((f"Test {data.metric_title}", number(test), remark))
    remark = "selected the model, so it is optimistic" + ("" if entries else f"; {direction}")
    entries.append((f"Validation {data.metric_title}", number(metric.score(data.ensemble.loss)), remark))
    if data.constant is not None:
        constant = metric.score(data.constant.loss)
        if data.predictions is not None:
            constant = data.predictions.constant_score(metric, data.constant.values)
        target = "class frequencies" if task.is_classification else "median" if metric.name == "mae" else "mean"
        if task.n_targets > 1:
            target = "of each target its best constant"
        elif task.quantile is not None:
            target = f"quantile {task.quantile:g}"
        entries.append(("Constant prediction", number(constant), f"{target} of the training target"))
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
    if test is None:
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


def classification_section(predictions: Predictions, labels: Sequence[str], positive: int | None) -> Section:
    """How a classifier errs: confusion, and curves, of two classes those of the positive one."""
    target, predicted = predictions.target, predictions.labels
    counts, names = confusion(target, predicted, labels)
    remark = f" Accuracy {float(np.mean(predicted == target)):.1%}."
    if len(names) < len(labels):
        remark += f" The {len(names) - 1} largest of {len(labels)} classes are shown."
    content = [_about_rows(predictions), confusion_figure(counts, names, remark)]
    confused = top_confusions(target, predicted, labels)
    if len(labels) > 2 and confused:
        content.append(confusions_table(confused[:MAX_PAIRS], "rows"))
    curves = class_curves(target, predictions.prediction, labels, positive)
    if curves:
        content.append(side_by_side(*_curve_figures(curves, is_binary=len(labels) == 2)))
    return Section("Predictions", content)


def regression_section(predictions: Predictions, seed: int) -> Section:
    """How a regressor errs: predicted against true values, and the errors; `seed` draws the dots."""
    some = predictions.sample(MAX_DOTS, seed)
    both = Axis.around("", np.concatenate([some.prediction, some.target]))
    ends = np.array([both.low, both.high])
    shown = f"{len(some):,} rows drawn at random" if len(some) < len(predictions) else "all rows"
    scatter = plot(
        [Series(ends, ends, "dashed", 4), Series(some.prediction, some.target, "points")],
        Axis("predicted", both.low, both.high),
        Axis("true", both.low, both.high),
        "True over predicted values",
    )
    errors = predictions.prediction - predictions.target  # (n,)
    low, high = map(float, np.quantile(errors, [0.005, 0.995]))
    counts, edges = np.histogram(errors, bins=N_BINS, range=(low, high) if high > low else (low - 0.5, high + 0.5))
    median, quantile = map(float, np.quantile(np.abs(errors), [0.5, 0.9]))
    caption = f"Half of the errors are below {number(median, 3)}, nine of ten below {number(quantile, 3)}. "
    caption += "The outer 1 % are not shown."
    content = side_by_side(
        figure("True over predicted", scatter, f"Dots: {shown}. Dashed: exact."),
        figure("Errors", histogram(counts, edges, "predicted - true", "Histogram of the errors"), caption),
        _grouped_errors_figure(predictions.prediction, errors),
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


def _grouped_errors_figure(prediction: Floats, errors: Floats) -> Html:
    """Quartiles of the errors of rows with similar predictions: they show bias and growing spread."""
    groups = np.array_split(np.argsort(prediction, kind="stable"), min(N_GROUPS, len(errors)))
    x = np.array([prediction[rows].mean() for rows in groups])  # (g,)
    low, median, high = np.array([np.quantile(errors[rows], [0.25, 0.5, 0.75]) for rows in groups]).T  # (g,) each
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

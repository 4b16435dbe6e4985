"""The headline and the sections on how well the ensemble predicts.

Every figure says whether its rows chose the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from windvane.draw import Axis, Series, plot
from windvane.page import Html, Section, bars, cards, figure, heat, note, number, paragraph, side_by_side, table
from windvane.report.evidence import Evidence, Judged
from windvane.report.importance import Importance
from windvane.report.judgement import (
    baseline,
    calibration,
    confused,
    confusion,
    interval,
    precision_points,
    roc_points,
    score_of,
)
from windvane.report.search_part import direction
from windvane.runtime.table import Floats, Integers

SEED = 0  # of samples that only a picture depends on
MOST_DOTS = 800
MOST_CURVES = 4  # classes with a curve of their own
MOST_RANKED = 30  # classes that these are chosen from
MOST_PAIRS = 6  # of classes taken for another
MOST_COLUMNS = 15
TRUTH = "A validation row is predicted by models that did not train on it; but these rows chose the models and weights."


def headline(evidence: Evidence) -> list[Html]:
    """Put the honest number first.

    Parameters
    ----------
    evidence
        Of the run.

    Returns
    -------
    list of Html
        What was learned, and figures: test score if there is one, validation score labelled as what chose the model.
    """
    run = evidence.run
    predictor = run.predictor
    task, metric = predictor.task, predictor.metric
    validation = metric.score(predictor.ensemble.loss)
    entries: list[tuple[str, str, object]] = []
    if evidence.test is not None:
        around = interval(predictor, evidence.test, SEED)
        within = "" if around is None else f"95 % interval {number(around[0])} to {number(around[1])}; "
        remark = f"{within}{len(evidence.test.rows):,} rows that chose nothing; {direction(metric)}"
        entries.append((f"Test {metric.name}", number(score_of(predictor, evidence.test)), remark))
    elif run.test_score is not None:
        score = run.test_score if metric.greater_is_better else -run.test_score
        entries.append((f"Test {metric.name}", number(score), f"rows that chose nothing; {direction(metric)}"))
    remark = "chose the model, so it is optimistic" + ("" if entries else f"; {direction(metric)}")
    entries.append((f"Validation {metric.name}", number(validation), remark))
    if evidence.problem is not None and evidence.judged is not None:
        guess = baseline(task, metric, evidence.problem.target, evidence.judged)
        entries.append(("Blind guess", number(guess), "knows how often each target occurs, but no column"))
    entries.append(("Data", f"{task.n_rows:,} x {len(predictor.schema.feature_names):,}", "rows x columns"))
    classes = f", {task.n_classes:,} classes" if task.kind == "multiclass" else ""
    members = len(predictor.ensemble.members)
    entries.append(("Ensemble", f"{members} member{'s' * (members != 1)}", "models that predict together"))
    content = [paragraph(f"{task.kind.capitalize()}{classes}, judged by {metric.name}."), cards(entries)]
    if evidence.test is None and run.test_score is None:
        hint = "There is no unbiased score yet: give rows that the search did not see, "
        content.append(note(hint + "model.report(path, X_test, y_test) or windvane report --test."))
    if evidence.manifest.get("own_metric") and evidence.manifest.get("metric") != metric.name:
        content.append(
            note(f"The run's own metric {evidence.manifest['metric']} is not here; this page uses another.", "warn")
        )
    return content


def score_section(evidence: Evidence) -> Section | None:
    """Show how the ensemble errs.

    Parameters
    ----------
    evidence
        Of the run.

    Returns
    -------
    Section or None
        None where there are neither validation nor test predictions.
    """
    judged = evidence.judged
    if judged is None:
        return None
    words = f"On {len(judged.rows):,} {judged.name}."
    words += " They chose nothing." if judged.is_test else f" {TRUTH}"
    if judged.weight is not None:
        words += " Rows count the same here, whatever their weight."
    content = [paragraph(words)]
    if evidence.run.predictor.task.is_classification:
        decided = evidence.run.predictor.weighted(judged.raw).argmax(axis=1)  # (v,)
        content += [*_confusion(judged, decided, evidence.labels), side_by_side(*_curves(judged, evidence.labels))]
    else:
        content.append(side_by_side(*_residuals(judged)))
    return Section("Predictions", content)


def importance_section(found: Importance, judged: Judged, metric: str) -> Section:
    """Rank the columns.

    Parameters
    ----------
    found
        From `measure_importance`.
    judged
        The rows that it was measured on.
    metric
        Name of the metric.

    Returns
    -------
    Section
        Bars of the most important columns.
    """
    largest = max((mean for mean, _ in found.losses.values()), default=0.0)
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 0
    entries = [
        (name, mean, _with_spread(mean, spread, decimals, found.repeats))
        for name, (mean, spread) in found.losses.items()
    ][:MOST_COLUMNS]
    times = "once" if found.repeats == 1 else f"{found.repeats} times"
    words = f"How much the {metric} loses when a column is shuffled ({times}, {found.rows:,} {judged.name}). "
    words += "Columns that say the same share their importance, or hide each other's."
    content = [paragraph(words), bars(entries, label="Importance of the columns")]
    rest = len(found.losses) - len(entries)
    if rest > 0:
        content.append(paragraph(f"{rest:,} more columns lose less."))
    if found.left_out:
        content.append(
            paragraph(f"For {found.left_out:,} columns, which tell little on their own, the time did not suffice.")
        )
    return Section("Columns that matter", content)


def _with_spread(mean: float, spread: float, decimals: int, repeats: int) -> str:
    if mean <= 0:
        return "none"
    return f"{mean:,.{decimals}f}" + (f" ± {spread:,.{decimals}f}" if repeats > 1 else "")


def _confusion(judged: Judged, decided: Integers, labels: list[str]) -> list[Html]:
    found = confusion(judged.target, decided, labels)
    totals = np.maximum(found.counts.sum(axis=1, keepdims=True), 1)
    shares = found.counts / totals  # (c, c)
    cells = [
        [(float(share), f"{count:,}") for share, count in zip(*pair, strict=True)]
        for pair in zip(shares, found.counts, strict=True)
    ]
    right = float(np.mean(decided == judged.target))
    words = f"Rows: the true class. Columns: the predicted one. Shade: share of the row. {right:.1%} are right."
    if len(found.names) < len(labels):
        words += f" The {len(found.names) - 1} largest of {len(labels)} classes are shown."
    shown = [figure("Confusion matrix", heat(found.names, found.names, cells, label="Confusion matrix"), words)]
    pairs = confused(judged.target, decided, len(labels))[:MOST_PAIRS] if len(labels) > 2 else []
    if pairs:
        rows = [[labels[i], labels[j], count, f"{share:.0%}"] for i, j, count, share in pairs]
        header = ["true class", "taken for", "rows", "of its rows"]
        shown.append(figure("Most frequent confusions", table(header, rows, label="Most frequent confusions")))
    return shown


def _curves(judged: Judged, labels: list[str]) -> list[Html]:
    counts = np.bincount(judged.target, minlength=len(labels))
    binary = len(labels) == 2
    largest = [1] if binary else np.argsort(-counts, kind="stable")[:MOST_RANKED].tolist()
    areas = {
        code: float(roc_auc_score(judged.target == code, judged.raw[:, code]))
        for code in largest
        if 0 < counts[code] < len(judged.target)
    }
    codes = sorted(areas, key=lambda code: areas[code])[:MOST_CURVES]
    if not codes:
        return [_calibration(judged, labels)]
    curves = {code: "" if binary else labels[code] for code in codes}  # code -> name in the legend
    against = "the classes hardest to tell from the rest"
    if binary:
        against = f"“{labels[1]}” against the other class"
    ranked = f"{against} (area {', '.join(number(areas[code]) for code in codes)})"
    guess = float(counts[1] / len(judged.target)) if binary else None
    return [_roc(judged, curves, ranked), _precision(judged, curves, against, guess), _calibration(judged, labels)]


def _roc(judged: Judged, curves: Mapping[int, str], against: str) -> Html:
    series = [Series(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "dashed", 4)]
    for i, (code, name) in enumerate(curves.items()):
        series.append(Series(*roc_points(judged.target == code, judged.raw[:, code]), colour=i, name=name))
    across, up = Axis("false positive rate", 0.0, 1.0), Axis("true positive rate", 0.0, 1.0)
    words = f"ROC: {against}. Dashed: a guess."
    return figure("ROC", plot(series, across, up, f"ROC curve of {against}"), words, series)


def _precision(judged: Judged, curves: Mapping[int, str], against: str, guess: float | None) -> Html:
    series = [] if guess is None else [Series(np.array([0.0, 1.0]), np.array([guess, guess]), "dashed", 4)]
    for i, (code, name) in enumerate(curves.items()):
        series.append(Series(*precision_points(judged.target == code, judged.raw[:, code]), colour=i, name=name))
    words = f"Precision over recall: {against}." + ("" if guess is None else " Dashed: a guess.")
    drawn = plot(series, Axis("recall", 0.0, 1.0), Axis("precision", 0.0, 1.0), f"Precision over recall of {against}")
    return figure("Precision and recall", drawn, words, series)


def _calibration(judged: Judged, labels: list[str]) -> Html:
    right: NDArray[np.bool_]
    if len(labels) == 2:
        probability, right = judged.raw[:, 1], judged.target == 1
        x, y = Axis(f"probability of “{labels[1]}”", 0.0, 1.0), Axis("share of the rows", 0.0, 1.0)
    else:
        probability, right = judged.raw.max(axis=1), judged.raw.argmax(axis=1) == judged.target
        x, y = Axis("largest probability", 0.0, 1.0), Axis("share that is right", 0.0, 1.0)
    said, share = calibration(right, np.clip(probability, 0.0, 1.0))
    diagonal = Series(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "dashed", 4)
    drawn = plot([diagonal, Series(said, share), Series(said, share, "ring")], x, y, "Calibration")
    words = "On the dashed line, of the rows given 80 %, 80 % are. Below it, the model is too sure."
    if len(labels) == 2:
        words = "On the dashed line, of the rows given 80 %, 80 % are. Each point is a tenth of the rows."
    return figure("Calibration", drawn, words)


def _residuals(judged: Judged) -> list[Html]:
    some = judged.sample(MOST_DOTS, SEED)
    both = Axis.around("", np.concatenate([some.target, some.raw]))
    x, y = Axis("predicted", both.low, both.high), Axis("true", both.low, both.high)
    ends = np.array([both.low, both.high])
    dots = [Series(ends, ends, "dashed", 4), Series(some.raw, some.target, "points")]
    drawn = f"{len(some.target):,} rows drawn at random" if len(some.target) < len(judged.target) else "all rows"
    scatter = figure(
        "True over predicted", plot(dots, x, y, "True over predicted values"), f"Dots: {drawn}. Dashed: right."
    )
    errors = judged.raw - judged.target  # (v,)
    middle = np.quantile(errors, [0.005, 0.995])
    counts, edges = np.histogram(errors, bins=30, range=_wide(middle))
    bars_ = [Series(edges, counts, "bars")]
    x, y = Axis.around("predicted - true", edges, margin=0.0), Axis("rows", 0.0, max(1.0, 1.05 * float(counts.max())))
    words = f"Half of the errors are below {number(float(np.median(np.abs(errors))), 3)}, nine of ten below "
    words += f"{number(float(np.quantile(np.abs(errors), 0.9)), 3)}. The outer 1 % are not shown."
    return [scatter, figure("Errors", plot(bars_, x, y, "Histogram of the errors"), words), _by_prediction(judged)]


def _by_prediction(judged: Judged) -> Html:
    """Draw the median error and its middle half over ten groups of predictions: bias and growing spread show here."""
    order = np.array_split(np.argsort(judged.raw, kind="stable"), min(10, len(judged.raw)))
    errors = judged.raw - judged.target
    x = np.array([judged.raw[rows].mean() for rows in order])
    low, middle, high = (np.array([np.quantile(errors[rows], q) for rows in order]) for q in (0.25, 0.5, 0.75))
    series = [
        Series(x, low, "dashed", 0, "middle half"),
        Series(x, high, "dashed", 0),
        Series(x, middle, "line", 1, "median"),
    ]
    across = Axis.around("predicted", x)
    zero = Series(np.array([across.low, across.high]), np.zeros(2), "dashed", 4)
    up = Axis.around("predicted - true", np.concatenate([low, high, [0.0]]))
    drawn = plot([zero, *series], across, up, "Errors over the prediction")
    return figure("Errors over the prediction", drawn, "A median off zero is a bias there.", series)


def _wide(ends: Floats) -> tuple[float, float]:
    low, high = float(ends[0]), float(ends[1])
    return (low, high) if high > low else (low - 0.5, high + 0.5)

"""An evaluation as HTML: a page, a fragment for notebooks, and the tables of a report's section."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from windvane.evaluation.decisions.calibration import CALIBRATION_ERROR
from windvane.evaluation.evaluation_tables import EvaluationTables
from windvane.evaluation.evaluation_text import headline
from windvane.pages.html_builder import (
    Html,
    Page,
    Section,
    details,
    figure,
    heatmap,
    number,
    paragraph,
    side_by_side,
    table,
)
from windvane.pages.svg_charts import Axis, Series, plot
from windvane.runtime.columns.table import Integers
from windvane.version import VERSION

MAX_CLASSES = 12  # shown before a click
MAX_COLUMNS = 12  # of the worst rows
UNIT = np.array([0.0, 1.0])


def evaluation_page(evaluation: EvaluationTables) -> Page:
    named, pictures = _tables(evaluation), figures(evaluation)
    if pictures:
        named.insert(-1, ("Probabilities", [side_by_side(*pictures)]))  # before the worst rows
    sections = [Section(title, content) for title, content in named if content]
    return Page(
        "windvane evaluation", [paragraph(headline(evaluation), ".")], sections, f"Written by windvane {VERSION}."
    )


def evaluation_fragment(evaluation: EvaluationTables) -> Html:
    """Return the tables alone, for a notebook."""
    tables = [html for _, content in _tables(evaluation) for html in content]
    return Html("".join([paragraph(headline(evaluation), "."), *tables]))


def _tables(evaluation: EvaluationTables) -> list[tuple[str, list[Html]]]:
    return [
        ("Metrics", [metrics_table(evaluation)]),
        ("Classes", class_tables(evaluation)),
        ("Targets", target_tables(evaluation)),
        ("Segments", segment_tables(evaluation)),
        ("Worst rows", worst_rows_table(evaluation)),
    ]


def figures(evaluation: EvaluationTables) -> list[Html]:
    """Draw the reliability diagram, and gain over the share of rows of two classes."""
    points = evaluation.calibration
    found = [] if points is None else [calibration_figure(evaluation, points)]
    return found + gain_figures(evaluation)


def metrics_table(evaluation: EvaluationTables) -> Html:
    """Scores with their intervals; the run's metric is the first."""
    rows = [
        [row["metric"], row["score"], interval(row["low"], row["high"])]
        for row in evaluation.metrics.to_dict("records")
    ]
    return table(["metric", "score", "95 % interval"], rows, label="Metrics")


def class_tables(evaluation: EvaluationTables) -> list[Html]:
    """Scores of each class; of many classes the largest come first, the others on a click."""
    if evaluation.classes is None:
        return []
    ranked = evaluation.classes.sort_values("support", ascending=False, kind="stable")
    rows = [
        [str(row["class"]), *(float(row[name]) for name in ("precision", "recall", "f1", "auc")), int(row["support"])]
        for row in ranked.to_dict("records")
    ]
    header = ["class", "precision", "recall", "F1", "ROC AUC", "rows"]
    shown = [table(header, rows[:MAX_CLASSES], label="Scores of each class")]
    if len(rows) > MAX_CLASSES:
        rest = table(header, rows[MAX_CLASSES:], label="Other classes")
        shown.append(details(f"Other classes ({len(rows) - MAX_CLASSES:,})", rest))
    return shown


def target_tables(evaluation: EvaluationTables) -> list[Html]:
    """Scores of each of several targets alone."""
    found = evaluation.targets
    if found is None:
        return []
    return [table(list(found.columns), found.to_numpy().tolist(), label="Scores of each target")]


def segment_tables(evaluation: EvaluationTables) -> list[Html]:
    """One table for each column."""
    found = []
    for column, of_column in evaluation.segments.groupby("column", sort=False):
        means = [name for name in ("target", "prediction") if name in of_column]
        rows = [
            [row["segment"], int(row["n"]), row["score"], interval(row["low"], row["high"]), *(row[m] for m in means)]
            for row in of_column.to_dict("records")
        ]
        header = [str(column), "rows", evaluation.metric, "95 % interval", *(f"mean {name}" for name in means)]
        found.append(table(header, rows, label=f"Segments of {column}"))
    return found


def worst_rows_table(evaluation: EvaluationTables) -> list[Html]:
    worst = evaluation.worst_rows
    if worst.empty:
        return []
    names = list(worst.columns[:MAX_COLUMNS])
    rows: list[list[Any]] = [[int(index), *map(_cell, values)] for index, *values in worst[names].itertuples(name=None)]
    return [table(["row", *map(str, names)], rows, label="Rows with the largest loss")]


def confusion_figure(counts: Integers, names: Sequence[str], remark: str) -> Html:
    """Rows of each true and predicted class (c, c), shaded by their share of the true class."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # (c, c)
    cells = [
        [(share, f"{count:,}") for share, count in zip(*pair, strict=True)]
        for pair in zip(shares.tolist(), counts.tolist(), strict=True)
    ]
    picture = heatmap(names, names, cells, label="Confusion matrix")
    caption = f"Rows: true class. Columns: predicted class. Shade: share of the row.{remark}"
    return figure("Confusion matrix", picture, caption)


def confusions_table(confusions: Sequence[tuple[str, str, int, float]], of: str) -> Html:
    """Pairs of confused classes, as `top_confusions` returns them; `of` is what is counted."""
    rows = [[true, other, count, f"{share:.0%}"] for true, other, count, share in confusions]
    title = "Most frequent confusions"
    return figure(title, table(["true class", "predicted as", of, "of the class"], rows, label=title))


def gain_figures(evaluation: EvaluationTables) -> list[Html]:
    """Draw the share of the positives among the rows with the highest probabilities."""
    lift = evaluation.lift
    if lift is None or lift["gain"].isna().any():
        return []
    x, y = np.append(0.0, lift["share"]), np.append(0.0, lift["gain"])
    first = lift.iloc[0]
    caption = f"The {first['share']:.0%} of the rows with the highest probability hold {first['gain']:.0%} of the rows "
    caption += f"of “{evaluation.positive_class}”, {first['lift']:.3g} times as many as a random choice (lift)."
    series = [Series(UNIT, UNIT, "dashed", 4), Series(x, y), Series(x, y, "ring")]
    axes = Axis("share of the rows, highest first", 0.0, 1.0), Axis("share of the positives", 0.0, 1.0)
    return [figure("Gain", plot(series, *axes, "Gain over the share of the rows"), caption)]


def calibration_figure(evaluation: EvaluationTables, points: pd.DataFrame) -> Html:
    """Draw the reliability diagram."""
    if evaluation.positive_class is not None:
        x, y = Axis(f"probability of “{evaluation.positive_class}”", 0.0, 1.0), Axis("share of the rows", 0.0, 1.0)
        caption = "On the dashed line, 80 % of the rows with a probability of 80 % are of this class. "
        caption += "Each point is a tenth of the rows."
    else:
        x, y = Axis("largest probability", 0.0, 1.0), Axis("share that is correct", 0.0, 1.0)
        caption = "On the dashed line, 80 % of the rows with a probability of 80 % are correct. "
        caption += "Below it, the model is overconfident."
    scores = evaluation.metrics.set_index("metric")["score"]
    if CALIBRATION_ERROR.name in scores:
        caption += f" Expected calibration error: {number(scores[CALIBRATION_ERROR.name], 3)}."
    curve = points["probability"].to_numpy(), points["frequency"].to_numpy()
    series = [Series(UNIT, UNIT, "dashed", 4), Series(*curve), Series(*curve, "ring")]
    return figure("Calibration", plot(series, x, y, "Calibration"), caption)


def threshold_figures(curve: pd.DataFrame, threshold: float, reason: str) -> list[Html]:
    """Draw precision, recall and F1 over the threshold, the chosen one as a dashed line."""
    x = curve["threshold"].to_numpy()
    series = [
        Series(x, curve[name].to_numpy(), "line", i, name) for i, name in enumerate(("precision", "recall", "f1"))
    ]
    chosen = Series(np.array([threshold, threshold]), UNIT, "dashed", 4)
    axes = Axis("threshold", 0.0, 1.0), Axis("", 0.0, 1.0)
    caption = f"Dashed: the threshold in force, {number(threshold, 3)}, {reason}."
    picture = plot([chosen, *series], *axes, "Precision, recall and F1 over the threshold")
    return [figure("Threshold", picture, caption, series)]


def interval(low: float, high: float) -> str:
    """Write an interval; empty where it is unknown."""
    return "" if math.isnan(low) else f"{number(low)} to {number(high)}"


def _cell(value: Any) -> Any:
    return value if isinstance(value, float | int) and not isinstance(value, bool) else str(value)

"""An evaluation as a text for a terminal, at most 80 columns wide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from windvane.evaluation.evaluation_tables import EvaluationTables
from windvane.evaluation.score_text import score_number
from windvane.pages.texts import WIDTH, align_columns, counted, cut

MAX_TEXT = 24  # characters of a cell
MAX_CLASSES = 20  # shown


def evaluation_text(evaluation: EvaluationTables) -> str:
    """Write the tables below each other, each under its heading."""
    parts = [headline(evaluation), metrics_text(evaluation)]
    if evaluation.classes is not None:
        rows = [
            [row["class"], *(_short(row[n]) for n in ("precision", "recall", "f1")), row["support"], _short(row["auc"])]
            for row in evaluation.classes.to_dict("records")
        ]
        parts.append(_first_rows(["class", "precision", "recall", "f1", "rows", "auc"], rows, "classes"))
    if evaluation.targets is not None:
        rows = [[name, *map(_short, scores)] for name, *scores in evaluation.targets.to_numpy().tolist()]
        parts.append(_first_rows(list(evaluation.targets.columns), rows, "targets"))
    for column, of_column in evaluation.segments.groupby("column", sort=False):
        rows = [
            [row["segment"], row["n"], _short(row["score"]), interval_text(row["low"], row["high"])]
            for row in of_column.to_dict("records")
        ]
        parts.append(text_table([str(column), "rows", evaluation.metric, "95 % interval"], rows))
    lift = evaluation.lift
    if lift is not None and not lift["gain"].isna().any():
        rows = [
            [f"{row['share']:.0%}", row["n"], f"{row['lift']:.2f}", f"{row['gain']:.1%}"]
            for row in lift.to_dict("records")
        ]
        parts.append(text_table(["highest", "rows", "lift", "of the positives"], rows))
    if len(evaluation.worst_rows):
        parts.append(_worst_text(evaluation.worst_rows))
    return "\n\n".join(parts)


def headline(evaluation: EvaluationTables) -> str:
    """Say in a line what was evaluated."""
    text = counted(evaluation.n_rows, "row")
    if evaluation.classes is not None:
        text += f", {len(evaluation.classes)} classes"
    if evaluation.targets is not None:
        text += f", {len(evaluation.targets)} {'targets' if evaluation.task == 'regression' else 'labels'}"
    if evaluation.positive_class is not None:
        text += f"; the positive one is {evaluation.positive_class!r}, predicted above {evaluation.threshold:.4g}"
    return text


def metrics_text(evaluation: EvaluationTables) -> str:
    rows = [
        [
            row["metric"] + " *" * (row["metric"] == evaluation.metric),
            "-" if math.isnan(row["score"]) else score_number(row["score"]),
            interval_text(row["low"], row["high"]),
        ]
        for row in evaluation.metrics.to_dict("records")
    ]
    return text_table(["metric", "score", "95 % interval"], rows, longest=40) + "\n* what the search optimized"


def interval_text(low: float, high: float) -> str:
    """Write an interval; empty where it is unknown."""
    return "" if math.isnan(low) else f"{_short(low)} to {_short(high)}"


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]], longest: int = MAX_TEXT) -> str:
    """Write a table; the first column is aligned left, the others right."""
    cells = [[_cell(value, longest) for value in row] for row in [header, *rows]]
    return "\n".join(line[:WIDTH] for line in align_columns(cells))


def _first_rows(header: Sequence[str], rows: Sequence[Sequence[Any]], noun: str) -> str:
    """Write the first rows of a table, and how many more there are."""
    more = len(rows) - MAX_CLASSES
    return text_table(header, rows[:MAX_CLASSES]) + (f"\n... and {more} more {noun}" if more > 0 else "")


def _worst_text(worst: pd.DataFrame) -> str:
    """Write the worst rows with as many of their columns as fit."""
    names = list(worst.columns)
    while True:
        table = [[index, *row] for index, *row in worst[names].itertuples(name=None)]
        header = ["worst row", *map(str, names)]
        shown = [[_cell(value, MAX_TEXT) for value in row] for row in [header, *table]]
        if max(map(len, align_columns(shown))) <= WIDTH or len(names) <= 4:
            return text_table(header, table)
        names.pop()


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _cell(value: Any, longest: int) -> str:
    if isinstance(value, bool):
        text = str(value)
    elif isinstance(value, float):
        text = _short(value)
    elif isinstance(value, int):
        text = f"{value:,}"
    else:
        text = " ".join(str(value).split())
    return cut(text, longest)

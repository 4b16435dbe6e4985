"""The sections on the data: what they are, what looks suspicious, and whether the test set looks like them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from windvane.pages.html_builder import (
    Html,
    Section,
    bars,
    bullet_list,
    details,
    figure,
    note,
    paragraph,
    side_by_side,
    table,
)
from windvane.pages.svg_charts import Axis, Series, plot
from windvane.report.dataset_shift import CLEAR_SHIFT, DatasetShift
from windvane.report.report_data import ReportData
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Integers

MAX_COLUMNS = 300  # in the table of columns
MAX_CLASSES = 15  # with a bar each
MAX_MISSING = 12
MAX_BINS = 30
MANY_SHARED_ROWS = 0.01  # of the test rows

KIND_NAMES = {
    "number": "numeric",
    "category": "categorical",
    "date": "datetime",
    "duration": "timedelta",
    "text": "text",
    "dropped": "dropped",
}


def data_section(data: ReportData, issues: Sequence[str] | None, column_scores: Mapping[str, float]) -> Section:
    """Kinds of columns, issues (None if the data were not kept), target, missing values, and a table of all columns."""
    task, schema, problem = data.task, data.schema, data.problem
    content = [
        paragraph(f"{task.n_rows:,} rows, {len(schema.feature_names):,} columns: {count_kinds(schema)}."),
    ]
    if issues:
        content.append(bullet_list(issues, "warn"))
    elif issues is not None:
        content.append(
            note("No issues: no duplicates, identifiers, columns that reveal the target, rare classes.", "good")
        )
    else:
        content.append(
            note(
                "The data are not here: a saved model has none, nor a run with keep_data=False. They were not checked."
            )
        )
    figures = []
    if problem is not None and task.is_classification:
        figures.append(_class_figure(problem.target, data.labels))
    elif problem is not None:
        figures.append(_target_figure(problem.target))
    missing = _missing_figure(schema, task.n_rows)
    if missing is not None:
        figures.append(missing)
    if figures:
        content.append(side_by_side(*figures))
    if schema.columns:
        columns = _column_table(schema, column_scores, "ROC AUC" if task.is_classification else "R²")
        content.append(details(f"All {len(schema.columns):,} columns", *columns))
    return Section("Data", content)


def count_kinds(schema: Schema) -> str:
    """The number of columns of each kind in words, as in "12 numeric, 3 categorical"."""
    if schema.n_sparse:
        return "a sparse matrix of numbers"
    counts: Counter[str] = Counter(column.kind for column in schema.columns)
    return ", ".join(f"{counts[kind]:,} {name}" for kind, name in KIND_NAMES.items() if counts[kind])


def shift_section(shift: DatasetShift | None, n_shared: int, n_test: int) -> Section:
    """What differs between training data and test set, and how many test rows are also training rows."""
    content = []
    if n_shared:
        text = f"{n_shared:,} of {n_test:,} test rows ({n_shared / n_test:.1%}) equal a training row in every column."
        many = n_shared >= MANY_SHARED_ROWS * n_test
        text += " They make the test score look better than it is." if many else ""
        content.append(note(text, "warn" if many else "plain"))
    if shift is None:
        content.append(paragraph("There are too few rows, or no plain columns, to compare train and test."))
        return Section("Train and test", content)
    measured = f"A forest separates training rows from test rows with ROC AUC {shift.auc:.3f} (0.5: not at all)"
    if not shift.is_visible:
        content.append(note(f"{measured}: no shift is visible.", "good"))
        return Section("Train and test", content)
    grade = "differ clearly" if shift.auc >= CLEAR_SHIFT else "differ a little"
    content.append(note(f"{measured}: they {grade}. The score on later data may differ too.", "warn"))
    content.append(
        paragraph(
            "The columns that separate them: share of the forest's gain · distance of the two distributions "
            "(Kolmogorov-Smirnov, 0 to 1)."
        )
    )
    entries = [(one.name, one.importance, f"{one.importance:.0%} · {one.distance:.2f}") for one in shift.columns]
    content.append(bars(entries, label="Columns that differ between train and test"))
    return Section("Train and test", content)


def _class_figure(target: Integers, labels: Sequence[str]) -> Html:
    counts = np.bincount(target, minlength=len(labels))
    order = np.argsort(-counts, kind="stable")
    entries = [(labels[i], float(counts[i]), f"{counts[i]:,} · {counts[i] / len(target):.1%}") for i in order]
    if len(entries) > MAX_CLASSES:
        rest = int(counts[order[MAX_CLASSES:]].sum())
        more = f"{len(entries) - MAX_CLASSES} more"
        entries = [*entries[:MAX_CLASSES], (more, -1.0, f"{rest:,} · {rest / len(target):.1%}")]
    return figure("Rows of each class", bars(entries, label="Rows of each class"))


def _target_figure(target: Floats) -> Html:
    counts, edges = np.histogram(target, bins=min(MAX_BINS, max(5, len(np.unique(target)))))
    x, y = Axis.around("target", edges, margin=0.0), Axis("rows", 0.0, max(1.0, 1.05 * float(counts.max())))
    caption = (
        f"from {target.min():,.5g} to {target.max():,.5g}, mean {target.mean():,.5g}, median {np.median(target):,.5g}"
    )
    histogram = plot([Series(edges, counts, "bars")], x, y, f"Histogram of the target, {caption}")
    return figure("The target", histogram, caption)


def _missing_figure(schema: Schema, n_rows: int) -> Html | None:
    columns = sorted((column for column in schema.columns if column.n_missing), key=lambda column: -column.n_missing)
    if not columns:
        return None
    entries = [(one.name, float(one.n_missing), f"{one.n_missing / n_rows:.1%}") for one in columns[:MAX_MISSING]]
    if len(columns) > MAX_MISSING:
        entries.append((f"{len(columns) - MAX_MISSING} more columns", -1.0, "fewer"))
    return figure("Missing values", bars(entries, label="Share of missing values", full=n_rows))


def _column_table(schema: Schema, column_scores: Mapping[str, float], measure: str) -> list[Html]:
    rows: list[list[object]] = []
    for column in schema.columns[:MAX_COLUMNS]:
        score = f"{column_scores[column.name]:.3f}" if column.name in column_scores else ""
        distinct = "" if column.n_unique is None else f"{column.n_unique:,}"
        rows.append(
            [
                column.name,
                KIND_NAMES[column.kind],
                distinct,
                column.n_missing,
                score,
                column.reason or column.number_format or column.date_format or "",
            ]
        )
    header = ["column", "kind", "distinct", "missing", "alone", "note"]
    text = f"“alone”: {measure} of a small tree on this column only, on rows it did not learn from."
    if len(schema.columns) > MAX_COLUMNS:
        text += f" The first {MAX_COLUMNS} columns are listed."
    return [paragraph(text), table(header, rows, label="All columns")]

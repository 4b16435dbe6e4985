"""The sections on the data: what they are, what looks suspicious, and whether the test set looks like them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.column_types import describe_columns
from windvane.pages.html_builder import (
    Html,
    Section,
    bars,
    bullet_list,
    class_bars,
    details,
    figure,
    note,
    paragraph,
    side_by_side,
    table,
)
from windvane.pages.svg_charts import histogram
from windvane.pages.texts import counted
from windvane.report.dataset_shift import CLEAR_SHIFT, DatasetShift
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Integers

MAX_COLUMNS = 300  # in the table of columns
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


@dataclass(frozen=True, eq=False)
class TableSummary:
    """A table and what was found in it; needs no model."""

    n_rows: int
    schema: Schema  # how the columns are read
    labels: Sequence[str] = ()  # of the classes, by code; empty for numbers, and without a target
    target: NDArray[Any] | None = None  # codes of classes or numbers, shape (n,); None without a target
    issues: Sequence[str] | None = None  # what looks suspicious, the most serious first; None: not checked
    notes: Sequence[str] = ()  # how columns are read, and which are left out
    column_scores: Mapping[str, float] = field(default_factory=dict)  # how well a column alone predicts the target
    examples: Mapping[str, str] = field(default_factory=dict)  # values of a column, in words
    shift: DatasetShift | None = None  # against the other rows; None without any, or with too few
    n_shared: int = 0  # other rows that equal one of these
    n_test: int = 0  # other rows

    @property
    def measure(self) -> str:
        """Name of the measure of `column_scores`."""
        return "ROC AUC" if self.labels else "R²"

    @property
    def columns(self) -> pd.DataFrame:
        """One row for each column: its kind, distinct and missing values, score alone, values, and a note."""
        table = describe_columns(self.schema)
        if self.column_scores:
            table.insert(4, "alone", [self.column_scores.get(name, np.nan) for name in table["column"]])
        if self.examples:
            table.insert(len(table.columns) - 1, "values", [self.examples.get(name, "") for name in table["column"]])
        return table


def data_section(data: TableSummary) -> Section:
    """Kinds of columns, issues, target, missing values, and a table of all columns."""
    schema, n_rows = data.schema, data.n_rows
    content = [paragraph(f"{table_size(n_rows, schema)}.")]
    if data.issues is None:
        words = "The data are not here: a saved model has none, nor a run with keep_data=False. They were not checked."
        content.append(note(words))
    elif data.issues:
        content.append(bullet_list(data.issues, "warn"))
    else:
        words = "No issues: no duplicates, identifiers, columns that reveal the target, rare classes."
        content.append(note(words, "good"))
    if data.notes:
        content.append(bullet_list(data.notes))
    figures = []
    if data.target is not None:
        figures.append(class_figure(data.target, data.labels) if data.labels else _target_figure(data.target))
    figures += _missing_figure(schema, n_rows)
    if figures:
        content.append(side_by_side(*figures))
    if schema.columns:
        shown = _column_table(data)
        content += shown if data.examples else [details(f"All {counted(len(schema.columns), 'column')}", *shown)]
    return Section("Data", content)


def table_size(n_rows: int, schema: Schema) -> str:
    """Rows, columns and how many there are of each kind in words, as in "150 rows, 2 columns: 2 numeric"."""
    counts: Counter[str] = Counter(column.kind for column in schema.columns)
    kinds = ", ".join(f"{counts[kind]:,} {name}" for kind, name in KIND_NAMES.items() if counts[kind])
    if schema.n_sparse:
        kinds = "a sparse matrix of numbers"
    return f"{counted(n_rows, 'row')}, {counted(len(schema.feature_names), 'column')}: {kinds}"


def shift_section(data: TableSummary) -> Section:
    """What differs between training data and test set, and how many test rows are also training rows."""
    content, n_shared, n_test = [], data.n_shared, data.n_test
    if n_shared:
        text = f"{n_shared:,} of {n_test:,} test rows ({n_shared / n_test:.1%}) equal a training row in every column."
        many = n_shared >= MANY_SHARED_ROWS * n_test
        text += " They make the test score look better than it is." if many else ""
        content.append(note(text, "warn" if many else "plain"))
    return Section("Train and test", [*content, *_describe_shift(data.shift)])


def _describe_shift(shift: DatasetShift | None) -> list[Html]:
    if shift is None:
        return [paragraph("There are too few rows, or no plain columns, to compare train and test.")]
    measured = f"A forest separates training rows from test rows with ROC AUC {shift.auc:.3f} (0.5: not at all)"
    if not shift.is_visible:
        return [note(f"{measured}: no shift is visible.", "good")]
    grade = "differ clearly" if shift.auc >= CLEAR_SHIFT else "differ a little"
    about_columns = (
        "The columns that separate them: share of the forest's gain · distance of the two distributions "
        "(Kolmogorov-Smirnov, 0 to 1)."
    )
    entries = [(one.name, one.importance, f"{one.importance:.0%} · {one.distance:.2f}") for one in shift.columns]
    return [
        note(f"{measured}: they {grade}. The score on later data may differ too.", "warn"),
        paragraph(about_columns),
        bars(entries, label="Columns that differ between train and test"),
    ]


def class_figure(target: Integers, labels: Sequence[str], title: str = "Rows of each class") -> Html:
    """Bars of the sizes of the classes, the largest first."""
    return class_bars(np.bincount(target, minlength=len(labels)).tolist(), labels, title)


def _target_figure(target: Floats) -> Html:
    counts, edges = np.histogram(target, bins=min(MAX_BINS, max(5, len(np.unique(target)))))
    caption = (
        f"from {target.min():,.5g} to {target.max():,.5g}, mean {target.mean():,.5g}, median {np.median(target):,.5g}"
    )
    return figure("The target", histogram(counts, edges, "target", f"Histogram of the target, {caption}"), caption)


def _missing_figure(schema: Schema, n_rows: int) -> list[Html]:
    columns = sorted((column for column in schema.columns if column.n_missing), key=lambda column: -column.n_missing)
    if not columns:
        return []
    entries = [(one.name, float(one.n_missing), f"{one.n_missing / n_rows:.1%}") for one in columns[:MAX_MISSING]]
    if len(columns) > MAX_MISSING:
        entries.append((counted(len(columns) - MAX_MISSING, "more column"), -1.0, "fewer"))
    return [figure("Missing values", bars(entries, label="Share of missing values", full=n_rows))]


def _column_table(data: TableSummary) -> list[Html]:
    columns = data.columns.head(MAX_COLUMNS)
    text = ""
    if data.column_scores:
        text = f"“alone”: {data.measure} of a small tree on this column only, on rows it did not learn from."
    if len(data.schema.columns) > MAX_COLUMNS:
        text += f" The first {MAX_COLUMNS} columns are listed."
    shown = table(list(columns.columns), _texts(columns).to_numpy().tolist(), label="All columns")
    return [paragraph(text), shown] if text else [shown]


def _texts(columns: pd.DataFrame) -> pd.DataFrame:
    """Write the numbers of a table of columns."""
    forms = {"alone": "{:.3f}", "distinct": "{:,}", "missing": "{:,}"}
    written = {
        name: ["" if pd.isna(value) else form.format(value) for value in columns[name]]
        for name, form in forms.items()
        if name in columns
    }
    return columns.assign(**written)

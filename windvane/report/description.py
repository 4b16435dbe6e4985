"""`windvane.describe`: a table before anything is learned from it; the report's sections on the data use it, too."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.column_types import doubts, dropped_notes, infer_schema, leave_out, reading_notes
from windvane.data.files import to_frame
from windvane.data.rows import order_notes
from windvane.data.target import TaskType, encode_target, infer_task
from windvane.data.targets import are_several
from windvane.errors import InputError
from windvane.evaluation.columns.identifiers import find_identifiers, identifier_doubts, leave_out_identifiers
from windvane.evaluation.columns.totals_row import totals_row_warning
from windvane.pages.html_builder import Page, write_page
from windvane.pages.texts import WIDTH, align_columns, counted, cut
from windvane.report.data_checks import count_shared_rows, find_data_issues, single_column_scores
from windvane.report.data_section import TableSummary, data_section, shift_section, table_size
from windvane.report.dataset_shift import measure_dataset_shift
from windvane.runtime.columns.column_values import kind_of
from windvane.runtime.columns.schema import Frame, Schema, listed, name_text
from windvane.runtime.columns.table import Table
from windvane.search.table_problem import leave_out_named
from windvane.version import VERSION

SEED = 0  # of every sample
MAX_EXAMPLES = 3  # values of a category that are named
MAX_EXAMPLE = 16  # characters of each
MAX_NAME, MIN_VALUES = 24, 12  # characters of a column's name, and at least of its values, in a terminal
MAX_LINES = 60  # columns printed in a terminal


class Description(TableSummary):
    """What `describe` found. Printed, it is a summary of at most 80 columns."""

    def compare(self, table: Table, rows: Table, ids: Collection[str]) -> Description:
        """Compare with other rows, read by the same schema, in all columns but `ids`: new rows have new identifiers."""
        columns = {name: places for name, places in self.schema.matrix_places.items() if name not in ids}
        return replace(
            self,
            shift=measure_dataset_shift(table, rows, columns, SEED),
            n_shared=count_shared_rows(table, rows),
            n_test=rows.n_rows,
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything in JSON's types."""
        record: dict[str, Any] = {"rows": self.n_rows}
        record["columns"] = json.loads(self.columns.to_json(orient="records"))
        if self.target is not None:
            record["target"] = self._target_summary()
        record |= {"issues": list(self.issues or ()), "notes": list(self.notes)}
        if self.n_test:
            record["test"] = {"rows": self.n_test, "shared_rows": self.n_shared}
            if self.shift is not None:
                columns = [{"column": one.name, "distance": one.distance} for one in self.shift.columns]
                record["test"] |= {"roc_auc": self.shift.auc, "visible": self.shift.is_visible, "columns": columns}
        return record

    def write_html(self, path: str | Path) -> Path:
        """Write one self-contained page; raises InputError if it cannot be written there."""
        sections = [data_section(self), *([shift_section(self)] if self.n_test else [])]
        return write_page(Page("windvane: the data", [], sections, f"Written by windvane {VERSION}."), Path(path))

    def _repr_html_(self) -> str:
        return "".join(data_section(self).content)

    def _target_summary(self) -> dict[str, Any]:
        target = self.target
        assert target is not None
        if self.labels:
            counts = np.bincount(target, minlength=len(self.labels)).tolist()
            return {"kind": "classes", "rows": dict(zip(self.labels, counts, strict=True))}
        values = {"min": target.min(), "median": np.median(target), "mean": target.mean(), "max": target.max()}
        return {"kind": "numbers", **{name: float(value) for name, value in values.items()}}

    def __str__(self) -> str:
        lines = [table_size(self.n_rows, self.schema)]
        if self.target is not None:
            lines.append(self._target_line())
        lines += ["", *_lines(self.columns.head(MAX_LINES))]
        if len(self.schema.columns) > MAX_LINES:
            lines.append(f"... and {counted(len(self.schema.columns) - MAX_LINES, 'more column')}")
        if self.column_scores:
            lines.append(f"alone: {self.measure} of a small tree on this column, on rows it did not see")
        found = {"Look at": self.issues or (), "Read as": self.notes, "Train and test": self._test_lines()}
        for title, texts in found.items():
            if texts:
                lines += ["", f"{title}:", *(line for text in texts for line in _wrapped(text))]
        return "\n".join(lines)

    def _target_line(self) -> str:
        summary = self._target_summary()
        if self.labels:
            counts = sorted(summary["rows"].items(), key=lambda pair: -pair[1])
            shown = [f"{label} {count / self.n_rows:.1%}" for label, count in counts[:5]]
            more = f", {len(counts) - 5} more" if len(counts) > 5 else ""
            return f"target: {len(counts)} classes, {', '.join(shown)}{more}"
        return "target: from {min:,.5g} to {max:,.5g}, median {median:,.5g}, mean {mean:,.5g}".format(**summary)

    def _test_lines(self) -> list[str]:
        if not self.n_test:
            return []
        lines = [f"{self.n_shared:,} of {self.n_test:,} rows equal a row of the first table in every column."]
        if self.shift is None:
            return [*lines, "There are too few rows to compare the tables."]
        measured = f"A forest separates the tables with ROC AUC {self.shift.auc:.3f} (0.5: not at all)"
        if not self.shift.is_visible:
            return [*lines, f"{measured}: no shift is visible."]
        return [*lines, f"{measured}, by {', '.join(one.name for one in self.shift.columns)}."]


def describe(
    X: Any,
    y: Any = None,
    X_test: Any = None,
    *,
    task: str | None = None,
    ignore: str | Sequence[str] | None = None,
    id_columns: str | Sequence[str] | None = None,
    column_types: Mapping[str, str] | None = None,
    date_formats: Mapping[str, str] | None = None,
) -> Description:
    """Look at a table before anything is learned from it.

    Says how each column would be read by `AutoClassifier` and `AutoRegressor`, and what looks suspicious: missing,
    constant and identifying columns, columns that reveal the target, duplicates, rare classes, and other rows that
    differ from these.

    Parameters
    ----------
    X
        n rows, in any form that the estimators take.
    y
        n targets, or None. Rows without one are counted and left out.
    X_test
        Other rows, such as a test set, that are compared with these; None for no comparison.
    task
        "classification" or "regression"; None to infer it from the target.
    ignore, id_columns
        Names of columns that will not be learned from, as in the estimators' ``fit``.
    column_types, date_formats
        How to read columns, as in the estimators' ``fit``.

    Returns
    -------
    Description
        Prints as a summary; ``columns`` is a table, ``write_html`` writes a page, ``to_json`` returns plain values.

    Raises
    ------
    InputError
        If an argument, or the table, cannot be used.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> found = describe(X, y)
    >>> found.issues[0]
    '1 row (0.7%) repeats an earlier row in every column.'
    """
    if task is not None and task not in get_args(TaskType):
        raise InputError(f"task={task!r} is unknown. Allowed: {', '.join(get_args(TaskType))}, or None.")
    frame, notes = to_frame(X), list(order_notes(X, {"y": y}))
    target: NDArray[Any] | None = None
    labels: list[str] = []
    if y is not None:
        frame, target, labels, target_notes = _read_target(frame, y, task)
        notes += target_notes
    schema = leave_out_named(
        infer_schema(frame, column_types, date_formats), {"ignore": ignore, "id_columns": id_columns}
    )
    table = schema.transform(frame, owner="describe")
    ids = find_identifiers(schema, table)
    read, tested, doubtful = schema, list[str](), list[str]()
    if target is not None:
        read, tested, doubtful = leave_out_identifiers(schema, ids, table, target, len(labels), column_types)
    left_out = replace(read, columns=tuple(one for one in read.columns if one.name in tested and one.kind == "dropped"))
    columns = schema.matrix_places
    scores = {} if target is None else single_column_scores(table, target, len(labels), columns, SEED)
    issues = find_data_issues(table, schema, target, scores, labels, ids=ids, left_out_ids=tested)
    found = Description(
        n_rows=table.n_rows,
        schema=read,
        labels=labels,
        target=target,
        issues=[*totals_row_warning(schema, table, target), *issues, *identifier_doubts(doubtful)],
        notes=[*notes, *reading_notes(schema), *doubts(schema), *dropped_notes(left_out)],
        column_scores=scores,
        examples=_examples(frame, schema),
    )
    return found if X_test is None else _compared(found, frame, table, schema, to_frame(X_test), ids)


def _read_target(frame: Frame, y: Any, task: str | None) -> tuple[Frame, NDArray[Any], list[str], list[str]]:
    """Return the rows that have a target, these targets, the labels of classes, and what to say of them."""
    if are_several(y):
        raise InputError("y has several targets, but describe is for one. Allowed: one of its columns, or None.")
    values = y if isinstance(y, pd.Series) else pd.Series(np.asarray(y).ravel() if not isinstance(y, list) else y)
    if len(values) != frame.shape[0]:
        raise InputError(
            f"X and y have different lengths: {frame.shape[0]} and {len(values)}. Allowed: one target for each row."
        )
    present = values.notna().to_numpy()
    if not present.any():
        raise InputError("y holds no value. Allowed: one target for each row.")
    gone, read_as = list[str](), list[str]()
    n_missing = int((~present).sum())
    if n_missing:
        frame, values = frame[present], values[present]
        rows = "1 row has" if n_missing == 1 else f"{n_missing:,} rows have"
        gone.append(f"{rows} no target: not described here, and refused by fit.")
    if task is None:
        task, reason = infer_task(values)
        read_as.append(f"The target is read as {task}, as it has {reason}.")
    try:
        target, classes = encode_target(values, "regression" if task == "regression" else "classification")
    except InputError as error:
        raise InputError(" ".join([str(error), *gone])) from error
    return frame, target, [] if classes is None else list(map(str, classes.tolist())), [*gone, *read_as]


def _compared(
    found: Description, frame: Frame, table: Table, schema: Schema, other: Frame, ids: Collection[str]
) -> Description:
    """Compare with other rows, in the columns that both have."""
    issues = list(found.issues or ())
    if isinstance(other, pd.DataFrame) and schema.named:
        there = set(map(name_text, other.columns))
        lacking = [column.name for column in schema.columns if column.kind != "dropped" and column.name not in there]
        if len(lacking) == sum(column.kind != "dropped" for column in schema.columns):
            return replace(found, issues=[*issues, "The other rows have no column in common with these."])
        if lacking:
            issues.append(f"The other rows lack {counted(len(lacking), 'column')}: {listed(lacking)}.")
            schema = leave_out(schema, dict.fromkeys(lacking, "not in the other rows"))
            table = schema.transform(frame, owner="describe")
    try:
        rows = schema.transform(other, owner="describe")
    except InputError as error:
        return replace(found, issues=[*issues, f"The other rows cannot be read as these are: {error}"])
    compared = replace(found, schema=schema).compare(table, rows, ids)
    return replace(compared, schema=found.schema, issues=[*issues, *_unseen(schema, rows)])


def _unseen(schema: Schema, rows: Table) -> list[str]:
    """Name the categories of the other rows that are new."""
    categories = [column for column in schema.columns if column.kind == "category"]
    codes = rows.matrix[:, rows.n_numbers :]  # (n, c)
    unseen = (codes == np.array(rows.cardinalities)).mean(axis=0) if categories else np.zeros(0)
    named = [f"{one.name} ({share:.1%})" for one, share in zip(categories, unseen.tolist(), strict=True) if share > 0]
    return [f"Categories of the other rows that do not occur here, by share of rows: {listed(named)}."] if named else []


def _examples(frame: Frame, schema: Schema) -> dict[str, str]:
    """Return examples of the values of each column: the range of numbers and dates, the most frequent categories."""
    if not isinstance(frame, pd.DataFrame):
        return {}
    return {
        column.name: _range(frame.iloc[:, i])
        if kind_of(frame.iloc[:, i]) in ("number", "date")
        else _most(frame.iloc[:, i])
        for i, column in enumerate(schema.columns)
    }


def _range(values: pd.Series) -> str:
    present = values.dropna()
    if present.empty:
        return ""
    low, high = present.min(), present.max()
    if isinstance(low, pd.Timestamp):
        return f"{low:%Y-%m-%d} to {high:%Y-%m-%d}"
    return f"{float(low):.4g} to {float(high):.4g}"


def _most(values: pd.Series) -> str:
    counts = values.astype(str)[values.notna()].value_counts()
    return ", ".join(cut(" ".join(str(value).split()), MAX_EXAMPLE) for value in counts.index[:MAX_EXAMPLES])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  - ", subsequent_indent="    ")


def _lines(columns: pd.DataFrame) -> list[str]:
    """Write a table of columns in at most `WIDTH` characters; names, values and notes are cut."""
    shown = {
        "column": [cut(name, MAX_NAME) for name in columns["column"]],
        "kind": list(columns["kind"]),
        "missing": [f"{count:,}" if count else "" for count in columns["missing"]],
        "distinct": ["" if pd.isna(count) else f"{count:,}" for count in columns["distinct"]],
    }
    if "alone" in columns:
        shown["alone"] = ["" if np.isnan(score) else f"{score:.3f}" for score in columns["alone"]]
    shown["values"] = list(columns["note"].where(columns["kind"] == "dropped", columns.get("values", "")))
    last = len(shown) - 1
    return align_columns([list(shown), *zip(*shown.values(), strict=True)], (0, 1, last), last, MIN_VALUES)

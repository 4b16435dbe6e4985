"""The sections on the data: what they are, what is odd about them, and whether the test set looks like them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from windvane.draw import Axis, Series, plot
from windvane.page import Html, Section, bars, details, figure, listed, note, paragraph, side_by_side, table
from windvane.report.drift import CLEAR, Drift
from windvane.report.evidence import Evidence
from windvane.runtime.schema import Schema
from windvane.runtime.table import Floats, Integers

MOST_COLUMNS = 300  # in the table of columns
MOST_CLASSES = 15  # with a bar each
MOST_MISSING = 12
MOST_BINS = 30
MANY_SHARED = 0.01  # of the test rows


def data_section(evidence: Evidence, odd: Sequence[str], alone: Mapping[str, float]) -> Section:
    """Describe the training data.

    Parameters
    ----------
    evidence
        Of the run.
    odd
        What is odd about the data.
    alone
        How well each column alone tells the target.

    Returns
    -------
    Section
        Kinds, oddities, target, missing values, and every column on a click.
    """
    predictor, problem = evidence.run.predictor, evidence.problem
    task, schema = predictor.task, predictor.schema
    content = [paragraph(f"{task.n_rows:,} rows, {len(schema.feature_names):,} columns: {kinds(schema)}.")]
    if odd:
        content.append(listed(odd, "warn"))
    elif problem is not None:
        content.append(
            note("Nothing odd was found: no duplicates, identifiers, give-away columns or rare classes.", "good")
        )
    if problem is None:
        content.append(
            note("The run's data were not kept, so they were not searched for duplicates or give-away columns.")
        )
    pictures = []
    if problem is not None and task.is_classification:
        pictures.append(_classes(problem.target, evidence.labels))
    elif problem is not None:
        pictures.append(_histogram(problem.target))
    missing = _missing(schema, task.n_rows)
    if missing is not None:
        pictures.append(missing)
    if pictures:
        content.append(side_by_side(*pictures))
    if schema.columns:
        content.append(
            details(f"All {len(schema.columns):,} columns", *_columns(schema, alone, task.is_classification))
        )
    return Section("Data", content)


def kinds(schema: Schema) -> str:
    """Count the columns of each kind, in words.

    Parameters
    ----------
    schema
        Of the training table.

    Returns
    -------
    str
        As in "12 numbers, 3 categories".
    """
    if schema.n_sparse:
        return "a sparse matrix of numbers"
    counted = [(sum(column.kind == kind for column in schema.columns), word) for kind, word in _WORDS.items()]
    return ", ".join(f"{n:,} {word[0] if n == 1 else word[1]}" for n, word in counted if n)


_WORDS = {
    "number": ("number", "numbers"),
    "category": ("category", "categories"),
    "date": ("date", "dates"),
    "duration": ("duration", "durations"),
    "text": ("text", "texts"),
    "dropped": ("left out", "left out"),
}


def drift_section(drift: Drift | None, shared: int, n_test: int) -> Section:
    """Compare the test set with the training data.

    Parameters
    ----------
    drift
        From `measure_drift`.
    shared
        Test rows that occur in the training data.
    n_test
        Test rows.

    Returns
    -------
    Section
        What differs, and whether test rows were trained on.
    """
    content = []
    if shared:
        text = f"{shared:,} of {n_test:,} test rows ({shared / n_test:.1%}) equal a training row in every column."
        many = shared >= MANY_SHARED * n_test
        flattered = " The test score is flattered by them." if many else ""
        content.append(note(text + flattered, "warn" if many else "plain"))
    if drift is None:
        content.append(paragraph("There are too few rows, or no plain columns, to compare train and test."))
        return Section("Train and test", content)
    measured = f"A forest tells training rows from test rows with ROC AUC {drift.auc:.3f} (0.5: not at all)"
    if not drift.visible:
        content.append(note(f"{measured}: no drift is visible.", "good"))
    else:
        grade = "differ clearly" if drift.auc >= CLEAR else "differ a little"
        content.append(note(f"{measured}: they {grade}. The score on later data may differ too.", "warn"))
        words = "What it tells them apart by: each column's share of the forest's gain, and the distance of its two "
        content.append(paragraph(words + "distributions (Kolmogorov-Smirnov, 0 to 1)."))
        entries = [(name, gain, f"{gain:.0%} · {apart:.2f}") for name, gain, apart in drift.columns]
        content.append(bars(entries, label="Columns that differ between train and test"))
    return Section("Train and test", content)


def _classes(target: Integers, labels: Sequence[str]) -> Html:
    counts = np.bincount(target, minlength=len(labels))
    order = np.argsort(-counts, kind="stable")
    entries = [(labels[i], float(counts[i]), f"{counts[i]:,} · {counts[i] / len(target):.1%}") for i in order]
    if len(entries) > MOST_CLASSES:
        rest = int(counts[order[MOST_CLASSES:]].sum())
        more = f"{len(entries) - MOST_CLASSES} more"
        entries = [*entries[:MOST_CLASSES], (more, -1.0, f"{rest:,} · {rest / len(target):.1%}")]
    return figure("Rows of each class", bars(entries, label="Rows of each class"))


def _histogram(target: Floats) -> Html:
    counts, edges = np.histogram(target, bins=min(MOST_BINS, max(5, len(np.unique(target)))))
    x, y = Axis.around("target", edges, margin=0.0), Axis("rows", 0.0, max(1.0, 1.05 * float(counts.max())))
    spread = (
        f"from {target.min():,.5g} to {target.max():,.5g}, mean {target.mean():,.5g}, median {np.median(target):,.5g}"
    )
    return figure(
        "The target", plot([Series(edges, counts, "bars")], x, y, f"Histogram of the target, {spread}"), spread
    )


def _missing(schema: Schema, n_rows: int) -> Html | None:
    gone = sorted((c for c in schema.columns if c.missing), key=lambda column: -column.missing)
    if not gone:
        return None
    shown = [(column.name, float(column.missing), f"{column.missing / n_rows:.1%}") for column in gone[:MOST_MISSING]]
    if len(gone) > MOST_MISSING:
        shown.append((f"{len(gone) - MOST_MISSING} more columns", -1.0, "fewer"))
    return figure("Missing values", bars(shown, label="Share of missing values"))


def _columns(schema: Schema, alone: Mapping[str, float], classification: bool) -> list[Html]:
    measure = "ROC AUC" if classification else "R²"
    rows: list[list[object]] = []
    for column in schema.columns[:MOST_COLUMNS]:
        power = f"{alone[column.name]:.3f}" if column.name in alone else ""
        distinct = "" if column.distinct is None else f"{column.distinct:,}"
        rows.append([column.name, column.kind, distinct, column.missing, power, column.reason or ""])
    header = ["column", "kind", "distinct", "missing", "alone", "note"]
    text = f"“alone”: {measure} of a small tree on this column only, on rows it did not learn from."
    if len(schema.columns) > MOST_COLUMNS:
        text += f" The first {MOST_COLUMNS} columns are listed."
    return [paragraph(text), table(header, rows, label="All columns")]

"""From a table to the features of a model, as exported folders do it.

`windvane.export.source` copies `read`, `encode` and what they need into each folder, so nothing here knows of
windvane's classes: a description is what JSON holds, what was learned is a mapping of arrays. Of the dictionaries
only the entries that a folder needs are copied.

Notation: n rows, p numbers, c categories, as in `windvane.data.table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer

from windvane.data.compiled import normal_scores
from windvane.data.files import is_unnamed
from windvane.data.table import Floats
from windvane.data.values import date_parts, to_codes, to_dates, to_numbers, to_seconds, to_texts, vocabulary_index
from windvane.errors import InputError

Facts = Mapping[str, Any]
Arrays = Mapping[str, NDArray[Any]]
# A matrix of shape (n, p + c), texts, and a sparse matrix or None.
Typed = tuple[Floats, list[NDArray[np.object_]], Any]


def read(X: Any, facts: Facts) -> Typed:
    """Type a table as in training."""
    return TABLES[facts["form"]](X, facts)


def read_columns(X: Any, facts: Facts) -> Typed:
    """Type each column by itself; columns are found by name, or by place where training had no names."""
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X)
    columns, places = facts["columns"], [column["place"] for column in facts["columns"]]
    if facts["named"] and not is_unnamed(frame):
        place_of = {str(name): place for place, name in enumerate(frame.columns)}
        missing = [column["name"] for column in columns if column["name"] not in place_of]
        if missing:
            raise InputError(f"X lacks columns that the model was trained on: {', '.join(map(repr, missing))}.")
        places = [place_of[column["name"]] for column in columns]
    elif frame.shape[1] != facts["width"]:
        raise InputError(f"X has {frame.shape[1]} columns, but must have {facts['width']} as in training.")
    found: list[NDArray[Any]] = [
        READERS[column["kind"]](frame.iloc[:, place].rename(column["name"]), column)
        for column, place in zip(columns, places, strict=True)
    ]
    numbers = [block for block in found if block.dtype != object]
    return np.hstack([np.empty((len(frame), 0)), *numbers]), [text for text in found if text.dtype == object], None


def read_sparse(X: Any, facts: Facts) -> Typed:
    """Take a sparse table, or a dense one in its place."""
    if X.shape[1] != facts["width"]:
        raise InputError(f"X has {X.shape[1]} columns, but must have {facts['width']} as in training.")
    if isinstance(X, pd.DataFrame):
        X = np.stack([to_numbers(X.iloc[:, i]) for i in range(X.shape[1])], axis=1)
    matrix = sp.csr_matrix(X, dtype=np.float64)
    data = np.where(np.isinf(matrix.data), np.nan, matrix.data)
    return np.empty((X.shape[0], 0)), [], sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


TABLES = {"columns": read_columns, "sparse": read_sparse}


def read_number(values: pd.Series, column: Facts) -> Floats:  # (n, 1)
    """Read numbers; infinite ones count as missing."""
    numbers = to_numbers(values)
    return np.where(np.isinf(numbers), np.nan, numbers)[:, None]


def read_date(values: pd.Series, column: Facts) -> Floats:  # (n, number of parts)
    """Take dates apart."""
    parts = date_parts(to_dates(values, column["form"], column["timezone"]))
    return np.column_stack([parts[part] for part in column["parts"]])


def read_duration(values: pd.Series, column: Facts) -> Floats:  # (n, 1)
    """Turn durations into seconds."""
    return to_seconds(values)[:, None]


def read_category(values: pd.Series, column: Facts) -> Floats:  # (n, 1)
    """Turn categories into codes; one that training never saw has the code after the last."""
    vocabulary = tuple(column["vocabulary"])
    return to_codes(values, vocabulary_index(vocabulary), len(vocabulary))[:, None]


def read_text(values: pd.Series, column: Facts) -> NDArray[np.object_]:  # (n,)
    """Turn anything into texts."""
    return to_texts(values)


READERS = {
    "number": read_number,
    "date": read_date,
    "duration": read_duration,
    "category": read_category,
    "text": read_text,
}


def encode(typed: Typed, facts: Facts, arrays: Arrays) -> Any:
    """Make the features that one model was trained on: an array of shape (n, q) or a CSR matrix."""
    blocks = [block for step in facts["steps"] for block in STEPS[step](typed, facts, arrays) if block.shape[1]]
    if facts["sparse"]:
        return sp.csr_matrix(sp.hstack([sp.csr_matrix(block) for block in blocks], format="csr"))
    return np.hstack(blocks or [np.zeros((len(typed[0]), 1))])


def keep_matrix(typed: Typed, facts: Facts, arrays: Arrays) -> list[Any]:
    """Leave numbers and category codes as they are."""
    return [typed[0]]


def fill_and_scale(typed: Typed, facts: Facts, arrays: Arrays) -> list[Any]:
    """Fill in missing numbers, then scale."""
    numbers = typed[0][:, : facts["n_numbers"]]
    if "fill" in arrays:
        numbers = np.where(np.isnan(numbers), arrays["fill"], numbers)
    return [SCALES[facts["scale"]](numbers, arrays)]


def mark_missing(typed: Typed, facts: Facts, arrays: Arrays) -> list[Any]:
    """Say where a number was missing."""
    return [np.isnan(typed[0][:, arrays["marked"]]).astype(float)]


def look_up(typed: Typed, facts: Facts, arrays: Arrays) -> list[Any]:
    """Look each category code up in its table: one-hot or mean targets; the last row is that of a missing value."""
    blocks = []
    for j in facts["looked_up"]:
        table, codes = arrays[f"table_{j}"], typed[0][:, facts["n_numbers"] + j]
        blocks.append(table[np.where(np.isnan(codes), len(table) - 1, codes).astype(np.intp)])
    return blocks


def keep_codes(typed: Typed, facts: Facts, arrays: Arrays) -> list[Any]:
    """Leave some category codes as they are."""
    return [typed[0][:, arrays["codes"]]]


def embed_texts(typed: Typed, facts: Facts, arrays: Arrays) -> list[Any]:
    """Hash the terms of texts, weigh them by tf-idf and project them."""
    blocks = []
    for i, hashing in facts["texts"].items():
        options = {**hashing, "ngram_range": tuple(hashing["ngram_range"])}
        counts: Any = HashingVectorizer(**options).transform(typed[1][int(i)])  # CSR (n, terms)
        counts.data = (1 + np.log(counts.data)) * arrays[f"idf_{i}"][counts.indices]
        lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())  # (n,)
        blocks.append(counts @ arrays[f"components_{i}"] / np.where(lengths == 0, 1.0, lengths)[:, None])
    return blocks


def keep_sparse(typed: Typed, facts: Facts, arrays: Arrays) -> list[Any]:
    """Take the sparse part, each column divided by its largest value where that was learned."""
    return [typed[2] @ sp.diags(1 / arrays["largest"]) if "largest" in arrays else typed[2]]


STEPS = {
    "matrix": keep_matrix,
    "numbers": fill_and_scale,
    "missing": mark_missing,
    "look_up": look_up,
    "codes": keep_codes,
    "texts": embed_texts,
    "sparse": keep_sparse,
}


def scale_not(values: Floats, arrays: Arrays) -> Floats:
    """Leave numbers as they are."""
    return values


def scale_centred(values: Floats, arrays: Arrays) -> Floats:
    """Subtract a centre, divide by a spread."""
    return np.asarray((values - arrays["centre"]) / arrays["spread"])


def scale_range(values: Floats, arrays: Arrays) -> Floats:
    """Bring the range of training to 0 .. 1."""
    return np.asarray(values * arrays["factor"] + arrays["offset"])


def scale_normal(values: Floats, arrays: Arrays) -> Floats:
    """Turn quantiles of training into those of a normal distribution."""
    return normal_scores(values, arrays["quantiles"], arrays["references"])


SCALES = {"none": scale_not, "centred": scale_centred, "range": scale_range, "normal": scale_normal}

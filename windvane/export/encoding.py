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
from scipy.special import ndtri
from sklearn.feature_extraction.text import HashingVectorizer

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
    blocks = [STEPS[step["step"]](typed, {**facts, **step}, arrays) for step in facts["steps"]]
    blocks = [block for block in blocks if block.shape[1]] or [np.zeros((len(typed[0]), 1))]
    if facts["sparse"]:
        return sp.csr_matrix(sp.hstack([sp.csr_matrix(block) for block in blocks], format="csr"))
    return np.hstack(blocks)


def keep_matrix(typed: Typed, step: Facts, arrays: Arrays) -> Any:
    """Leave numbers and category codes as they are."""
    return typed[0]


def change_numbers(typed: Typed, step: Facts, arrays: Arrays) -> Any:
    """Fill in missing numbers and scale, one part after the other."""
    numbers = typed[0][:, : step["n_numbers"]]
    for i, part in enumerate(step["parts"]):
        learned = {name.partition("_")[2]: array for name, array in arrays.items() if name.startswith(f"{i}_")}
        numbers = NUMBERS[part](numbers, learned)
    return numbers


def mark_missing(typed: Typed, step: Facts, arrays: Arrays) -> Any:
    """Say where a number was missing."""
    return np.isnan(typed[0][:, arrays["marked"]]).astype(float)


def look_up(typed: Typed, step: Facts, arrays: Arrays) -> Any:
    """Look each category code up in its table: one-hot or mean targets; the last row is that of a missing value."""
    blocks = []
    for j in step["columns"]:
        table, codes = arrays[f"table_{j}"], typed[0][:, j]
        blocks.append(table[np.where(np.isnan(codes), len(table) - 1, codes).astype(np.intp)])
    return np.hstack(blocks)


def keep_codes(typed: Typed, step: Facts, arrays: Arrays) -> Any:
    """Leave some category codes as they are."""
    return typed[0][:, step["columns"]]


def embed_text(typed: Typed, step: Facts, arrays: Arrays) -> Any:
    """Hash the terms of a text, weigh them by tf-idf and project them."""
    i = step["text"]
    options = {name: step[name] for name in ("analyzer", "n_features", "alternate_sign", "norm")}
    hashing = HashingVectorizer(**options, ngram_range=tuple(step["ngram_range"]))
    counts: Any = hashing.transform(typed[1][i])  # CSR (n, terms)
    counts.data = (1 + np.log(counts.data)) * arrays[f"idf_{i}"][counts.indices]
    squares = np.add.reduceat(np.append(counts.data**2, 0.0), counts.indptr[:-1])  # (n,)
    squares[np.diff(counts.indptr) == 0] = 1.0
    return counts @ arrays[f"components_{i}"] / np.sqrt(squares)[:, None]


def keep_sparse(typed: Typed, step: Facts, arrays: Arrays) -> Any:
    """Take the sparse part, each column divided by its largest value where that was learned."""
    return typed[2] @ sp.diags(1 / arrays["largest"]) if "largest" in arrays else typed[2]


STEPS = {
    "matrix": keep_matrix,
    "numbers": change_numbers,
    "missing": mark_missing,
    "look_up": look_up,
    "codes": keep_codes,
    "text": embed_text,
    "sparse": keep_sparse,
}


def fill(values: Floats, learned: Arrays) -> Floats:
    """Fill in what is missing."""
    return np.where(np.isnan(values), learned["values"], values)


def scale_centred(values: Floats, learned: Arrays) -> Floats:
    """Subtract a centre, divide by a spread."""
    return np.asarray((values - learned["centre"]) / learned["spread"])


def scale_range(values: Floats, learned: Arrays) -> Floats:
    """Bring the range of training to 0 .. 1."""
    return np.asarray(values * learned["factor"] + learned["offset"])


def scale_uniform(values: Floats, learned: Arrays) -> Floats:
    """Turn values into their quantiles in training."""
    return levels_of(values, learned, 0.0)


def scale_normal(values: Floats, learned: Arrays) -> Floats:
    """Turn quantiles of training into those of a normal distribution, cut off as scikit-learn does."""
    margin = 1e-7
    ends = ndtri(margin - np.spacing(1)), ndtri(1 - (margin - np.spacing(1)))
    return np.asarray(np.clip(ndtri(levels_of(values, learned, margin)), *ends))


def levels_of(values: Floats, learned: Arrays, margin: float) -> Floats:
    """Find the quantiles; a value that many rows of training share gets the middle of its levels."""
    quantiles, references = learned["quantiles"], learned["references"]
    levels = np.empty(values.shape)
    for j in range(values.shape[1]):
        x, q = values[:, j], quantiles[:, j]
        levels[:, j] = np.interp(x, q, references)
        if (np.diff(q) <= 0).any():
            levels[:, j] = (levels[:, j] - np.interp(-x, -q[::-1], -references[::-1])) / 2
    levels[(values >= quantiles[-1]) | (values + margin > quantiles[-1])] = 1.0
    levels[(values <= quantiles[0]) | (values - margin < quantiles[0])] = 0.0
    return levels


def scale_power(values: Floats, learned: Arrays) -> Floats:
    """Yeo and Johnson (2000), equation 2.1: what is negative is turned round, with 2 - power."""
    powers = np.where(values >= 0, learned["powers"], 2 - learned["powers"])  # (n, p)
    logs, flat = np.log1p(np.abs(values)), np.abs(powers) < np.spacing(1.0)
    return np.copysign(np.where(flat, logs, np.expm1(powers * logs) / np.where(flat, 1.0, powers)), values)


def scale_length(values: Floats, learned: Arrays) -> Floats:
    """Bring the numbers of each row to length 1."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)  # (n, 1)
    return np.asarray(values / np.where(lengths < 10 * np.finfo(float).eps, 1.0, lengths))


NUMBERS = {
    "fill": fill,
    "centred": scale_centred,
    "range": scale_range,
    "uniform": scale_uniform,
    "normal": scale_normal,
    "power": scale_power,
    "length": scale_length,
}

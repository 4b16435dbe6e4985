"""Fitted encoders and schemas in plain values: what `windvane.export.encoding` reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from windvane.data.encoders import Encoder
from windvane.data.recognise import Column
from windvane.data.schema import Schema
from windvane.data.table import Floats
from windvane.errors import InputError

Facts = dict[str, Any]
Arrays = dict[str, NDArray[Any]]

# The order of the columns of a typed table; see `windvane.data.schema`.
_ORDER = ("number", "date", "duration", "category", "text")
_HASHING = ("analyzer", "ngram_range", "n_features", "alternate_sign", "norm")


def describe_schema(schema: Schema) -> Facts:
    """Say what the columns of a table are, in the order in which they are typed.

    Parameters
    ----------
    schema
        Of training.

    Returns
    -------
    dict
        What JSON can hold.
    """
    if schema.n_sparse:
        return {"form": "sparse", "width": schema.n_sparse, "columns": []}
    used = [(column, place) for place, column in enumerate(schema.columns) if column.kind != "dropped"]
    columns = [_describe_column(column, place) for kind in _ORDER for column, place in used if column.kind == kind]
    return {"form": "columns", "named": schema.named, "width": len(schema.columns), "columns": columns}


def describe_encoder(encoder: Encoder, sparse: bool) -> tuple[Facts, Arrays]:
    """Say what an encoder does.

    Parameters
    ----------
    encoder
        Fitted.
    sparse
        Whether the table has a sparse part.

    Returns
    -------
    facts
        What JSON can hold: the steps, one after the other.
    arrays
        What was learned.

    Raises
    ------
    InputError
        Where it holds a transformer that has no description here.
    """
    steps: list[Facts] = [{"step": "matrix"}]
    arrays = Arrays()
    if encoder.columns_ is not None:
        steps, arrays = _describe_columns(encoder)
    for i, pipeline in enumerate(encoder.texts_):
        if pipeline is not None:
            fitted = dict(pipeline.steps)
            steps.append({"step": "text", "text": i, **{name: getattr(fitted["hash"], name) for name in _HASHING}})
            arrays[f"idf_{i}"] = fitted["tfidf"].idf_
            arrays[f"components_{i}"] = np.ascontiguousarray(fitted["svd"].components_.T)
    if sparse:
        steps.append({"step": "sparse"})
        if encoder.sparse_ is not None:
            arrays["largest"] = encoder.sparse_.scale_
    wide = encoder.columns_ is not None and bool(encoder.columns_.sparse_output_)
    return {"steps": steps, "sparse": wide or sparse, "n_numbers": encoder.n_numbers}, arrays


def _describe_column(column: Column, place: int) -> Facts:
    more: Facts = {}
    if column.kind == "date":
        more = {"form": column.form, "timezone": column.timezone, "parts": column.parts}
    elif column.kind == "category":
        more = {"vocabulary": column.vocabulary}
    return {"name": column.name, "place": place, "kind": column.kind, **more}


def _describe_columns(encoder: Encoder) -> tuple[list[Facts], Arrays]:
    columns: Any = encoder.columns_
    steps: list[Facts] = []
    arrays = Arrays()
    for name, transformer, chosen in _transformers(columns):
        if name == "numbers":
            pipeline = transformer.steps if isinstance(transformer, Pipeline) else []
            learned = [part for _, step in pipeline for part in _describe_number_step(step)]
            steps.append({"step": "numbers", "parts": [part for part, _ in learned]})
            arrays |= {f"{i}_{key}": array for i, (_, held) in enumerate(learned) for key, array in held.items()}
        elif name == "missing":
            steps.append({"step": "missing"})
            arrays["marked"] = np.asarray(transformer.features_)
        elif name == "small" or isinstance(transformer, Pipeline):
            tops = [encoder.cardinalities[column - encoder.n_numbers] for column in chosen]
            tables = _tables(transformer, tops)
            steps.append({"step": "look_up", "columns": [int(column) for column in chosen]})
            arrays |= {f"table_{column}": table for column, table in zip(chosen, tables, strict=True)}
        else:
            steps.append({"step": "codes", "columns": [int(column) for column in chosen]})
    return steps, arrays


def _transformers(columns: ColumnTransformer) -> list[tuple[str, Any, list[int]]]:
    return [(name, transformer, list(chosen)) for name, transformer, chosen in columns.transformers_ if len(chosen)]


def _describe_number_step(step: Any) -> list[tuple[str, Arrays]]:
    """Name the arithmetic of a fitted transformer of numbers, with what it learned."""
    if hasattr(step, "statistics_"):
        return [("fill", {"values": np.asarray(step.statistics_)})]
    if isinstance(step, StandardScaler):
        return [("centred", {"centre": step.mean_, "spread": step.scale_})]
    if isinstance(step, RobustScaler):
        return [("centred", {"centre": step.center_, "spread": step.scale_})]
    if isinstance(step, MinMaxScaler):
        return [("range", {"factor": step.scale_, "offset": step.min_})]
    if isinstance(step, QuantileTransformer):
        return [(step.output_distribution, {"quantiles": step.quantiles_, "references": step.references_})]
    if isinstance(step, PowerTransformer) and step.method == "yeo-johnson":
        return [("power", {"powers": step.lambdas_})] + (
            _describe_number_step(step._scaler) if step.standardize else []
        )
    if isinstance(step, Normalizer) and step.norm == "l2":
        return [("length", {})]
    raise InputError(f"export does not know how to write {type(step).__name__}, which scales the numbers of a model.")


def _tables(transformer: Any, tops: list[int]) -> list[Floats]:
    """Make for each category the table (its codes, the unseen one, missing) x outputs, by asking the transformer."""
    grid = np.full((max(tops) + 2, len(tops)), np.nan)
    for j, top in enumerate(tops):
        grid[: top + 1, j] = np.arange(top + 1)
    encoded: Floats = sp.csr_matrix(transformer.transform(grid)).toarray()  # (longest, outputs of all)
    widths = [encoded.shape[1] // len(tops)] * len(tops)
    if isinstance(transformer, OneHotEncoder):
        pairs = zip(transformer.categories_, transformer.infrequent_categories_, strict=True)
        widths = [len(levels) - (0 if rare is None else len(rare) - 1) for levels, rare in pairs]
    blocks = np.split(encoded, np.cumsum(widths)[:-1], axis=1)
    # The last row of the grid is missing for all; a shorter category has it right after its codes too.
    return [np.ascontiguousarray(block[: top + 2]) for block, top in zip(blocks, tops, strict=True)]

"""Sampled Shapley values against the definition, and what users see of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from windvane.data.column_types import infer_schema
from windvane.errors import InputError
from windvane.evaluation.columns.explanation import MAX_COLUMNS, N_ALONE, ShapleySampling, explain, shapley_values
from windvane.evaluation.columns.importance import encoded_columns
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Table

RNG = np.random.default_rng(0)
P = 5


def output(table: Table) -> Floats:
    a, b, c, d, _ = table.matrix.T
    return np.asarray(3 * a + b * c + np.maximum(d, 0) * a)


def make(n: int) -> tuple[Table, Schema, pd.DataFrame]:
    frame = pd.DataFrame(RNG.normal(size=(n, P)), columns=list("abcde"))
    schema = infer_schema(frame)
    return schema.transform(frame), schema, frame


def exact(table: Table, background: Table) -> tuple[Floats, float]:
    """Shapley values by their definition, over all subsets of columns and all background rows."""
    n, found = table.n_rows, np.zeros((table.n_rows, P))

    def worth(subset: tuple[int, ...]) -> NDArray[np.float64]:
        mixed = np.repeat(background.matrix[None], n, axis=0)  # (n, b, p)
        mixed[:, :, list(subset)] = table.matrix[:, None, list(subset)]
        flat = output(Table(mixed.reshape(-1, P), P))
        return flat.reshape(n, -1).mean(axis=1)

    for j in range(P):
        others = [i for i in range(P) if i != j]
        for size in range(P):
            for subset in combinations(others, size):
                share = math.factorial(size) * math.factorial(P - size - 1) / math.factorial(P)
                found[:, j] += share * (worth((*subset, j)) - worth(subset))
    return found, float(output(background).mean())


def test_values_converge_to_the_definition() -> None:
    table, schema, _ = make(6)
    background, _, _ = make(2_000)
    columns = list(encoded_columns(schema).values())
    expected, base = exact(table, background)
    values, error, start = shapley_values(output, table, background, columns, ShapleySampling(2_000))
    np.testing.assert_allclose(start, base)
    off = np.abs(values - expected) / np.maximum(error, 1e-12)
    assert np.median(off) < 1.5
    assert off[:, :4].max() < 5
    np.testing.assert_allclose(values[:, 4], 0.0, atol=1e-12)
    assert np.abs(values - expected).max() < 0.15


@pytest.mark.parametrize("max_rounds", [1, 2, 7])
def test_values_add_up_to_the_prediction_whatever_is_sampled(max_rounds: int) -> None:
    table, schema, _ = make(9)
    background, _, _ = make(50)
    values, error, base = shapley_values(
        output, table, background, list(encoded_columns(schema).values()), ShapleySampling(max_rounds)
    )
    np.testing.assert_allclose(base + values.sum(axis=1), output(table), rtol=1e-9, atol=1e-9)
    assert np.isnan(error).all() == (max_rounds == 1)


def test_a_linear_model_needs_one_round_of_each_background_row() -> None:
    table, schema, _ = make(4)
    background, _, _ = make(20)
    slopes = np.array([1.0, -2.0, 0.5, 0.0, 4.0])
    values, _, base = shapley_values(
        lambda rows: rows.matrix @ slopes,
        table,
        background,
        list(encoded_columns(schema).values()),
        ShapleySampling(20),
    )
    np.testing.assert_allclose(values, (table.matrix - background.matrix.mean(axis=0)) * slopes, atol=1e-9)
    np.testing.assert_allclose(base, float(background.matrix.mean(axis=0) @ slopes))


def test_time_ends_the_rounds_but_not_the_first() -> None:
    table, schema, _ = make(3)
    background, _, _ = make(100)
    seen: list[tuple[int, int]] = []
    shapley_values(
        output,
        table,
        background,
        list(encoded_columns(schema).values()),
        ShapleySampling(max_seconds=0.0, on_round=lambda done, total: seen.append((done, total))),
    )
    assert seen == [(1, 100)]


def test_columns_of_every_kind_are_explained() -> None:
    n = 60
    frame = pd.DataFrame(
        {
            "when": pd.date_range("2024-01-01", periods=n, freq="5D"),
            "city": RNG.choice(["Bern", "Basel"], n),
            "words": [" ".join(RNG.choice(["good", "bad", "fair", "poor"], 6)) + f" {i}" for i in range(n)],
            "same": 1,
            "size": RNG.normal(size=n),
        }
    )
    schema = infer_schema(frame)
    table = schema.transform(frame)
    columns = encoded_columns(schema)
    size, city = columns["size"].matrix[0], columns["city"].matrix[0]

    def model(rows: Table) -> Floats:
        good = np.array([text.count("good") for text in rows.texts[0]], dtype=float)
        return np.asarray(rows.matrix[:, size] + 2 * rows.matrix[:, city] + good)

    found = explain(Fitted(model, schema), frame.head(10), table)
    assert list(found.values.columns) == ["when", "city", "words", "size"]
    np.testing.assert_allclose(found.prediction, model(table)[:10])
    assert (found.values["when"].abs() < 1e-9).all()
    assert set(found.importance().index[:3]) == {"size", "city", "words"}
    first = found.row(0)
    assert first["contribution"].abs().is_monotonic_decreasing
    assert first.loc["city", "value"] == frame.loc[0, "city"]
    assert "mean absolute contribution" in str(found)


@dataclass
class Fitted:
    """As much of a fitted ensemble as is explained."""

    predict_raw: Any
    schema: Schema
    classes: Any = None
    ensemble: Any = None

    def table(self, X: Any, owner: str = "") -> Table:
        return self.schema.transform(X)


def test_classes_are_explained_by_label_or_by_row() -> None:
    table, schema, frame = make(8)

    def probabilities(rows: Table) -> Floats:
        return softmax(rows.matrix[:, :3] * 3, axis=1)

    model = Fitted(probabilities, schema, np.array(["x", "y", "z"], dtype=object))
    p = probabilities(table)
    np.testing.assert_allclose(explain(model, frame, table, "y").prediction, p[:, 1])
    own = explain(model, frame, table)
    np.testing.assert_allclose(own.prediction, p.max(axis=1))
    for code, label in enumerate("xyz"):
        rows = p.argmax(axis=1) == code
        np.testing.assert_allclose(own.values[rows], explain(model, frame, table, label).values[rows], atol=1e-9)
    with pytest.raises(InputError, match="label='w' is not known"):
        explain(model, frame, table, "w")
    with pytest.raises(InputError, match="label='y' is for classes"):
        explain(Fitted(output, schema), frame, table, "y")


def test_of_very_many_columns_the_strongest_are_explained_one_by_one() -> None:
    """With a linear model, whose contributions are known."""
    n, p = 60, MAX_COLUMNS + 1
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(n, p)), columns=[f"g{i}" for i in range(p)])
    weights = np.zeros(p)
    weights[[3, 700, 900]] = 5, -4, 0.001
    schema = infer_schema(frame)
    model = Fitted(lambda rows: rows.matrix @ weights, schema)
    background = schema.transform(frame[10:])
    found = explain(model, frame[:10], background)
    assert found.values.shape == (10, N_ALONE + 1)
    assert found.values.columns[-1] == f"{p - N_ALONE:,} other columns"
    assert {"g3", "g700"} < set(found.values)
    expected = (frame[:10] - frame[10:].mean()) * weights
    np.testing.assert_allclose(found.values[["g3", "g700"]], expected[["g3", "g700"]], atol=1e-9)
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), model.predict_raw(schema.transform(frame[:10])))

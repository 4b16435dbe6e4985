"""Columns that name a row are found, and told from those that measure something."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pandas as pd
import pytest

from windvane.data.column_types import infer_schema
from windvane.evaluation.columns.identifiers import find_identifiers, leave_out_identifiers, useless_columns

N = 400
RNG = np.random.default_rng(0)
TARGET = RNG.integers(0, 2, N)
IDENTIFIERS = {
    "counter": np.arange(N),
    "shuffled": RNG.permutation(N) + 1000,
    "with gaps": np.sort(RNG.choice(4 * N, N, replace=False)),
    "eight digits": RNG.choice(np.arange(15_000_000, 15_010_000), N, replace=False),
    "far apart": RNG.choice(10**9, N, replace=False) + 10**9,
    "customerId": RNG.choice(10**5, N, replace=False),
    "texts": [f"C{v:05d}" for v in RNG.permutation(N)],
    "uuid": [str(uuid.UUID(int=int(v))) for v in RNG.integers(0, 2**62, N)],
    "some missing": np.where(RNG.random(N) < 0.1, np.nan, np.arange(N)),
    "nearly": np.r_[np.arange(N - 8), np.arange(8)],
}
MEASURED = {
    "normal": RNG.normal(size=N),
    "amount": RNG.integers(0, 1000, N),
    "salary": RNG.integers(10_000, 99_999, N),
    "population": (10 ** RNG.uniform(3, 7, N)).astype(int),
    "category": RNG.choice(list("abc"), N),
    "date": pd.date_range("2024-01-01", periods=N),
    "idle minutes": RNG.integers(0, 50, N),
}


def found(column: Any, name: str = "column") -> tuple[list[str], list[str]]:
    frame = pd.DataFrame({name: column})
    schema = infer_schema(frame)
    table = schema.transform(frame)
    names = find_identifiers(schema, table)
    return names, useless_columns(names, schema, table, TARGET, 2)


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_identifiers(name: str) -> None:
    assert found(IDENTIFIERS[name], name) == ([name], [name])


@pytest.mark.parametrize("name", MEASURED)
def test_measured(name: str) -> None:
    assert found(MEASURED[name], name) == ([], [])


@pytest.mark.parametrize("goal", ["classes", "numbers"])
def test_of_use(goal: str) -> None:
    noisy = TARGET + RNG.normal(size=N)
    frame = pd.DataFrame({"rank": np.argsort(np.argsort(noisy))})
    schema = infer_schema(frame)
    table = schema.transform(frame)
    assert find_identifiers(schema, table) == ["rank"]
    target, k = (TARGET, 2) if goal == "classes" else (noisy, 0)
    assert useless_columns(["rank"], schema, table, target, k) == []
    assert useless_columns(["rank"], schema, table, RNG.permutation(target), k) == ["rank"]


def test_numbers_and_dates_that_one_value_makes_an_identifier_are_named() -> None:
    numbers = [*RNG.normal(size=N - 1).astype(str), "n.a."]
    days = [*pd.date_range("2024-01-01", periods=N - 1).strftime("%Y-%m-%d"), "31.12.1999"]
    frame = pd.DataFrame({"x": numbers, "day": days, "size": RNG.normal(size=N), "key": [f"k{i}" for i in range(N)]})
    schema = infer_schema(frame)
    table = schema.transform(frame)
    kept, _, _ = leave_out_identifiers(schema, find_identifiers(schema, table), table, TARGET, 2, None)
    end = "as a category like an identifier, and of no use for other rows"
    assert kept.dropped_columns == {
        f"'n.a.' is no number; {end}": ["x"],
        f"dates in several formats: {N - 1} like '2024-01-01', 1 like '31.12.1999'; {end}": ["day"],
        "like an identifier, and of no use for other rows": ["key"],
    }


def test_few_rows_decide_nothing() -> None:
    frame = pd.DataFrame({"age": np.arange(30, 50), "name": [f"n{i}" for i in range(20)]}).iloc[:19]
    schema = infer_schema(frame)
    assert find_identifiers(schema, schema.transform(frame)) == []

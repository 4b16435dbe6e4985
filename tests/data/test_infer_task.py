"""Inferring the task, on targets whose task is plain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

from windvane.data.target import infer_task


@pytest.mark.parametrize("load", [load_breast_cancer, load_digits, load_iris, load_wine])
def test_classes_of_known_tables(load: Any) -> None:
    assert infer_task(pd.Series(load().target))[0] == "classification"


def test_numbers_of_known_table() -> None:
    task, reason = infer_task(pd.Series(load_diabetes().target))
    assert (task, reason) == ("regression", "214 distinct whole numbers in 442 rows")


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no", None], "classification"),
        (pd.Categorical([1, 2, 2]), "classification"),
        ([True, False], "classification"),
        (pd.array([True, None, False], dtype="boolean"), "classification"),
        ([0, 1], "classification"),
        ([0.0, 1.0, np.nan] * 2, "classification"),
        (pd.array([1, 2, None] * 5, dtype="Int64"), "classification"),
        ([0.5, 1.0], "regression"),
        ([0.5, 1.5, np.inf], "regression"),
        ([1, 2, 3, 4], "regression"),
        (range(21), "regression"),
        (list(range(21)) * 5, "regression"),
        (list(range(20)) * 5, "classification"),
    ],
)
def test_plain_cases(values: Any, task: str) -> None:
    inferred, reason = infer_task(pd.Series(values))
    assert inferred == task
    assert reason


NUMBERS = [f"{i}.5" for i in range(40)]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([*NUMBERS, "n.a."], "numbers, except for 'n.a.'"),
        ([*NUMBERS, "<5", None], "numbers, except for '<5'"),
        ([*(f"{i}.000,50 €" for i in range(1, 40)), "price"], "numbers, except for 'price'"),
    ],
)
def test_one_text_among_numbers_makes_no_classes(values: Any, reason: str) -> None:
    assert infer_task(pd.Series(values)) == ("regression", reason)


@pytest.mark.parametrize("others", [["a", "b", "c", "d", "e"], [f"A{i}" for i in range(10)]])
def test_many_texts_among_numbers_are_classes(others: list[str]) -> None:
    assert infer_task(pd.Series([*NUMBERS, *others]))[0] == "classification"
    assert infer_task(pd.Series(["1", "2", "3", "other"] * 50))[0] == "classification"


def test_many_dates_are_no_classes() -> None:
    days = pd.Series(pd.date_range("2024", periods=30))
    assert infer_task(days) == infer_task(days.dt.strftime("%d.%m.%Y")) == ("regression", "30 distinct dates")
    assert infer_task(days[:3])[0] == "classification"
    assert infer_task(days.dt.strftime("v%d"))[0] == "classification"

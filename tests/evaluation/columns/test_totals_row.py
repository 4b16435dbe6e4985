"""A row of totals at the end of a table is noticed, and no row of a table without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

from windvane import describe
from windvane.data.column_types import infer_schema
from windvane.evaluation.columns.totals_row import totals_row_warning

RNG = np.random.default_rng(0)
SALES = pd.DataFrame(
    {
        "shop": RNG.choice(["north", "south"], 40),
        "sold": RNG.integers(0, 50, 40),
        "price": RNG.normal(20, 5, 40).round(2),
        "returned": RNG.integers(0, 3, 40),
        "profit": RNG.normal(3, 2, 40).round(2),
    }
)


def found(frame: pd.DataFrame, target: Any = None) -> list[str]:
    schema = infer_schema(frame)
    return totals_row_warning(schema, schema.transform(frame), target)


def with_last_row(how: str, **others: Any) -> pd.DataFrame:
    last = SALES.drop(columns="shop").agg(how).round(1 if how == "sum" else 2).to_dict()
    return pd.concat([SALES, pd.DataFrame([{"shop": "Total", **last, **others}])], ignore_index=True)


def test_sums_and_means() -> None:
    assert found(SALES) == []
    assert found(with_last_row("sum")) == [
        "The last row looks like a summary of the table: it holds the sum of the rows above in 4 of 4 columns of "
        "numbers ('sold', 'price', 'returned', 'profit'). Leave it out if it is one."
    ]
    assert "the mean of the rows above in 4 of 4" in found(with_last_row("mean"))[0]
    assert "in 3 of 4" in found(with_last_row("sum", profit=7.0))[0]
    assert "in 3 of 3" in found(with_last_row("sum", profit=np.nan))[0]  # nothing is there to compare
    assert found(with_last_row("sum", profit=7.0, price=1.0)) == []  # no more than half
    assert found(with_last_row("sum")[::-1]) == []
    assert "1 of 1 columns" in found(with_last_row("sum")[["shop", "sold"]])[0]


def test_a_target_of_numbers_counts() -> None:
    table = with_last_row("sum")
    target = table["profit"].to_numpy()
    assert "2 of 2 columns of numbers ('sold', the target)" in found(table[["shop", "sold"]], target)[0]
    several = table[["profit", "price"]].to_numpy()
    assert "3 of 3" in found(table[["shop", "sold"]], several)[0]
    classes = np.arange(len(table)) % 2
    assert "1 of 1" in found(table[["shop", "sold"]], classes)[0]


@pytest.mark.parametrize("load", [load_breast_cancer, load_diabetes, load_iris, load_wine])
def test_no_row_of_real_tables_looks_like_one(load: Any) -> None:
    X, y = load(return_X_y=True, as_frame=True)
    rows = np.random.default_rng(0).permutation(len(X))[:50]
    for row in rows.tolist():
        order = [*np.delete(np.arange(len(X)), row), row]
        assert found(X.iloc[order], y.to_numpy()[order].astype(float)) == []


def test_few_values_and_designed_tables() -> None:
    signs = pd.DataFrame({"balance": [-1.0, 1.0] * 10 + [0.0], "large": [1e308, 9e307] * 10 + [1e308]})
    assert found(signs) == []  # a sum of 0, and one beyond the range of floats
    flags = pd.DataFrame({f"word {i}": np.where(np.arange(40) % 20 == i, 1.0, 0.0) for i in range(20)})
    assert found(flags.iloc[:21]) == []  # one other row with a 1 in each column
    levels = np.array(np.meshgrid([1.0, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3])).reshape(4, -1).T
    middle = int(np.flatnonzero((levels == 2).all(axis=1))[0])
    assert found(pd.DataFrame(levels[[*np.delete(np.arange(81), middle), middle]], columns=list("abcd"))) == []


def test_describe_says_it_first() -> None:
    table = with_last_row("sum")
    issues = describe(table.drop(columns="profit"), table["profit"], task="regression").issues or ()
    assert issues[0].startswith("The last row looks like a summary of the table")
    assert describe(SALES, None).issues == []

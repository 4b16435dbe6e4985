"""`describe` says what is in a table, in print, as JSON and as a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse as sp

from windvane import InputError, describe

N = 400


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    sold = rng.integers(0, 2, N)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, N).astype(float),
            "city": rng.choice(["Bern", "Basel", "Chur"], N),
            "price": [f"{value:,.2f} €" for value in rng.lognormal(8, 1, N)],
            "joined": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 500, N), unit="D"),
            "customer_id": rng.permutation(10**6)[:N],
            "invoice": np.where(sold == 1, "paid", "open"),
            "empty": np.nan,
            "sold": np.where(sold == 1, "yes", "no"),
        }
    )


def test_columns_are_described_as_they_are_read(frame: pd.DataFrame) -> None:
    found = describe(frame.drop(columns="sold"), frame["sold"])
    columns = found.columns.set_index("column")
    assert columns["kind"].to_dict() == {
        "age": "number",
        "city": "category",
        "price": "number",
        "joined": "date",
        "customer_id": "dropped",
        "invoice": "category",
        "empty": "dropped",
    }
    assert columns.loc["city", "values"] == ", ".join(frame["city"].value_counts().index)
    assert columns.loc["joined", "values"] == f"{frame['joined'].min():%Y-%m-%d} to {frame['joined'].max():%Y-%m-%d}"
    assert columns.loc["empty", "missing"] == N
    assert columns.loc["invoice", "alone"] == 1.0
    issues = " ".join(found.issues or ())
    assert "“invoice” alone predicts the target almost perfectly" in issues
    assert "empty: no value" in issues
    assert "customer_id" not in issues
    assert any("identifier" in note and "customer_id" in note for note in found.notes)
    assert any("price" in note for note in found.notes)


def test_a_declared_type_keeps_an_identifier_whose_name_is_a_number(frame: pd.DataFrame) -> None:
    table = pd.DataFrame({2020: frame["age"], 2021: [f"A{i}" for i in frame["customer_id"]]})
    for declared, kind in (({}, "dropped"), ({2021: "category"}, "category")):
        found = describe(table, frame["sold"], column_types=declared)
        assert found.columns.set_index("column").loc["2021", "kind"] == kind


def test_a_print_fits_a_terminal(frame: pd.DataFrame) -> None:
    wide = frame.assign(**{"a very long name of a column " * 3: ["a very long value " * 9] * (N - 1) + ["b"]})
    lines = str(describe(wide.drop(columns="sold"), wide["sold"])).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1] == "target: 2 classes, " + ", ".join(
        f"{label} {share:.1%}" for label, share in frame["sold"].value_counts(normalize=True).items()
    )


def test_rows_without_a_target_are_counted(frame: pd.DataFrame) -> None:
    y = frame["age"].where(frame.index >= 7)
    found = describe(frame[["city", "sold"]], y, task="regression")
    assert found.n_rows == N - 7
    assert found.notes[0] == "7 rows have no target: not described here, and refused by fit."
    assert found.to_json()["target"] == {
        "kind": "numbers",
        "min": y.min(),
        "median": y.median(),
        "mean": pytest.approx(y.mean()),
        "max": y.max(),
    }


def test_other_rows_are_compared(frame: pd.DataFrame) -> None:
    X = frame[["age", "city", "price"]]
    same = describe(X, None, X.sample(100, random_state=0))
    assert same.n_shared == 100
    assert same.shift is not None
    assert not same.shift.is_visible
    later = X.assign(age=X["age"] + 60, city="Genf").drop(columns="price")
    other = describe(X, None, later)
    assert other.shift is not None
    assert other.shift.is_visible
    assert "age" in {one.name for one in other.shift.columns}
    issues = " ".join(other.issues or ())
    assert "lack 1 column: 'price'" in issues
    assert "city (100.0%)" in issues
    assert "separates the tables" in str(other)
    assert other.to_json()["test"]["visible"]


def test_a_page_and_json_hold_the_same(frame: pd.DataFrame, tmp_path: Path) -> None:
    found = describe(frame.drop(columns="sold"), frame["sold"], frame.drop(columns="sold").head(50))
    text = found.write_html(tmp_path / "data.html").read_text(encoding="utf-8")
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [column["column"] for column in record["columns"]] == list(frame.columns[:-1])
    for word in ("customer_id", "Bern", "like an identifier", "50 of 50 test rows"):
        assert word in text
    assert found._repr_html_() in text


def test_arrays_and_sparse_matrices_are_described() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3))
    assert describe(values).columns["column"].tolist() == ["x0", "x1", "x2"]
    assert str(describe(sp.csr_matrix(values), values[:, 0] > 0)).startswith("50 rows, 3 columns: a sparse matrix")


def test_numbers_beyond_single_precision() -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    y = np.where(values[:, 0] > 0, "yes", "no")
    found = describe(pd.DataFrame(values * 1e300, columns=["a"]), y, pd.DataFrame(values + 1, columns=["a"]) * 1e300)
    assert found.column_scores["a"] > 0.9
    assert found.shift is not None and found.shift.auc > 0.6


def test_one_class_beside_missing_targets(frame: pd.DataFrame) -> None:
    y = ["US" if i % 2 else None for i in range(N)]  # "NA" of a CSV file
    with pytest.raises(InputError, match=rf"one class only \('US'\).* {N // 2} rows have no target"):
        describe(frame, y)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"y": [1, 2]}, "different lengths"),
        ({"y": [np.nan] * N}, "no value"),
        ({"task": "clustering"}, "task='clustering'"),
        ({"ignore": "nothing"}, "ignore='nothing'"),
    ],
)
def test_wrong_arguments_are_named(frame: pd.DataFrame, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        describe(frame, **arguments)


def test_rows_that_cannot_be_compared_are_said(frame: pd.DataFrame) -> None:
    X = frame[["age", "price"]]
    assert "no column in common" in str(describe(X, None, pd.DataFrame({"z": [1, 2]})))
    unreadable = " ".join(describe(X, None, X.assign(age="old")).issues or ())
    assert "cannot be read as these are" in unreadable


def test_an_identifier_of_letters_is_said_once(frame: pd.DataFrame) -> None:
    coded = frame[["age", "sold"]].assign(code=[f"K-{number}" for number in frame["customer_id"]])
    found = describe(coded.drop(columns="sold"), coded["sold"])
    assert "code" not in " ".join(found.issues or ())
    assert sum("'code'" in note for note in found.notes) == 1

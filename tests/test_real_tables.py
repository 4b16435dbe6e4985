"""Real tables, with categories, missing values, dates and texts; they lie beside the repository."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier, AutoRegressor
from windvane.data.column_types import infer_schema
from windvane.runtime.columns.schema import Schema

OPTIONS = {"n_trials": 2, "n_jobs": 1, "random_state": 0, "verbose": 0}


def split(folder: Path, name: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    index = pd.read_csv(folder / "index.csv").set_index("name")
    frame = pd.read_parquet(folder / index.loc[name, "file"])
    X, y = frame.drop(columns=index.loc[name, "target"]), frame[index.loc[name, "target"]]
    return tuple(train_test_split(X, y, random_state=0))


@pytest.mark.parametrize("name", ["eucalyptus", "horse_colic", "email_spam_openintro"])
def test_classes(shared_tables: Path, name: str) -> None:
    X, X_test, y, y_test = split(shared_tables, name)
    model = AutoClassifier(metric="accuracy", **OPTIONS)
    is_dated = name == "email_spam_openintro"
    with pytest.warns(UserWarning, match="'time' dates the rows") if is_dated else nullcontext():
        model.fit(X, y)
    assert model.score(X_test, y_test) > y_test.value_counts(normalize=True).max() + 0.02


@pytest.mark.parametrize("name", ["nyc_taxi_tip", "hitters_salary"])
def test_numbers(shared_tables: Path, name: str) -> None:
    X, X_test, y, y_test = split(shared_tables, name)
    model = AutoRegressor(**OPTIONS).fit(X, y)
    assert -model.score(X_test, y_test) < 0.9 * y_test.std()


def test_every_table_is_typed_and_comes_back_from_json(shared_tables: Path) -> None:
    for path in sorted(shared_tables.glob("*.parquet"))[::6]:
        frame = pd.read_parquet(path).head(2_000)
        schema = infer_schema(frame)
        table = schema.transform(frame)
        again = Schema.from_json(schema.to_json()).transform(frame[frame.columns[::-1]])
        np.testing.assert_array_equal(table.matrix, again.matrix)
        assert table.n_rows == len(frame)

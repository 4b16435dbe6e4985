"""`to_sklearn` where frames are set as the output of transformers: the same predictions, and frames that have names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from leaving import CLASSES, families_of, make_frame, make_predictor, make_target, ours, same, tolerance_of

from windvane.data.task import Kind
from windvane.export.plain import to_sklearn


@pytest.mark.parametrize("kind", CLASSES)
def test_predictions_stay(kind: Kind, tmp_path: Path) -> None:
    X = make_frame()
    members = [(family, {}) for family in families_of(kind) if family != "catboost"]
    more = {} if kind == "regression" else {"temperature": 0.7}
    predictor = make_predictor(tmp_path, X, make_target(X, kind), kind, members, folds=1, iterations=2, **more)
    wanted = ours(predictor, X)[0]
    plain = to_sklearn(predictor)
    predict = plain.predict if kind == "regression" else plain.predict_proba
    for output in ("pandas", "polars"):
        with sklearn.config_context(transform_output=output):
            same(predict(X), wanted, tolerance_of(predictor))
    for output in ("pandas", "polars", "default"):
        plain.set_output(transform=output)
        same(predict(X), wanted, tolerance_of(predictor))


def test_frames_have_the_names_of_the_columns(tmp_path: Path) -> None:
    X = make_frame().drop(columns="same")
    plain = to_sklearn(make_predictor(tmp_path, X, make_target(X, "binary"), "binary", [("linear", {})]))
    arrays = plain[:-1].transform(X)
    assert isinstance(arrays, np.ndarray)
    pandas, polars = (plain.set_output(transform=output)[:-1].transform(X) for output in ("pandas", "polars"))
    assert isinstance(pandas, pd.DataFrame) and isinstance(polars, pl.DataFrame)
    assert pandas.columns.tolist() == polars.columns == ["size", "count", "flag", "colour", "place", "answer"]
    assert pandas.index.equals(X.index)
    same(pandas.to_numpy(), arrays)
    same(polars.to_numpy(), arrays)

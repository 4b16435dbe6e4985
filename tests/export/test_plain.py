"""What scikit-learn can say of a predictor, and what it cannot."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from leaving import (
    KINDS,
    PAIRS,
    agrees,
    changed,
    elsewhere,
    families_of,
    make_frame,
    make_predictor,
    make_target,
    ours,
    same,
    tolerance_of,
)
from scipy import sparse as sp
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline

from windvane.data.task import Kind
from windvane.errors import InputError
from windvane.export.plain import to_sklearn
from windvane.persistence import Predictor


def check(predictor: Predictor, X: Any) -> Any:
    return agrees(to_sklearn(predictor), predictor, X)


@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_each_family_alone(family: str, kind: Kind, tmp_path: Path) -> None:
    X, other = make_frame(), changed(make_frame(seed=1))
    if family == "catboost":  # numbers alone
        X, other = X[["size", "count", "flag"]], other[["flag", "size", "count"]]
    predictor = make_predictor(tmp_path, X, make_target(make_frame(), kind), kind, [(family, {})])
    assert isinstance(check(predictor, other), Pipeline)


MORE: dict[str, dict[str, Any]] = {
    "binary": {"decision_weights": (0.4, 1.0), "temperature": 0.6, "averages_roots": True},
    "multiclass": {"temperature": 1.7, "averages_roots": True},
    "regression": {},
}


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_ensemble_where_windvane_cannot_be_imported(kind: Kind, tmp_path: Path) -> None:
    X, other = make_frame(), changed(make_frame(seed=1))
    members: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in families_of(kind) if name != "catboost"]
    members += [("linear", {"scale": scale, "impute": "mean"}) for scale in ("robust", "minmax", "quantile")]
    predictor = make_predictor(tmp_path / "kept", X, make_target(X, kind), kind, members, **MORE[kind])
    model = check(predictor, other)
    assert isinstance(model, FixedThresholdClassifier if kind == "binary" else Pipeline)
    if kind != "binary":
        return
    content = pickle.dumps(model)
    assert b"windvane" not in content
    (tmp_path / "model.pickle").write_bytes(content)
    raw, labels = elsewhere(tmp_path / "model.pickle", other, tmp_path)
    same(raw, ours(predictor, other)[0], tolerance_of(predictor))
    assert (labels == model.predict(other)).all()


def test_array_without_names(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(80, 4))
    predictor = make_predictor(tmp_path, X, X[:, 0], "regression", [("linear", {}), ("catboost", {})])
    model = check(predictor, X)
    same(model.predict(pd.DataFrame(X)), model.predict(X))


def test_a_value_means_the_same_whatever_its_type(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grade, answer = rng.choice([1, 2, 3], 90), rng.choice(["True", "False", "perhaps"], 90)
    X = pd.DataFrame({"grade": pd.Categorical(grade), "answer": answer})
    predictor = make_predictor(tmp_path, X, grade * 1.0, "regression", [("linear", {}), ("extra_trees", {})])
    other = pd.DataFrame(
        {
            "grade": pd.Series([1.0, "2", " 3 ", None, 7, np.nan], dtype=object),
            "answer": pd.Series([True, "False", "", "?", " perhaps", pd.NA], dtype=object),
        }
    )
    model = check(predictor, other)
    missing = pd.Series([2.0, np.nan, 1.0])  # whole numbers beside a missing one
    rows = pd.DataFrame({"grade": pd.Categorical(missing), "answer": ["perhaps"] * 3})
    same(model.predict(rows), ours(predictor, rows)[0])


def test_wide_one_hot_encodings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({f"c{i}": rng.choice([f"v{j}" for j in range(35)], 200) for i in range(12)})
    y = np.where((X["c0"] < "v2") ^ (rng.random(200) < 0.1), "yes", "no")
    members: list[tuple[str, dict[str, Any]]] = [("linear", {}), ("mlp", {}), ("sgd", {}), ("kernel", {})]
    members += [("neighbours", {"p": 1}), ("neighbours", {}), ("discriminant", {})]
    check(make_predictor(tmp_path, X, y, "binary", members), X)


def test_every_obstacle_is_named_at_once(tmp_path: Path) -> None:
    X = make_frame(rich=True)
    members = [("catboost", {}), ("linear", {})]
    predictor = make_predictor(
        tmp_path, X, make_target(X, "multiclass"), "multiclass", members, decision_weights=(1, 2, 1)
    )
    own = replace(predictor.ensemble.members[1], family="own")
    ensemble = replace(predictor.ensemble, members=(predictor.ensemble.members[0], own))
    models: Any = [predictor.models[0], [object(), object()]]
    with pytest.raises(InputError) as caught:
        to_sklearn(replace(predictor, ensemble=ensemble, models=models))
    for words in (
        "columns of dates ('when', 'day', 'zoned')",
        "columns of durations ('took')",
        "columns of texts ('note')",
        "decision weights of 3 classes",
        "the family 'own'",
        "CatBoost with categories",
        "export(folder) can express more",
    ):
        assert words in str(caught.value)


def test_a_sparse_table_is_an_obstacle(tmp_path: Path) -> None:
    X = sp.csr_matrix(sp.random(60, 5, 0.5, format="csr", random_state=0))
    predictor = make_predictor(tmp_path, X, np.arange(60.0), "regression", [("linear", {})])
    with pytest.raises(InputError, match="the table is sparse"):
        to_sklearn(predictor)


def test_a_fold_without_a_class_is_an_obstacle(tmp_path: Path) -> None:
    X = make_frame(60)
    y = np.where(np.arange(60) == 1, 8, np.where(X["count"] > 20, 3, 5))
    with pytest.raises(InputError, match="fold had not all classes"):
        to_sklearn(make_predictor(tmp_path / "linear", X, y, "multiclass", [("linear", {})]))
    with pytest.raises(InputError, match="fold had not all classes"):
        to_sklearn(make_predictor(tmp_path / "neighbours", X, y, "multiclass", [("neighbours", {})]))


def test_a_category_called_nan_is_an_obstacle(tmp_path: Path) -> None:
    X = pd.DataFrame({"a": pd.Categorical(["nan", "x", "y"] * 20), "b": np.arange(60)})
    predictor = make_predictor(tmp_path, X, np.arange(60.0), "regression", [("linear", {})])
    with pytest.raises(InputError, match=r"categories called as missing values are \('a'\)"):
        to_sklearn(predictor)


def test_members_that_cannot_be_expressed_are_left_out_with_a_warning(tmp_path: Path) -> None:
    X, other = make_frame(), changed(make_frame(seed=1))
    members: list[tuple[str, dict[str, Any]]] = [
        ("linear", {}),
        ("lightgbm", {"features": "generated"}),
        ("linear", {"C": 0.1}),
    ]
    whole = make_predictor(tmp_path / "whole", X, make_target(X, "binary"), "binary", members)
    with pytest.warns(UserWarning, match=r"1 of 3 members \(lightgbm #1 \(weight .*\): features generated from pairs"):
        found = to_sklearn(whole)
    weights = np.array([member.weight for member in whole.ensemble.members])
    parts = [
        replace(
            whole,
            ensemble=replace(whole.ensemble, members=(replace(whole.ensemble.members[i], weight=1.0),)),
            models=[whole.models[i]],
            folders=[whole.folders[i]],
        )
        for i in (0, 2)
    ]
    alone = [to_sklearn(part).predict_proba(other[X.columns]) for part in parts]
    expected = (weights[0] * alone[0] + weights[2] * alone[1]) / (weights[0] + weights[2])
    np.testing.assert_allclose(found.predict_proba(other[X.columns]), expected, atol=1e-12)

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case

from windvane.data.task import Task
from windvane.errors import InputError, ModelFileError
from windvane.models import DEFAULT, FAMILIES
from windvane.search.strategy import families
from windvane.search.strategy.families import choose_families

xgb = pytest.importorskip("xgboost")

FAMILY = FAMILIES["xgboost"]
PLAIN = {"learning_rate": 0.3, "subsample": 1.0, "colsample_bylevel": 1.0, "max_depth": 4}


def test_without_random_numbers_it_is_one_training_of_xgboost(case: Case) -> None:
    model: Any = case.create_model(FAMILY, PLAIN)
    model.train_until(20)  # in four segments
    features, scaler = model.encoder.transform(case.train.table), model.target_scaler
    rows = xgb.QuantileDMatrix(
        features.astype(np.float32),
        scaler.transform(case.train.target),
        feature_types=["q"] * 4 + ["c"] * 2,
        enable_categorical=True,
    )
    task = case.context.task
    objective = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}
    parameters = PLAIN | {
        "objective": objective[task.kind],
        "min_child_weight": 5e-6 if task.is_classification else 2.0,
        "alpha": 1e-4,
        "lambda": 1e-4,
    }
    parameters |= {"num_class": 3} if task.kind == "multiclass" else {}
    wanted = xgb.train(parameters, rows, 20).predict(rows, iteration_range=(0, model.best_iteration))
    found = model.predict(case.train.table)
    found = found[:, 1] if task.kind == "binary" else scaler.transform(found) if not task.is_classification else found
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_checkpoint_predicts_with_the_trees_up_to_the_best_and_resumes_with_all(case: Case, tmp_path: Path) -> None:
    model: Any = case.create_model(FAMILY, {"learning_rate": 0.2})
    model.train_until(60)
    assert model.best_iteration < model.iterations
    model.save(tmp_path)
    predicts, resumes = (xgb.Booster(model_file=tmp_path / name) for name in ("model.ubj", "training.ubj"))
    assert predicts.num_boosted_rounds() == model.best_iteration
    assert resumes.num_boosted_rounds() == model.iterations


@pytest.mark.parametrize("objective", ["poisson", "tweedie"])
def test_a_log_link_predicts_means_above_0(objective: str) -> None:
    case = make_case("regression")
    task = replace(case.context.task, log_link=True)
    assert FAMILY.search_space(task)["objective"].default == "regression"
    counts = np.random.default_rng(0).poisson(np.exp(case.train.target / 40)) * 100.0
    counted = replace(case, context=replace(case.context, task=task), train=replace(case.train, target=counts))
    model = counted.create_model(FAMILY, {"objective": objective, "learning_rate": 0.2})
    model.train_until(30)
    found = model.predict(case.train.table)
    assert found.min() > 0 and found.mean() == pytest.approx(counts.mean(), rel=0.1)


def test_a_binary_training_set_of_one_class() -> None:
    case = make_case("binary")
    model = replace(case, train=replace(case.train, target=np.zeros_like(case.train.target))).create_model(FAMILY)
    model.train_until(4)
    assert model.predict(case.test.table)[:, 1].max() < 1e-3


def test_sparse_tables_are_not_for_it() -> None:
    case = make_case("multiclass", n=60, sparse=True)
    assert not FAMILY.supports(case.context.task, case.train.table)


def test_it_is_there_by_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "xgboost" not in DEFAULT
    assert list(choose_families(["xgboost", "linear"])) == ["xgboost", "linear"]
    monkeypatch.setattr(families, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^families='xgboost' needs the package xgboost: pip install 'windvane\[xgb"):
        choose_families(["linear", "xgboost"])
    assert list(choose_families(None)) == list(DEFAULT)


def test_a_saved_model_names_the_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case("binary")
    model = case.create_model(FAMILY)
    model.train_until(1)
    model.save(tmp_path)
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(ModelFileError, match=r"holds a model of XGBoost: pip install xgboost"):
        FAMILY.load(tmp_path, case.context)


def test_rows_in_bins_by_number_of_columns() -> None:
    case = make_case("binary")
    model: Any = case.create_model(FAMILY)
    assert model._parameters["max_bin"] == 256
    wide = replace(case, context=replace(case.context, task=Task("binary", 600, 500, 2)))
    model = wide.create_model(FAMILY)
    assert model._parameters["max_bin"] == 64

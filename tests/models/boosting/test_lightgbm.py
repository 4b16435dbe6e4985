from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from cases import Case, make_case

from windvane.models import FAMILIES
from windvane.models.base import DataSplit
from windvane.runtime.columns.table import Table
from windvane.runtime.models import boosters

FAMILY: Any = FAMILIES["lightgbm"]
QUICK = {"learning_rate": 0.2}


def test_without_any_split_it_is_finished_and_predicts_the_prior() -> None:
    case = make_case("binary", n=60)
    blank = Table(np.zeros((36, 1)), 1)
    flat = replace(
        case,
        train=DataSplit(blank, case.train.target),
        validation=DataSplit(blank.take(np.arange(12)), case.validation.target),
    )
    model = flat.create_model(FAMILY)
    model.train_until(100)
    assert model.finished and model.iterations < 100
    np.testing.assert_allclose(model.predict(blank)[:, 1], case.train.target.mean(), rtol=1e-6)


def test_a_checkpoint_predicts_with_the_trees_up_to_the_best_and_resumes_with_all(case: Case, tmp_path: Path) -> None:
    model: Any = case.create_model(FAMILY, QUICK)
    model.train_until(60)
    assert model.best_iteration < model.iterations
    model.save(tmp_path)
    n_trees = max(1, case.context.task.n_classes) if case.context.task.kind == "multiclass" else 1
    booster, everything = (lgb.Booster(model_file=tmp_path / name) for name in ("model.txt", "training.txt"))
    assert booster.num_trees() == n_trees * model.best_iteration
    assert everything.num_trees() == n_trees * model.iterations
    np.testing.assert_array_equal(
        FAMILY.load(tmp_path, case.context).predict(case.test.table), model.predict(case.test.table)
    )


@pytest.mark.parametrize("n", [3, 300])
def test_trees_that_predict_in_parts_predict_the_same(
    case: Case, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = case.create_model(FAMILY, QUICK)
    model.train_until(30)
    model.save(tmp_path)
    monkeypatch.setattr(boosters, "_LARGE_BYTES", 0)
    monkeypatch.setattr(boosters, "_CACHED_BYTES", (tmp_path / "model.txt").stat().st_size // 5)
    fitted: Any = FAMILY.load(tmp_path, case.context)
    assert (fitted._step < fitted.best_iteration) == case.context.task.is_classification
    table = case.test.table.take(np.resize(np.arange(case.test.table.n_rows), n))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(fitted.predict, [table] * 8):
            np.testing.assert_allclose(found, model.predict(table), rtol=1e-12)


def test_more_and_larger_trees_cost_more(case: Case) -> None:
    task = case.context.task
    small, large = ({"num_leaves": 8}, {"num_leaves": 64})
    assert FAMILY.prediction_cost(small, 100, task) < FAMILY.prediction_cost(large, 100, task)
    assert FAMILY.prediction_cost(small, 100, task) < FAMILY.prediction_cost(small, 200, task)


@pytest.fixture
def counts() -> Case:
    """A regression whose targets are counts."""
    case = make_case("regression")
    context = replace(case.context, task=replace(case.context.task, log_link=True))
    rng = np.random.default_rng(0)

    def drawn(part: DataSplit) -> DataSplit:
        return replace(part, target=rng.poisson(np.exp(part.target / 40)) * 100.0)

    return Case(context, drawn(case.train), drawn(case.validation), drawn(case.test))


def test_an_objective_is_chosen_where_a_log_link_applies(case: Case, counts: Case) -> None:
    assert "objective" not in FAMILY.search_space(case.context.task)
    assert FAMILY.search_space(counts.context.task)["objective"].default == "regression"


@pytest.mark.parametrize("objective", ["poisson", "tweedie"])
def test_log_links_are_those_of_lightgbm_and_resume(objective: str, counts: Case, tmp_path: Path) -> None:
    config = {"objective": objective, "bagging_fraction": 1.0, "lambda_l1": 0.0, "lambda_l2": 0.0, **QUICK}
    config |= {"num_leaves": 8, "min_data_in_leaf": 20}
    model: Any = counts.create_model(FAMILY, config)
    model.train_until(16)
    features = model.encoder.transform(counts.train.table)
    theirs = lgb.LGBMRegressor(
        objective=objective,
        n_estimators=16,
        learning_rate=0.2,
        num_leaves=8,
        min_child_samples=20,
        min_child_weight=1e-7,
        verbosity=-1,
    )
    unit = counts.train.target.std()
    theirs.fit(features, counts.train.target / unit, categorical_feature=[4, 5])
    wanted = theirs.booster_.predict(features, num_iteration=model.best_iteration) * unit
    found = model.predict(counts.train.table)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found.min() > 0
    loss = np.mean((model.predict(counts.validation.table) - counts.validation.target) ** 2) / unit**2
    assert model.early_stopping.losses[model.best_iteration - 1] == pytest.approx(loss, rel=1e-5)

    first = counts.create_model(FAMILY, config)
    first.train_until(5)
    first.save(tmp_path)
    resumed = counts.create_model(FAMILY, config, tmp_path)
    resumed.train_until(16)
    np.testing.assert_array_equal(resumed.predict(counts.train.table), found)


def test_a_log_link_of_a_constant_target_is_the_constant(counts: Case) -> None:
    for constant in (0.0, 3.0):
        train = replace(counts.train, target=np.full(len(counts.train.target), constant))
        model = replace(counts, train=train).create_model(FAMILY, {"objective": "poisson"})
        model.train_until(4)
        np.testing.assert_array_equal(model.predict(counts.test.table), constant)

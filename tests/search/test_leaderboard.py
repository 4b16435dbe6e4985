"""Tables of trials and of scores over time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from toys import make_problem, make_trial

from windvane.data.task import Kind, Task
from windvane.evaluation.baseline import ConstantBaseline
from windvane.evaluation.metrics import get_metric
from windvane.runtime.ensemble import Ensemble, Member
from windvane.search.run.history import baseline_numbers, leaderboard, performance_over_time


def test_leaderboard_ranks_all_trials() -> None:
    trials = [
        make_trial(0, 0.5, "linear", fit_seconds=1.0, predict_seconds=0.1),
        make_trial(1, float("inf"), "mlp"),
        make_trial(2, 0.2, "toy", source="sampler", status="timeout"),
        make_trial(3, 0.5, "forest"),
    ]
    ensemble = Ensemble((Member(2, "checkpoint_0000", "toy", 0.75), Member(0, "checkpoint_0000", "linear", 0.25)), 0.1)
    board = leaderboard(trials, ensemble)
    assert board.index.name == "rank"
    assert list(board.index) == [1, 2, 3, 4]
    assert list(board["trial"]) == [2, 0, 3, 1]
    assert list(board["family"]) == ["toy", "linear", "forest", "mlp"]
    assert list(board["ensemble_weight"]) == [0.75, 0.25, 0.0, 0.0]
    assert list(board["validation_loss"])[:3] == [0.2, 0.5, 0.5]
    assert np.isnan(board["validation_loss"].iloc[3])
    assert list(board["status"]) == ["timeout", "done", "done", "failed"]
    assert list(board["source"]) == ["sampler", "portfolio", "portfolio", "portfolio"]
    assert tuple(board.loc[2, ["fit_seconds", "predict_seconds"]]) == (1.0, 0.1)


def test_baselines_are_marked_and_the_constant_has_its_rank() -> None:
    trials = [
        make_trial(0, 0.4, "linear", config={}),
        make_trial(1, 0.1, "lightgbm", config={"features": "generated"}),
        make_trial(2, 0.2, "lightgbm", config={}, n_rows=100),
        make_trial(3, 0.2, "linear", config={"scale": "quantile"}),
        make_trial(4, 0.3, "lightgbm", config={}, n_rows=None),  # promoted to all rows
        make_trial(5, 0.3, "lightgbm", config={}, source="sampler"),
    ]
    assert baseline_numbers(trials) == {0, 4}
    assert baseline_numbers(trials[1:2]) == set()
    ensemble = Ensemble((Member(1, "checkpoint_0000", "lightgbm", 1.0),), 0.1)
    board = leaderboard(trials, ensemble, ConstantBaseline((0.7, 0.3), 0.35), {1: 0.9, None: 0.5})
    assert [None if pd.isna(number) else number for number in board["trial"]] == [1, 2, 3, 4, 5, None, 0]
    assert board.index[board["baseline"]].tolist() == [4, 6, 7]
    assert board["test_score"].fillna(-1).tolist() == [0.9, -1, -1, -1, -1, 0.5, -1]
    assert board.loc[6, "family"] == "constant" and board.loc[6, "validation_loss"] == 0.35


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_the_constant_is_that_of_a_dummy_on_the_same_folds(kind: Kind) -> None:
    problem = make_problem(kind, weight=np.arange(90) % 3 + 1.0, metric="auto" if kind != "binary" else "log_loss")
    strategy = DummyRegressor() if kind == "regression" else DummyClassifier(strategy="prior")
    losses, weights = [], []
    for fold in problem.folds:
        nothing, weight = np.zeros((90, 1)), problem.weight
        assert weight is not None
        dummy = strategy.fit(nothing[fold.train], problem.target[fold.train], sample_weight=weight[fold.train])
        wanted = problem.target[fold.validation]
        if kind == "regression":
            losses.append((wanted - dummy.predict(nothing[fold.validation])) ** 2)
        else:
            p = dummy.predict_proba(nothing[fold.validation])
            losses.append(-np.log(p[np.arange(len(wanted)), wanted]))
        weights.append(weight[fold.validation])
    mean = np.average(np.concatenate(losses), weights=np.concatenate(weights))
    found = problem.constant_baseline()
    assert found is not None
    assert found.loss == pytest.approx(np.sqrt(mean) if kind == "regression" else mean)
    assert ConstantBaseline.from_json(found.to_json()) == found


@pytest.mark.parametrize(("name", "score"), [("roc_auc", [0.7, 0.8]), ("log_loss", [0.3, 0.2])])
def test_performance_over_time_is_in_the_direction_of_the_metric(name: str, score: list[float]) -> None:
    metric = get_metric(name, Task("binary", 10, 2, 2), None)
    frame = performance_over_time([(1.0, 0.3, 0.25), (5.5, 0.2, 0.125)], metric)
    assert list(frame.columns) == ["seconds", "best_single", "ensemble"]
    assert list(frame["seconds"]) == [1.0, 5.5]
    np.testing.assert_allclose(frame["best_single"], score)
    assert len(performance_over_time([], metric)) == 0

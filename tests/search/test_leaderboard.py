"""Tables of trials and of scores over time."""

from __future__ import annotations

import numpy as np
import pytest
from toys import make_trial

from windvane.data.task import Task
from windvane.evaluation.metrics import get_metric
from windvane.runtime.ensemble import Ensemble, Member
from windvane.search.run.history import leaderboard, performance_over_time


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


@pytest.mark.parametrize(("name", "score"), [("roc_auc", [0.7, 0.8]), ("log_loss", [0.3, 0.2])])
def test_performance_over_time_is_in_the_direction_of_the_metric(name: str, score: list[float]) -> None:
    metric = get_metric(name, Task("binary", 10, 2, 2), None)
    frame = performance_over_time([(1.0, 0.3, 0.25), (5.5, 0.2, 0.125)], metric)
    assert list(frame.columns) == ["seconds", "best_single", "ensemble"]
    assert list(frame["seconds"]) == [1.0, 5.5]
    np.testing.assert_allclose(frame["best_single"], score)
    assert len(performance_over_time([], metric)) == 0

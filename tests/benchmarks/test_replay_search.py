from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metalearning.replay_search import replay_search
from windvane.metalearning.replay import LearningCurve, RunPlan, TableReplay, run_trials

PATIENT = RunPlan(seconds=1000.0, workers=1, startup=0.0, overhead=0.0, share=1.0)


def make_curve(family: str, losses: list[float], cpu: list[float], fraction: list[float] | None) -> LearningCurve:
    values, row = np.array(losses), tuple(np.zeros(3, dtype=np.float32) for _ in cpu)
    known = None if fraction is None else np.array(fraction)
    return LearningCurve(family, np.array(cpu), values, values, row, row, True, known)


def make_table(curves: dict[str, LearningCurve]) -> TableReplay:
    target = np.zeros(3)
    return TableReplay("t", "regression", 500, 3, 0, "rmse", target, target, 1.0, curves)


def thirds(n: int, seed: int) -> dict[str, LearningCurve]:
    """Entries whose checkpoints are those of the rungs; those that come later are worse on every rung."""
    rng = np.random.default_rng(seed)
    costs = np.cumsum(rng.uniform(0.5, 2.0, size=(n, 3)), axis=1)
    return {
        f"e{i}": make_curve("linear", [3 + i, 2 + i, 1 + i], cost.tolist(), [1 / 16, 1 / 4, 1.0])
        for i, cost in enumerate(costs)
    }


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(5.0, 60.0))
def test_without_halving_and_limits_on_trials_it_is_the_run_in_order(seed: int, workers: int, seconds: float) -> None:
    table = make_table(thirds(12, seed))
    plan = RunPlan(seconds, workers, startup=1.0, overhead=0.1, share=1.0)
    found = dict(replay_search(list(table.curves), table, plan))
    expected = dict(run_trials(list(table.curves), table, plan))
    # the search begins no trial in the last half second
    late = {entry for entry in expected if entry not in found}
    assert len(late) <= workers
    assert {entry: last for entry, last in expected.items() if entry not in late} == found


def test_successive_halving_promotes_a_quarter_of_each_rung() -> None:
    table = make_table(thirds(16, 0))
    found = dict(replay_search(list(table.curves), table, PATIENT, halving=True))
    assert [found[f"e{i}"] for i in range(16)] == [2, 1, 1, 1] + [0] * 12
    assert set(dict(replay_search(list(table.curves), table, PATIENT)).values()) == {2}


def test_a_promoted_trial_pays_only_for_what_is_new() -> None:
    curves = {
        f"e{i}": make_curve("linear", [3 + i, 2 + i, 1 + i], [2.0, 4.0, 6.0], [1 / 16, 1 / 4, 1.0]) for i in range(4)
    }
    # four trials of 2 s, then the best one for 2 s more: the budget ends just after
    plan = RunPlan(seconds=10.6, workers=1, startup=0.0, overhead=0.0, share=1.0)
    assert dict(replay_search(list(curves), make_table(curves), plan, halving=True))["e0"] == 1
    plan = RunPlan(seconds=9.9, workers=1, startup=0.0, overhead=0.0, share=1.0)
    assert dict(replay_search(list(curves), make_table(curves), plan, halving=True))["e0"] == 0


def test_a_good_trial_that_was_stopped_is_resumed() -> None:
    curves = {f"e{i}": make_curve(f"family{i}", [5.0 + i], [1.0], [1.0]) for i in range(5)}
    curves["slow"] = make_curve("slow", [4.0, 1.0], [10.0, 40.0], [0.5, 1.0])
    order = ["slow", *(f"e{i}" for i in range(5))]
    plan = RunPlan(seconds=60.0, workers=1, startup=0.0, overhead=0.0, share=0.3)
    assert dict(run_trials(order, make_table(curves), plan))["slow"] == 0
    assert dict(replay_search(order, make_table(curves), plan))["slow"] == 1  # 18 s, later 22 s more


def test_halving_needs_to_know_how_far_checkpoints_were_trained() -> None:
    table = make_table({"a": make_curve("linear", [1.0], [1.0], None)})
    assert replay_search(["a", "unknown"], table, PATIENT) == [("a", 0)]
    with pytest.raises(ValueError, match="how far"):
        replay_search(["a"], table, PATIENT, halving=True)

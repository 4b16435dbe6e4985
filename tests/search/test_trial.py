from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from toys import make_trial, trials

from windvane.search.trial import Trial


@settings(deadline=None, max_examples=80)
@given(trials())
def test_strict_json_and_back(trial: Trial) -> None:
    text = json.dumps(trial.to_json(), allow_nan=False)
    assert Trial.from_json(json.loads(text)) == trial


def test_what_is_not_finite_becomes_null_and_comes_back_infinite() -> None:
    trial = replace(make_trial(1), loss=math.nan, fold_losses=(0.5, -math.inf, math.nan))
    record = trial.to_json()
    assert (record["loss"], record["fold_losses"]) == (None, [0.5, None, None])
    back = Trial.from_json(record)
    assert (back.loss, back.fold_losses) == (math.inf, (0.5, math.inf, math.inf))


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"number": 1},
        {**make_trial(1).to_json(), "colour": "red"},
        {**make_trial(1).to_json(), "loss": "low"},
        {**make_trial(1).to_json(), "best_iterations": ["x"]},
        {**make_trial(1).to_json(), "fold_losses": 3},
    ],
)
def test_what_is_no_trial_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Trial.from_json(record)


def test_a_trial_without_its_results() -> None:
    waiting = Trial(3, "toy", {"rate": 0.5}, "sampler", seed=11, n_rows=500, iteration_fraction=0.25)
    done = replace(waiting, status="done", loss=0.5, checkpoint="checkpoint_0000", best_iterations=(1, 2), ended=9.0)
    assert done.without_results() == waiting
    failed = replace(done.without_results(), status="failed", error="broken")
    assert (failed.status, failed.error, failed.loss, failed.checkpoint) == ("failed", "broken", math.inf, None)
    assert Trial.from_json(failed.to_json()).without_results() == waiting


@pytest.mark.parametrize(
    ("checkpoint", "loss", "status", "usable"),
    [
        ("checkpoint_0000", 0.5, "done", True),
        ("checkpoint_0000", -0.5, "timeout", True),
        ("checkpoint_0000", 0.5, "crashed", True),
        ("checkpoint_0000", math.inf, "done", False),
        (None, 0.5, "done", False),
        (None, math.inf, "failed", False),
    ],
)
def test_a_checkpoint_with_a_finite_loss_is_usable(
    checkpoint: str | None, loss: float, status: Any, usable: bool
) -> None:
    assert Trial(0, "toy", {}, "sampler", 0, status=status, loss=loss, checkpoint=checkpoint).usable == usable

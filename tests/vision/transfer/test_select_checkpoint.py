from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pictures import digits, tiny_recipe

from windvane.errors import InputError
from windvane.vision.transfer.select_checkpoint import PretrainedCheckpoint, select_checkpoint

RECIPE = tiny_recipe(epochs=6)
GOOD, BAD = (
    PretrainedCheckpoint("good", RECIPE, 0.3),
    PretrainedCheckpoint("bad", replace(RECIPE, learning_rate=1e-9), 0.9),
)


def test_upstream_takes_the_best_score_and_trains_nothing() -> None:
    choice = select_checkpoint([GOOD, BAD])
    assert choice.checkpoint is BAD
    assert choice.reason == "the best upstream score of 2: 0.9"
    assert (choice.scores, choice.trained) == ({}, None)


def test_adapting_all_takes_the_best_adapted(tmp_path: Path) -> None:
    data = digits(300, 100)
    choice = select_checkpoint([BAD, GOOD], strategy="adapt", data=data, out=tmp_path)
    assert choice.checkpoint is GOOD
    assert choice.scores["good"] > choice.scores["bad"]
    assert choice.trained is not None and choice.trained.best.valid_accuracy == choice.scores["good"]
    assert {folder.name for folder in tmp_path.iterdir()} == {"good", "bad"}
    timed = select_checkpoint([GOOD, BAD], strategy="adapt", data=data, time_budget=3.0)
    assert timed.trained is not None
    assert timed.trained.model.recipe.time_budget == 1.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoints": []}, "at least one"),
        ({"checkpoints": [GOOD, GOOD]}, "its own name"),
        ({"checkpoints": [replace(GOOD, upstream_score=float("nan"))]}, "without an upstream score: good"),
        ({"checkpoints": [GOOD], "strategy": "all"}, "strategy='all' is not known"),
        ({"checkpoints": [GOOD], "strategy": "adapt"}, "needs data with validation images"),
    ],
)
def test_unusable_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select_checkpoint(**arguments)  # type: ignore[arg-type]

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pictures import digits, tiny_recipe

from windvane.errors import InputError
from windvane.vision.networks.create import create_model
from windvane.vision.saved_model import save_model
from windvane.vision.transfer.finetune import finetune
from windvane.vision.transfer.select_checkpoint import PretrainedCheckpoint, select_checkpoint, select_run

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


def saved(folder: Path, score: float, classes: tuple[str, ...] = ("a", "b")) -> str:
    folder.mkdir()
    recipe = tiny_recipe()
    facts = {"best": {"valid_accuracy": score}} if score == score else {}
    weights = {name: value + 0.01 for name, value in create_model(recipe, len(classes)).state_dict().items()}
    save_model(folder, weights, recipe, classes, facts)
    return str(folder)


def test_of_several_runs_the_best_is_fine_tuned(tmp_path: Path) -> None:
    runs = [saved(tmp_path / name, score) for name, score in (("low", 0.5), ("high", 0.75), ("middle", 0.6))]
    found = select_run(runs)
    assert (found.checkpoint.name, found.reason) == (runs[1], "the best upstream score of 3: 0.75")
    trained = finetune(runs, digits(40, 20), time_budget=1.0, quiet=True)
    assert trained.model.recipe.weights == runs[1]
    with pytest.raises(InputError, match=r"without an upstream score: \S+none"):
        select_run([runs[0], saved(tmp_path / "none", float("nan"))])
    with pytest.raises(InputError, match="trained on different classes"):
        select_run([runs[0], saved(tmp_path / "other", 0.5, ("a", "c"))])
    with pytest.raises(InputError, match="weights='timm' is no folder of a run"):
        select_run([runs[0], "timm"])


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

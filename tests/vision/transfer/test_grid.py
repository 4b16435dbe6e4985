from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from pictures import digits, tiny_recipe

from windvane.data.images import ImageSplits
from windvane.errors import InputError
from windvane.vision.recipe import Recipe
from windvane.vision.training.run import TrainingResult
from windvane.vision.training.train import train
from windvane.vision.transfer import grid
from windvane.vision.transfer.grid import finetune_grid


def test_every_rate_and_length_is_trained_and_the_best_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Recipe, Path]] = []

    def stand_in(recipe: Recipe, data: ImageSplits, *, out: Path, device: str | None, quiet: bool) -> TrainingResult:
        seen.append((recipe, out))
        return train(replace(recipe, time_budget=None, steps=2 * len(seen)), data, device=device, quiet=True)

    monkeypatch.setattr(grid, "finetune_timed", stand_in)
    found = finetune_grid(
        tiny_recipe(time_budget=24.0), digits(200, 100), learning_rates=(1e-6, 3e-3), lengths=(5, 1), out=tmp_path
    )
    assert [recipe.learning_rate for recipe, _ in seen] == [1e-6, 3e-3, 1e-6, 3e-3]
    assert [recipe.time_budget for recipe, _ in seen] == pytest.approx([2.0, 2.0, 10.0, 10.0])
    assert len({folder for _, folder in seen}) == 4
    assert found.table["learning_rate"].tolist() == [1e-6, 3e-3, 1e-6, 3e-3]
    assert found.best.best.valid_accuracy == found.table["valid_accuracy"].max()
    assert found.best.model.recipe.learning_rate == found.table["learning_rate"][found.table["valid_accuracy"].idxmax()]


@pytest.mark.parametrize(
    ("recipe", "valid", "arguments", "message"),
    [
        (tiny_recipe(steps=3), 20, {}, "recipe has no time_budget"),
        (tiny_recipe(time_budget=1.0), 0, {}, "no validation images"),
        (tiny_recipe(time_budget=1.0), 20, {"lengths": ()}, "at least one of each"),
        (tiny_recipe(time_budget=1.0), 20, {"lengths": (math.nan,)}, "lengths=nan"),
        (tiny_recipe(time_budget=1.0), 20, {"learning_rates": (-1.0,)}, "learning_rate=-1.0"),
    ],
)
def test_mistakes(recipe: Recipe, valid: int, arguments: dict[str, tuple[float, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        finetune_grid(recipe, digits(40, valid), **arguments)  # type: ignore[arg-type]

from __future__ import annotations

from pictures import noise, tiny_recipe

from windvane.vision.advice import advise, apply_advice, format_advice
from windvane.vision.networks.create import create_model
from windvane.vision.networks.profiling import count_parameters


def test_the_advice_is_for_this_network_and_schedule() -> None:
    images = noise(300)
    n_params = count_parameters(create_model(tiny_recipe(), 3))
    # 300 images make 4 batches of 64.
    for fields, epochs in (({"epochs": 70.0}, 70.0), ({"steps": 40}, 10.0)):
        recipe, advice = apply_advice(tiny_recipe(**fields), images)
        assert advice == advise(300, n_params, epochs)
        assert (recipe.augreg, recipe.dropout, recipe.drop_path) == (advice.level, advice.dropout, advice.drop_path)
        assert recipe.weight_decay == advice.weight_decay
        assert recipe.learning_rate == tiny_recipe().learning_rate
    assert apply_advice(tiny_recipe(weights="some.pth"), images)[1] == advise(300, n_params, 2.0, True)


def test_the_screen_says_everything_in_short_lines() -> None:
    images = noise(300)
    for fields in ({"epochs": 70.0}, {"time_budget": 60.0}, {"weights": "some.pth", "epochs": 2.0}):
        recipe = tiny_recipe(**fields)
        screen = format_advice(recipe, images)
        _, advice = apply_advice(recipe, images)
        assert all(len(line) <= 80 for line in screen.splitlines())
        words = " ".join(screen.split())
        assert all(reason in words for reason in advice.reasons.values())
        assert f"AugReg level: {advice.level}" in words and "300 training images of 3 classes" in words
        assert ("[ours]" in words) == ("weights" not in fields)
        assert "arXiv 2106.10270" in words
    assert max(map(len, format_advice(recipe, images, width=60).splitlines())) <= 60

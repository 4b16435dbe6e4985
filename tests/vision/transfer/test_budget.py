from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.vision.networks.profiling import Timing
from windvane.vision.transfer.budget import ENOUGH, FEWEST, FROZEN, candidate_image_sizes, format_plan, plan_finetuning

COSTS = Timing(224, decode=0.001, look=0.02, learn={0.0: 0.08, 0.5: 0.04})
SIZES = candidate_image_sizes(224, 32)


def test_sizes() -> None:
    assert candidate_image_sizes(224, 32) == [224, 192, 160, 128, 96]
    assert candidate_image_sizes(240, 32) == [240, 224, 192, 160, 128, 96]
    assert candidate_image_sizes(224, 28) == [224, 196, 168, 140, 112]
    assert candidate_image_sizes(32, 32) == [32]


def test_more_time_affords_more() -> None:
    ways = [plan_finetuning(COSTS, SIZES, 240, 60, seconds) for seconds in (3, 20, 40, 80, 300, 3000)]
    assert [way.epochs for way in ways[:1]] == [0.0]
    assert ways[-1].image_size == 224 and ways[-1].freeze_fraction == 0.0
    costs = [COSTS.scale(way.image_size) * COSTS.learn[way.freeze_fraction] for way in ways if way.epochs]
    assert costs == sorted(costs) and len(set(costs)) > 1
    assert all(way.epochs >= ENOUGH for way in ways[3:])


def test_a_probe_of_some_images_where_there_is_no_time_for_all() -> None:
    way = plan_finetuning(COSTS, SIZES, 50_000, 5_000, 30.0)
    assert (way.epochs, way.image_size) == (0.0, 96)
    assert 0 < way.n_train < 50_000 and 0 < way.n_valid < 5_000
    words = format_plan(way, COSTS, 50_000, 5_000, 30.0)
    assert f"{way.n_train:,} of 50,000 training images" in words and "alone" in words
    slow = Timing(224, 0.001, 0.02, dict.fromkeys(FROZEN, 2.0))  # to learn from, not to look at
    whole = plan_finetuning(slow, SIZES, 300, 100, 30.0)
    assert (whole.n_train, whole.n_valid, whole.epochs, whole.image_size) == (300, 100, 0.0, 224)


def test_the_words_say_what_and_why() -> None:
    whole = plan_finetuning(COSTS, SIZES, 240, 60, 3000.0)
    assert "the whole network; nothing had to be saved." in format_plan(whole, COSTS, 240, 60, 3000.0)
    part = plan_finetuning(COSTS, SIZES, 240, 60, 60.0)
    words = format_plan(part, COSTS, 240, 60, 60.0)
    assert f"{part.image_size} pixels" in words and "would leave fewer than" in words
    least = plan_finetuning(COSTS, SIZES, 1500, 100, 60.0)
    assert FEWEST <= least.epochs < ENOUGH
    assert "the cheapest there is" in format_plan(least, COSTS, 1500, 100, 60.0)


@settings(deadline=None, max_examples=80)
@given(
    n_train=st.integers(2, 10**5),
    n_valid=st.integers(0, 10**4),
    seconds=st.floats(0.5, 10**4),
    look=st.floats(1e-5, 1.0),
)
def test_what_is_chosen_fits_into_the_time(n_train: int, n_valid: int, seconds: float, look: float) -> None:
    costs = Timing(224, 1e-3, look, {0.0: 4 * look, 0.5: 2 * look})
    way = plan_finetuning(costs, SIZES, n_train, n_valid, seconds)
    assert way.image_size in SIZES and way.freeze_fraction in FROZEN
    assert 1 <= way.n_train <= n_train and min(1, n_valid) <= way.n_valid <= n_valid
    scale = costs.scale(way.image_size)
    spent = way.epochs * way.n_train * scale * costs.learn[way.freeze_fraction]
    spent += (way.n_train + way.n_valid) * (costs.decode + scale * look)
    assert spent <= seconds or way.n_train == 1 or way.n_valid == 1
    if way.epochs:
        assert (way.n_train, way.n_valid) == (n_train, n_valid)

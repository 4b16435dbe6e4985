from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.vision.networks.profiling import Timing
from windvane.vision.transfer.finetune_plan import (
    FREEZE_FRACTIONS,
    MIN_EPOCHS,
    candidate_image_sizes,
    enough_epochs,
    format_plan,
    plan_finetuning,
)
from windvane.vision.transfer.linear_probe import START_IMAGES

TIMING = Timing(224, decode=0.001, forward=0.02, train_step={0.0: 0.08, 0.5: 0.04})
SIZES = candidate_image_sizes(224, 32)


def test_sizes() -> None:
    assert candidate_image_sizes(224, 32) == [224, 192, 160, 128, 96]
    assert candidate_image_sizes(240, 32) == [240, 224, 192, 160, 128, 96]
    assert candidate_image_sizes(224, 28) == [224, 196, 168, 140, 112]
    assert candidate_image_sizes(32, 32) == [32]


def test_more_time_affords_more() -> None:
    plans = [plan_finetuning(TIMING, SIZES, 240, 60, seconds) for seconds in (3, 20, 40, 80, 300, 3000)]
    assert [plan.epochs for plan in plans[:1]] == [0.0]
    assert plans[-1].image_size == 224 and plans[-1].freeze_fraction == 0.0
    costs = [TIMING.scale(plan.image_size) * TIMING.train_step[plan.freeze_fraction] for plan in plans if plan.epochs]
    assert costs == sorted(costs) and len(set(costs)) > 1
    assert all(plan.epochs >= enough_epochs(240) for plan in plans[3:])


def test_a_probe_of_some_images_where_there_is_no_time_for_all() -> None:
    plan = plan_finetuning(TIMING, SIZES, 50_000, 5_000, 30.0)
    assert (plan.epochs, plan.image_size) == (0.0, 96)
    assert 0 < plan.n_train < 50_000 and 0 < plan.n_valid < 5_000
    words = format_plan(plan, TIMING, 50_000, 5_000, 30.0)
    assert f"{plan.n_train:,} of 50,000 training images" in words and "alone" in words
    slow = Timing(224, 0.001, 0.02, dict.fromkeys(FREEZE_FRACTIONS, 2.0))  # to learn from, not to look at
    whole = plan_finetuning(slow, SIZES, 300, 100, 30.0)
    assert (whole.n_train, whole.n_valid, whole.epochs, whole.image_size) == (300, 100, 0.0, 224)


def test_the_words_say_what_and_why() -> None:
    whole = plan_finetuning(TIMING, SIZES, 240, 60, 3000.0)
    assert "the whole network; nothing had to be saved." in format_plan(whole, TIMING, 240, 60, 3000.0)
    part = plan_finetuning(TIMING, SIZES, 240, 60, 60.0)
    words = format_plan(part, TIMING, 240, 60, 60.0)
    assert f"{part.image_size} pixels" in words and "would leave fewer than" in words
    least = plan_finetuning(TIMING, SIZES, 1500, 100, 40.0)
    assert MIN_EPOCHS <= least.epochs < enough_epochs(1500)
    assert "the cheapest there is" in format_plan(least, TIMING, 1500, 100, 40.0)


def test_few_images_are_shown_more_often() -> None:
    assert [enough_epochs(n) for n in (10, 500, 1_000, 2_000, 10_000)] == [6.0, 6.0, 4.0, 2.0, 1.2]


@settings(deadline=None, max_examples=80)
@given(
    n_train=st.integers(2, 10**5),
    n_valid=st.integers(0, 10**4),
    seconds=st.floats(0.5, 10**4),
    forward=st.floats(1e-5, 1.0),
)
def test_what_is_chosen_fits_into_the_time(n_train: int, n_valid: int, seconds: float, forward: float) -> None:
    timing = Timing(224, 1e-3, forward, {0.0: 4 * forward, 0.5: 2 * forward})
    plan = plan_finetuning(timing, SIZES, n_train, n_valid, seconds)
    assert plan.image_size in SIZES and plan.freeze_fraction in FREEZE_FRACTIONS
    assert 1 <= plan.n_train <= n_train and min(1, n_valid) <= plan.n_valid <= n_valid
    scale = timing.scale(plan.image_size)
    spent = plan.epochs * plan.n_train * scale * timing.train_step[plan.freeze_fraction]
    seen = [min(n, START_IMAGES) if plan.epochs else n for n in (plan.n_train, plan.n_valid)]
    spent += (plan.n_train + plan.n_valid) * timing.decode + sum(seen) * scale * forward
    assert spent <= seconds or plan.n_train == 1 or plan.n_valid == 1
    if plan.epochs:
        assert (plan.n_train, plan.n_valid) == (n_train, n_valid)

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windvane.errors import InputError, ModelFileError
from windvane.evaluation.decisions.conformal import rank_scores
from windvane.runtime.conformal import (
    ClassSets,
    Intervals,
    Scores,
    check_coverage,
    join_labels,
    read_uncertainty,
    write_uncertainty,
)
from windvane.runtime.ensemble import Ensemble, Member, apply_temperature

SCORES = st.lists(st.floats(0, 100) | st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=60)
PERCENT = st.integers(1, 99)
LABELS = np.array(["a", "b", "c"], dtype=object)
MEMBERS = (Member(3, "checkpoint_0001", "linear", 0.75, (0, 2)), Member(1, "checkpoint_0000", "lightgbm", 0.25, (1,)))


def intervals(n: int = 99) -> Intervals:
    knots, below, above = np.array([-1.0, 0.5, 2.0]), np.array([1.0, 2.0, 0.5]), np.array([3.0, 1.0, 1.0])
    return Intervals(rank_scores(np.random.default_rng(0).exponential(size=n)), knots, below, above)


def class_sets(n: int = 99, temperature: float = 0.8) -> ClassSets:
    rng = np.random.default_rng(0)
    by_class = tuple(rank_scores(rng.random(size=n - code)) for code in range(3))
    return ClassSets(rank_scores(rng.random(size=n)), by_class, temperature)


def slow_limit(values: list[float], percent: int) -> float | None:
    """The ceil((n + 1) x coverage)-th smallest score, in exact arithmetic."""
    rank = math.ceil((len(values) + 1) * Fraction(percent, 100))
    return sorted(values)[rank - 1] if rank <= len(values) else None


@given(SCORES, PERCENT)
def test_the_limit_is_the_order_statistic_of_split_conformal_prediction(values: list[float], percent: int) -> None:
    wanted = slow_limit(values, percent)
    scores = rank_scores(np.array(values))
    if wanted is None:
        with pytest.raises(InputError, match=f"the model has {len(values)}"):
            scores.limit(percent / 100)
    else:
        assert scores.limit(percent / 100) == wanted


@given(SCORES, st.integers(0, 2**32 - 1), PERCENT)
def test_weights_count_as_shares_of_the_rows(values: list[float], seed: int, percent: int) -> None:
    weight = np.random.default_rng(seed).integers(1, 5, len(values)).astype(float)
    mean, total = float(weight.mean()), 0.0
    wanted = None  # the new row has the mean weight, and an infinite score
    for value, one in sorted(zip(values, weight.tolist(), strict=True)):
        total += one
        if total / (weight.sum() + mean) >= percent / 100 - 1e-9:
            wanted = value
            break
    scores = rank_scores(np.array(values), weight)
    if wanted is None:
        with pytest.raises(InputError):
            scores.limit(percent / 100)
    else:
        assert scores.limit(percent / 100) == wanted


@given(st.integers(1, 3), PERCENT)
def test_rows_that_validate_several_times_count_once(times: int, percent: int) -> None:
    values = np.arange(20.0)
    once, repeated = rank_scores(values), rank_scores(np.tile(values, times), n_rows=20)
    if percent / 100 > 20 / 21:
        with pytest.raises(InputError, match="has 20"):
            repeated.limit(percent / 100)
    else:
        assert abs(repeated.limit(percent / 100) - once.limit(percent / 100)) <= 1


def test_few_stored_scores_never_cover_less() -> None:
    values = np.random.default_rng(0).normal(size=5_000)
    whole, few = rank_scores(values, most=5_000), rank_scores(values, most=200)
    assert len(few.values) == 200
    for coverage in np.linspace(0.01, 0.999, 57):
        exact, stored = whole.limit(coverage), few.limit(coverage)
        assert exact <= stored
        assert np.mean(values <= stored) - np.mean(values <= exact) <= 1 / 199 + 1e-9


def test_too_few_rows_are_named() -> None:
    scores = rank_scores(np.arange(50.0))
    assert scores.limit(50 / 51) == 49
    with pytest.raises(InputError) as caught:
        scores.limit(0.99)
    assert str(caught.value) == (
        "coverage=0.99 needs at least 99 validation rows, but the model has 50. Allowed: at most 0.980392."
    )
    sets = ClassSets(scores, (scores, scores, rank_scores(np.zeros(0))), 1.0)
    with pytest.raises(InputError, match="of class 'c', but the model has 0"):
        sets.limits(0.9, LABELS, by_class=True)
    with pytest.raises(InputError, match="by_class=True is not usable with 3 classes"):
        ClassSets(scores, (), 1.0).limits(0.9, LABELS, by_class=True)


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, float("nan"), float("inf"), "0.9", None, True, [0.9], 1j])
def test_no_coverage(coverage: Any) -> None:
    with pytest.raises(InputError, match=r"coverage=.* is not usable\. Allowed: a number above 0 and below 1"):
        check_coverage(coverage)


@pytest.mark.parametrize("coverage", [0.9, np.float32(0.5), np.array(0.5)[()], Fraction(9, 10)])
def test_a_coverage(coverage: Any) -> None:
    assert check_coverage(coverage) == float(coverage)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9), PERCENT, PERCENT)
def test_intervals_hold_the_prediction_and_those_of_less_coverage(
    prediction: list[float], some: int, other: int
) -> None:
    rule, values = intervals(), np.array(prediction)
    inner, outer = (rule.apply(values, rule.scores.limit(p / 100)) for p in sorted([some, other]))
    assert np.all(outer[:, 0] <= inner[:, 0]) and np.all(inner[:, 1] <= outer[:, 1])
    assert np.all(inner[:, 0] <= values) and np.all(values <= inner[:, 1])


def test_widths_are_straight_lines_between_knots() -> None:
    found = intervals().apply(np.array([-9.0, -0.25, 0.5, 9.0]), 2.0)
    np.testing.assert_allclose(found, [[-11, -3], [-3.25, 3.75], [-3.5, 2.5], [8, 11]])


@given(st.integers(0, 2**32 - 1), PERCENT, PERCENT, st.booleans(), st.booleans())
def test_sets_are_those_of_plain_words(seed: int, some: int, other: int, by_class: bool, allow_empty: bool) -> None:
    blend, rule = np.random.default_rng(seed).dirichlet(np.ones(3), 6), class_sets()
    if max(some, other) > 96:
        return
    small, large = (
        rule.apply(blend, rule.limits(p / 100, LABELS, by_class), allow_empty) for p in sorted([some, other])
    )
    assert np.all(small <= large)
    for row, found in zip(apply_temperature(blend, rule.temperature), small, strict=True):
        for code in range(3):
            scores = rule.by_class[code] if by_class else rule.scores
            wanted = 1 - row[code] <= scores.limit(min(some, other) / 100)
            assert found[code] == (wanted or (not allow_empty and code == row.argmax()))


def test_labels_are_joined() -> None:
    sets = np.array([[True, False, True], [False, False, False], [False, True, False]])
    assert join_labels(sets, LABELS) == ["a|c", "", "b"]
    assert join_labels(sets, np.array([1, 2, 10])) == ["1|10", "", "2"]


@pytest.mark.parametrize("rule", [intervals(), class_sets()])
def test_a_file_comes_back(rule: Intervals | ClassSets, tmp_path: Path) -> None:
    path, n_classes = tmp_path / "uncertainty.json", 3 if isinstance(rule, ClassSets) else 0
    ensemble = Ensemble(MEMBERS, 0.5)
    assert read_uncertainty(path, ensemble, n_classes) is None
    write_uncertainty(path, rule, ensemble)
    decided = Ensemble(MEMBERS, 0.4, temperature=1.5, decision_weights=(1.0, 2.0, 1.0))  # changes no score
    for same in (ensemble, decided):
        found = read_uncertainty(path, same, n_classes)
        assert found is not None and found.to_json() == rule.to_json()
    assert read_uncertainty(path, Ensemble(MEMBERS[::-1], 0.5), n_classes) is None


def edit(record: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for name in outer:
        record = record[name]
    record[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("scores.values", [2.0, 1.0]),
        ("scores.values", [1.0, 2.0]),
        ("scores.values", "text"),
        ("scores.values", [[1.0]]),
        ("scores.coverages", [0.5] * 98 + [1.0]),
        ("scores.coverages", [float("nan")] * 99),
        ("scores.n_rows", 3),
        ("scores", None),
        ("knots", [0.0, 0.0, 1.0]),
        ("below", [1.0, -1.0, 1.0]),
        ("above", [1.0, 1.0]),
    ],
)
def test_damaged_intervals(path: str, value: Any) -> None:
    record = json.loads(json.dumps(intervals().to_json()))
    edit(record, path, value)
    with pytest.raises((ValueError, TypeError)):
        Intervals.from_json(record)


def test_damaged_files(tmp_path: Path) -> None:
    ensemble, path = Ensemble(MEMBERS, 0.5), tmp_path / "uncertainty.json"
    write_uncertainty(path, class_sets(), ensemble)
    with pytest.raises(ModelFileError):
        read_uncertainty(path, ensemble, 2)
    with pytest.raises(ModelFileError):
        read_uncertainty(path, ensemble, 0)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("0.8", "0.9"), encoding="utf-8")
    with pytest.raises(ModelFileError, match="hash"):
        read_uncertainty(path, ensemble, 3)
    with pytest.raises(ValueError, match="temperature"):
        ClassSets.from_json({**class_sets().to_json(), "temperature": 0})


def test_scores_keep_their_order() -> None:
    assert isinstance(Scores.from_json(rank_scores(np.arange(3.0)).to_json()), Scores)

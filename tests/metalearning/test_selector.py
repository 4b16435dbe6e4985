from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier

from benchmarks.metalearning import selector as benchmark
from benchmarks.metalearning.pairwise_selector import Selector, elect, is_covered, tabulate
from windvane.data.task import Task
from windvane.errors import InputError
from windvane.runtime.columns.table import Floats

SMALL = RandomForestClassifier(10, max_features=1, bootstrap=False)


def some_sizes(n: int, seed: int = 0) -> Floats:
    return np.rint(np.exp(np.random.default_rng(seed).uniform(3, 9, (n, 2))))


def by_rows(sizes: Floats) -> Floats:
    """Policy 0 is best below 500 rows, 2 above; 1 never, but always near."""
    small = sizes[:, 0] < 500
    return np.column_stack([np.where(small, 0.1, 0.9), np.full(len(sizes), 0.2), np.where(small, 0.9, 0.1)])


@pytest.mark.parametrize("soft", [False, True])
def test_a_plain_rule_is_learned(soft: bool) -> None:
    sizes, unseen = some_sizes(80), some_sizes(50, seed=1)
    forest = RandomForestClassifier(10, max_features=1, bootstrap=soft)
    selector = Selector(forest, order=(1, 0, 2), soft=soft).fit(sizes, by_rows(sizes), np.ones(80))
    inside = is_covered(unseen, sizes) & (np.abs(np.log(unseen[:, 0] / 500)) > 0.5)
    assert inside.sum() > 20
    np.testing.assert_array_equal(selector.select(unseen)[inside], by_rows(unseen).argmin(axis=1)[inside])


def test_beyond_the_largest_known_table_the_most_robust_policy_is_chosen() -> None:
    sizes = np.array([[100.0, 1000.0], [1000.0, 10.0]] * 5)
    selector = Selector(SMALL, order=(2, 0, 1)).fit(sizes, np.tile([0.1, 0.2, 0.9], (10, 1)), np.ones(10))
    asked = np.array([[90, 900], [900, 5], [101, 1000], [500, 11], [np.inf, 1]], dtype=np.float64)
    assert selector.select(asked).tolist() == [0, 0, 2, 2, 2]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_covered_is_what_a_double_loop_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes, known = rng.integers(0, 5, (6, 2)).astype(float), rng.integers(0, 5, (3, 2)).astype(float)
    slow = [any(k[0] >= s[0] and k[1] >= s[1] for k in known) for s in sizes]
    assert is_covered(sizes, known).tolist() == slow


@settings(deadline=None, max_examples=80)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_elections_count_votes_then_match_again_then_use_the_order(p: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wins = np.zeros((p, p))
    for i, j in combinations(range(p), 2):
        wins[i, j] = rng.choice([0.0, 0.5, 1.0])
        wins[j, i] = 1 - wins[i, j]
    order = rng.permutation(p).tolist()

    def slow(standing: list[int]) -> int:
        votes = {i: sum(wins[i, j] for j in standing if j != i) for i in standing}
        best = [i for i in standing if votes[i] == max(votes.values())]
        return min(best, key=order.index) if best == standing else slow(best)

    assert elect(wins, order) == slow(list(range(p)))


def test_the_votes_of_a_pair_sum_to_one_and_weights_decide() -> None:
    """Nine tables say a little for the second policy, one says much for the first; the prior weighs them all."""
    sizes = some_sizes(10)
    losses = np.column_stack([np.full(10, 0.5), np.full(10, 0.49), np.full(10, 0.5)])
    losses[0, 1] = 0.9
    prior = DummyClassifier(strategy="prior")
    selector = Selector(prior, order=(0, 1, 2), soft=True).fit(sizes, losses, np.ones(10))
    wins = selector.wins(sizes)
    for i, j in combinations(range(3), 2):
        np.testing.assert_allclose(wins[:, i, j] + wins[:, j, i], 1)
    np.testing.assert_allclose(wins[:, 0, 1], 0.4 / (0.4 + 9 * 0.01))
    np.testing.assert_allclose(wins[:, 0, 2], 0.5)  # always equal
    spans = np.where(np.arange(10) == 0, 100.0, 1.0)  # of a table where losses differ by more, the same counts less
    again = Selector(prior, order=(0, 1, 2)).fit(sizes, losses, spans)
    np.testing.assert_allclose(again.wins(sizes)[:, 0, 1], 0)


def test_the_same_seed_gives_the_same_selector() -> None:
    rng, sizes = np.random.default_rng(0), some_sizes(60)
    losses = rng.random((60, 4))
    selectors = [Selector(SMALL, range(4), seed=seed).fit(sizes, losses, np.ones(60)) for seed in (3, 3, 4)]
    wins = [selector.wins(sizes * 0.9) for selector in selectors]
    np.testing.assert_array_equal(wins[0], wins[1])
    assert (wins[0] != wins[2]).any()


def test_what_does_not_go_together_is_refused() -> None:
    sizes = some_sizes(4)
    with pytest.raises(InputError, match=r"\(4, 2\), \(4, 3\), \(3,\)"):
        Selector(SMALL, range(3)).fit(sizes, np.ones((4, 3)), np.ones(3))
    with pytest.raises(InputError, match="each of the p positions once"):
        Selector(SMALL, (0, 1)).fit(sizes, np.ones((4, 3)), np.ones(4))
    with pytest.raises(InputError, match="not finite"):
        Selector(SMALL, range(3)).fit(sizes, np.full((4, 3), np.nan), np.ones(4))


def test_a_table_says_what_the_forests_say_in_the_middle_of_each_cell() -> None:
    sizes, names = some_sizes(80), ("holdout", "cv3", "cv5")
    selector = Selector(SMALL, order=(1, 0, 2)).fit(sizes, by_rows(sizes), np.ones(80))
    rows, columns = (0, 100, 300, 1000, 10_000), (0, 20, 400)
    grid = tabulate(selector, names, rows, columns, dict.fromkeys(names, "it won"))
    assert grid.reasons.keys() == {name for line in grid.policies for name in line}
    for low, high in pairwise(rows):
        middle = np.array([[np.sqrt(max(low, 1) * high), np.sqrt(20 * 400)]])
        asked = grid.choose(Task("binary", int(middle[0, 0]), int(middle[0, 1]), 2))
        assert asked.name == names[selector.select(middle)[0]]
    assert {line[-1] for line in grid.policies} == {"cv3"} == set(grid.policies[-1])  # open cells are beyond all data


# The results that Auto-Sklearn 2.0 published.


@pytest.fixture(params=benchmark.METRICS)
def metric(request: pytest.FixtureRequest) -> str:
    if not Path(benchmark.DATA).exists():
        pytest.skip("the published results in ../shared/data/askl2 are not here")
    return str(request.param)


def test_the_figures_of_fixed_policies_come_out_of_the_data(metric: str) -> None:
    scores = benchmark.scores_of(benchmark.read(metric), {})
    found = [scores[f"always {name}"].mean() for name in benchmark.read(metric).names]
    found += [scores["oracle"].mean(), scores["random"].mean()]
    np.testing.assert_allclose(found, benchmark.PUBLISHED[metric], atol=0.0051)


def test_the_selector_is_better_than_chance_and_near_the_single_best_policy(metric: str) -> None:
    data = benchmark.read(metric, n_trees=8)
    chosen = {**benchmark.choose_learned(data, n_parts=4), **benchmark.choose_static(data)}
    scores = {name: found.mean() for name, found in benchmark.scores_of(data, chosen).items()}
    assert scores["oracle"] == min(scores.values())
    for name in ("selector", "selector as a table"):
        gap = scores["random"] - scores["oracle"]
        assert scores[name] < scores["random"]
        assert scores[name] < scores["single best"] + 0.3 * gap

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sk
from toys import make_problem, make_trial

from windvane.data.task import Task
from windvane.errors import MetricError
from windvane.evaluation.metrics import Metric, get_metric
from windvane.runtime.columns.table import PIXELS, FeatureView, Floats, ImageColumn
from windvane.runtime.ensemble import Ensemble, apply_temperature
from windvane.search.ensemble_selection import (
    MAX_CANDIDATES,
    REFERENCE_ROWS,
    EnsembleBuilder,
    candidates,
    greedy_selection,
    handicap_cost,
    lean_towards,
    max_candidates_per_family,
    reference_family,
)
from windvane.search.problem import Problem
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial

Losses = Callable[[Floats], float]


def draw(kind: str, m: int, v: int, seed: int) -> tuple[Floats, Losses]:
    """Predictions of m candidates of differing skill, and a loss by scikit-learn."""
    rng = np.random.default_rng(seed)
    skill = rng.uniform(0.2, 1.5, (m, 1, 1))
    if kind == "rmse":
        y = rng.normal(size=v)
        singles = y + rng.normal(size=(m, v)) / (skill[:, 0] + 0.5)
        return singles, lambda p: float(sk.root_mean_squared_error(y, p))
    k = 2 if kind == "roc_auc" else 3
    y = np.arange(v) % k
    singles = softmax(skill * np.eye(k)[y] + rng.normal(size=(m, v, k)), axis=2)
    losses: dict[str, Losses] = {
        "log_loss": lambda p: float(sk.log_loss(y, p)),
        "roc_auc": lambda p: 1 - float(sk.roc_auc_score(y, p[:, 1])),
        "balanced_accuracy": lambda p: 1 - float(sk.balanced_accuracy_score(y, p.argmax(axis=1))),
    }
    return singles, losses[kind]


KINDS = ["log_loss", "roc_auc", "balanced_accuracy", "rmse"]


def brute_greedy(singles: Floats, loss: Losses, size: int, factor: Callable[[list[int]], float]) -> list[int]:
    """Caruana's selection in plain words: the members of the best prefix."""
    chosen: list[int] = []
    prefixes: list[tuple[float, list[int]]] = []
    for _ in range(size):
        tried = [
            (float(f"{loss(np.mean(singles[[*chosen, i]], axis=0)) * factor([*chosen, i]):.6g}"), i not in chosen, i)
            for i in range(len(singles))
        ]
        best, _, i = min(tried)
        chosen.append(i)
        prefixes.append((best, list(chosen)))
    return min(prefixes, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_greedy_selection_is_the_loop_over_all_candidates(kind: str, seed: int) -> None:
    singles, loss = draw(kind, m=6, v=60, seed=seed)
    counts = np.bincount(brute_greedy(singles, loss, 12, lambda _: 1.0), minlength=6)
    np.testing.assert_allclose(greedy_selection(singles, loss, 12), counts / counts.sum(), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_each_doubling_of_the_cost_counts_as_a_share_of_the_loss(kind: str) -> None:
    singles, loss = draw(kind, m=6, v=60, seed=0)
    costs, loss_of_doubling = np.array([1.0, 30.0, 2.0, 500.0, 4.0, 80.0]), 0.05

    def factor(chosen: list[int]) -> float:
        of_folds = [min(5, max(1, round(10 * chosen.count(i) / len(chosen)))) * costs[i] for i in set(chosen)]
        return float((1 + loss_of_doubling) ** np.log2(sum(of_folds)))

    counts = np.bincount(brute_greedy(singles, loss, 12, factor), minlength=6)
    found = greedy_selection(singles, loss, 12, handicap_cost(costs, 5, loss_of_doubling))
    np.testing.assert_allclose(found, counts / counts.sum(), atol=1e-12)
    assert found @ costs <= greedy_selection(singles, loss, 12) @ costs


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(KINDS), st.integers(1, 6), st.integers(1, 8), st.integers(0, 10**6))
def test_weights_are_shares_and_never_worse_than_the_best_single(kind: str, m: int, size: int, seed: int) -> None:
    singles, loss = draw(kind, m, v=30, seed=seed)
    weights = greedy_selection(singles, loss, size)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    best = min(loss(single) for single in singles)
    assert loss(np.tensordot(weights, singles, axes=1)) <= best * (1 + 1e-5) + 1e-9


@pytest.mark.parametrize("kind", ["log_loss", "rmse"])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_selection_comes_near_the_best_of_all_count_vectors(kind: str, seed: int) -> None:
    singles, loss = draw(kind, m=4, v=60, seed=seed)
    every = [np.bincount(c, minlength=4) for t in range(1, 7) for c in combinations_with_replacement(range(4), t)]
    losses = [loss(np.tensordot(counts / counts.sum(), singles, axes=1)) for counts in every]
    found = loss(np.tensordot(greedy_selection(singles, loss, 6), singles, axes=1))
    single = min(loss(s) for s in singles)
    assert min(losses) - 1e-9 <= found <= single
    assert single - found >= 0.9 * (single - min(losses))


def test_twins_add_no_member() -> None:
    singles, loss = draw("log_loss", m=1, v=30, seed=0)
    np.testing.assert_array_equal(greedy_selection(np.repeat(singles, 5, axis=0), loss, 10), [1, 0, 0, 0, 0])


def test_candidates_that_cannot_be_evaluated_still_give_weights() -> None:
    weights = greedy_selection(np.ones((3, 4)), lambda _: float("nan"), 4)
    assert weights.sum() == 1


def test_a_family_may_bring_more_candidates_to_more_rows() -> None:
    sizes = [10, 999, 1000, 4999, 5000, 9999, 10_000, 14_999, 15_000, 50_000, 10**7]
    assert [max_candidates_per_family(n) for n in sizes] == [2, 2, 4, 4, 6, 6, 8, 8, 10, 12, 12]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1) | st.just(float("inf"))), max_size=80),
    st.sampled_from([500, 2000, 7000, 10**6]),
)
def test_candidates_are_the_best_usable_ones_of_each_family(drawn: list[tuple[str, float]], n_rows: int) -> None:
    trials = [make_trial(i, loss, family) for i, (family, loss) in enumerate(drawn)]
    chosen = candidates(trials, n_rows)
    assert chosen == sorted(chosen, key=lambda t: (t.loss, t.number))
    expected: list[Trial] = []
    for family in "abc":
        own = sorted((t for t in trials if t.family == family and t.usable), key=lambda t: (t.loss, t.number))
        expected += own[: max_candidates_per_family(n_rows)]
    assert sorted(chosen, key=lambda t: t.number) == sorted(expected, key=lambda t: t.number)[:MAX_CANDIDATES]


@pytest.mark.parametrize(("kind", "metric"), [("regression", "mae"), ("binary", "log_loss"), ("regression", "broken")])
def test_each_of_several_targets_has_weights_of_its_own(kind: Any, metric: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    task = Task(kind, 90, 3, n_targets=2)
    target = rng.normal(size=(90, 2)) if kind == "regression" else (rng.random((90, 2)) < 0.4).astype(np.int64)

    def fail(true: Floats, found: Floats) -> float:
        raise ValueError("no")

    metric = Metric("broken", fail, needs="values") if metric == "broken" else metric
    problem = replace(make_problem("regression"), task=task, target=target, metric=get_metric(metric, task, None))
    bench = Bench(tmp_path, problem)
    for i in range(4):  # the first ones know the first target, the others the second
        noise = rng.normal(0, 1, (90, 2)) * ([0.3, 3.0] if i < 2 else [3.0, 0.3])
        truth = bench.target + noise
        single = truth if kind == "regression" else 1 / (1 + np.exp(-4 * (truth - 0.5)))
        bench.keep(single, family=f"f{i}")
    builder = EnsembleBuilder(problem, bench.directory, size=10)
    ensemble = builder.build(bench.trials)
    assert ensemble is not None and Ensemble.from_json(json.loads(json.dumps(ensemble.to_json()))) == ensemble
    shares = np.array([member.shares for member in ensemble.members])
    np.testing.assert_allclose(shares.mean(axis=1), [member.weight for member in ensemble.members], rtol=1e-12)
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    # What predicts a target alone does so with all folds, however many targets there are.
    assert all(len(member.folds) == 3 for member in ensemble.members if max(member.shares) > 0.9)
    if metric == "mae" or metric == "log_loss":
        one = sk.mean_absolute_error if metric == "mae" else sk.log_loss
        blend = np.empty_like(target, dtype=float)
        for j in range(2):
            singles = np.array([bench.read(trial)[:, j] for trial in bench.trials])
            loss = lambda p, j=j: float(one(bench.target[:, j], p))  # noqa: E731
            weights = greedy_selection(singles, loss, 10)
            by_number = {member.number: member.shares[j] for member in ensemble.members}
            np.testing.assert_allclose([by_number.get(i, 0.0) for i in range(4)], weights, atol=1e-12)
            blend[:, j] = weights @ singles
        found = builder.blend(ensemble)
        assert found is not None
        np.testing.assert_allclose(found, blend, rtol=1e-12)
        assert ensemble.loss == pytest.approx(problem.metric.loss(bench.target, blend))


def test_candidates_are_limited_in_all() -> None:
    trials = [make_trial(i, 1 / (i + 1), family=f"f{i % 10}") for i in range(100)]
    assert [t.number for t in candidates(trials, 10**6)] == list(range(99, 99 - MAX_CANDIDATES, -1))


class Bench:
    """A run directory with the predictions of some trials."""

    def __init__(self, root: Path, problem: Problem) -> None:
        self.problem, self.directory = problem, RunDirectory(root)
        self.target = problem.target[problem.validation_rows]
        self.trials: list[Trial] = []

    def keep(
        self, prediction: Floats, *, family: str, number: int | None = None, checkpoint: str = "checkpoint_0000"
    ) -> Trial:
        number = len(self.trials) if number is None else number
        folder = self.directory.checkpoint(number, checkpoint)
        folder.mkdir(parents=True)
        np.save(folder / "valid.npy", prediction)
        try:
            loss = self.problem.loss(prediction.astype(np.float64), self.problem.validation_rows)
        except MetricError:  # a trial from before the metric failed
            loss = 0.5
        trial = make_trial(number, loss, family, checkpoint=checkpoint)
        self.trials = [t for t in self.trials if t.number != number] + [trial]
        return trial

    def keep_some(self, count: int, seed: int = 0, scale: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        for i in range(count):
            if not self.problem.task.is_classification:
                prediction = self.target + rng.normal(0, 0.5, len(self.target))
            else:
                truth = np.eye(self.problem.task.n_classes)[self.target]
                prediction = softmax(scale * (truth + rng.normal(size=truth.shape)), axis=1).astype(np.float32)
            self.keep(prediction, family=f"f{i}")

    def read(self, trial: Trial) -> Floats:
        return np.load(self.directory.checkpoint(trial.number, trial.checkpoint or "") / "valid.npy").astype(np.float64)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [("binary", "roc_auc"), ("multiclass", "log_loss"), ("binary", "f1"), ("regression", "rmse"), ("regression", "r2")],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_an_ensemble_is_that_of_its_blend(kind: Any, metric: str, weighted: bool, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).random(90) if weighted else None
    bench = Bench(tmp_path, make_problem(kind, metric=metric, weight=weight))
    bench.keep_some(4)
    builder = EnsembleBuilder(bench.problem, bench.directory, size=10)
    ensemble = builder.build(bench.trials)
    assert ensemble is not None
    weights = [member.weight for member in ensemble.members]
    assert sum(weights) == pytest.approx(1)
    assert weights == sorted(weights, reverse=True)
    assert min(weights) > 0
    by_number = {t.number: t for t in bench.trials}
    blend = sum(m.weigh(m.calibrate(bench.read(by_number[m.number]))) for m in ensemble.members)
    assert ensemble.loss == pytest.approx(bench.problem.loss(blend, bench.problem.validation_rows), rel=1e-5)
    assert ensemble.loss <= min(t.loss for t in bench.trials) * (1 + 1e-5)
    assert (ensemble.temperature, ensemble.decision_weights) == (1.0, None)
    assert all((m.temperature == 1.0) is (metric != "log_loss") for m in ensemble.members)
    assert all(m.checkpoint == "checkpoint_0000" and m.family == by_number[m.number].family for m in ensemble.members)
    assert builder.seconds > 0


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_of_near_equal_classifiers_those_that_predict_quickly_are_chosen(kind: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_problem(kind, metric="log_loss" if kind == "binary" else "rmse"))
    rng = np.random.default_rng(0)
    truth = np.eye(2)[bench.target] if kind == "binary" else bench.target
    best = truth + rng.normal(size=truth.shape)
    best = softmax(best, axis=1) if kind == "binary" else best
    nearly = best + 1e-4 * (best - truth)
    bench.keep(best, family="random_forest")
    bench.keep(nearly, family="linear")
    assert bench.trials[0].loss < bench.trials[1].loss < bench.trials[0].loss * 1.001
    ensemble = EnsembleBuilder(bench.problem, bench.directory, size=1).build(bench.trials)
    assert ensemble is not None
    assert [m.family for m in ensemble.members] == ["linear" if kind == "binary" else "random_forest"]


def test_members_are_compared_at_their_best_temperatures(tmp_path: Path) -> None:
    """The better one is as unsure as a forest: as it is, its loss is that of the worse one, or above."""
    bench = Bench(tmp_path, make_problem("multiclass", 900, metric="log_loss"))
    rng = np.random.default_rng(0)
    truth = np.eye(3)[bench.target]
    bench.keep(softmax(0.2 * (8 * truth + rng.normal(size=truth.shape)), axis=1), family="random_forest")
    bench.keep(softmax(3 * truth + rng.normal(size=truth.shape), axis=1), family="linear")
    builder = EnsembleBuilder(bench.problem, bench.directory, size=10)
    forest, linear = bench.trials
    assert forest.loss > linear.loss
    ensemble = builder.build(bench.trials)
    assert ensemble is not None
    first = ensemble.members[0]
    assert (first.family, first.weight > 0.8, 0.1 < first.temperature < 0.4) == ("random_forest", True, True)
    assert ensemble.loss < 0.5 * linear.loss
    blend = sum(m.weigh(m.calibrate(bench.read(bench.trials[m.number]))) for m in ensemble.members)
    np.testing.assert_allclose(builder.blend(ensemble), blend, rtol=1e-4, atol=1e-7)


def test_the_end_adds_temperature_for_log_loss(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_problem("multiclass", 300, metric="log_loss"))
    bench.keep_some(2, scale=4.0)
    builder = EnsembleBuilder(bench.problem, bench.directory, size=5)
    before, after = builder.build(bench.trials), builder.build(bench.trials, finish=True)
    assert before is not None and after is not None
    assert after.members == before.members
    assert all(m.temperature > 1.5 for m in after.members)
    assert 0.5 < after.temperature < 1  # the blend of two is less sure than right
    blend = sum(m.weigh(m.calibrate(bench.read(bench.trials[m.number]))) for m in after.members)
    flat = apply_temperature(blend, after.temperature)
    assert after.loss == pytest.approx(sk.log_loss(bench.target, flat), rel=1e-5)
    assert after.loss < before.loss


@pytest.mark.parametrize(
    ("rows", "metric", "n_folds", "expected"),
    [(600, "log_loss", 3, True), (400, "log_loss", 3, False), (600, "roc_auc", 3, False), (600, "log_loss", 1, False)],
)
def test_the_end_averages_roots_for_log_loss_on_many_rows(
    rows: int, metric: str, n_folds: int, expected: bool, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, make_problem("binary", rows, metric=metric, n_folds=n_folds))
    bench.keep_some(2)
    builder = EnsembleBuilder(bench.problem, bench.directory, size=5)
    before, after = builder.build(bench.trials), builder.build(bench.trials, finish=True)
    assert before is not None and after is not None
    assert (before.averages_roots, after.averages_roots) == (False, expected)


def test_the_end_adds_decision_weights_for_labels(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_problem("binary", 300, metric="balanced_accuracy"))
    truth = np.eye(2)[bench.target]
    noise = np.random.default_rng(0).normal(size=truth.shape)
    bench.keep(softmax(2 * truth + noise + [1.5, 0], axis=1).astype(np.float32), family="shy")
    builder = EnsembleBuilder(bench.problem, bench.directory, size=5)
    plain, ensemble = builder.build(bench.trials), builder.build(bench.trials, finish=True)
    assert plain is not None and ensemble is not None and ensemble.decision_weights is not None
    labels = (bench.read(bench.trials[0]) * ensemble.decision_weights).argmax(axis=1)
    assert ensemble.loss == pytest.approx(1 - sk.balanced_accuracy_score(bench.target, labels))
    assert ensemble.loss < plain.loss


def test_what_cannot_be_read_stays_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_problem("binary"))
    bench.keep_some(2)
    lost, torn, short = (bench.keep(np.eye(2)[bench.target] * 1.0, family=name) for name in ("lost", "torn", "short"))
    (bench.directory.checkpoint(lost.number, "checkpoint_0000") / "valid.npy").unlink()
    (bench.directory.checkpoint(torn.number, "checkpoint_0000") / "valid.npy").write_bytes(b"\x93NUMPY")
    np.save(bench.directory.checkpoint(short.number, "checkpoint_0000") / "valid.npy", np.ones((3, 2)))
    ensemble = EnsembleBuilder(bench.problem, bench.directory, 5).build(bench.trials)
    assert ensemble is not None
    assert {m.family for m in ensemble.members} <= {"f0", "f1"}


def test_without_a_usable_trial_there_is_no_ensemble(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_problem("binary"))
    builder = EnsembleBuilder(bench.problem, bench.directory, 5)
    assert builder.build([]) is None
    assert builder.build([make_trial(0, float("inf")), make_trial(1, 0.1)], finish=True) is None


def test_a_newer_checkpoint_replaces_the_older_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_problem("binary"))
    bench.keep_some(1)
    builder = EnsembleBuilder(bench.problem, bench.directory, 5)
    first = builder.build(bench.trials)
    bench.keep((np.eye(2)[bench.target]).astype(np.float32), family="f0", number=0, checkpoint="checkpoint_0001")
    second = builder.build(bench.trials)
    assert first is not None and second is not None
    assert second.loss < first.loss
    assert second.members == (replace(first.members[0], checkpoint="checkpoint_0001"),)


def test_weights_that_are_all_zero_where_it_counts_are_ignored(tmp_path: Path) -> None:
    plain = make_problem("multiclass", metric="log_loss", n_folds=1)
    weight = np.ones(90)
    weight[plain.validation_rows] = 0.0
    bench = Bench(tmp_path, replace(plain, weight=weight))
    bench.keep_some(3)
    ensemble = EnsembleBuilder(bench.problem, bench.directory, 5).build(bench.trials, finish=True)
    assert ensemble == EnsembleBuilder(plain, bench.directory, 5).build(bench.trials, finish=True)


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1e-12), (0.0, 1e-200), (1e3, 1e-3), (-7.0, 1e-9)])
def test_losses_of_any_scale_are_told_apart(offset: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=200)
    predictions = target + rng.normal(size=(5, 200)) * np.array([2.0, 1.0, 1.5, 1.2, 0.9])[:, None]

    def plain(blend: Any) -> float:
        return float(np.mean((blend - target) ** 2))

    expected = greedy_selection(predictions, plain, 20)
    found = greedy_selection(predictions, lambda blend: offset + scale * plain(blend), 20)
    np.testing.assert_allclose(found, expected, atol=0.051)
    assert (expected > 0).sum() > 1


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(5, 400), st.integers(0, 1000))
def test_leaning_towards_a_reference_costs_no_more_than_chance(m: int, v: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true_class = rng.uniform(0.01, 1.0, (m, v)) ** rng.uniform(0.2, 3.0, (m, 1))
    weights = rng.dirichlet(np.ones(m))
    found = lean_towards(weights, 0, true_class)
    assert found.sum() == pytest.approx(1.0)
    share = REFERENCE_ROWS / (REFERENCE_ROWS + v)
    expected = (1 - share) * weights + share * np.eye(m)[0]
    raised = -np.log(expected @ true_class) + np.log(weights @ true_class)
    standard_error = np.std(raised) / np.sqrt(v)
    assert found == pytest.approx(weights if raised.mean() > 2 * standard_error else expected)


def test_a_reference_that_is_clearly_worse_gets_nothing() -> None:
    true_class = np.stack([np.full(300, 0.2), np.full(300, 0.9)])
    np.testing.assert_array_equal(lean_towards(np.array([0.0, 1.0]), 0, true_class), [0.0, 1.0])
    equal = np.stack([np.full(300, 0.9), np.full(300, 0.9)])
    np.testing.assert_allclose(lean_towards(np.array([0.0, 1.0]), 0, equal), [0.25, 0.75])


@pytest.mark.parametrize("weights", ["efficientnet_lite0", PIXELS])
def test_only_features_of_frozen_networks_have_a_reference(weights: str) -> None:
    problem = make_problem("multiclass")
    assert reference_family(problem) is None
    images = ImageColumn(np.zeros((1, 4, 4, 3), np.uint8), np.zeros(problem.table.n_rows, np.int64))
    images = replace(images, views=(FeatureView(weights, 64, 0, problem.table.n_numbers),))
    with_images = replace(problem, table=replace(problem.table, images=images))
    assert reference_family(with_images) == (None if weights == PIXELS else "linear")

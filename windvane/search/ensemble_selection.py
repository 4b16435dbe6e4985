"""Greedy ensemble selection: validation predictions in, weights out.

Notation: m candidates, v validation rows, k classes or targets (no axis k for one number). Caruana et al. (2004):
starting from nothing, add, with replacement, the candidate that lowers the loss of the average most; weights are
counts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from windvane.data.task import Task
from windvane.errors import MetricError
from windvane.evaluation.bootstrap import bootstrap_standard_error
from windvane.evaluation.decisions.calibration import Loss, fit_temperature, with_label_decision
from windvane.evaluation.decisions.conformal import fit_class_sets, fit_intervals
from windvane.evaluation.metrics import MeanOverTargets, round_loss, significant_digits
from windvane.models import FAMILIES
from windvane.models.base_model import BaseFamily
from windvane.models.linear import Linear
from windvane.runtime.columns.table import PIXELS, Floats
from windvane.runtime.conformal import Uncertainty
from windvane.runtime.ensemble import Ensemble, Member, apply_temperature
from windvane.runtime.output import log_probabilities
from windvane.search.problem import Problem
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial

Singles = NDArray[np.floating[Any]]
Ranked = TypeVar("Ranked")
Handicap = Callable[[Floats], Floats]  # weights of e ensembles (e, m) -> factors of their losses (e,)

MAX_CANDIDATES = 40
# Models of a whole ensemble, as a multiple of the folds.
MODELS_PER_FOLD = 2.0
# What the reference model adds to a selection counts as much as this many validation rows.
REFERENCE_ROWS = 100
# From so many rows on, fold models are averaged by the roots of their probabilities, where the metric is the log loss.
# With fewer rows it brings nothing: fold models differ too much.
MIN_ROOT_ROWS = 500
_SIGNIFICANT = 2.0  # standard errors
# By so much of its loss an ensemble of classifiers must be better to be chosen if it takes twice as long to predict:
# less than chance makes of the loss (benchmarks/metalearning/prediction_cost.py).
LOSS_OF_DOUBLING = 0.002
# Training sets that are smaller by less than this share of the largest count as large as it.
_SIZE_TOLERANCE = 0.1


def greedy_selection(predictions: Singles, loss: Loss, size: int, handicap: Handicap | None = None) -> Floats:
    """Return weights for candidates, shape (m,), at least 0, sum 1; never worse on `loss` than the best candidate.

    `predictions` has the shape (m, v) or (m, v, k). The best prefix of `size` rounds is kept. What `handicap` returns
    for weights of shape (e, m) multiplies the losses of these e ensembles, which must not be negative then.
    """
    counts = np.zeros(len(predictions))
    best_counts, best_loss = counts, np.inf
    total = np.zeros(predictions.shape[1:])  # (v,) or (v, k)
    digits = 0
    for taken in range(1, size + 1):
        exact = np.array([loss((total + single) / taken) for single in predictions])
        if handicap is not None:
            exact *= handicap((counts + np.eye(len(counts))) / taken)  # (m, m): row i has the weights with candidate i
        digits = digits or significant_digits(exact)
        losses = np.array([round_loss(value, digits) for value in exact.tolist()])
        # Among equals, one that is in already keeps the ensemble small and quick.
        chosen = int(np.lexsort((np.arange(len(losses)), counts == 0, losses))[0])
        counts[chosen] += 1
        total += predictions[chosen]
        if taken == 1 or losses[chosen] < best_loss:
            best_counts, best_loss = counts.copy(), losses[chosen]
    return np.asarray(best_counts / best_counts.sum())


def handicap_cost(costs: Floats, n_folds: int, loss_of_doubling: float = LOSS_OF_DOUBLING) -> Handicap:
    """Return a handicap of ensembles by what their members, each with a cost (m,) of a fold model, cost to predict."""
    exponent = np.log2(1 + loss_of_doubling)
    return lambda weights: np.asarray((count_fold_models(weights, n_folds) @ costs) ** exponent)


def lean_towards(weights: Floats, reference: int, true_class: Singles) -> Floats:
    """Return weights (m,) moved towards a reference candidate, the more the fewer the validation rows.

    `true_class` holds the probability of each row's class, shape (m, v). The weights stay as they are where the move
    raises the log loss by more than chance does.
    """
    share = REFERENCE_ROWS / (REFERENCE_ROWS + true_class.shape[1])
    leaned = (1 - share) * weights
    leaned[reference] += share
    before, after = (-log_probabilities(one @ true_class) for one in (weights, leaned))  # (v,)
    raised = after - before
    is_worse = raised.mean() > _SIGNIFICANT * raised.std() / len(raised) ** 0.5
    return weights if is_worse else leaned


def max_candidates_per_family(n_rows: int) -> int:
    """Limit the candidates of one family, against overfitting of the selection on small data."""
    if n_rows < 1_000:
        return 2
    if n_rows < 5_000:
        return 4
    return min(12, 6 + 2 * max(0, (n_rows - 10_000) // 5_000 + 1))


def candidates(trials: Sequence[Trial], n_rows: int) -> list[Trial]:
    """Return the usable trials that may enter the ensemble, best first."""
    ranked = sorted((t for t in trials if t.usable), key=lambda t: (t.loss, t.number))
    return first_of_families(ranked, [trial.family for trial in ranked], n_rows)[:MAX_CANDIDATES]


def first_of_families(ranked: Sequence[Ranked], families: Sequence[str], n_rows: int) -> list[Ranked]:
    """Keep the first of each family, as many as may be candidates."""
    cap, seen, kept = max_candidates_per_family(n_rows), Counter[str](), list[Ranked]()
    for one, family in zip(ranked, families, strict=True):
        seen[family] += 1
        if seen[family] <= cap:
            kept.append(one)
    return kept


def count_fold_models(weights: Any, n_folds: int) -> NDArray[np.float64]:
    """Return how many of its fold models each member predicts with, by its weight; none without a weight."""
    wanted = np.round(MODELS_PER_FOLD * n_folds * np.asarray(weights))
    return np.where(np.asarray(weights) > 0, np.clip(wanted, 1, n_folds), 0)


def allocate_fold_models(weights: Sequence[float], train_sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the folds of each member whose models predict: as many as its weight deserves.

    All k fold models averaged predict a little better than one, and k times slower. The variance that the ensemble
    keeps is the sum of weight**2 x variance / models over its members, so for a given number of models in all, each
    should have them in proportion to its weight. A member alone has all. Members take turns, so that together they have
    learned from all rows; if folds differ in size (`train_sizes`), as with time order, the larger ones come first.
    """
    n_folds, largest = len(train_sizes), max(train_sizes)
    step = max(1.0, _SIZE_TOLERANCE * largest)
    size_class = [int((largest - size) / step) for size in train_sizes]
    chosen, first = [], 0
    for count in count_fold_models(weights, n_folds).astype(int).tolist():
        turns = [(first + i) % n_folds for i in range(n_folds)]
        chosen.append(tuple(sorted(sorted(turns, key=size_class.__getitem__)[:count])))
        first += count
    return chosen


def reference_family(problem: Problem) -> str | None:
    """Return the family whose best trial an ensemble leans towards: linear models on features of frozen networks."""
    images = problem.table.images
    from_networks = images is not None and any(view.weights != PIXELS for view in images.views)
    return Linear.name if from_networks else None


def _prediction_cost(trial: Trial, task: Task) -> float:
    """Return about how many milliseconds a fold model of a trial takes for 10,000 rows."""
    family = FAMILIES.get(trial.family)
    if not isinstance(family, BaseFamily):  # the user's own
        return BaseFamily.usual_cost
    return family.prediction_cost(trial.config, float(np.mean(trial.best_iterations or [1])), task)


class EnsembleBuilder:
    """Builds the ensemble of a run; the predictions of its candidates stay in memory.

    A build has `size` rounds of greedy selection and takes about `max_seconds` (infinity: no clock); with a slow metric
    fewer candidates are evaluated.
    """

    def __init__(self, problem: Problem, directory: RunDirectory, size: int, max_seconds: float = float("inf")) -> None:
        self.problem, self.directory, self.size, self.max_seconds = problem, directory, size, max_seconds
        self.counts_time = True  # False: candidates are left out only where the time is clearly too short
        self._task: Task = problem.task
        self._metric = problem.metric
        self._reference = reference_family(problem)
        self._train_sizes = [len(fold.train) for fold in problem.folds]
        rows = problem.validation_rows
        self.target: NDArray[Any] = problem.target[rows]  # (v,) or (v, t)
        weight = problem.weight_of(rows)  # (v,)
        self.weight = weight if weight is not None and weight.any() else None
        self._predictions: dict[tuple[int, str], Singles] = {}
        self._temperatures: dict[tuple[int, str], float] = {}  # of what is in `_predictions`
        self.seconds = 0.0  # what the last build took

    @property
    def _is_log_loss(self) -> bool:
        return self._metric.name == "log_loss" and self._task.is_classification

    @property
    def _calibrates_members(self) -> bool:
        """Whether candidates are calibrated one by one.

        Forests are far less sure than right, and models of one fold surer: the selection would compare just that.
        """
        return self._is_log_loss and self.problem.table.images is None

    def build(self, trials: Sequence[Trial], *, finish: bool = False) -> Ensemble | None:
        """Choose members and weights; None if no trial is usable.

        `finish` also fits the temperature, or costs or weights that decide for a label.
        """
        started = time.perf_counter()
        pool = [
            (trial, self._read(trial.number, trial.checkpoint or "")) for trial in candidates(trials, self._task.n_rows)
        ]
        known = [(trial, single) for trial, single in pool if single is not None]
        if not known:
            return None
        most_calls = self._max_metric_calls(known[0][1])
        if most_calls < self.size * len(known):
            known = known[: max(1, int(most_calls / self.size))]
        self._predictions = {(trial.number, trial.checkpoint or ""): single for trial, single in known}
        chosen = [trial for trial, _ in known]
        singles = np.stack([single for _, single in known])  # (m, v) or (m, v, k)
        if isinstance(self._metric.function, MeanOverTargets):
            shares = self._select_for_targets(singles, self._metric.function)  # (m, t)
            weights, blend = shares.mean(axis=1), np.einsum("mt,mvt->vt", shares, singles)
        else:
            shares = np.empty((len(chosen), 0))
            weights = self._select(singles, chosen)
            blend = np.tensordot(weights, singles, axes=1)  # (v,), (v, k) or (v, t)
        ensemble = Ensemble(self._members(chosen, weights, shares), np.nan)
        if finish and self._task.is_classification:
            ensemble = self._with_decision(ensemble, blend, most_calls)
        ensemble = replace(ensemble, loss=self._loss(ensemble.decision_values(ensemble.calibrate(blend))))
        self.seconds = time.perf_counter() - started
        return ensemble

    def _members(self, trials: Sequence[Trial], weights: Floats, shares: Floats) -> tuple[Member, ...]:
        """Return the members with a weight, largest first; each knows which of its fold models predict."""
        members = [
            Member(
                trial.number,
                trial.checkpoint or "",
                trial.family,
                float(weight),
                shares=tuple(of_targets),
                temperature=self._temperatures[trial.number, trial.checkpoint or ""],
            )
            for trial, weight, of_targets in zip(trials, weights, shares.tolist(), strict=True)
            if weight > 0
        ]
        members.sort(key=lambda member: (-member.weight, member.number))
        largest = [max(member.shares, default=member.weight) for member in members]  # for any target
        kept = allocate_fold_models(largest, self._train_sizes)
        return tuple(replace(member, folds=folds) for member, folds in zip(members, kept, strict=True))

    def _with_decision(self, ensemble: Ensemble, blend: Floats, most_calls: float) -> Ensemble:
        """Add the temperature, for log loss, or for labels the costs or weights that decide for one."""
        if self._is_log_loss:
            averages_roots = len(self._train_sizes) > 1 and self._task.n_rows >= MIN_ROOT_ROWS
            return replace(ensemble, temperature=fit_temperature(blend, self._loss), averages_roots=averages_roots)
        if self._metric.needs != "labels":
            return ensemble
        return with_label_decision(ensemble, blend, self._metric, self._loss, self._spread, most_calls)

    def blend(self, ensemble: Ensemble) -> Floats | None:
        """Blend the validation predictions of an ensemble, before its temperature; None if a member has none."""
        singles = [self._read(member.number, member.checkpoint) for member in ensemble.members]
        known = [single for single in singles if single is not None]
        if len(known) < len(singles):
            return None
        parts = [member.weigh(single) for member, single in zip(ensemble.members, known, strict=True)]
        return np.asarray(np.sum(parts, axis=0))

    def uncertainty(self, ensemble: Ensemble) -> Uncertainty | None:
        """Learn intervals or sets of classes; None for several targets, or if a prediction is missing or not finite."""
        if self._task.n_targets > 1:
            return None
        blend, rows = self.blend(ensemble), self.problem.validation_rows
        if blend is None or not np.isfinite(blend).all():
            return None
        if self._task.is_classification:
            return fit_class_sets(blend, self.target, self.weight, rows, ensemble.temperature)
        return fit_intervals(blend, self.target.astype(np.float64), self.weight, rows)

    def _select(self, singles: Singles, trials: Sequence[Trial]) -> Floats:  # (m, v), (m, v, k) or (m, v, t) -> (m,)
        reduced, loss = self._reduced(singles)
        weights = greedy_selection(reduced, loss, self.size, self._handicap(trials))
        reference = next((i for i, trial in enumerate(trials) if trial.family == self._reference), None)
        return weights if reference is None else lean_towards(weights, reference, self._true_class(singles))

    def _select_for_targets(self, singles: Singles, metric: MeanOverTargets) -> Floats:  # (m, v, t) -> (m, t)
        """Select for each target on its own, which lowers a mean over the targets most."""

        def select(j: int) -> Floats:
            target = self.target[:, j]
            return greedy_selection(
                np.ascontiguousarray(singles[:, :, j]),
                lambda blend: self._loss_of(target, blend, self.weight, metric.loss_of_one),
                self.size,
            )

        return np.column_stack([select(j) for j in range(singles.shape[2])])

    def _handicap(self, trials: Sequence[Trial]) -> Handicap | None:
        """Return the handicap of ensembles of trials by their cost; None where cost does not count.

        Numbers are predicted quickly anyway, losses of the user's own metrics may be negative, and beside the networks
        of images nothing costs much.
        """
        if not self._task.is_classification or self._metric.own or self.problem.table.images is not None:
            return None
        costs = np.array([_prediction_cost(trial, self._task) for trial in trials])
        return handicap_cost(costs, len(self._train_sizes))

    def _max_metric_calls(self, single: Singles) -> float:
        """Return how often the metric may be computed in one build."""
        if self.max_seconds == np.inf:
            return np.inf
        started = time.perf_counter()
        self._loss(single.astype(float))
        calls = self.max_seconds / max(time.perf_counter() - started, 1e-9)
        return np.inf if not self.counts_time and calls > 2 * self.size * MAX_CANDIDATES else calls

    def _spread(self, blend: Floats) -> float:
        return bootstrap_standard_error(self._loss_of, self.target, blend, self.weight)

    def _loss(self, blend: Floats) -> float:
        return self._loss_of(self.target, blend, self.weight)

    def _loss_of(
        self, target: NDArray[Any], blend: Floats, weight: Floats | None, loss: Callable[..., float] | None = None
    ) -> float:
        """Return the loss by the metric, or by `loss`; infinite where the user's own metric fails."""
        try:
            return (loss or self._metric.loss)(target, blend, weight)
        except MetricError:
            return float("inf")

    def _reduced(self, singles: Singles) -> tuple[Singles, Loss]:
        """Log loss looks at the probability of the true class alone: k times less to add up."""
        if not self._is_log_loss:
            return singles, self._loss

        def log_loss(true_class: Floats) -> float:
            return -float(np.average(log_probabilities(true_class), weights=self.weight))

        return self._true_class(singles), log_loss

    def _true_class(self, singles: Singles) -> Singles:
        """Return the probability of each row's class, shape (m, v)."""
        return np.ascontiguousarray(singles[:, np.arange(singles.shape[1]), self.target])

    def _read(self, number: int, checkpoint: str) -> Singles | None:
        """Return the validation predictions of a trial, calibrated; None if they cannot be read."""
        key = (number, checkpoint)
        if key not in self._predictions:
            array = self.directory.validation_predictions(number, checkpoint)
            if array is None or array.shape[0] != len(self.target):
                return None  # a newer checkpoint has replaced it, or it is damaged
            temperature = 1.0
            if self._calibrates_members:
                exact = array.astype(np.float64)
                temperature = fit_temperature(exact, self._loss)
                array = apply_temperature(exact, temperature).astype(array.dtype)
            self._temperatures[key], self._predictions[key] = temperature, array
        return self._predictions[key]

"""From probabilities to a decision: the threshold of the positive class, factors of the classes, costs of errors.

Of two classes a threshold t is held as the factors t and 1 - t of the other and the positive class, so that whatever
decides with factors decides with it. Notation: n rows, k classes, m thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from windvane.errors import InputError, check_number, check_usable, unknown_name_error
from windvane.evaluation.bootstrap import bootstrap_standard_error
from windvane.evaluation.decisions.calibration import evenly_spaced, with_label_decision
from windvane.evaluation.metrics import MeanOverTargets, Metric
from windvane.evaluation.predictions import Predictions
from windvane.pages.texts import counted
from windvane.runtime.columns.table import Floats
from windvane.runtime.ensemble import Ensemble

MAX_CURVE, MAX_EVALUATED = 100, 200  # thresholds that are kept, and for which a slow metric is computed
MAX_LABELS = 12  # whose thresholds are written in one line
BY_HAND = "set by hand"
SMALLEST = 1e-9  # threshold, and its distance from 1


@dataclass(frozen=True, eq=False, repr=False)
class DecisionTuning:
    """The result of `windvane.AutoClassifier.tune_threshold`.

    Attributes
    ----------
    goal
        What was asked for, in words: "f1", "precision >= 0.9", "costs", "set by hand".
    threshold
        Probability of the positive class above which it is predicted; None for more than two classes.
    score, default_score
        The goal's value with the new decision, and where the most probable class is predicted. Of costs, the mean
        cost of a row; of a condition, the other one of precision and recall; of a threshold that was set, F1. NaN
        where there were no rows to compute them on.
    n_rows
        Rows that it was tuned on. They chose it, so the score is optimistic.
    out_of_fold
        Whether these are the validation rows of the run, predicted out of fold; False for rows that were passed.
    curve
        One row a threshold: threshold, precision, recall, f1, selected (share predicted as positive), score (of the
        goal). None for more than two classes.
    thresholds
        Of several labels, the probability of each above which it is predicted, by its name; None otherwise.
    """

    goal: str
    threshold: float | None
    score: float
    default_score: float
    n_rows: int
    out_of_fold: bool
    curve: pd.DataFrame | None = None
    thresholds: Mapping[str, float] | None = None

    def __repr__(self) -> str:
        what = "decision" if self.threshold is None else f"threshold {self.threshold:.4g}"
        if self.thresholds is not None:
            what = f"thresholds {threshold_texts(self.thresholds)}"
        if not self.n_rows:
            return f"{what} {self.reason}"
        condition, _, limit = self.goal.partition(" >= ")
        name = {"costs": "mean cost", BY_HAND: "f1"}.get(self.goal, self.goal)
        if limit and condition in ("precision", "recall"):
            name = "recall" if condition == "precision" else "precision"
        rows = f"{self.n_rows:,} {'validation rows (out of fold)' if self.out_of_fold else 'rows'}"
        return (
            f"{what} {self.reason}: {name} {self.score:.4g}, "
            f"for {'the most probable class' if self.thresholds is None else 'one half'} {self.default_score:.4g}; "
            f"on {rows}"
        )

    @property
    def reason(self) -> str:
        """Why it is this decision, in words."""
        return self.goal if self.goal == BY_HAND else f"for {self.goal}"

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold."""
        content = {name: getattr(self, name) for name in ("goal", "threshold", "thresholds", "n_rows", "out_of_fold")}
        scores = {name: getattr(self, name) for name in ("score", "default_score")}
        content |= {name: float(score) if np.isfinite(score) else None for name, score in scores.items()}
        curve = None if self.curve is None else {str(name): self.curve[name].tolist() for name in self.curve}
        return {**content, "curve": curve}

    @classmethod
    def from_json(cls, record: Any) -> Self | None:
        """Read what `to_json` wrote; None stays None."""
        if record is None:
            return None
        curve = None if record["curve"] is None else pd.DataFrame(record["curve"], dtype=np.float64)
        scores = {name: np.nan if record[name] is None else record[name] for name in ("score", "default_score")}
        return cls(**{**record, **scores, "curve": curve})


def threshold_texts(thresholds: Mapping[str, float]) -> str:
    """Write the thresholds of labels, the first of many."""
    texts = [f"{name} {value:.4g}" for name, value in list(thresholds.items())[:MAX_LABELS]]
    more = len(thresholds) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


def threshold_of(ensemble: Ensemble, positive: int) -> float:
    """Return the probability of the positive one of two classes above which it is predicted."""
    factors = ensemble.decision_weights
    return 0.5 if factors is None else factors[1 - positive] / (factors[0] + factors[1])


def label_thresholds_of(ensemble: Ensemble, titles: Sequence[str]) -> dict[str, float]:
    """Return the probability of each of several labels above which it is predicted."""
    return dict(zip(titles, ensemble.label_thresholds or [0.5] * len(titles), strict=True))


def with_threshold(ensemble: Ensemble, threshold: float, positive: int) -> Ensemble:
    """Return the ensemble with another threshold of the positive one of two classes."""
    check_number("threshold", threshold, above=0, below=1)
    factors = (1.0 - threshold, threshold) if positive == 0 else (threshold, 1.0 - threshold)
    return replace(ensemble, decision_weights=factors, costs=None)


def without_decision(ensemble: Ensemble) -> Ensemble:
    """Return the ensemble as it predicts the most probable class, or the labels above one half."""
    return replace(ensemble, decision_weights=None, costs=None, label_thresholds=None)


def transfer_decision(
    before: Ensemble, after: Ensemble, tuning: DecisionTuning | None
) -> tuple[Ensemble, DecisionTuning | None]:
    """Give the ensemble `after`, which has another calibration, the factors with which it predicts the same labels.

    Without factors the most probable class stays the rule. The thresholds of a tuning are translated, too.
    """
    factors = before.decision_weights
    if factors is None:
        return after, tuning
    if len(factors) > 2:
        moved = np.asarray(factors) ** (before.temperature / after.temperature)
        return replace(after, decision_weights=tuple(map(float, moved))), tuning

    def translate(second: Floats) -> Floats:
        """Turn probabilities of the second class before into those after."""
        if before.calibration is not None:
            raw = np.interp(second, before.calibration[1], before.calibration[0])
        else:
            raw = expit(before.temperature * logit(second))
        return after.calibrate(np.column_stack([1.0 - raw, raw]))[:, 1].clip(SMALLEST, 1 - SMALLEST)

    moved_threshold = float(translate(np.array([threshold_of(before, 1)]))[0])
    found = with_threshold(after, moved_threshold, 1)
    if tuning is None or tuning.threshold is None:
        return found, tuning
    is_second = abs(tuning.threshold - threshold_of(before, 1)) <= abs(tuning.threshold - threshold_of(before, 0))
    curve = tuning.curve
    if curve is not None:
        x = curve["threshold"].to_numpy()
        curve = curve.assign(threshold=translate(x) if is_second else 1.0 - translate(1.0 - x))
    return found, replace(tuning, threshold=threshold_of(found, int(is_second)), curve=curve)


def check_costs(costs: Any, classes: NDArray[Any]) -> Floats:  # (k, k)
    """Return the costs of errors, true class by predicted class, in the order of the classes.

    `costs` is a matrix in this order, a DataFrame with the classes as index and columns, or a mapping of pairs (true,
    predicted) to costs, in which other errors cost 1.
    """
    labels = classes.tolist()
    known = {str(label): code for code, label in enumerate(labels)}
    if isinstance(costs, Mapping):
        matrix = 1.0 - np.eye(len(labels))
        for pair, cost in costs.items():
            if not isinstance(pair, tuple) or len(pair) != 2 or not {str(one) for one in pair} <= set(known):
                raise InputError(
                    f"costs has the key {pair!r}. Allowed: pairs (true class, predicted class) of {labels}."
                )
            check_number(f"costs[{pair!r}]", cost, at_least=-np.inf)
            matrix[known[str(pair[0])], known[str(pair[1])]] = cost
        return matrix
    if isinstance(costs, pd.DataFrame):
        rows, columns = ([str(one) for one in axis] for axis in (costs.index, costs.columns))
        if sorted(rows) != sorted(known) or sorted(columns) != sorted(known):
            raise InputError(
                f"costs has the rows {rows} and columns {columns}. Allowed: the classes {labels} for both."
            )
        costs = costs.set_axis(rows, axis=0).set_axis(columns, axis=1).loc[list(known), list(known)]
    try:
        matrix = np.asarray(costs, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"costs={costs!r} are not numbers: {error}.") from error
    shape = (len(labels), len(labels))
    if matrix.shape != shape or not np.isfinite(matrix).all():
        raise InputError(
            f"costs has the shape {matrix.shape}. Allowed: finite numbers of the shape {shape}, a row for each true "
            f"class and a column for each predicted class, in the order {labels}."
        )
    return matrix


def tune_decision(
    predictions: Predictions,
    positive: int | None,
    *,
    metric: Metric | None = None,
    precision: float | None = None,
    recall: float | None = None,
    costs: Floats | None = None,
) -> tuple[Ensemble, DecisionTuning]:
    """Return the ensemble with the best decision on some predictions, and how it was found; one goal is given."""
    plain = replace(predictions, ensemble=without_decision(predictions.ensemble))
    if positive is not None:
        return _tune_threshold(plain, positive, metric, precision, recall, costs)
    if costs is not None:
        found = replace(plain.ensemble, costs=tuple(map(tuple, costs.tolist())))
        scores = [mean_cost(replace(plain, ensemble=one), costs) for one in (found, plain.ensemble)]
        return found, _tuned("costs", None, scores, plain)
    assert metric is not None
    if metric.needs != "labels":
        raise _no_labels(metric)
    target, weight = plain.target, plain.weight

    def loss(p: Floats) -> float:
        return metric.loss(target, p, weight)

    def standard_error(p: Floats) -> float:
        return bootstrap_standard_error(metric.loss, target, p, weight)

    found = with_label_decision(plain.ensemble, plain.prediction, metric, loss, standard_error, max_calls=20_000)
    scores = [replace(plain, ensemble=one).score(metric) for one in (found, plain.ensemble)]
    return found, _tuned(metric.name, None, scores, plain)


def threshold_by_hand(
    ensemble: Ensemble, threshold: float, positive: int, predictions: Predictions | None
) -> tuple[Ensemble, DecisionTuning]:
    """Return the ensemble with a threshold, and the curve around it if there are predictions to draw it from."""
    found = with_threshold(ensemble, threshold, positive)
    if predictions is None:
        return found, DecisionTuning(BY_HAND, threshold, np.nan, np.nan, 0, out_of_fold=True)
    curve = threshold_curve(predictions, positive)
    curve = curve.assign(score=curve["f1"]).iloc[evenly_spaced(len(curve), MAX_CURVE)].reset_index(drop=True)
    both = (found, without_decision(ensemble))
    scores = [label_rates(replace(predictions, ensemble=one), positive)["f1"] for one in both]
    return found, _tuned(BY_HAND, threshold, scores, predictions, curve)


def tune_label_thresholds(
    predictions: Predictions, titles: Sequence[str], metric: Metric
) -> tuple[Ensemble, DecisionTuning]:
    """Return the ensemble with the threshold of each of several labels that is best for the metric of this label."""
    if not isinstance(metric.function, MeanOverTargets):
        raise InputError(
            f"metric={metric.name!r} counts all labels together, but thresholds are tuned one by one. Allowed: metrics "
            "of each label, as in f1, balanced_accuracy, matthews_corrcoef."
        )
    if not metric.of_labels:
        raise _no_labels(metric)
    plain = replace(predictions, ensemble=without_decision(predictions.ensemble))
    thresholds = []
    for j in range(len(titles)):
        part = plain.of_target(j)
        if (part.target == part.target[0]).all():
            thresholds.append(0.5)
        else:
            ensemble, _ = _tune_threshold(part, 1, metric.function.metric)
            thresholds.append(threshold_of(ensemble, 1))
    found = replace(plain.ensemble, label_thresholds=tuple(thresholds))
    scores = [replace(plain, ensemble=one).score(metric) for one in (found, plain.ensemble)]
    tuned = replace(_tuned(metric.name, None, scores, plain), thresholds=dict(zip(titles, thresholds, strict=True)))
    return found, tuned


def label_thresholds_by_hand(ensemble: Ensemble, value: Any, titles: Sequence[str]) -> tuple[Ensemble, DecisionTuning]:
    """Return the ensemble with other thresholds of several labels, and a record of it.

    `value` is one number for all labels, a number for each, or a mapping of names, whose other labels stay as they are.
    """
    chosen = label_thresholds_of(ensemble, titles)
    if isinstance(value, Mapping):
        for name, one in value.items():
            if str(name) not in chosen:
                raise unknown_name_error("threshold of the label", str(name), titles)
            chosen[str(name)] = one
    elif np.ndim(value) == 0:
        chosen = dict.fromkeys(titles, value)
    elif len(value) == len(titles):
        chosen = dict(zip(titles, value, strict=True))
    else:
        raise InputError(f"threshold has {counted(len(value), 'number')}, but there are {len(titles)} labels.")
    for name, one in chosen.items():
        check_number(f"threshold of {name!r}", one, above=0, below=1)
    thresholds = {name: float(one) for name, one in chosen.items()}
    tuning = DecisionTuning(BY_HAND, None, np.nan, np.nan, 0, out_of_fold=True, thresholds=thresholds)
    return replace(ensemble, label_thresholds=tuple(thresholds.values())), tuning


def mean_cost(predictions: Predictions, costs: Floats) -> float:
    """Mean cost of the predicted labels."""
    return float(np.average(costs[predictions.target, predictions.labels], weights=predictions.weight))


def threshold_curve(predictions: Predictions, positive: int, costs: Floats | None = None) -> pd.DataFrame:
    """Precision, recall, F1, share selected and, with costs, mean cost, above each threshold that matters.

    Thresholds lie half-way between neighbouring probabilities, so that no row is on one.
    """
    score = predictions.prediction[:, positive]
    weight = predictions.weights
    distinct = np.unique(np.clip(score, 0.0, 1.0))
    ends = np.concatenate([[0.0], distinct, [1.0]])
    thresholds = np.unique(((ends[:-1] + ends[1:]) / 2).clip(SMALLEST, 1 - SMALLEST))  # (m,)
    order = np.argsort(score)
    first = np.searchsorted(score[order], thresholds, side="right")  # of the selected rows, (m,)
    is_positive = (predictions.target == positive)[order]

    def selected(values: Floats) -> Floats:
        return np.append(np.cumsum(values[::-1])[::-1], 0.0)[first]

    hits, all_of_them = selected(weight[order] * is_positive), selected(weight[order])
    total, n = float(np.sum(weight[order] * is_positive)), float(weight.sum())
    false = all_of_them - hits
    curve = pd.DataFrame(
        {
            "threshold": thresholds,
            "precision": np.where(all_of_them > 0, hits / np.maximum(all_of_them, SMALLEST), 0.0),
            "recall": hits / total if total else 0.0,
            "f1": 2 * hits / np.maximum(all_of_them + total, SMALLEST),
            "selected": all_of_them / n,
        }
    )
    if costs is None:
        return curve
    other = 1 - positive
    missed, rest = total - hits, n - total - false
    cost = hits * costs[positive, positive] + missed * costs[positive, other]
    cost += false * costs[other, positive] + rest * costs[other, other]
    return curve.assign(cost=cost / n)


def _tune_threshold(
    predictions: Predictions,
    positive: int,
    metric: Metric | None = None,
    precision: float | None = None,
    recall: float | None = None,
    costs: Floats | None = None,
) -> tuple[Ensemble, DecisionTuning]:
    """Return the ensemble with the best threshold; the predictions are those of the most probable class."""
    if not 0 < int(np.sum(predictions.target == positive)) < len(predictions):
        raise InputError("A threshold can only be tuned on rows of both classes; y holds one of them.")
    curve = threshold_curve(predictions, positive, costs)
    limit = recall if precision is None else precision
    if limit is not None:
        kept, sought = ("recall", "precision") if precision is None else ("precision", "recall")
        is_share = isinstance(limit, Real) and not isinstance(limit, bool) and 0 < limit <= 1
        check_usable(kept, limit, is_share, "a share above 0 and at most 1, as in 0.9 for 90 %")
        meets = (curve[kept] >= limit).to_numpy() & (curve["selected"] > 0).to_numpy()
        if not meets.any():
            raise InputError(
                f"{kept}={limit:g} is reached by no threshold on these {len(predictions):,} rows. Allowed: up to "
                f"{curve[kept].max():.4g}."
            )
        goal, before = f"{kept} >= {limit:g}", label_rates(predictions, positive)[sought]
        score = curve[sought].to_numpy()
        utility = np.where(meets, score, -np.inf)
    elif costs is not None:
        goal, before = "costs", mean_cost(predictions, costs)
        score = curve["cost"].to_numpy()
        utility = -score
    else:
        assert metric is not None
        if metric.needs != "labels":
            raise _no_labels(metric)
        goal, before = metric.name, predictions.score(metric)
        curve, score = _metric_curve(predictions, positive, metric, curve)
        utility = np.array([-metric.score(value) for value in score])  # a score becomes its loss
    best = np.flatnonzero(utility >= utility.max() - 1e-12)
    place = int(best[len(best) // 2])
    found = with_threshold(predictions.ensemble, float(curve["threshold"].iloc[place]), positive)
    shown = np.unique(np.append(evenly_spaced(len(curve), MAX_CURVE), place))
    curve = curve.drop(columns="cost", errors="ignore").assign(score=score).iloc[shown].reset_index(drop=True)
    return found, _tuned(goal, threshold_of(found, positive), [float(score[place]), before], predictions, curve)


def label_rates(predictions: Predictions, positive: int) -> dict[str, float]:
    """Return precision, recall and F1 of the predicted labels."""
    chosen, true = predictions.labels == positive, predictions.target == positive
    weight = predictions.weights
    hits = float(weight[chosen & true].sum())
    precision = hits / max(float(weight[chosen].sum()), SMALLEST)
    recall = hits / max(float(weight[true].sum()), SMALLEST)
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(precision + recall, SMALLEST)}


def _metric_curve(
    predictions: Predictions, positive: int, metric: Metric, curve: pd.DataFrame
) -> tuple[pd.DataFrame, Floats]:
    """Compute a metric at some of the thresholds, at all if they are few or it is one of the curve's columns."""
    if metric.name in curve and not metric.own:
        return curve, curve[metric.name].to_numpy()
    curve = curve.iloc[evenly_spaced(len(curve), MAX_EVALUATED)].reset_index(drop=True)
    scores = [
        replace(predictions, ensemble=with_threshold(predictions.ensemble, float(one), positive)).score(metric)
        for one in curve["threshold"]
    ]
    return curve, np.array(scores)


def _tuned(
    goal: str, threshold: float | None, scores: list[float], predictions: Predictions, curve: pd.DataFrame | None = None
) -> DecisionTuning:
    return DecisionTuning(goal, threshold, scores[0], scores[1], len(predictions), not predictions.is_test, curve)


def _no_labels(metric: Metric) -> InputError:
    return InputError(
        f"metric={metric.name!r} does not look at labels, so no threshold changes it. Allowed: metrics of labels, as "
        "in f1, balanced_accuracy, matthews_corrcoef."
    )

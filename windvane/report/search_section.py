"""The sections on the search: policy, score over time, leaderboard, ensemble, folds, failures, configurations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from windvane.evaluation.baseline import ConstantBaseline
from windvane.evaluation.decisions.thresholds import label_thresholds_of, threshold_of, threshold_texts
from windvane.evaluation.metrics import Metric
from windvane.evaluation.score_text import metric_name
from windvane.pages.html_builder import (
    Html,
    Section,
    bars,
    details,
    figure,
    number,
    paragraph,
    side_by_side,
    table,
    tag,
)
from windvane.pages.svg_charts import Axis, Series, plot
from windvane.pages.texts import counted
from windvane.report.report_data import ReportData
from windvane.runtime.columns.table import Floats
from windvane.runtime.ensemble import Ensemble
from windvane.search.run.history import leaderboard, performance_over_time
from windvane.search.trial import Trial
from windvane.settings import format_duration

SHOWN_TRIALS, MAX_TRIALS = 12, 300  # of the leaderboard, at once and on a click
MAX_FAILURES, MAX_ERROR_LENGTH = 15, 300
MAX_CONFIGS, MAX_STRIPS = 5, 10

_ENDS = {
    "failed": "the library raised an error",
    "timeout": "stopped at its time limit",
    "out_of_memory": "stopped at the memory limit",
    "crashed": "the worker process died",
    "stopped": "stopped at the end of the search",
    "done": "done",
}


def search_section(data: ReportData) -> Section:
    """Policy, score over time, spread over folds, leaderboard."""
    metric, trials, policy = data.metric, data.trials, data.policy
    content = []
    if policy is not None:
        rule = "a hold-out set" if policy.n_folds == 1 else f"{policy.n_folds} folds"
        rule += ", with successive halving" if policy.halving else ""
        content.append(paragraph(f"Validated by {rule} ({policy.name}), because: {policy.reason}."))
    seconds = max((trial.ended for trial in trials), default=0.0)
    n_usable = sum(trial.usable for trial in trials)
    sources = Counter(trial.source for trial in trials)
    came = ", ".join(f"{count:,} from the {source}" for source, count in sources.most_common())
    content.append(
        paragraph(
            f"{counted(len(trials), 'trial')} in {format_duration(seconds)} ({came}); {n_usable:,} with a usable model."
        )
    )
    pictures = [score_over_time(data.curve, metric, data.metric_title)] if len(data.curve) > 1 else []
    strips = _fold_spread(trials, data.ensemble, metric)
    if strips is not None:
        pictures.append(strips)
    if pictures:
        content.append(side_by_side(*pictures))
    content += leaderboard_tables(trials, data.ensemble, metric, data.constant)
    return Section("Search", content)


def ensemble_section(data: ReportData) -> Section:
    """Weights by member and family, and the members' configurations."""
    ensemble, by_number = data.ensemble, {trial.number: trial for trial in data.trials}
    n_models = sum(map(len, data.predictor.models))
    words = f"{counted(len(ensemble.members), 'member')}, {n_models} models in all"
    how = " by the square roots of their probabilities" if ensemble.averages_roots else ""
    if any(member.temperature != 1.0 for member in ensemble.members):
        how += ", sharpens or flattens them as validation rows want it"
    content = [
        paragraph(
            f"{words}: each member averages the models of its folds{how}, and the ensemble is their weighted average."
        )
    ]
    content += _decision(data)
    members = [(f"{m.family} #{m.number}", m.weight, f"{m.weight:.0%}") for m in ensemble.members]
    families: dict[str, float] = {}
    for member in ensemble.members:
        families[member.family] = families.get(member.family, 0.0) + member.weight
    ranked = sorted(families.items(), key=lambda pair: -pair[1])
    shares = [(family, weight, f"{weight:.0%}") for family, weight in ranked]
    pictures = [figure("Weight of each member", bars(members, label="Weight of each member"))]
    if len(families) < len(members):
        pictures.append(figure("By family", bars(shares, label="Weight of each family")))
    content.append(side_by_side(*pictures))
    for member in [m for m in ensemble.members if m.number in by_number][:MAX_CONFIGS]:
        trial = by_number[member.number]
        rows = [[name, number(v) if isinstance(v, float) else str(v)] for name, v in trial.config.items()]
        if trial.best_iterations:
            rows.append(["best iteration of each fold", ", ".join(map(str, trial.best_iterations))])
        title = f"Configuration of {member.family} #{member.number}"
        content.append(details(title, table(["hyperparameter", "value"], rows, label=title)))
    return Section("Ensemble", content)


def _decision(data: ReportData) -> list[Html]:
    """How probabilities are calibrated, and how the predicted class follows from them."""
    ensemble, positive, targets = data.ensemble, data.metric.positive, data.predictor.targets
    content = []
    if ensemble.calibration is not None:
        content.append(paragraph("Probabilities are calibrated by a monotone curve that validation rows chose."))
    elif ensemble.temperature != 1.0:
        content.append(paragraph(f"Probabilities are rescaled with the temperature {ensemble.temperature:.3f}."))
    if ensemble.label_thresholds is not None and targets is not None:
        each = threshold_texts(label_thresholds_of(ensemble, targets.titles))
        chosen = "" if data.tuning is None else f" ({data.tuning.reason})"
        content.append(paragraph(f"A label is predicted above its own probability{chosen}: {each}."))
    elif ensemble.costs is not None:
        cells = [[name, *row] for name, row in zip(data.labels, ensemble.costs, strict=True)]
        costs = table(["true class, predicted as", *data.labels], cells, label="Costs of errors")
        content.append(paragraph("The predicted class is the one with the least expected cost:"))
        content.append(details("Costs of errors", costs))
    elif ensemble.decision_weights is not None and positive is not None:
        threshold = number(threshold_of(ensemble, positive))
        chosen = "" if data.tuning is None else f", {data.tuning.reason}"
        content.append(paragraph(f"“{data.labels[positive]}” is predicted above the probability {threshold}{chosen}."))
    elif ensemble.decision_weights is not None:
        factors = ", ".join(f"{a} x {f:.2f}" for a, f in zip(data.labels[:12], ensemble.decision_weights, strict=False))
        content.append(
            paragraph(f"The predicted class has the largest product of probability and decision weight: {factors}.")
        )
    return content


def failure_section(trials: Sequence[Trial]) -> Section | None:
    """What failed and why; None if every trial ended well."""
    ended = [t for t in trials if t.status not in ("done", "stopped") or not t.usable]
    if not ended:
        return None
    causes = Counter(
        (
            t.family,
            _ENDS[t.status],
            (t.error or "no message")[:MAX_ERROR_LENGTH],
            "; its last checkpoint is used" * t.usable,
        )
        for t in ended
    )
    items = [
        tag("li", tag("b", family), f": {counted(count, 'trial')}, {how}{used}.", tag("pre", tag("code", why)))
        for (family, how, why, used), count in causes.most_common(MAX_FAILURES)
    ]
    words = f"{len(ended):,} of {len(trials):,} trials failed or ended early."
    return Section("Failed trials", [paragraph(words), tag("ul", *items, attributes={"class": "failures"})])


def describe_direction(metric: Metric) -> str:
    return "higher is better" if metric.greater_is_better else "lower is better"


def score_over_time(curve: Sequence[tuple[float, float, float]], metric: Metric, metric_title: str) -> Html:
    """The validation score of the best model and of the ensemble, whose losses may all be NaN before there is one."""
    frame = performance_over_time(curve, metric)
    seconds = frame["seconds"].to_numpy()
    end = 1.04 * float(seconds[-1])  # room for the last value
    series = [Series(*_steps(seconds, frame["best_single"].to_numpy(), end), color=4, name="best single model")]
    if frame["ensemble"].notna().any():
        series.append(Series(*_steps(seconds, frame["ensemble"].to_numpy(), end), color=0, name="ensemble"))
    # The first models may be far worse than all others and would flatten the curve.
    scores = frame[["best_single", "ensemble"]].to_numpy()
    shown = Axis.around(f"validation {metric_title}", _without_worst(scores, metric))
    inside = [Series(s.x, np.clip(s.y, shown.low, shown.high), s.kind, s.color, s.name) for s in series]
    words = f"Validation score over {counted(round(seconds[-1]), 'second')}"
    caption = f"These scores select the model ({describe_direction(metric)})."
    return figure("Score over time", plot(inside, Axis("seconds", 0.0, end), shown, words), caption, series)


def _steps(x: Floats, y: Floats, end: float) -> tuple[Floats, Floats]:
    """Points of a step function: a value holds until the next one, the last until `end`."""
    return np.append(np.repeat(x, 2)[1:], end), np.repeat(y, 2)


def _without_worst(scores: Floats, metric: Metric) -> Floats:
    """The finite scores without the worst tenth."""
    sign = 1.0 if metric.greater_is_better else -1.0
    ranked = np.sort(sign * scores[np.isfinite(scores)])
    return np.asarray(sign * ranked[len(ranked) // 10 :])


def _fold_spread(trials: Sequence[Trial], ensemble: Ensemble, metric: Metric) -> Html | None:
    """A line of rings for each member and the best other trials: their score on each fold."""
    members = {member.number for member in ensemble.members}
    ranked = sorted((t for t in trials if t.usable and len(t.fold_losses) > 1), key=lambda t: (t.loss, t.number))
    chosen = sorted(
        [t for t in ranked if t.number in members][:MAX_STRIPS]
        + [t for t in ranked if t.number not in members][: max(0, MAX_STRIPS // 2 - len(members))],
        key=lambda t: (t.loss, t.number),
    )
    if not chosen:
        return None
    n = len(chosen)
    series, values = list[Series](), list[float]()
    for i, trial in enumerate(chosen):
        scores = np.array([metric.score(loss) for loss in trial.fold_losses])
        color = 0 if trial.number in members else 4
        series.append(Series(scores, np.full(len(scores), float(n - 1 - i)), "points", color))
        series.append(Series(np.array([metric.score(trial.loss)]), np.array([float(n - 1 - i)]), "ring", 1))
        values += [*scores[np.isfinite(scores)], metric.score(trial.loss)]
    ticks = [(float(n - 1 - i), f"{trial.family} #{trial.number}") for i, trial in enumerate(chosen)]
    y = Axis("", -0.6, n - 0.4, ticks)
    picture = plot(series, Axis.around(metric.name, values), y, "Score of each fold", height=max(120.0, 60.0 + 22 * n))
    legend = [Series.key("folds of a member", 0), Series.key("of another trial", 4), Series.key("all rows", 1)]
    return figure("Spread over folds", picture, "Trials whose points overlap differ by chance.", legend)


def leaderboard_tables(
    trials: Sequence[Trial],
    ensemble: Ensemble | None,
    metric: Metric,
    constant: ConstantBaseline | None,
    n_shown: int = SHOWN_TRIALS,
) -> list[Html]:
    """The leaderboard: the best `n_shown` trials and the baselines, and the others on a click."""
    board = leaderboard(trials, ensemble, constant)
    rows: list[list[object]] = [
        [
            rank,
            row["family"] if pd.isna(row["trial"]) else f"{row['family']} #{row['trial']}",
            metric.score(row["validation_loss"]),
            f"{row['ensemble_weight']:.0%}" if row["ensemble_weight"] else "",
            f"{row['fit_seconds']:.1f}",
            row["status"],
            "baseline" if row["baseline"] else row["source"],
        ]
        for rank, row in enumerate(board.to_dict("records"), start=1)
    ]
    header = ["rank", "trial", f"validation {metric_name(metric)}", "weight", "seconds", "status", "source"]
    # The baselines are shown wherever they rank.
    first = [row for i, row in enumerate(rows) if i < n_shown or row[-1] == "baseline"]
    others = [row for i, row in enumerate(rows) if i >= n_shown and row[-1] != "baseline"]
    shown = [table(header, first, label="Best trials and baselines")]
    if others:
        rest = table(header, others[:MAX_TRIALS], label="Other trials")
        shown.append(details(f"The other {counted(len(others), 'trial')}", rest))
    return shown

"""The sections on the search: policy, score over time, leaderboard, ensemble, folds, failures, configurations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from windvane.data.metrics import Metric
from windvane.draw import Axis, Series, plot
from windvane.page import Html, Section, bars, details, figure, number, paragraph, side_by_side, table, tag
from windvane.progress import span
from windvane.report.evidence import Evidence
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.table import Floats
from windvane.search.history import leaderboard, performance_over_time
from windvane.search.trial import Trial

SHOWN_TRIALS, MOST_TRIALS = 12, 300  # of the leaderboard, at once and on a click
MOST_FAILURES, MOST_LETTERS = 15, 300
MOST_CONFIGS, MOST_STRIPS = 5, 10

_ENDS = {
    "failed": "the library raised an error",
    "timeout": "ended at its time limit",
    "out_of_memory": "ended at the memory limit",
    "crashed": "the worker process died",
    "stopped": "stopped by the clock",
    "done": "done",
}


def search_section(evidence: Evidence) -> Section:
    """Tell how the search went.

    Parameters
    ----------
    evidence
        Of the run, with trials.

    Returns
    -------
    Section
        Policy, score over time, leaderboard, folds.
    """
    run = evidence.run
    metric, trials = run.predictor.metric, run.trials
    content = []
    if run.policy is not None:
        rule = _folds(run.policy.n_folds) + (", with successive halving" if run.policy.halving else "")
        content.append(paragraph(f"Validated by {rule} ({run.policy.name}), because: {run.policy.reason}."))
    seconds = max((trial.ended for trial in trials), default=0.0)
    n_usable = sum(trial.usable for trial in trials)
    sources = Counter(trial.source for trial in trials)
    came = ", ".join(f"{count:,} from the {source}" for source, count in sources.most_common())
    content.append(paragraph(f"{len(trials):,} trials in {span(seconds)} ({came}); {n_usable:,} gave a usable model."))
    pictures = [_over_time(evidence)] if len(run.curve) > 1 else []
    strips = _fold_spread(trials, run.predictor.ensemble, metric)
    if strips is not None:
        pictures.append(strips)
    if pictures:
        content.append(side_by_side(*pictures))
    content += _board(trials, run.predictor.ensemble, metric)
    return Section("Search", content)


def ensemble_section(evidence: Evidence) -> Section:
    """Show what predicts in the end.

    Parameters
    ----------
    evidence
        Of the run.

    Returns
    -------
    Section
        Weights by member and family, and the members' configurations where the trials are there.
    """
    predictor, by_number = evidence.run.predictor, {trial.number: trial for trial in evidence.run.trials}
    ensemble = predictor.ensemble
    n_models = sum(map(len, predictor.models))
    words = f"{len(ensemble.members)} member{'s' * (len(ensemble.members) != 1)}, {n_models} models in all"
    content = [paragraph(f"{words}: each member averages the models of its folds, and the members are blended.")]
    if ensemble.temperature != 1.0:
        content.append(paragraph(f"Probabilities are rescaled with the temperature {ensemble.temperature:.3f}."))
    if ensemble.decision is not None:
        factors = ", ".join(f"{a} x {f:.2f}" for a, f in zip(evidence.labels[:12], ensemble.decision, strict=False))
        content.append(paragraph(f"Before the largest probability decides, the classes are weighed: {factors}."))
    members = [(f"{m.family} #{m.number}", m.weight, f"{m.weight:.0%}") for m in ensemble.members]
    families: Counter[str] = Counter()
    for member in ensemble.members:
        families[member.family] += member.weight  # type: ignore[assignment]
    shares = [(family, weight, f"{weight:.0%}") for family, weight in families.most_common()]
    pictures = [figure("Weight of each member", bars(members, label="Weight of each member"))]
    if len(families) < len(members):
        pictures.append(figure("By family", bars(shares, label="Weight of each family")))
    content.append(side_by_side(*pictures))
    for member in [m for m in ensemble.members if m.number in by_number][:MOST_CONFIGS]:
        trial = by_number[member.number]
        rows = [[name, _setting(value)] for name, value in trial.config.items()]
        if trial.best_iterations:
            rows.append(["best iteration of each fold", ", ".join(map(str, trial.best_iterations))])
        title = f"Configuration of {member.family} #{member.number}"
        content.append(details(title, table(["hyperparameter", "value"], rows, label=title)))
    return Section("Ensemble", content)


def failure_section(trials: Sequence[Trial]) -> Section | None:
    """Say what failed, and why.

    Parameters
    ----------
    trials
        Of the run.

    Returns
    -------
    Section or None
        None where every trial ended well.
    """
    ended = [t for t in trials if t.status not in ("done", "stopped") or not t.usable]
    if not ended:
        return None
    counted = Counter(
        (t.family, _ENDS[t.status], (t.error or "no message")[:MOST_LETTERS], "; its last step is used" * t.usable)
        for t in ended
    )
    items = [
        tag(
            "li", tag("b", family), f": {count:,} trial{'s' * (count != 1)}, {how}{used}.", tag("pre", tag("code", why))
        )
        for (family, how, why, used), count in counted.most_common(MOST_FAILURES)
    ]
    words = f"{len(ended):,} of {len(trials):,} trials did not end well. The search goes on without them."
    return Section("Failed trials", [paragraph(words), tag("ul", *items, attributes={"class": "failures"})])


def _folds(n_folds: int) -> str:
    return "a hold-out part" if n_folds == 1 else f"{n_folds} folds"


def _setting(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


def direction(metric: Metric) -> str:
    """Say which way is better."""
    return "higher is better" if metric.greater_is_better else "lower is better"


def _over_time(evidence: Evidence) -> Html:
    run = evidence.run
    frame = performance_over_time(run.curve, run.predictor.metric)
    seconds = frame["seconds"].to_numpy()
    series = [
        Series(*_stairs(seconds, frame["best_single"].to_numpy()), colour=4, name="best single model"),
        Series(*_stairs(seconds, frame["ensemble"].to_numpy()), colour=0, name="ensemble"),
    ]
    # The first models may be far worse than all others: the axis shows where it gets interesting.
    scores = frame[["best_single", "ensemble"]].to_numpy()
    shown = Axis.around(f"validation {run.predictor.metric.name}", _without_worst(scores, run.predictor.metric))
    inside = [Series(s.x, np.clip(s.y, shown.low, shown.high), s.kind, s.colour, s.name) for s in series]
    words = f"Validation score over {seconds[-1]:.0f} seconds"
    caption = f"These scores choose the model ({direction(run.predictor.metric)})."
    return figure(
        "Score over time", plot(inside, Axis("seconds", 0.0, float(seconds[-1])), shown, words), caption, series
    )


def _stairs(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Let a value hold until the next one."""
    return np.asarray(np.repeat(x, 2)[1:]), np.asarray(np.repeat(y, 2)[:-1])


def _without_worst(scores: Floats, metric: Metric) -> Floats:
    """Leave out the worst tenth."""
    sign = 1.0 if metric.greater_is_better else -1.0
    ranked = np.sort(sign * scores[np.isfinite(scores)])
    return np.asarray(sign * ranked[len(ranked) // 10 :])


def _fold_spread(trials: Sequence[Trial], ensemble: Ensemble, metric: Metric) -> Html | None:
    """Draw a line of rings for each member and the best other trials: their score on each fold."""
    members = {member.number for member in ensemble.members}
    ranked = sorted((t for t in trials if t.usable and len(t.fold_losses) > 1), key=lambda t: (t.loss, t.number))
    chosen = sorted(
        [t for t in ranked if t.number in members][:MOST_STRIPS]
        + [t for t in ranked if t.number not in members][: max(0, MOST_STRIPS // 2 - len(members))],
        key=lambda t: (t.loss, t.number),
    )
    if not chosen:
        return None
    n = len(chosen)
    series, values = list[Series](), list[float]()
    for i, trial in enumerate(chosen):
        scores = np.array([metric.score(loss) for loss in trial.fold_losses])
        colour = 0 if trial.number in members else 4
        series.append(Series(scores, np.full(len(scores), float(n - 1 - i)), "points", colour))
        series.append(Series(np.array([metric.score(trial.loss)]), np.array([float(n - 1 - i)]), "ring", 1))
        values += [*scores[np.isfinite(scores)], metric.score(trial.loss)]
    ticks = [(float(n - 1 - i), f"{trial.family} #{trial.number}") for i, trial in enumerate(chosen)]
    y = Axis("", -0.6, n - 0.4, ticks)
    picture = plot(series, Axis.around(metric.name, values), y, "Score of each fold", height=max(120.0, 60.0 + 22 * n))
    legend = [
        Series(np.empty(0), np.empty(0), colour=0, name="folds of a member"),
        Series(np.empty(0), np.empty(0), colour=4, name="of another trial"),
        Series(np.empty(0), np.empty(0), colour=1, name="all rows"),
    ]
    return figure("Spread over folds", picture, "Trials whose points overlap differ by chance.", legend)


def _board(trials: Sequence[Trial], ensemble: Ensemble, metric: Metric) -> list[Html]:
    board = leaderboard(trials, ensemble)
    rows: list[list[object]] = [
        [
            rank,
            f"{row['family']} #{row['trial']}",
            metric.score(row["validation_loss"]),
            f"{row['ensemble_weight']:.0%}" if row["ensemble_weight"] else "",
            f"{row['fit_seconds']:.1f}",
            row["status"],
            row["source"],
        ]
        for rank, row in enumerate(board.to_dict("records"), start=1)
    ]
    header = ["rank", "trial", f"validation {metric.name}", "weight", "seconds", "status", "source"]
    shown = [table(header, rows[:SHOWN_TRIALS], label="Best trials")]
    if len(rows) > SHOWN_TRIALS:
        rest = table(header, rows[SHOWN_TRIALS:MOST_TRIALS], label="Other trials")
        shown.append(details(f"The other {len(rows) - SHOWN_TRIALS:,} trials", rest))
    return shown

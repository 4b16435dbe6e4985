"""Every finding of the papers, what was measured here, and the verdict by the rule beside it.

A finding has a place in its paper, a statement, what is compared here, and a function that computes the effect from a
table of results; `benchmarks.verdicts` has the rules. Findings without a function were not measured.

    python -m benchmarks.findings table            # the tables of docs/findings/papers.md
    python -m benchmarks.findings repeat NAME      # measures one again, into another folder, and prints both verdicts

`repeat` leaves the committed results as they are: it writes to `--results`, and resumes from what is there. Trainings
that lie in `build/` from an earlier run are not trained again.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from scipy.stats import spearmanr

from benchmarks.command_line import make_parser
from benchmarks.data import ROOT
from benchmarks.engine import ablation
from benchmarks.fisher import replication
from benchmarks.fisher.runs import lower
from benchmarks.fisher.tables import agreement
from benchmarks.inspect import inside_findings, inside_networks
from benchmarks.markdown import line_below
from benchmarks.metalearning import selector
from benchmarks.result_table import FOLDER, Row
from benchmarks.verdicts import TIMES, Effect, Rule, Verdict, from_error, over_seeds, over_tables, verdict
from benchmarks.vision import checkpoint_regret, miniature, transfer_or_scratch

PAPERS = {
    "askl2": "Auto-Sklearn 2.0 (Feurer et al., arXiv 2007.04074)",
    "augreg": "How to train your ViT (Steiner et al., arXiv 2106.10270)",
    "fisher": "Catastrophic Fisher Explosion (Jastrzebski et al., arXiv 2012.14193)",
    "raghu": "Do Vision Transformers See Like Convolutional Neural Networks? (Raghu et al., arXiv 2108.08810)",
}


@dataclass(frozen=True)
class Measured:
    """The effect of a finding, and what it rests on."""

    effect: Effect
    of: str  # what n counts
    minutes: float  # of one core, for the runs that it uses; NaN where they were not recorded
    one_seed: bool = False
    ours: str = ""  # what is compared here, where the results say it


@dataclass(frozen=True)
class Finding:
    """A finding of a paper; `measure` is None where no script measures it, and returns None without runs."""

    name: str
    place: str  # section, table or figure
    statement: str
    ours: str = ""  # what is compared here
    rule: Rule | None = None
    measure: Callable[[], Measured | None] | None = None
    commands: tuple[str, ...] = ()  # that measure it, without `python -m benchmarks.`
    paper: str = ""  # a key of `PAPERS`


LOSS = Rule(TIMES, math.log(1.02))  # of a ratio of losses
POINTS = Rule("points", 1.0)  # of accuracy in %; about two standard errors on 10,000 images
TRACE = Rule(TIMES, math.log(1.5))  # of a ratio of Fisher traces
RANKS = Rule("rank correlation", 0.3)


# --- Auto-Sklearn 2.0


def ablated(*worse: str, better: Sequence[str] = (ablation.WHOLE,)) -> Measured:
    """Compare the test losses of variants of the search: positive where those of `worse` are larger."""
    rows = ablation.RESULTS.frame()
    losses = rows[rows["budget"] == ablation.BUDGET].pivot(index="table", columns="variant", values="loss")
    # A loss of zero has no logarithm.
    logs = losses[[*worse, *better]].astype(float).clip(lower=1e-4).map(math.log)
    less = logs[list(worse)].mean(axis=1) - logs[list(better)].mean(axis=1)
    minutes = logs.size * ablation.BUDGET / 60
    return Measured(over_tables(less.tolist()), "tables", minutes, one_seed=True)


def selected(policy: str, other: str) -> Measured:
    """Compare a choice of the policy with another one, in points of the normalized loss."""
    row = selector.RESULTS.find("balanced_accuracy", policy)
    assert row is not None
    error = row["standard_error" + "_random" * (other == "random")]
    return Measured(from_error(-row[f"less_{other}"], error, row["tasks"]), "tasks", SELECTOR_MINUTES)


SELECTOR_MINUTES = 10.0  # by the header of the script; not in the results
ABLATION = ("engine.ablation run",)
OF_ASKL2 = (
    Finding(
        "partial_results",
        "table 10",
        "Keeping the intermediate results of runs that are cut off lowers the loss (18.10 to 5.29 at 10 minutes)",
        "a search without checkpoints of killed trials, 60 s",
        LOSS,
        partial(ablated, "no partial results"),
        ABLATION,
    ),
    Finding("restricted_space", "table 10", "A space of iterative models alone raises the loss (16.21 to 18.10)"),
    Finding(
        "portfolio",
        "tables 2 and 10",
        "A portfolio lowers the loss (5.29 to 3.70)",
        "a search without it, 60 s",
        LOSS,
        partial(ablated, "no portfolio"),
        ABLATION,
    ),
    Finding("nearest_datasets", "table 2", "A portfolio is better than the best of the nearest data sets"),
    Finding(
        "ensemble",
        "table 12",
        "An ensemble after the search lowers the loss (5.01 to 3.58)",
        "the best single model of the search, 60 s",
        LOSS,
        partial(ablated, "no ensemble"),
        ABLATION,
    ),
    Finding(
        "holdout",
        "table 2",
        "In 10 minutes a hold-out is better than cross-validation (3.70, and 7.93 with 5 folds)",
        "5 folds against a hold-out, 60 s",
        LOSS,
        partial(ablated, "cv5", better=("holdout",)),
        ABLATION,
    ),
    Finding(
        "many_folds",
        "table 2",
        "Ten folds are worse than three (12.42 and 6.90)",
        "10 against 3 folds, 60 s",
        LOSS,
        partial(ablated, "cv10", better=("cv3",)),
        ABLATION,
    ),
    Finding(
        "halving",
        "figure 3",
        "Successive halving is better than full budgets (6.55 to 6.38 with a hold-out, without ensembles)",
        "mean over four ways to validate, 60 s",
        LOSS,
        partial(ablated, *ablation.POLICIES, better=tuple(f"{name}-halving" for name in ablation.POLICIES)),
        ABLATION,
    ),
    Finding(
        "selector",
        "table 8",
        "A learned choice of the policy is not better than one fixed policy (3.58 and 3.69)",
        "the selector against the best fixed policy, on the published losses",
        Rule(
            "points of normalized loss", 0.7, none=True
        ),  # the least that a part gains in the paper: ensembles, 60 min
        partial(selected, selector.SELECTED, "single_best"),
        ("metalearning.selector run",),
    ),
    Finding(
        "selector_random",
        "tables 6 and 7",
        "A learned choice is better than a random one",
        "the selector against the mean of all policies, on the published losses",
        Rule("points of normalized loss", 0.7),
        partial(selected, selector.SELECTED, "random"),
        ("metalearning.selector run",),
    ),
    Finding("sixfold", "table 3", "10 minutes are better than 60 of Auto-sklearn 1.0 (3.58 and 7.17)"),
    Finding("amlb", "table 9", "First in mean rank among six systems on 39 data sets"),
)


# --- How to train your ViT


def accuracies(schedule: str, n_images: int, level: str, regularization: float = 0.0) -> pd.DataFrame:
    """Return the runs of the miniature, by seed."""
    rows = miniature.RESULTS.frame()
    steps = next(one for one in miniature.plan_cpu() if one.schedule == schedule).steps
    chosen = (rows["schedule"] == schedule) & (rows["n_images"] == n_images) & (rows["steps"] == steps)
    chosen &= (rows["level"] == level) & (rows["regularisation"] == regularization)
    return rows[chosen].set_index("seed")


def gained(better: pd.DataFrame, worse: pd.DataFrame) -> Measured:
    """Compare accuracies in points, seed by seed."""
    difference = 100 * (better["test_accuracy"] - worse["test_accuracy"]).dropna()
    minutes = (better["seconds"].sum() + worse["seconds"].sum()) / 60
    return Measured(over_seeds(difference.tolist()), "seeds", minutes, one_seed=len(difference) == 1)


def regularized() -> Measured:
    """Compare without and with dropout and stochastic depth, mean over the levels."""
    pairs = [
        [accuracies("long", miniature.CPU_IMAGES, level, share) for share in (0.0, 0.1)] for level in miniature.LEVELS
    ]
    losses = [100 * (without["test_accuracy"] - having["test_accuracy"]) for without, having in pairs]
    minutes = sum(part["seconds"].sum() for pair in pairs for part in pair) / 60
    return Measured(over_seeds(pd.concat(losses, axis=1).mean(axis=1).tolist()), "seeds", minutes)


def transferred(name: str) -> Measured:
    """Compare fine-tuning and training from scratch in the same time."""
    rows = transfer_or_scratch.RESULTS.frame().set_index("seed")
    rows = rows[rows["set"] == name]
    found = {way: rows[rows["way"] == way] for way in ("transfer", "small")}
    gain = 100 * (found["transfer"]["test"] - found["small"]["test"]).dropna()
    minutes = 2 * sum(part["seconds"].sum() for part in found.values()) / 60  # two cores
    return Measured(over_seeds(gain.tolist()), "seeds", minutes, one_seed=len(gain) == 1)


def regret() -> Measured:
    """Compare the checkpoint with the best validation score after adapting all with the one best upstream."""
    rows = checkpoint_regret.RESULTS.frame()
    lost = []
    for network in checkpoint_regret.NETWORKS:
        mine: Any = rows[rows["network"] == network].set_index("level")
        chosen = mine.loc[mine["set"] == checkpoint_regret.UPSTREAM, "upstream"].idxmax()
        for name in checkpoint_regret.SETS:
            adapted = mine[mine["set"] == name]
            lost.append(100 * float(adapted["test"][adapted["valid"].idxmax()] - adapted["test"][chosen]))
    return Measured(over_seeds(lost), "pairs of network and set", rows["seconds"].sum() / 60, one_seed=True)


def tokenized() -> Measured:
    """Compare a convolutional tokenizer with plain patches, upstream, level by level."""
    rows = checkpoint_regret.RESULTS.frame()
    rows = rows[rows["set"] == checkpoint_regret.UPSTREAM]
    scores = rows.pivot(index="level", columns="network", values="test")
    gain = 100 * (scores["tokenizer"] - scores["plain"])
    return Measured(over_seeds(gain.tolist()), "levels", rows["seconds"].sum() / 60, one_seed=True)


IMAGES = miniature.CPU_IMAGES
MINIATURE = ("vision.miniature run --plan cpu",)
REGRET = ("vision.checkpoint_regret pretrain", "vision.checkpoint_regret adapt")
OF_AUGREG = (
    Finding(
        "ten_times_data",
        "section 4.1",
        "Augmentation and regularization are worth about ten times the images",
        "`light2` on 5,000 images against `none` on 10,000, 30 epochs",
        POINTS,
        lambda: gained(accuracies("long", IMAGES, "light2"), accuracies("long", 2 * IMAGES, "none")),
        MINIATURE,
    ),
    *(
        Finding(
            f"transfer_{name}",
            "section 4.2, figure 2",
            "Fine-tuning is better than training from scratch on small data sets",
            f"{name}, five minutes on two cores each",
            POINTS,
            partial(transferred, name),
            (f"vision.transfer_or_scratch run --sets {name} --ways transfer small",),
        )
        for name in transfer_or_scratch.DONE_SETS
    ),
    Finding("transfer_augmentation", "section 4.2", "Augmentation does not help while fine-tuning"),
    Finding("generic", "section 4.3, table 5", "More upstream data make a checkpoint more generic (VTAB)"),
    Finding(
        "long_schedule",
        "section 4.4, figure 4",
        "On few images and a long schedule light augmentation helps (`none` to `light1` +1 to +7)",
        "`light1` against `none`, 5,000 images, 300 epochs",
        POINTS,
        lambda: gained(accuracies("longer", IMAGES, "light1"), accuracies("longer", IMAGES, "none")),
        MINIATURE,
    ),
    Finding(
        "short_schedule",
        "section 4.4, figure 4",
        "On a short schedule augmentation hurts small networks (-1 to -4 at 30 epochs of ImageNet-21k)",
        "`none` against `light2`, 5,000 images, 30 epochs",
        POINTS,
        lambda: gained(accuracies("long", IMAGES, "none"), accuracies("long", IMAGES, "light2")),
        MINIATURE,
    ),
    Finding(
        "regularization",
        "section 4.4, figure 4",
        "Dropout and stochastic depth hurt small networks (-2 to -4)",
        "without against with 0.1, mean over seven levels, 30 epochs",
        POINTS,
        regularized,
        MINIATURE,
    ),
    Finding(
        "upstream_choice",
        "section 4.5, figure 5",
        "The checkpoint with the best upstream score is as good as the best after adapting all (36 of 45 within 0.7)",
        "what the upstream choice loses, two networks, three sets, four checkpoints each",
        Rule("points", 0.7, none=True),
        regret,
        REGRET,
    ),
    Finding("patch_size", "section 4.6, table 3", "Larger patches before narrower networks, at equal speed"),
    Finding(
        "hybrid",
        "section 4.6, table 3",
        "A convolutional stem is better than plain patches (R26+S/32 and S/16 at half its speed: 81.55 and 80.70)",
        "a convolutional tokenizer against patches of 8, as many steps; it takes longer",
        POINTS,
        tokenized,
        ("vision.checkpoint_regret pretrain",),
    ),
)


# --- Catastrophic Fisher Explosion


def trained(group: str, method: str, by: int, **more: Any) -> dict[int, Row]:
    """Return runs by seed; `by` is how many steps of the grid the learning rate lies below the best one."""
    best = replication.best("rates", "plain")
    assert best is not None
    wanted = {"group": group, "method": method, "rate": lower(best["rate"], by), "mode": "finite_difference", **more}
    return {
        row["run.seed"]: row
        for row in replication.RESULTS.rows()
        if all(row[f"run.{name}"] == value for name, value in wanted.items())
    }


Runs = Callable[[], dict[int, Row]]


def compared(first: Runs, second: Runs, value: str = "test") -> Measured | None:
    """Compare two kinds of runs seed by seed: accuracies in points, traces by their ratio; None without runs."""
    mine, other = first(), second()
    seeds = sorted(set(mine) & set(other))
    if not seeds:
        return None
    a, b = ([float(runs[seed][value]) for seed in seeds] for runs in (mine, other))
    ratio = value.endswith("_trace")
    values = [math.log(x / y) if ratio else 100 * (x - y) for x, y in zip(a, b, strict=True)]
    minutes = sum(row["seconds"] for runs in (mine, other) for row in runs.values()) / 60
    return Measured(over_seeds(values), "seeds", minutes, one_seed=len(seeds) == 1)


def chosen(group: str, method: str) -> dict[int, Row]:
    """Return the runs of a group by seed, at the rate and alpha that its first seed chose."""
    top = replication.best(group, method)
    rows = [] if top is None else replication.RESULTS.rows()
    wanted = {} if top is None else {name: top[name] for name in ("group", "method", "rate", "alpha")}
    return {row["run.seed"]: row for row in rows if all(row[f"run.{name}"] == value for name, value in wanted.items())}


def regained() -> Measured | None:
    """What FP gains with large batches, at most what plain training loses there, in points."""
    small, plain, penalized = BEST(), LARGE(), LARGE_FP()
    seeds = sorted(set(small) & set(plain) & set(penalized))
    if not seeds:
        return None
    values = [100 * (min(small[seed]["test"], penalized[seed]["test"]) - plain[seed]["test"]) for seed in seeds]
    minutes = sum(row["seconds"] for runs in (small, plain, penalized) for row in runs.values()) / 60
    return Measured(over_seeds(values), "seeds", minutes, one_seed=len(seeds) == 1)


def along_training() -> Measured | None:
    """Rank correlation of Tr(F) and Tr(H) over the epochs of a run, six runs."""
    rows = [row for row in replication.RESULTS.rows() if row["run.group"] == "hessian"]
    if not rows:
        return None
    minutes = sum(row["seconds"] for row in rows) / 60
    is_one = len({row["run.seed"] for row in rows}) == 1
    return Measured(over_seeds([agreement(row["history"]) for row in rows]), "runs", minutes, one_seed=is_one)


def correlated(value: Callable[[Row], float]) -> Measured:
    """Rank correlation of the early trace with what a run ends at, over the five settings of a seed."""
    rows = [row for row in replication.RESULTS.rows() if row["run.group"] == "row"]
    rows = [row for row in rows if row["run.mode"] == "finite_difference" and row["hessian"] is not None]
    seeds = sorted({row["run.seed"] for row in rows})
    parts = [[row for row in rows if row["run.seed"] == seed] for seed in seeds]
    found = [spearmanr([r["early_trace"] for r in part], [value(r) for r in part]).statistic for part in parts]
    return Measured(over_seeds(found), "seeds", sum(row["seconds"] for row in rows) / 60)


def by_batch_size() -> Measured:
    """Compare the peak trace of batches of 512 and of 32, learning rate by learning rate, one seed."""
    rows = [row for row in replication.RESULTS.rows() if row["run.group"] == "alarm"]
    peaks = {(row["run.batch"], row["run.rate"]): row["peak_trace"] for row in rows}
    rates = sorted({rate for _, rate in peaks})
    known = [rate for rate in rates if all(math.isfinite(peaks.get((b, rate), math.nan)) for b in (32, 512))]
    values = [math.log(peaks[512, rate] / peaks[32, rate]) for rate in known]
    return Measured(over_seeds(values), "learning rates", sum(row["seconds"] for row in rows) / 60, one_seed=True)


def run_fisher(*groups: str) -> tuple[str, ...]:
    """Return the commands that train groups, with those that choose rates and alphas before."""
    return tuple(f"fisher.replication run {group}" for group in ("rates", "alphas", *groups))


LOW, FP, GP, GP_R = (partial(trained, "row", method, 1) for method in ("plain", "FP", "GP", "GP_r"))
LONG_BEST, TENTH, LONG_FP = (
    partial(trained, "long", method, by) for method, by in (("plain", 0), ("plain", 2), ("FP", 2))
)
NOISY, NOISY_FP, NOISY_MIXUP = (partial(trained, "noise", method, 1, noise=0.25) for method in ("plain", "FP", "Mixup"))
FROM_1, FROM_16 = (partial(trained, "when", "FP", 1, first=epoch, last=None) for epoch in (1, 16))
BEST = partial(trained, "row", "plain", 0)
LARGE, LARGE_FP = (partial(chosen, "large", method) for method in ("plain", "FP"))
AUGMENTED, AUGMENTED_FP = (partial(chosen, "augmented", method) for method in ("plain", "FP"))
EXACT_FP, GP_X, EVERY_STEP = (
    partial(chosen, group, method) for group, method in (("input", "FP"), ("input", "GP_x"), ("interval", "FP"))
)
OF_FISHER = (
    Finding(
        "early_trace",
        "section 3",
        "A lower learning rate has a higher Fisher trace early in training",
        "a tenth of the best learning rate against the best, 160 epochs",
        TRACE,
        partial(compared, TENTH, LONG_BEST, "early_trace"),
        run_fisher("long"),
    ),
    Finding(
        "batch_size",
        "section 3",
        "Larger batches have a higher Fisher trace early in training",
        "the peak with batches of 512 against 32, at four learning rates",
        TRACE,
        by_batch_size,
        run_fisher("alarm"),
    ),
    Finding(
        "trace_and_accuracy",
        "section 3",
        "The lower the early trace, the higher the test accuracy",
        "rank correlation over five settings, sign reversed",
        RANKS,
        partial(correlated, lambda row: -row["test"]),
        run_fisher("row"),
    ),
    Finding(
        "flat_minima",
        "section 5, figure 6",
        "A low early trace ends in flatter minima (lower Tr(H))",
        "rank correlation of the early trace with Tr(H) at the end, five settings",
        RANKS,
        partial(correlated, lambda row: row["hessian"][0]),
        run_fisher("row"),
    ),
    Finding(
        "low_rate",
        "table 1",
        "A tenth of the best learning rate ends less accurate (76.94 and 71.32)",
        "the same, 160 epochs",
        POINTS,
        partial(compared, LONG_BEST, TENTH),
        run_fisher("long"),
    ),
    Finding(
        "penalty",
        "table 1",
        "The Fisher Penalty gains at the low learning rate (71.32 to 79.66)",
        "the same, a tenth of the best, 160 epochs",
        POINTS,
        partial(compared, LONG_FP, TENTH),
        run_fisher("long"),
    ),
    Finding(
        "penalty_short",
        "table 1",
        "The Fisher Penalty gains at a low learning rate",
        "a third of the best learning rate, 40 epochs",
        POINTS,
        partial(compared, FP, LOW),
        run_fisher("row"),
    ),
    Finding(
        "penalty_and_best",
        "table 1",
        "With the penalty the low learning rate is better than the best one without (79.66 and 76.94)",
        "the same, a tenth of the best, 160 epochs",
        POINTS,
        partial(compared, LONG_FP, LONG_BEST),
        run_fisher("long"),
    ),
    Finding(
        "uniform_labels",
        "table 1",
        "The penalty with uniform labels is as good (79.76 and 79.66)",
        "GP_r against FP, a third of the best learning rate, 40 epochs",
        Rule("points", 1.6, none=True),  # the largest difference between them in the table
        partial(compared, GP_R, FP),
        run_fisher("row"),
    ),
    Finding(
        "true_labels",
        "table 1",
        "The penalty with the true labels gains less (75.73 and 79.66)",
        "FP against GP, a third of the best learning rate, 40 epochs",
        POINTS,
        partial(compared, FP, GP),
        run_fisher("row"),
    ),
    Finding(
        "input_gradient",
        "table 1",
        "A penalty on the gradient by the input gains less (75.68)",
        "FP against GP_x, a third of the best learning rate, 5,000 images",
        POINTS,
        partial(compared, EXACT_FP, GP_X),
        run_fisher("input"),
    ),
    Finding(
        "recipe",
        "table 2",
        "The penalty gains at the best learning rate with augmentation (87.16 to 87.52)",
        "the same, 5,000 images",
        POINTS,
        partial(compared, AUGMENTED_FP, AUGMENTED),
        run_fisher("augmented"),
    ),
    Finding(
        "noise",
        "table 3",
        "With 25 % wrong labels the penalty gains (41.74 to 60.18 with VGG-11)",
        "at the best validation epoch, a third of the best learning rate",
        POINTS,
        partial(compared, NOISY_FP, NOISY, "best_epoch_test"),
        run_fisher("noise"),
    ),
    Finding(
        "noise_mixup",
        "table 3",
        "On wrong labels, without batch norm, the penalty is better than Mixup (60.18 and 52.31)",
        "the same runs",
        POINTS,
        partial(compared, NOISY_FP, NOISY_MIXUP, "best_epoch_test"),
        run_fisher("noise"),
    ),
    Finding(
        "memorization",
        "tables 8 and 9",
        "With the penalty wrong labels are hardly memorized (4 % of them; 74 to 99 % without)",
        "fit of the wrong labels without against with it",
        POINTS,
        partial(compared, NOISY, NOISY_FP, "train_fit.noisy"),
        run_fisher("noise"),
    ),
    Finding(
        "peak",
        "table 4",
        "The penalty lowers the peak of the trace (52.05 to 19.63)",
        "without against with it, a third of the best learning rate",
        TRACE,
        partial(compared, LOW, FP, "peak_trace"),
        run_fisher("row"),
    ),
    Finding(
        "onset",
        "figure 3",
        "The later the penalty begins, the less it gains",
        "from epoch 1 against from epoch 16 of 40",
        POINTS,
        partial(compared, FROM_1, FROM_16),
        run_fisher("row", "when"),
    ),
    Finding(
        "every_tenth_step",
        "ablation of f",
        "A penalty computed at every tenth step is as good as at every step",
        "FP every 10 steps against every step, a third of the best learning rate, 5,000 images",
        Rule("points", 1.0, none=True),  # both are about 80 % in the paper, which gives no decimals
        partial(compared, EXACT_FP, EVERY_STEP),
        run_fisher("input", "interval"),
    ),
    Finding(
        "large_batch",
        "large batches",
        "The penalty regains what batches of ten times the size lose (73.7 to 78.7)",
        "what FP gains with batches of 1,280, at most what they lose against 128",
        POINTS,
        regained,
        run_fisher("row", "large"),
    ),
    Finding(
        "trace_and_hessian",
        "supplement F",
        "Tr(F) and Tr(H) agree along the training",
        "rank correlation over 20 epochs, the best learning rate and a third of it, 5,000 images",
        RANKS,
        along_training,
        run_fisher("hessian"),
    ),
)


# --- Do Vision Transformers See Like Convolutional Neural Networks?

ANALYSES = {  # name: place, statement
    "ends": ("figure 1", "Lower and higher layers of a ViT are more alike than those of a ResNet"),
    "lower_half": ("figure 2", "The lower half of a ResNet is like the lowest quarter of a ViT"),
    "highest_third": ("figure 2", "The highest third of a ViT is unlike every layer of a ResNet"),
    "local_heads": ("figure 3", "Low blocks have local and global heads, the highest only global ones"),
    "local_heads_on_little_data": ("figure 4", "On little data the low blocks of large ViTs have no local heads"),
    "heads_like_resnet": ("appendix", "The more local a head of the first block, the more it is like the early ResNet"),
    "first_field": ("figure 6", "Receptive fields of low layers are larger in a ViT"),
    "middle_field": ("figure 6", "In the middle a ViT sees the whole image, a ResNet does not"),
    "center_spike": ("figure 6", "Skip connections make the own patch stand out in the receptive field"),
    "class_token_ratio": (
        "figures 7 to 9",
        "Skips carry the class token in the first half and the patches in the second",
    ),
    "skip_ratio": ("figures 7 to 9", "Skips carry more in a ViT than in a ResNet"),
    "removed_skip": ("figures 7 to 9", "Without the skips of a block the layers before and after it are unlike"),
    "localization": ("figures 10 to 15", "The last tokens keep their place with a class token, hardly with pooling"),
    "token_probe": ("figures 10 to 15", "With a class token single tokens classify poorly, with pooling well"),
    "data_scale": ("figure 16", "Low layers are learned from 3 % of the data, high layers need more"),
    "fine_tuning": ("figure 21", "Fine-tuning keeps low layers and changes high ones, less on natural images"),
}


def inside(name: str) -> Measured:
    """Effect of an analysis of the trained networks, over seeds."""
    rows = inside_networks.RESULTS.rows()
    found = [row for row in rows if row["kind"] == "finding" and row["name"] == name]
    seconds = [row.get("seconds", math.nan) for row in rows if row["kind"] == "network"]
    effect = over_seeds([row["effect"] for row in found])
    return Measured(effect, "seeds", sum(seconds) / 60, one_seed=effect.n == 1, ours=found[0]["ours"])


OF_RAGHU = (
    *(
        Finding(
            name,
            place,
            statement,
            "",
            inside_findings.RULES[name],
            partial(inside, name),
            ("inspect.inside_networks run --cache {results}",),
        )
        for name, (place, statement) in ANALYSES.items()
    ),
    Finding("jft_probes", "linear probes", "Middle layers of large ViTs need JFT-300M for good linear probes"),
    Finding("mixer", "appendix", "MLP-Mixer is nearer to a ViT than to a ResNet"),
)
FINDINGS = tuple(
    replace(one, paper=paper)
    for paper, found in zip(PAPERS, (OF_ASKL2, OF_AUGREG, OF_FISHER, OF_RAGHU), strict=True)
    for one in found
)


def row_of(finding: Finding) -> str:
    """Write a finding as a row."""
    heads = f"{finding.statement} | {finding.place}"
    found = None if finding.measure is None else finding.measure()
    if found is None or finding.rule is None:
        return f"| {heads} | not measured | | | | |"
    words = f"**{verdict(found.effect, finding.rule)}**" + (" (one seed)" if found.one_seed else "")
    minutes = "not recorded" if math.isnan(found.minutes) else f"{found.minutes:.0f}"
    limit = f", counts from {finding.rule.limit()}" if math.isnan(found.effect.low) else ""
    effect = f"{found.effect.written(finding.rule.unit)}{limit}; {finding.ours or found.ours}"
    n = f"{found.effect.n} {found.of if found.effect.n > 1 else found.of.removesuffix('s')}"
    return f"| {heads} | {words} | {effect} | {n} | {minutes} | `python -m benchmarks.findings repeat {finding.name}` |"


def table() -> str:
    """Write a table a paper, and how often each verdict was reached."""
    parts = []
    for paper, title in PAPERS.items():
        rows = [row_of(one) for one in FINDINGS if one.paper == paper]
        words: tuple[Verdict, ...] = get_args(Verdict)
        said = ", ".join(f"{word} {sum(word in row.split(' | ')[2] for row in rows)}" for word in words)
        head = "| finding | place | verdict | effect (95 % interval); what is compared | n | core-minutes | again |"
        parts.append("\n".join([f"## {title}", "", f"Verdicts: {said}.", "", head, line_below(head), *rows]))
    return "\n\n".join(parts)


def repeat(finding: Finding, results: Path) -> None:
    """Measure a finding again in another folder; print the verdict then and now."""
    if finding.measure is None:
        raise SystemExit(f"{finding.name} has not been measured, and no script measures it.")
    print(row_of(finding), flush=True)
    results.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, FOLDER: str(results), "PYTHONPATH": str(ROOT)}
    for command in finding.commands:
        words = command.format(results=results).split()
        print(f"python -m benchmarks.{' '.join(words)}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]], check=True, env=environment)
    os.environ[FOLDER] = str(results)
    print(row_of(finding))


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("table")
    again = commands.add_parser("repeat")
    again.add_argument("name", choices=[one.name for one in FINDINGS], metavar="NAME")
    again.add_argument("--results", type=Path, default=ROOT / "build" / "findings")
    given = parser.parse_args(words)
    if given.command == "table":
        print(table())
    else:
        repeat(next(one for one in FINDINGS if one.name == given.name), given.results)


if __name__ == "__main__":
    main()

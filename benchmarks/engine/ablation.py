"""What each part of the search is worth: the same fit with one part taken away.

Claim: partial results, portfolio and ensemble each lower the test loss at 60 s. The sampler does not within that
time, and on these tables, by one run, ten folds with halving beat what "auto" chooses (16 other tables say no).
Hardware: no GPU; one worker on a dedicated core, two runs beside each other, each bound to its core, and nothing else.
Repeats: 1 a table and variant, the same split and random state.

    taskset -c 0 python -m benchmarks.engine.ablation run --tables attrition car_evaluation eucalyptus isolet_1560
    taskset -c 1 python -m benchmarks.engine.ablation run --tables credit_data electricity mammography pendigits
    python -m benchmarks.engine.ablation table
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.command_line import make_parser
from benchmarks.data import load
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of

JOBS = 1
RESULTS = results_of(__file__, ("table", "variant", "budget"), {"jobs": JOBS})
BUDGET = 60.0
TABLES = (
    *("attrition", "car_evaluation", "credit_data", "electricity"),
    *("eucalyptus", "isolet_1560", "mammography", "pendigits"),
)
WHOLE = "windvane"
POLICIES = ("holdout", "cv3", "cv5", "cv10")
VARIANTS = (
    *(WHOLE, "no partial results", "no portfolio", "random search after the portfolio", "no ensemble"),
    *(f"{name}{halving}" for name in POLICIES for halving in ("", "-halving")),
)


REMOVED = ("racing",)  # from the search, after these results


def plan() -> list[tuple[Any, ...]]:
    return list(product(TABLES, (*VARIANTS, *REMOVED), (BUDGET,)))


def without(variant: str) -> tuple[dict[str, Any], AbstractContextManager[Any]]:
    """Say how a variant differs: arguments of the constructor, and what is put out of action meanwhile."""
    if variant == "no partial results":
        from windvane import Trial

        return {}, patch.object(Trial, "usable", property(lambda t: t.status == "done" and np.isfinite(t.loss)))
    if variant == "no portfolio":
        return {}, patch("windvane.automl.base.read_portfolio", lambda *_: [])
    if variant == "random search after the portfolio":
        import optuna

        def random_sampler(*, seed: int, **_: object) -> Any:
            return optuna.samplers.RandomSampler(seed=seed)

        return {}, patch.object(optuna.samplers, "TPESampler", random_sampler)
    if variant == "no ensemble":
        return {"ensemble_size": 1}, nullcontext()
    return ({} if variant == WHOLE else {"policy": variant}), nullcontext()


def measure(name: str, variant: str, budget: float) -> dict[str, Any]:
    """Fit a variant on one table: its loss on the test rows, and its trials."""
    from windvane import AutoClassifier

    X, X_test, y, y_test = load(name)
    arguments, change = without(variant)
    found = {"table": name, "variant": variant, "budget": budget}
    try:
        with change:
            model = AutoClassifier(time_budget=budget, n_jobs=JOBS, random_state=0, verbose=0, **arguments).fit(X, y)
        score = model.score(X_test, y_test)
        loss = 1 - score if model.predictor_.metric.greater_is_better else -score
        return {**found, "loss": loss, "trials": len(model.trials_)}
    except Exception as error:  # a variant may well find nothing
        return {**found, "loss": None, "error": f"{type(error).__name__}: {error}"[:500]}


def table(budget: float) -> None:
    """Print, for each variant, how much larger its loss is than that of the whole, and its mean rank."""
    found = RESULTS.frame()
    losses = found[found["budget"] == budget].pivot_table("loss", "table", "variant", dropna=False)
    shown = [variant for variant in (*VARIANTS[:5], *REMOVED, *VARIANTS[5:]) if variant in losses]
    losses = losses[shown].astype(float).dropna(subset=[WHOLE])
    failed = losses.isna()
    ranks = losses.fillna(np.inf).rank(axis=1).mean()
    print_head("| variant | loss against the whole, median | worse : better | failed | mean rank |")
    for variant in shown:
        ratio = (losses[variant] / losses[WHOLE]).map(np.log).dropna()
        worse, better = int((ratio > 1e-6).sum()), int((ratio < -1e-6).sum())
        gain = f"{100 * np.expm1(ratio.median()):+.1f} %"  # where a loss is near 0, ratios are wild
        print(f"| {variant} | {gain} | {worse} : {better} | {int(failed[variant].sum())} | {ranks[variant]:.2f} |")


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table")
    parser.add_argument("--tables", nargs="+", default=list(TABLES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--budget", type=float, default=BUDGET)
    arguments = parser.parse_args(words)
    if arguments.command == "table":
        table(arguments.budget)
    else:
        RESULTS.fill(product(arguments.tables, arguments.variants, (arguments.budget,)), measure)


if __name__ == "__main__":
    main()

"""The policy selector on the published results of Auto-Sklearn 2.0: 208 tasks (125 for ROC AUC), 8 policies.

Claim: chosen leave-one-data-set-out, the selector is better than a policy drawn at random and near the single best one.
Data: ../shared/data/askl2, test losses of whole runs (60 minutes, one core) under each policy; the forests have the
    published settings, which others tuned on these same tasks, but 25 trees where theirs have 500 (--trees).
Score: the loss between 0, the smallest that any policy ever had on the task, and 1, the largest; mean over tasks in %.
    Every choice on a task is made from the other tasks alone. Regret is the score less that of the best policy of each
    task. The difference to the single best policy has its standard error over tasks beside it.
Hardware: any. Repeats: 1; seed 0.
Commands:
    python -m benchmarks.metalearning.selector run       # ten minutes on one core, in proportion to the trees
    python -m benchmarks.metalearning.selector table
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier

from benchmarks.command_line import make_parser
from benchmarks.data import TABLES
from benchmarks.markdown import line_below
from benchmarks.metalearning.pairwise_selector import Selector, tabulate
from benchmarks.result_table import Row, results_of
from windvane.data.task import Task
from windvane.search.strategy.policy import select_policy

DATA = TABLES.parent / "askl2"
METRICS = ("balanced_accuracy", "roc_auc", "log_loss")
CPU_SECONDS = 3600.0  # of the published runs
CUTS = (1_000, 2_000, 5_000, 20_000, 100_000)  # rows at which a static rule may change its policy
ROWS = (0, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000)
COLUMNS = (0, 5, 10, 20, 50, 100, 500, 2_000)
# What the facts beside the data computed from them, as (8 policies, oracle, random), in %.
PUBLISHED = {
    "balanced_accuracy": (9.67, 7.61, 9.39, 10.54, 8.71, 7.29, 9.00, 10.21, 4.88, 9.05),
    "roc_auc": (4.23, 3.51, 3.71, 3.92, 4.47, 3.33, 3.61, 3.89, 2.00, 3.83),
    "log_loss": (0.15, 0.10, 0.20, 0.35, 0.15, 0.10, 0.20, 0.35, 0.03, 0.20),
}
Choices = NDArray[np.int64]
N_TREES = 25
RESULTS = results_of(__file__, ("metric", "policy"), {"trees": N_TREES})
SELECTED = "selector"  # its row also has the table that all tasks make
CHOICES = (  # ways to choose that `choose_learned` and `choose_static` follow
    *(SELECTED, "selector as a table", "single best", "rule: below 1,000 rows cv10-halving, else cv3-halving"),
    *("rule: one cut of the rows, learned", "windvane's rule (budget 3600 CPU s)"),
)


@dataclass(frozen=True)
class Published:
    """One metric's results: n tasks, 8 policies; losses as they came, scores between 0 and 1."""

    names: tuple[str, ...]
    sizes: NDArray[np.float64]
    losses: NDArray[np.float64]
    scores: NDArray[np.float64]
    spans: NDArray[np.float64]
    order: tuple[int, ...]
    classifier: Any  # of a pair of policies
    soft: bool  # whether its probability divides a vote


def ours(strategy: str) -> str:
    """Say in our words what auto-sklearn calls a policy."""
    validation = strategy.split("_")[2]
    name = validation if validation == "holdout" else f"cv{validation.removesuffix('CV')}"
    return name + "-halving" * ("SH-" in strategy)


def read(metric: str, n_trees: int = N_TREES) -> Published:
    """Read the results of one metric."""
    found = json.loads((DATA / metric / "selector_training_data.json").read_text())
    strategies, losses = found["strategies"], np.array(found["y_values"])
    tasks = list(found["minima_for_methods"])
    sizes = [[found["metafeatures"][name][t] for t in tasks] for name in ("NumberOfInstances", "NumberOfFeatures")]
    lowest = np.array([min(found["minima_for_methods"][t].values()) for t in tasks])
    highest = np.array([max(found["maxima_for_methods"][t].values()) for t in tasks])
    tuned = found["configuration"]
    ranges = losses.max(axis=1) - losses.min(axis=1)
    classifier: Any = DummyClassifier(strategy="prior")  # of depth 0: the same answer for every table
    if tuned["max_depth"] != 0:
        classifier = RandomForestClassifier(
            n_estimators=n_trees,
            max_depth=tuned["max_depth"],
            min_samples_leaf=tuned["min_samples_leaf"],
            min_samples_split=tuned["min_samples_split"],
            max_features=tuned["max_features"],
            bootstrap=tuned["bootstrap"] == "True",
        )
    return Published(
        names=tuple(map(ours, strategies)),
        sizes=np.array(sizes, dtype=np.float64).T,
        losses=losses,
        scores=(losses - lowest[:, None]) / (highest - lowest)[:, None],
        spans=ranges if tuned["normalization"] == "y" else highest - lowest,
        order=tuple(strategies.index(name) for name in found["tie_break_order"]),
        classifier=classifier,
        soft=tuned["prediction"] == "soft",
    )


def fit(data: Published, tasks: Choices) -> Selector:
    """Train the selector on some tasks."""
    selector = Selector(data.classifier, data.order, soft=data.soft)
    return selector.fit(data.sizes[tasks], data.losses[tasks], data.spans[tasks])


def left_out(data: Published, n_parts: int) -> list[tuple[Choices, Choices]]:
    """Divide the tasks: those to learn from, and those to choose for; as many parts as tasks leaves one out."""
    order = np.random.default_rng(0).permutation(len(data.sizes))
    return [(np.setdiff1d(order, part), part) for part in np.array_split(order, n_parts)]


def choose_learned(data: Published, n_parts: int) -> dict[str, Choices]:
    """Let the selector choose for every task from the others, by its forests and by its table."""
    forests, cells = np.full((2, len(data.sizes)), -1)
    for train, part in left_out(data, n_parts):
        selector = fit(data, train)
        forests[part] = selector.select(data.sizes[part])
        grid = tabulate(selector, data.names, ROWS, COLUMNS, dict.fromkeys(data.names, ""))
        cells[part] = [data.names.index(grid.choose(task).name) for task in map(as_task, data.sizes[part])]
    return {"selector": forests, "selector as a table": cells}


def choose_static(data: Published) -> dict[str, Choices]:
    """Choose by rules that need no forest; those that learn leave the task out."""
    n, rows, index = len(data.sizes), data.sizes[:, 0], data.names.index
    single, cut = np.full((2, n), -1)
    for i in range(n):
        others = np.arange(n) != i
        single[i] = data.scores[others].mean(axis=0).argmin()
        best: tuple[float, int] = (np.inf, -1)
        for limit in CUTS:
            small = rows[others] < limit
            sides = [data.scores[others][side] for side in (small, ~small)]
            low, high = (int(side.mean(axis=0).argmin()) if len(side) else single[i] for side in sides)
            total = sum(side[:, p].sum() for side, p in zip(sides, (low, high), strict=True))
            best = min(best, (total, low if rows[i] < limit else high))
        cut[i] = best[1]
    budget = [index(select_policy(as_task(size), CPU_SECONDS).name) for size in data.sizes]
    return {
        "single best": single,
        "rule: below 1,000 rows cv10-halving, else cv3-halving": np.where(
            rows < 1_000, index("cv10-halving"), index("cv3-halving")
        ),
        "rule: one cut of the rows, learned": cut,
        "windvane's rule (budget 3600 CPU s)": np.array(budget),
    }


def as_task(size: NDArray[np.float64]) -> Task:
    """Make a task of a size; the number of classes is not published, and not looked at."""
    return Task("binary", int(size[0]), int(size[1]), 2)


def plan() -> list[tuple[Any, ...]]:
    """Return the rows behind the page: each way to choose, on each metric."""
    fixed = [f"always {name}{halving}" for halving in ("", "-halving") for name in ("holdout", "cv3", "cv5", "cv10")]
    return [(metric, policy) for metric in METRICS for policy in (*CHOICES, "oracle", "random", *fixed)]


def measure(metric: str, n_trees: int) -> list[Row]:
    """Make all choices on one metric, and score them in %."""
    data = read(metric, n_trees)
    chosen = {**choose_learned(data, len(data.sizes)), **choose_static(data)}
    grid = tabulate(fit(data, np.arange(len(data.sizes))), data.names, ROWS, COLUMNS, dict.fromkeys(data.names, ""))
    choices = {name: found.tolist() for name, found in chosen.items()}
    return rows_of(data, metric, choices, grid.policies)


def rows_of(data: Published, metric: str, choices: dict[str, list[int]], grid: Any) -> list[Row]:
    """Return a row for each way to choose: its mean score, its regret, its difference to the single best policy."""
    scores, rows = scores_of(data, choices), []
    for place, (name, mine) in enumerate(scores.items()):
        less = mine - scores["single best"]
        row: Row = {"metric": metric, "policy": name, "place": place, "tasks": len(mine), "score": mine.mean()}
        row |= {"regret": (mine - scores["oracle"]).mean(), "less_single_best": less.mean()}
        row |= {"standard_error": less.std(ddof=1) / np.sqrt(len(less)), "choices": choices.get(name)}
        less = mine - scores["random"]
        row |= {"less_random": less.mean(), "standard_error_random": less.std(ddof=1) / np.sqrt(len(less))}
        rows.append(row | ({"grid": grid} if name == SELECTED else {}))
    return rows


def scores_of(data: Published, choices: dict[str, list[int]]) -> dict[str, NDArray[np.float64]]:
    """Give each way to choose its score on every task, in %."""
    every = np.arange(len(data.sizes))
    fixed = {f"always {name}": data.scores[:, i] for i, name in enumerate(data.names)}
    made = {name: data.scores[every, found] for name, found in choices.items()}
    bounds = {"oracle": data.scores.min(axis=1), "random": data.scores.mean(axis=1)}
    return {name: 100 * found for name, found in {**made, **bounds, **fixed}.items()}


def table() -> str:
    """Write the results as markdown."""
    found = {RESULTS.key_of(row): row for row in sorted(RESULTS.rows(), key=lambda row: row["place"])}
    heads = [f"{metric} ({found[metric, SELECTED]['tasks']}) | regret | less single best" for metric in METRICS]
    head = f"| policy | {' | '.join(heads)} |"
    lines = [head, line_below(head)]
    for name in dict.fromkeys(policy for _, policy in found):
        cells = []
        for row in (found[metric, name] for metric in METRICS):
            cells += [f"{row['score']:.2f}", f"{row['regret']:.2f}"]
            cells.append(f"{row['less_single_best']:+.2f} ± {row['standard_error']:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for metric in METRICS:
        head = f"| rows | {' | '.join(f'>= {column}' for column in COLUMNS)} |"
        lines += ["", f"{metric}: the table that all tasks make (rows down, columns across)", ""]
        lines += [head, line_below(head)]
        for n_rows, policies in zip(ROWS, found[metric, SELECTED]["grid"], strict=True):
            lines.append(f"| >= {n_rows:,} | {' | '.join(policies)} |")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS), choices=METRICS)
    parser.add_argument("--trees", type=int, default=N_TREES)
    arguments = parser.parse_args(words)
    if arguments.command == "run":
        for metric in arguments.metrics:
            table_of = replace(RESULTS, settings={"trees": arguments.trees})
            table_of.put(*measure(metric, arguments.trees))
            print(metric, "measured", flush=True)
    else:
        print(table())


if __name__ == "__main__":
    main()

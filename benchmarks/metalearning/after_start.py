"""What should a search try after the first entries of the portfolio?

Claim: none beforehand; a way that beats random draws beyond noise would replace the optimizer's draws within a minute.
Data: the matrix of portfolios, tables of at most 4,000 rows. The first 9 entries are learned from the other tables; the
    others, `n_pool` of them, are what may be tried next.
Ways: in the order of their mean loss on the other tables; what was best on those tables that rank the entries tried so
    far as this table does; the nearest to the best so far, of its family; random ones of the three best families;
    random ones (means of 3 draws). "oracle" has the best test loss first: more cannot be had from an order.
Score: log(test loss of the ensemble / best known), floored as in `portfolio`, in %; two workers; tables left out, a
    fifth at a time.
Hardware: costs are CPU seconds of one thread. Repeats: 1; seed 0.
Commands:
    python -m benchmarks.metalearning.after_start run      # ten minutes on one core
    python -m benchmarks.metalearning.after_start table
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.command_line import make_main
from benchmarks.markdown import print_head
from benchmarks.metalearning.matrix import read_matrix
from benchmarks.metalearning.portfolio import MATRIX, N_PARTS, is_large
from benchmarks.result_table import results_of
from windvane.data.task import Task
from windvane.metalearning.build_portfolio import AnytimeScore, BuildPlan, make_scores
from windvane.metalearning.learn import complete_tables, evaluated, full_order
from windvane.metalearning.replay import RunPlan, TableReplay
from windvane.models import DEFAULT, FAMILIES
from windvane.models.search_space import fill_defaults
from windvane.search.strategy.portfolio import PortfolioEntry

BUDGETS = (20.0, 40.0, 60.0)  # in which not all entries can be tried
N_START, N_DRAWS = 9, 3
WIDTH = 0.5  # of the kernel that compares tables: mean squared difference of standardized log losses
START, RANDOM = "the start alone", "random"
RESULTS = results_of(__file__, ("way",), {"start": N_START, "budgets": BUDGETS})
Choose = Callable[[Mapping[str, float], list[str]], str]  # losses so far, entries left -> the next entry


def plan() -> list[tuple[str]]:
    """Return the rows behind the page."""
    return [
        (name,) for name in ("the start alone", "mean", "similar tables", "nearest", "best families", RANDOM, "oracle")
    ]


def run() -> None:
    """Replay the ways on all tables."""
    tables, known = read_matrix(MATRIX)
    small = complete_tables([table for table in tables if not is_large(table)])
    candidates = evaluated(small, {entry: one for entry, one in known.items() if one.family in DEFAULT})
    entries = {entry: known[entry] for entry in candidates}
    found: dict[str, dict[str, list[float]]] = {name: {} for (name,) in plan()}
    order = np.random.default_rng(0).permutation(len(small))
    for part in np.array_split(order, N_PARTS):
        rest = [small[i] for i in order if i not in part]
        learned = full_order(rest, candidates, BuildPlan())
        start, pool = learned[:N_START], learned[N_START:]
        for score in make_scores([small[i] for i in part], BuildPlan(BUDGETS)):
            for name, draws in make_ways(score.table, rest, entries, np.random.default_rng(0)).items():
                left = pool if draws else []
                runs = [scores_of(score, start, left, choose) for choose in draws or [lambda _, left: left[0]]]
                found[name][score.table.name] = [round(100 * float(x), 4) for x in np.mean(runs, axis=0)]
            print(score.table.name, {name: by[score.table.name] for name, by in found.items()}, flush=True)
    rows = [
        {"way": name, "n_pool": len(candidates) - N_START, "scores": list(by.items())} for name, by in found.items()
    ]
    RESULTS.put(*rows)


def make_ways(
    table: TableReplay, rest: Sequence[TableReplay], entries: Mapping[str, PortfolioEntry], rng: np.random.Generator
) -> dict[str, list[Choose]]:
    """Return the ways to choose on one table, random ones several times; none for the start alone."""
    column = {entry: i for i, entry in enumerate(entries)}
    losses = np.array([standardized([final_loss(other, entry) for entry in entries]) for other in rest])  # (t, e)
    vectors = {entry: vector_of(one) for entry, one in entries.items()}

    def by_mean(_: Mapping[str, float], left: list[str]) -> str:
        return min(left, key=lambda entry: losses[:, column[entry]].mean())

    def by_similar_tables(done: Mapping[str, float], left: list[str]) -> str:
        if len(done) < 3:
            return left[0]
        seen = losses[:, [column[entry] for entry in done]]  # (t, s)
        theirs = np.array([standardized(row) for row in seen])
        distance = np.mean((theirs - standardized(np.log(np.maximum(list(done.values()), 1e-12)))) ** 2, axis=1)
        weight = np.exp(-distance / WIDTH)
        return min(left, key=lambda entry: float(weight @ losses[:, column[entry]]))

    def nearest(done: Mapping[str, float], left: list[str]) -> str:
        for best in sorted(done, key=lambda entry: done[entry]):
            of_family = [entry for entry in left if entries[entry].family == entries[best].family]
            if of_family:
                return min(of_family, key=lambda entry: float(np.linalg.norm(vectors[entry] - vectors[best])))
        return left[0]

    def of_best_families(done: Mapping[str, float], left: list[str]) -> str:
        best = {entries[entry].family for entry in sorted(done, key=lambda entry: done[entry])[:3]}
        return str(rng.choice([entry for entry in left if entries[entry].family in best] or left))

    def at_random(_: Mapping[str, float], left: list[str]) -> str:
        return str(rng.choice(left))

    def oracle(_: Mapping[str, float], left: list[str]) -> str:
        return min(left, key=lambda entry: float(np.min(table.curves[entry].test_loss)))

    return {
        START: [],
        "mean": [by_mean],
        "similar tables": [by_similar_tables],
        "nearest": [nearest],
        "best families": [of_best_families] * N_DRAWS,
        RANDOM: [at_random] * N_DRAWS,
        "oracle": [oracle],
    }


def scores_of(score: AnytimeScore, start: Sequence[str], pool: Sequence[str], choose: Choose) -> list[float]:
    """Return the score at each budget of a run that chooses its entries after the start by what it has seen."""
    orders = [run_order(score.table, start, pool, choose, RunPlan(seconds)) for seconds in BUDGETS]
    return [score.scores(order)[i] for i, order in enumerate(orders)]


def run_order(
    table: TableReplay, start: Sequence[str], pool: Sequence[str], choose: Choose, plan: RunPlan
) -> list[str]:
    """Return the entries in the order in which a run begins them."""
    order = [entry for entry in start if entry in table.curves]
    left = [entry for entry in pool if entry in table.curves]
    free = [plan.startup] * plan.workers
    heapq.heapify(free)
    running: list[tuple[float, str, float]] = []  # end, entry, validation loss
    done: dict[str, float] = {}
    for i in range(len(order) + len(left)):
        now = heapq.heappop(free)
        while running and running[0][0] <= now:
            _, entry, loss = heapq.heappop(running)
            done[entry] = loss
        allowed = min(plan.share * plan.seconds, plan.seconds - now - plan.overhead)
        if allowed <= 0:
            break
        if i == len(order):
            order.append(choose(done, left))
            left.remove(order[-1])
        curve = table.curves[order[i]]
        end = now + plan.overhead + min(curve.cost, allowed)
        last = int(np.searchsorted(curve.cpu, allowed, side="right")) - 1
        if last >= 0:
            heapq.heappush(running, (end, order[i], float(curve.valid_loss[last])))
        heapq.heappush(free, end)
    return order


def final_loss(table: TableReplay, entry: str) -> float:
    """Return the logarithm of the last validation loss; NaN where there is none."""
    return float(np.log(max(table.curves[entry].valid_loss[-1], 1e-12))) if entry in table.curves else np.nan


def standardized(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with mean 0 and spread 1, 0 where one is missing."""
    array = np.asarray(values, dtype=np.float64)
    return np.nan_to_num((array - np.nanmean(array)) / max(float(np.nanstd(array)), 1e-9))


def vector_of(entry: PortfolioEntry) -> NDArray[np.float64]:
    """Return a configuration as numbers from 0 to 1, one for each hyperparameter or choice."""
    space = FAMILIES[entry.family].search_space(Task("binary", 1000, 10, 2))
    config = fill_defaults(entry.config, space)
    numbers: list[float] = []
    for name, param in space.items():
        value, distribution = config.get(name, param.default), param.distribution
        if hasattr(distribution, "choices"):
            numbers += [float(value == choice) for choice in distribution.choices]
            continue
        low, high, value = distribution.low, distribution.high, float(value)
        if distribution.log:
            low, high, value = np.log(low), np.log(high), np.log(value)
        numbers.append((value - low) / (high - low))
    return np.array(numbers)


def table() -> None:
    """Print the mean score of each way, and its difference to random draws."""
    found = {row["way"]: dict(row["scores"]) for row in RESULTS.rows()}
    names = list(found[RANDOM])
    n_pool = RESULTS.rows()[0]["n_pool"]
    print(f"{len(names)} tables, {N_START} entries at the start, {n_pool} others; score in %, lower is better\n")
    heads = [f"{seconds:g} s" for seconds in BUDGETS]
    print_head(f"| after the start | {' | '.join(heads)} | less random, {heads[0]} | less random, {heads[-1]} |")
    baseline = np.array([found[RANDOM][name] for name in names])  # (t, b)
    for (way,) in plan():
        scores = np.array([found[way][name] for name in names])
        less = scores - baseline
        errors = less.std(axis=0, ddof=1) / len(names) ** 0.5
        differences = [
            "" if way == RANDOM else f"{less[:, b].mean():+.2f} ± {errors[b]:.2f}" for b in (0, len(BUDGETS) - 1)
        ]
        print(f"| {way} | {' | '.join(f'{mean:.2f}' for mean in scores.mean(axis=0))} | {' | '.join(differences)} |")


main = make_main(__doc__, {"run": run, "table": table})


if __name__ == "__main__":
    main()

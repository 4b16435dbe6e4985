"""From collected cells to a portfolio and its cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from windvane.data.files import read_frame
from windvane.data.target import infer_task
from windvane.errors import InputError
from windvane.metalearning.build_portfolio import BuildPlan, build, make_scores, rank_alone
from windvane.metalearning.cells import read_cells
from windvane.metalearning.collect import SourceTable
from windvane.metalearning.replay import TableReplay, entry_id
from windvane.pages.texts import counted
from windvane.search.strategy.portfolio import KINDS, Case, PortfolioEntry

MIN_TABLES = 30  # of a task kind, before it gets its own order
COMPLETE = 0.5  # of the entries of the table with most, for a table that is learned from
LARGE_ROWS = 12_000  # from here on tables that were collected whole decide
SUFFIXES = (".parquet", ".csv", ".csv.gz", ".feather", ".arff")


def find_tables(folder: Path, target: str | None, max_rows: int | None = None) -> list[SourceTable]:
    """Return the tables of a folder; the target is the column named, or the last one of each."""
    paths = sorted(p for p in folder.glob("*") if p.name.endswith(SUFFIXES)) if folder.is_dir() else []
    if not paths:
        raise InputError(f"{str(folder)!r} holds no table. Allowed: a folder of files {', '.join(SUFFIXES)}.")
    tables = []
    for path in paths:
        frame = read_frame(path)
        column = frame.columns[-1] if target is None else target
        if column not in frame.columns:
            raise InputError(f"--target {target!r} is no column of {path.name}. Allowed: {list(frame.columns)[:10]}.")
        goal, _ = infer_task(frame[column])
        tables.append(SourceTable(path.name.split(".")[0], path, str(column), goal, max_rows))
    return tables


def entries_of(path: Path) -> dict[str, PortfolioEntry]:
    """Return the entries of a collection by their id."""
    found = (PortfolioEntry(cell.family, cell.config) for cell in read_cells(path) if cell.status != "unreadable")
    return {entry_id(entry.family, entry.config): entry for entry in found}


def complete_tables(tables: Sequence[TableReplay]) -> list[TableReplay]:
    """Keep the tables on which most of the entries were evaluated: others are still being collected."""
    most = max((len(table.curves) for table in tables), default=0)
    return [table for table in tables if len(table.curves) >= COMPLETE * most]


def learn_portfolio(
    tables: Sequence[TableReplay], large: Sequence[TableReplay], entries: Mapping[str, PortfolioEntry], plan: BuildPlan
) -> tuple[list[Case], str]:
    """Build an order for every task kind with at least `MIN_TABLES` tables, and one for the other kinds together.

    Also returns how they were learned, in words. `large` tables, of all kinds together, give the order beyond
    `LARGE_ROWS`.
    """
    if not tables:
        raise InputError("There are no tables to learn from: collect more cells first.")
    kinds = {kind: [table for table in tables if table.kind == kind] for kind in sorted({t.kind for t in tables})}
    own = [kind for kind, of_kind in kinds.items() if len(of_kind) >= MIN_TABLES]
    limit = LARGE_ROWS if large else None
    cases = [Case(_order(kinds[kind], entries, plan), (kind,), limit) for kind in own]
    if len(own) < len(kinds):
        others = tuple(kind for kind in KINDS if kind not in own)
        cases.append(Case(_order(tables, entries, plan), others, limit))
    if large:
        cases.append(Case(_order(large, entries, replace(plan, start=()))))
    made = (
        f"learned from {counted(len(entries), 'configuration')} on {counted(len(tables) + len(large), 'table')}, "
        f"budgets {', '.join(f'{seconds:g}' for seconds in plan.budgets)} s with {counted(plan.workers, 'worker')}"
    )
    return cases, made


def _order(
    tables: Sequence[TableReplay], entries: Mapping[str, PortfolioEntry], plan: BuildPlan
) -> tuple[PortfolioEntry, ...]:
    return tuple(entries[entry] for entry in full_order(tables, evaluated(tables, entries), plan))


def evaluated(tables: Sequence[TableReplay], entries: Mapping[str, PortfolioEntry]) -> list[str]:
    """Return the entries that were evaluated on most of the tables, in their order."""
    return [entry for entry in entries if sum(entry in table.curves for table in tables) > len(tables) / 2]


def full_order(tables: Sequence[TableReplay], candidates: Sequence[str], plan: BuildPlan) -> list[str]:
    """Return the cheapest entry, then a start, then the others by what each is worth alone.

    The start is the plan's, or what `build` chooses. The cheapest entry costs next to nothing and gives a model at
    once, however busy the machine is. The start decides what a short run finds. On few tables the ensemble's losses are
    too noisy to choose more of them one by one.
    """

    def cost(entry: str) -> float:
        return float(np.mean([table.curves[entry].cost for table in tables if entry in table.curves]))

    scores = make_scores(tables, plan)
    start = plan.start or [entry for entry, _ in build(scores, candidates, plan.size)]
    return list(dict.fromkeys([min(candidates, key=cost), *start, *rank_alone(scores, candidates)]))

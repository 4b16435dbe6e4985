"""The tables of `compare.py`, in markdown: losses and ranks, wins and losses, seconds to fit and to predict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.markdown import table_lines

SIZES = ("1", "100", "10000")
TIE = 1e-6


def read_results(found: pd.DataFrame, tables: Sequence[str], budgets: Mapping[str, int]) -> pd.DataFrame:
    """Return one row per result on some tables: system, table, loss (inf: failed), fit_s, seconds per size.

    `budgets` says which result of each system counts, and in which order the systems stand.
    """
    found = found[found["table"].isin(tables)].rename(columns={f"predict.{size}.median_s": size for size in SIZES})
    parts = [found[(found["system"] == system) & (found["budget"] == budget)] for system, budget in budgets.items()]
    results = pd.concat(parts)[
        ["system", "table", "metric", "split", "fit_s", "loss", "outside_cpu_s", "wall_s", *SIZES]
    ]
    results["loss"] = results["loss"].fillna(math.inf)
    if (results.groupby("table")["split"].nunique() > 1).any():
        raise SystemExit("results of one table come from different splits")
    return results


def sign_test(wins: int, losses: int) -> float:
    """Return the two-sided p of `wins` against `losses` under a fair coin; ties are left out."""
    n = wins + losses
    return min(1.0, sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / float(2 ** (n - 1)))


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Lay a table out in markdown."""
    return "\n".join(table_lines(header, rows)) + "\n"


def in_units(losses: pd.DataFrame, metrics: pd.Series) -> pd.DataFrame:
    """Bring losses to a scale on which TIE means something: those with a unit, to that of the table's best."""
    return losses.where(metrics != "rmse", losses.div(losses.min(axis=1), axis=0))


def losses_table(losses: pd.DataFrame, metrics: pd.Series) -> str:
    """Lay out the losses of all systems, best in bold, and their mean ranks."""
    rows, compared = [], in_units(losses, metrics)
    for table, line in losses.iterrows():
        digits = ".5g" if metrics[str(table)] == "rmse" else ".5f"
        cells = ["failed" if math.isinf(v) else "-" if math.isnan(v) else f"{v:{digits}}" for v in line]
        mine = compared.loc[str(table)]
        best = mine <= mine.min() + TIE
        rows.append(
            [str(table), metrics[str(table)], *(f"**{c}**" if b else c for c, b in zip(cells, best, strict=True))]
        )
    # Losses nearer than TIE share a rank; only tables that every system has seen count.
    ranks = (compared.dropna() / TIE).round().rank(axis=1)
    rows.append([f"mean rank ({len(ranks)} tables)", "", *(f"{r:.2f}" for r in ranks.mean())])
    return markdown(["table", "metric", *losses.columns], rows)


def duels_table(losses: pd.DataFrame, against: str) -> str:
    """Count wins, losses and ties of `against`, with the sign test and the median of the ratios of the losses."""
    rows = []
    for peer in losses.columns.drop(against):
        pair = losses[[against, peer]].dropna()
        gap = pair[peer].to_numpy() - pair[against].to_numpy()
        gap[np.isnan(gap)] = 0.0  # both failed
        wins, lost = int((gap > TIE).sum()), int((gap < -TIE).sum())
        ties = len(gap) - wins - lost
        with np.errstate(divide="ignore", invalid="ignore"):  # a failure has an infinite loss
            ratio = np.nanmedian(pair[against].to_numpy() / pair[peer].to_numpy())
        score, p = f"{wins + ties / 2:g}", sign_test(wins, lost)
        shown = "< 0.0001" if p < 1e-4 else f"{p:.4f}"
        rows.append([peer, f"{wins}", f"{lost}", f"{ties}", score, shown, f"{ratio:.3f}"])
    return markdown([f"{against} against", "wins", "losses", "ties", "score", "p", "loss ratio, median"], rows)


def times_table(results: pd.DataFrame, base: str) -> str:
    """Lay out seconds to fit, milliseconds to predict, and how much slower than `base`."""
    medians: Any = results.groupby(["system", "table"])[["fit_s", *SIZES]].median()
    rows = []
    for system in results["system"].unique():
        own = medians.loc[system].astype(float)
        cells = [f"{own['fit_s'].median():.1f}", f"{own['fit_s'].max():.1f}"]
        for size in SIZES:
            ratio = (own[size] / medians.loc[base][size].astype(float)).dropna()
            mean = math.exp(np.log(ratio).mean()) if len(ratio) else math.nan
            cells.append(f"{1000 * own[size].median():.1f} ({mean:.2f})")
        rows.append([system, *cells])
    sizes = [f"{size} rows, ms (ratio)" for size in SIZES]
    return markdown(["system", "fit median, s", "fit max, s", *sizes], rows)


def disturbance(results: pd.DataFrame) -> str:
    """Say how many cores other programs used during the runs of each system."""
    cores = (results["outside_cpu_s"] / results["wall_s"]).groupby(results["system"], sort=False)
    parts = [f"{system} {one.median():.2f} ({one.max():.2f})" for system, one in cores]
    return f"Cores that other programs used meanwhile, median (most): {', '.join(parts)}."


def report(results: pd.DataFrame) -> str:
    """Lay out all tables; the first system, windvane where it has results, is compared with each other one."""
    present = list(results["system"].unique())
    losses = results.pivot_table("loss", "table", "system", aggfunc="mean", dropna=False)[present]
    metrics = results.groupby("table")["metric"].first()
    parts = [losses_table(losses, metrics), duels_table(in_units(losses, metrics), present[0])]
    words = (
        f"{disturbance(results)}\n\nPrediction: median over tables; ratio: geometric mean of system / {present[0]}.\n"
    )
    return "\n".join([*parts, words, times_table(results, present[0])])

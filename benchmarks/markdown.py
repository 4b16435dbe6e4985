"""Tables in Markdown, as the scripts print them and the pages quote them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def line_below(head: str) -> str:
    """Return the line below the names of the columns, as in ``| table | loss |``."""
    return "|---" * (head.count("|") - 1) + "|"


def print_head(head: str) -> None:
    """Print the names of the columns and the line below."""
    print(head, line_below(head), sep="\n")


def table_lines(header: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    """Return the lines of a table from its cells."""
    names = list(header)
    lines: list[Iterable[object]] = [names, ["---"] * len(names), *rows]
    return [f"| {' | '.join(map(str, cells))} |" for cells in lines]


def print_arms(rows: Sequence[Mapping[str, Any]], arms: Sequence[str], loss: str) -> None:
    """Print the losses of ensembles with one more trial relative to those of the first arm, without it."""
    first, *others = arms
    print_head(f"| table | seed | {' | '.join(f'{arm} / {first}' for arm in others)} | weight |")
    ratios = []
    for row in rows:
        ratio = [row[f"{arm}.{loss}"] / row[f"{first}.{loss}"] for arm in others]
        ratios.append(ratio)
        cells = " | ".join(f"{value:.4f}" for value in ratio)
        seed = row["seed"] if "seed" in row else row["settings.seed"]
        print(f"| {row['table'].replace('_', '-')} | {seed} | {cells} | {row[f'{others[0]}.weight']:.2f} |")
    logs = np.log(ratios)
    means, errors = logs.mean(axis=0), logs.std(axis=0, ddof=1) / np.sqrt(len(logs))
    print(f"| geometric mean | | {' | '.join(f'{value:.4f}' for value in np.exp(means))} | |")
    print(f"\nStandard errors of the mean logarithm: {', '.join(f'{error:.4f}' for error in errors)}.")
    lower, higher = ((logs < 0).sum(axis=0), (logs > 0).sum(axis=0))
    print(f"Lower in {lower[0]} and {lower[1]}, higher in {higher[0]} and {higher[1]} of {len(logs)} runs.")

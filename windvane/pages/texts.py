"""Texts for people: counts with their nouns, texts that are cut, tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

WIDTH = 80  # characters of a line in a terminal


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, as in "1 trial" or "1,234 trials"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def cut(text: str, width: int) -> str:
    """Shorten a text that has more characters than a width."""
    return text if len(text) <= width else text[: width - 1] + "…"


def align_columns(
    rows: Sequence[Sequence[str]], left: Collection[int] = (0,), shrinking: int | None = None, least: int = 0
) -> list[str]:
    """Return a line for each row of a table; the columns at the positions `left` are aligned left, the others right.

    The column `shrinking`, if there is one, is cut where lines would be longer than `WIDTH`, to `least` characters at
    the least.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if shrinking is not None:
        others = sum(widths) - widths[shrinking] + 2 * (len(widths) - 1)
        widths[shrinking] = max(least, min(widths[shrinking], WIDTH - others))
    lines = []
    for row in rows:
        cells = [cut(cell, width) for cell, width in zip(row, widths, strict=True)]
        aligned = [c.ljust(widths[j]) if j in left else c.rjust(widths[j]) for j, c in enumerate(cells)]
        lines.append("  ".join(aligned).rstrip())
    return lines

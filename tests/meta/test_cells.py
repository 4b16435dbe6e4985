from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.errors import InputError
from windvane.meta.cells import SHARES, append_line, key, read_lines, to_outcomes
from windvane.search.portfolio import Entry


def line(table: str, family: str, points: list[list[float]], **other: Any) -> dict[str, Any]:
    facts = {"table": table, "family": family, "config": {"C": 0.5}, "constant": 0.5, "status": "done", "seconds": 9.0}
    return {**facts, "points": points, **other}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 300))
def test_a_line_torn_by_a_kill_is_skipped_and_spoils_no_other(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cells") / "cells.jsonl"
    lines = [line("a", "linear", [[1.0, 0.1, 0.2, 3.0]]), line("b", "linear", [])]
    for one in lines:
        append_line(path, one)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    before = read_lines(path)
    assert before == lines[: len(before)]
    assert len(before) >= whole[:cut].count(b"\n")
    append_line(path, lines[1])
    assert read_lines(path) == [*before, lines[1]]


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none") == []


def test_the_name_of_a_cell_does_not_depend_on_the_order_of_a_configuration() -> None:
    assert key("t", "mlp", {"a": 1, "b": 2.5}) == key("t", "mlp", {"b": 2.5, "a": 1}) != key("t", "mlp", {"a": 1})


def test_lines_become_a_matrix() -> None:
    grown = [[1 / 16, 0.4, 0.45, 1.0], [0.25, 0.3, 0.35, 2.0], [1.0, 0.2, 0.25, 5.0]]
    lines = [
        line("a", "mlp", grown),
        line("a", "linear", [[1.0, 0.3, 0.4, 0.5]]),  # does not grow
        line("a", "catboost", [[1 / 16, 0.2, 0.75, 1.0]], status="timeout", seconds=60.0),
        line("a", "lightgbm", [], status="crashed", seconds=2.0),
        line("b", "mlp", grown),  # the others have not come to this table yet
    ]
    outcomes, entries, tables = to_outcomes(lines)
    assert tables == ["a"]
    assert entries == [Entry(name, {"C": 0.5}) for name in ("mlp", "linear", "catboost", "lightgbm")]
    assert outcomes.shares == SHARES == (1 / 16, 0.25, 1.0)
    np.testing.assert_allclose(outcomes.valid[:, 0], [[0.4, 0.3, 0.2], [0.3] * 3, [0.2] * 3, [math.inf] * 3])
    # 0.25 is the best, and the constant's 0.5 the worst that counts.
    np.testing.assert_allclose(outcomes.test[:, 0], [[0.8, 0.4, 0], [0.6] * 3, [1] * 3, [1] * 3])
    np.testing.assert_allclose(outcomes.seconds[:, 0], [[1, 2, 5], [0.5] * 3, [1, 60, 60], [2] * 3])


def test_no_complete_table_is_refused() -> None:
    with pytest.raises(InputError, match="no table with a cell for every configuration"):
        to_outcomes([line("a", "mlp", []), line("b", "linear", [])])

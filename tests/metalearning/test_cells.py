from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.metalearning.cells import Cell, append_cell, cell_id, read_cells


def make_cell(table: str, family: str = "linear", **other: Any) -> Cell:
    facts: dict[str, Any] = {"kind": "binary", "rows": 100, "columns": 4, "classes": 2, "minority_share": 0.4}
    facts |= {"policy": "cv5", "seed": 0, "config": {"C": 0.5}, "status": "done", "error": None}
    return Cell(table=table, family=family, **{**facts, "constant": {"roc_auc": 0.5}, "checkpoints": [], **other})


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 700))
def test_a_line_torn_by_a_kill_is_skipped_and_spoils_no_other(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cells") / "cells.jsonl"
    cells = [make_cell("a", checkpoints=[{"cpu": 1.5, "losses": {"roc_auc": [0.1, 0.2, 0.3, 0.4]}}]), make_cell("b")]
    for cell in cells:
        append_cell(path, cell)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    before = read_cells(path)
    assert before == cells[: len(before)]
    assert len(before) >= whole[:cut].count(b"\n")
    append_cell(path, cells[1])
    assert read_cells(path) == [*before, cells[1]]


def test_no_file_has_no_cells(tmp_path: Path) -> None:
    assert read_cells(tmp_path / "none") == []


def test_the_id_of_a_cell_does_not_depend_on_the_order_of_a_configuration() -> None:
    one = cell_id("t", "mlp", {"a": 1, "b": 2.5})
    assert one == cell_id("t", "mlp", {"b": 2.5, "a": 1})
    assert len({one, cell_id("t", "mlp", {"a": 1}), cell_id("u", "mlp", {"a": 1, "b": 2.5})}) == 3

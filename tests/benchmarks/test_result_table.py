"""Tables of results: no line is lost, none is doubled, none is half written."""

from __future__ import annotations

import json
import math
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.result_table import FOLDER, ResultTable, flatten, nest

NAMES = st.text("abc", min_size=1, max_size=3)
VALUES = st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.lists(st.integers())
RECORDS = st.recursive(
    st.dictionaries(NAMES, VALUES, min_size=1),
    lambda inner: st.dictionaries(NAMES, VALUES | inner, min_size=1),
    max_leaves=8,
)


def add_rows(path: Path, start: int) -> None:
    table = ResultTable(path, ("run",))
    for run in range(start, start + 20):
        table.put({"run": run, "loss": run / 3})


@given(RECORDS)
def test_nested_records(record: dict[str, object]) -> None:
    row = flatten(record)
    assert not any(isinstance(value, dict) for value in row.values())
    assert nest(json.loads(json.dumps(row))) == record


def test_a_repeated_run_replaces_its_line(tmp_path: Path) -> None:
    table = ResultTable(tmp_path / "a" / "runs.jsonl", ("table", "seed"))
    table.put({"table": "wine", "seed": 1, "loss": 0.25, "predict": {"1": 0.5}})
    table.put({"table": "iris", "seed": 0, "loss": 1 / 3}, {"table": "wine", "seed": None, "loss": math.inf})
    table.put({"table": "wine", "seed": 1, "loss": 0.125})
    assert table.rows() == [
        {"table": "iris", "seed": 0, "loss": 1 / 3},
        {"table": "wine", "seed": None, "loss": math.inf},
        {"table": "wine", "seed": 1, "loss": 0.125},
    ]
    assert table.find("wine", 1) == {"table": "wine", "seed": 1, "loss": 0.125}
    assert table.find("wine", 2) is None
    assert [path.name for path in table.path.parent.iterdir()] == ["runs.jsonl"]


def test_repeated_runs_are_written_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ResultTable(tmp_path / "runs.jsonl", ("run",))
    table.put({"run": 1, "loss": 0.5})
    monkeypatch.setenv(FOLDER, str(tmp_path / "again"))
    assert table.rows() == []
    table.put({"run": 1, "loss": 0.25})
    assert table.find(1) == {"run": 1, "loss": 0.25}
    monkeypatch.delenv(FOLDER)
    assert table.find(1) == {"run": 1, "loss": 0.5}


def test_rows_that_are_changed_by_a_reader_stay_as_they_were(tmp_path: Path) -> None:
    table = ResultTable(tmp_path / "runs.jsonl", ("run",))
    table.put({"run": 1})
    table.rows()[0]["run"] = 2
    assert table.rows() == [{"run": 1}]


def test_programs_that_write_at_once_lose_no_line(tmp_path: Path) -> None:
    path, spawn = tmp_path / "runs.jsonl", multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=add_rows, args=(path, start)) for start in (0, 10, 40)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [row["run"] for row in ResultTable(path, ("run",)).rows()] == [*range(30), *range(40, 60)]


def test_an_interrupted_write_leaves_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ResultTable(tmp_path / "runs.jsonl", ("run",))
    table.put({"run": 1})
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        table.put({"run": 2})
    assert table.rows() == [{"run": 1}]


def test_results_that_differ_from_the_plan(tmp_path: Path) -> None:
    ten = ResultTable(tmp_path / "runs.jsonl", ("run",), {"images": 10})
    ten.put({"run": 1}, {"run": 2})
    assert ten.differences([(1,), (2,)]) == []
    assert ten.differences([(1,), (3,)]) == ["runs.jsonl: no result of (3,)", "runs.jsonl: (2,) is in no plan"]
    (found,) = ResultTable(ten.path, ("run",), {"images": 20}).differences([(1,), (2,)])[:1]
    assert found == "runs.jsonl: (1,) was made with {'settings.images': 10}, the plan is {'settings.images': 20}"


def test_only_missing_runs_are_measured(tmp_path: Path) -> None:
    table, measured = ResultTable(tmp_path / "runs.jsonl", ("table", "seed")), []

    def measure(name: str, seed: int) -> dict[str, object]:
        measured.append((name, seed))
        return {"table": name, "seed": seed, "loss": 1.0}

    table.put({"table": "wine", "seed": 1, "loss": 0.25})
    table.fill([("wine", 0), ("wine", 1)], measure)
    table.fill([("wine", 0), ("wine", 1)], measure)
    assert measured == [("wine", 0)]
    assert [row["loss"] for row in table.rows()] == [1.0, 0.25]

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse as sp
from toys import make_problem

from windvane.errors import DiskError, RunError, RunLockedError, VersionError
from windvane.persistence import FORMAT, read_manifest
from windvane.runtime.columns.table import Table
from windvane.runtime.serialization import read_sealed, write_sealed
from windvane.search.problem import Problem
from windvane.search.run import run_directory
from windvane.search.run.run_directory import RunDirectory
from windvane.version import VERSION


def rich_table(n: int = 90) -> Table:
    """Every kind of column, with missing values."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(n, 3))
    matrix[::7, 0] = np.nan
    matrix[:, 2] = rng.integers(0, 4, n)
    texts = np.array(["", "a", "ä\0ö", "a longer one"], dtype=object)[rng.integers(0, 4, n)]
    return Table(matrix, 2, (4,), (texts,), sp.csr_matrix(sp.random(n, 5, 0.3, format="csr", random_state=0)))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("rich", [False, True])
def test_a_problem_is_read_as_it_was_written(kind: Any, rich: bool, tmp_path: Path) -> None:
    problem = make_problem(kind)
    if rich:
        problem = replace(problem, table=rich_table(), weight=np.arange(90.0))
    problem.write(tmp_path / "run" / "data")
    again = Problem.read(tmp_path / "run" / "data", problem.metric)
    assert (again.task, again.metric, again.seed) == (problem.task, problem.metric, problem.seed)
    np.testing.assert_array_equal(again.table.matrix, problem.table.matrix)
    np.testing.assert_array_equal(again.target, problem.target)
    assert again.target.dtype == problem.target.dtype
    assert (again.weight is None) == (problem.weight is None)
    for one, other in zip(again.folds, problem.folds, strict=True):
        np.testing.assert_array_equal(one.train, other.train)
        np.testing.assert_array_equal(one.validation, other.validation)
    assert again.fingerprint() == problem.fingerprint()


def test_validation_rows_stand_fold_after_fold_and_weights_count() -> None:
    problem = make_problem("regression", n=30, n_folds=3, weight=np.arange(30.0))
    rows = problem.validation_rows
    np.testing.assert_array_equal(rows, np.concatenate([fold.validation for fold in problem.folds]))
    np.testing.assert_array_equal(np.sort(rows), np.arange(30))
    prediction = np.zeros(len(rows))
    expected = np.sqrt(np.average(problem.target[rows] ** 2, weights=rows))
    assert problem.loss(prediction, rows) == pytest.approx(expected)


# NumPy leaves a torn archive open to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["task.json", "matrix.npy", "shape.npz", "target.npy", "folds.npz"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "poison"])
def test_a_damaged_problem_is_a_run_error(name: str, damage: str, tmp_path: Path) -> None:
    problem = make_problem()
    problem.write(tmp_path / "data")
    file = tmp_path / "data" / name
    content = file.read_bytes()
    file.unlink()
    if damage == "poison":
        np.save(tmp_path / "evil.npy", np.array([print], dtype=object), allow_pickle=True)
        file.write_bytes((tmp_path / "evil.npy").read_bytes())
    elif damage != "gone":
        file.write_bytes(content[: len(content) // 2 if damage == "half" else 0])
    with pytest.raises(RunError, match=r"The data of the run in .* cannot be read"):
        Problem.read(tmp_path / "data", problem.metric)


def test_a_run_begins_in_a_new_or_empty_folder(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "a" / "run")
    assert not directory.exists()
    directory.lock()
    assert not directory.exists()
    directory.create({"windvane": VERSION, "seed": 3})
    assert directory.exists()
    assert directory.manifest() == {"format": FORMAT, "windvane": VERSION, "seed": 3}
    assert directory.checkpoint(7, "checkpoint_0002") == tmp_path / "a" / "run" / "trials" / "00007" / "checkpoint_0002"
    directory.unlock()


def test_nothing_is_written_into_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"is not empty and holds no run\. Allowed: a new or empty folder"):
        RunDirectory(tmp_path).create({})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_that_ended_before_its_manifest_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    directory = RunDirectory(tmp_path / "run")
    directory.lock()
    with monkeypatch.context() as patch, pytest.raises(DiskError, match="No space left"):
        patch.setattr(run_directory, "write_sealed", fail)
        directory.create({"seed": 3})
    (tmp_path / "run" / "manifest.json.4711.tmp").write_text("{")  # of a process that was killed
    directory.create({"seed": 3})
    assert directory.manifest()["seed"] == 3
    directory.unlock()


def test_a_folder_that_cannot_be_made_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match=r"run_dir=.*file.* cannot be used"):
            RunDirectory(root).lock()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, RunError, "holds no run and no saved model"),
        ("", RunError, "is damaged"),
        ('{"format": ', RunError, "is damaged"),
        ("\udcff", RunError, "is damaged"),
        ("[" * 100_000, RunError, "is damaged"),
        ("[]", VersionError, f"was written by windvane unknown, in a format that windvane {VERSION} does not read"),
        ("{}", VersionError, "was written by windvane unknown"),
        (
            '{"format": 99, "windvane": "9.1"}',
            VersionError,
            f"by windvane 9.1, in a format that windvane {VERSION} does not read",
        ),
        ('{"format": "1", "windvane": "0.0.1"}', VersionError, "by windvane 0.0.1"),
    ],
)
def test_manifests_of_others(content: str | None, error: type[Exception], message: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(error, match=message):
        read_manifest(path)


def test_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(RunError, match="holds no run and no saved model"):
        read_manifest(tmp_path / "model" / "manifest.json")


OWNER = """
import sys, time
from pathlib import Path
from windvane.search.run.run_directory import RunDirectory
directory = RunDirectory(Path(sys.argv[1])); directory.lock()
print("HELD", flush=True)
time.sleep(60)
"""


def test_a_lock_is_held_by_a_living_process_alone(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "HELD\n"
        mine = RunDirectory(tmp_path / "run")
        with pytest.raises(RunLockedError, match=rf"in use by another process \(process id {owner.pid}\)"):
            mine.lock()
    finally:
        owner.kill()
        owner.communicate()
    assert owner.returncode == -signal.SIGKILL or os.name != "posix"
    mine.lock()
    assert (tmp_path / "run" / "lock").read_text() == str(os.getpid())
    mine.unlock()


def test_within_one_process_a_run_is_claimed_once_at_a_time(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path), RunDirectory(tmp_path)
    first.lock()
    with pytest.raises(RunLockedError, match=str(os.getpid())):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()
    second.unlock()  # a second time does nothing


def test_json_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_sealed(path, {"a": [1, None, "ü"]})
    with pytest.raises(TypeError):
        write_sealed(path, {"a": object()})
    assert read_sealed(path) == {"a": [1, None, "ü"]}
    assert [one.name for one in tmp_path.iterdir()] == ["facts.json"]


def digest(problem: Problem, **changes: Any) -> str:
    return replace(problem, **changes).fingerprint()


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_fingerprint_knows_every_cell(data: st.DataObject) -> None:
    problem = replace(make_problem(), table=rich_table(), weight=np.arange(90.0))
    table = problem.table
    assert table.sparse is not None
    row = data.draw(st.integers(0, 89))
    what = data.draw(st.sampled_from(["number", "missing", "target", "weight", "text", "sparse"]))
    changes: dict[str, Any] = {}
    if what in ("number", "missing"):
        matrix = table.matrix.copy()
        column = data.draw(st.integers(0, 2))
        matrix[row, column] = np.nan if what == "missing" else np.nan_to_num(matrix[row, column]) + 1e-9
        if np.array_equal(matrix, table.matrix, equal_nan=True):
            return
        changes["table"] = replace(table, matrix=matrix)
    elif what == "text":
        text = table.texts[0].copy()
        text[row] += "."
        changes["table"] = replace(table, texts=(text,))
    elif what == "sparse":
        sparse = table.sparse.tolil()
        sparse[row, 0] += 1
        changes["table"] = replace(table, sparse=sp.csr_matrix(sparse))
    else:
        values = getattr(problem, what).copy()
        values[row] += 1
        changes[what] = values
    assert digest(problem, **changes) != digest(problem)
    assert digest(problem) == digest(replace(problem, seed=1, folds=()))


def test_the_fingerprint_knows_shapes_and_types() -> None:
    problem = make_problem("regression")
    table = problem.table
    ones = np.ones(90)
    texts = [np.array(pair, dtype=object) for pair in (["a\0b", "c"], ["a", "b\0c"], ["a", "b\\0c"])]
    digests = [
        digest(problem),
        digest(problem, weight=ones),
        digest(problem, target=problem.target.astype(np.float32)),
        digest(problem, table=replace(table, matrix=table.matrix.reshape(30, 9))),
        digest(problem, table=replace(table, n_numbers=2, cardinalities=(3,))),
        digest(problem, table=replace(table, n_numbers=2, cardinalities=(4,))),
        *(digest(problem, table=replace(table, texts=(text,))) for text in texts),
        digest(problem, table=replace(table, texts=(texts[0][:1], texts[0][1:]))),
    ]
    assert len(set(digests)) == len(digests)

"""The worker process, spoken to through its pipes as a pool does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

from windvane.data.splits import make_folds
from windvane.data.task import Task
from windvane.evaluation.metrics import get_metric
from windvane.runtime.columns.table import Table
from windvane.runtime.serialization import read_sealed
from windvane.search.problem import Problem
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial
from windvane.search.workers import messages
from windvane.search.workers.messages import RunContext

TASK = Task("multiclass", 150, 4, 3)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    X, y = load_iris(return_X_y=True)
    folds, _ = make_folds(y.astype(np.int64), 3, seed=0)
    directory = RunDirectory(tmp_path)
    directory.trials.mkdir()
    metric = get_metric("auto", TASK)
    Problem(TASK, metric, Table(X, 4), y.astype(np.int64), None, tuple(folds), 0).write(directory.data)
    return directory


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "windvane.search.workers.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def test_it_trains_until_its_input_ends(program: subprocess.Popen[bytes], directory: RunDirectory) -> None:
    assert program.stdin is not None
    assert program.stdout is not None
    assert messages.receive(program.stdout) == {"event": "worker_ready"}
    objects = messages.pack_objects({"metric": get_metric("auto", TASK), "families": {}})
    messages.send(program.stdin, messages.open_message(RunContext(directory.root, objects), 4e3))
    messages.send(program.stdin, messages.train_message(Trial(7, "linear", {"C": 10.0}, "portfolio", 1), np.inf))
    checkpoint, done = messages.receive(program.stdout), messages.receive(program.stdout)
    assert checkpoint is not None
    assert done is not None
    assert (checkpoint["event"], done["event"]) == ("checkpoint", "finished")
    trial = Trial.from_json(done["trial"])
    assert (trial.number, trial.status) == (7, "done")
    assert trial.loss < 0.3
    record = read_sealed(directory.checkpoint(7, trial.checkpoint or "") / "trial.json")
    assert record["trial"]["loss"] == trial.loss
    program.stdin.close()
    assert program.wait(20) == 0


def test_what_a_library_prints_goes_to_the_log(program: subprocess.Popen[bytes], directory: RunDirectory) -> None:
    class Loud(type(get_metric("auto", TASK))):  # type: ignore[misc]
        def loss(self, target, prediction, weight=None):
            print("printed by a library", flush=True)
            return 0.5

    assert program.stdin is not None
    assert program.stdout is not None
    messages.receive(program.stdout)
    objects = messages.pack_objects({"metric": Loud("loud", len), "families": {}})
    messages.send(program.stdin, messages.open_message(RunContext(directory.root, objects), 4e3))
    messages.send(program.stdin, messages.train_message(Trial(0, "linear", {}, "portfolio", 1), np.inf))
    received = [messages.receive(program.stdout) for _ in range(2)]
    assert [message["event"] for message in received if message] == ["checkpoint", "finished"]
    assert "printed by a library" in directory.log.read_text()

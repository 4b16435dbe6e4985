"""The end of a fit waits for a disk that is slow, and not for one that hangs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from toys import make_trial

from windvane.search.run import history_writer
from windvane.search.run.history import History
from windvane.search.run.history_writer import HistoryWriter
from windvane.search.run.run_directory import RunDirectory


def write_trials(folder: Path, count: int) -> HistoryWriter:
    """Give a writer the checkpoints and records of trials."""
    directory, history = RunDirectory(folder), History(folder / "history.jsonl")
    writer = HistoryWriter(directory, history)
    for number in range(count):
        trial = make_trial(number, checkpoint="checkpoint_0")
        directory.checkpoint(number, "checkpoint_0").mkdir(parents=True)
        history.append(trial)
        writer.put(trial, ended=True)
    return writer


def test_a_slow_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "sync_folder", lambda folder: time.sleep(0.3))
    writer = write_trials(tmp_path, 5)
    writer.close(0.8)  # all of them take 1.5 s
    assert writer.error is None
    assert [trial.number for trial in History(tmp_path / "history.jsonl").records] == [0, 1, 2, 3, 4]


def test_a_disk_that_hangs_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def hang(folder: Any) -> None:
        if folder.parent.name == "00001":
            answer.wait()

    monkeypatch.setattr(history_writer, "sync_folder", hang)
    writer = write_trials(tmp_path, 3)
    started = time.monotonic()
    writer.close(0.2)
    assert str(writer.error) == "the disk did not answer for 0 seconds"
    assert time.monotonic() - started < 10
    answer.set()

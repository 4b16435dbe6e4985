from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import make_trial, trials

from windvane.search.run.history import History, describe_failures
from windvane.search.trial import Trial


def write(path: Path, records: list[Trial]) -> bytes:
    history = History(path)
    for trial in records:
        history.append(trial)
        history.write([trial])
    return path.read_bytes()


def test_records_in_order_and_the_last_of_each_trial(tmp_path: Path) -> None:
    records = [make_trial(2, 0.5), make_trial(0, 0.4), make_trial(2, 0.3), make_trial(1, float("inf"))]
    write(tmp_path / "h.jsonl", records)
    again = History(tmp_path / "h.jsonl")
    assert again.records == records
    assert again.trials == [records[1], records[3], records[2]]


def test_no_file_before_the_first_trial(tmp_path: Path) -> None:
    history = History(tmp_path / "h.jsonl")
    assert (history.records, history.trials) == ([], [])
    assert not (tmp_path / "h.jsonl").exists()


@settings(deadline=None, max_examples=30)
@given(st.lists(trials(), min_size=1, max_size=4), trials(), st.data())
def test_a_file_cut_anywhere_loses_its_torn_line_alone(records: list[Trial], late: Trial, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "h.jsonl"
        content = write(path, records)
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        # A line without its line break is whole all the same.
        ends = [i for i, byte in enumerate(content) if byte == ord("\n")]
        whole = sum(end <= cut for end in ends)
        history = History(path)
        assert history.records == records[:whole]
        history.write([late])
        assert History(path).records == [*records[:whole], late]


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"null", b"[1, 2]", b"3", b'{"number": 4}', b"\xff\xfe\x00", b"\0" * 50]
)
def test_a_line_that_is_no_trial_is_passed_over(garbage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    first = write(path, [make_trial(0)])
    path.write_bytes(first + garbage + b"\n" + first)
    assert History(path).records == [make_trial(0)] * 2


def test_a_write_that_fails_half_way_spoils_no_later_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "h.jsonl"
    history = History(path)
    history.append(make_trial(0))
    history.write([make_trial(0)])

    def full(descriptor: int) -> None:
        os.ftruncate(descriptor, path.stat().st_size - 20)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        history.write([make_trial(1)])
    history.write([make_trial(2)])
    assert History(path).records == [make_trial(0), make_trial(2)]


def test_a_failure_without_an_error_has_a_reason() -> None:
    """A target near the largest number: the squared error of a trial that ended well overflows."""
    done = make_trial(0)
    trials = [replace(done, number=number, loss=float("inf")) for number in (1, 2)]
    assert describe_failures(trials) == "  toy: done x2: its validation loss is not finite"

"""Telling of a search, with a clock moved by hand."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from windvane.data.task import Task
from windvane.evaluation.metrics import get_metric
from windvane.progress import CountProgress, Progress
from windvane.search.trial import Trial
from windvane.settings import format_duration

RMSE = get_metric("rmse", Task("regression", 100, 2))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def trial(number: int, loss: float | None) -> Trial:
    ended = Trial(number, "lightgbm", {}, "portfolio", 0, status="failed")
    return ended if loss is None else replace(ended, status="done", loss=loss, checkpoint="0001")


def test_plain_lines() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream=stream, clock=clock) as progress:
        progress.start(60.0, 2, RMSE)
        progress.running(["lightgbm", "catboost"])
        clock.now += 3
        progress.trial(trial(0, 0.25))
        progress.trial(trial(1, None))
        progress.trial(trial(2, 0.5))
        clock.now += 9.9
        progress.tick()
        clock.now += 0.1
        progress.tick()
        progress.trial(trial(2, 0.125))
    assert [" ".join(line.split()) for line in stream.getvalue().splitlines()] == [
        "windvane: 1 min 00 s, 2 workers",
        "3 s 1 trial best RMSE 0.25 (lightgbm) 57 s left now: lightgbm, catboost",
        "13 s 3 trials (1 failed) best RMSE 0.25 (lightgbm) 47 s left now: lightgbm, catboost",
        "13 s 3 trials (1 failed) best RMSE 0.125 (lightgbm) 47 s left now: lightgbm, catboost",
        "windvane: 3 trials (1 failed) in 13 s, best RMSE 0.125 (lightgbm)",
    ]


def test_a_trial_without_time_for_a_model_has_not_failed() -> None:
    stream = io.StringIO()
    with Progress(stream=stream, clock=Clock()) as progress:
        progress.start(60.0, 2, RMSE)
        progress.trial(trial(0, 0.25))
        progress.trial(replace(trial(1, None), status="stopped"))
    assert "2 trials in" in stream.getvalue() and "failed" not in stream.getvalue()


def test_without_a_model() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream=stream, clock=clock) as progress:
        progress.start(60.0, 1, RMSE)
        clock.now += 11
        progress.tick()
    assert [" ".join(line.split()) for line in stream.getvalue().splitlines()] == [
        "windvane: 1 min 00 s, 1 worker",
        "11 s 0 trials no model yet 49 s left",
        "windvane: 0 trials in 11 s, no model yet",
    ]


def test_live_display_gives_way_to_one_line() -> None:
    stream, clock = Terminal(), Clock()
    with Progress(stream=stream, clock=clock) as progress:
        progress.start(60.0, 2, RMSE)
        progress.running(["lightgbm [odd] name"])
        progress.trial(trial(0, 0.25))
        assert "now: lightgbm [odd] name" in stream.getvalue()
        assert "1 min 00 s left" in stream.getvalue()
        seen = len(stream.getvalue())
        clock.now += 0.1
        progress.tick()
        assert len(stream.getvalue()) == seen, "at most four frames a second"
        clock.now += 0.2
        progress.tick()
        assert len(stream.getvalue()) > seen
    assert stream.getvalue().endswith("windvane: 1 trial in 0 s, best RMSE 0.25 (lightgbm)\n")


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_quiet_says_nothing(kind: type[io.StringIO]) -> None:
    stream = kind()
    with Progress(quiet=True, stream=stream) as progress:
        progress.start(60.0, 2, RMSE)
        progress.trial(trial(0, 0.25))
        progress.tick()
    assert stream.getvalue() == ""


def test_closed_stream_does_not_end_the_search() -> None:
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress.start(60.0, 2, RMSE)
        stream.close()
        progress.trial(trial(0, 0.25))
        progress.tick()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.7, "1 min 00 s"),
        (61, "1 min 01 s"),
        (723.0, "12 min 03 s"),
        (3600, "1 h 00 min"),
        (7260, "2 h 01 min"),
        (7530, "2 h 05 min"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("stream", [None, object()])
def test_a_program_without_a_console(stream: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    with Progress() as progress:
        progress.start(60.0, 2, RMSE)
        progress.note("a line")
        progress.trial(trial(0, 0.25))
    with CountProgress("windvane: columns shuffled") as counted:
        counted.update(1, 2)

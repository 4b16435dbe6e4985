from __future__ import annotations

import io

import pytest

from windvane.vision.training.metrics import Evaluation, ProgressLogger, _duration
from windvane.vision.training.schedule import Schedule

FOUND = Evaluation(40, 2.0, 0.4, 12.0, 1e-3, 1234.0, 0.5, 0.8, 0.6, 0.75)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def logged(stream: io.StringIO, quiet: bool = False) -> str:
    clock = Clock()
    logger, schedule = ProgressLogger(quiet=quiet, stream=stream, clock=clock), Schedule(steps=100, clock=clock)
    for _ in range(40):
        clock.now += 0.4
        schedule.advance()
        schedule.measure_speed()
        logger.log_step(schedule, 1234.5, 0.51, 0.8)
    logger.log_evaluation(FOUND)
    return stream.getvalue()


def test_plain_lines_come_now_and_then() -> None:
    lines = logged(io.StringIO()).splitlines()
    assert len(lines) == 2
    assert lines[0] == "windvane:  25.0 %  step 25  1,234 images/s  loss 0.510  accuracy 0.800  30 s left"
    assert lines[1].endswith("validation loss 0.6000  accuracy 0.7500")
    assert "\x1b" not in "".join(lines)


def test_a_terminal_has_one_line_that_changes() -> None:
    text = logged(Terminal())
    assert text.count("\n") == 1
    assert text.count("\r\x1b[K") > 10


def test_silence() -> None:
    assert logged(io.StringIO(), quiet=True) == ""
    closed = io.StringIO()
    logger = ProgressLogger(stream=closed)
    closed.close()
    logger.log("nobody reads this")


def test_without_validation_nothing_is_said_of_it() -> None:
    stream = io.StringIO()
    ProgressLogger(stream=stream).log_evaluation(Evaluation(1, 0.1, 0.1, 1.0, 1e-3, 10.0, 0.5, 0.8))
    assert "validation" not in stream.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")])
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert _duration(seconds) == text

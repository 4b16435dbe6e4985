from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from windvane.errors import DiskError
from windvane.vision.training.device import DeviceContext
from windvane.vision.training.schedule import Schedule
from windvane.vision.training.training_log import (
    Evaluation,
    ProgressLogger,
    RunningMetrics,
    write_metrics,
    write_tensorboard,
)

ROWS = (
    Evaluation(10, 1.0, 0.5, 3.5, 1e-3, 100.0, 0.9, 0.5),
    Evaluation(20, 2.0, 1.0, 7.0, 0.0, 110.0, 0.7, 0.6, 0.8, 0.55),
)


def test_metrics_are_a_table(tmp_path: Path) -> None:
    for n in (1, 2):
        write_metrics(tmp_path, ROWS[:n])
        table = pd.read_csv(tmp_path / "metrics.csv")
        assert table["step"].tolist() == [10, 20][:n]
    assert table["valid_accuracy"].isna().tolist() == [True, False]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]
    with pytest.raises(DiskError, match=r"metrics\.csv"):
        write_metrics(tmp_path / "gone", ROWS)


def test_tensorboard_reads_them(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for row in ROWS:
        write_tensorboard(tmp_path, row)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(one.step, round(one.value, 3)) for one in events.Scalars("train/loss")] == [(10, 0.9), (20, 0.7)]
    assert [one.step for one in events.Scalars("valid/accuracy")] == [20]


def test_without_tensorboard_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    write_tensorboard(tmp_path, ROWS[0])
    assert not list(tmp_path.iterdir())


def test_means_are_over_images() -> None:
    running = RunningMetrics(DeviceContext(torch.device("cpu"), bfloat16=False))
    running.reset(10.0)
    targets = torch.tensor([[1.0, 0.0], [0.4, 0.6], [0.0, 1.0]])
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    running.update(torch.tensor(2.0), logits, targets)
    running.update(torch.tensor(5.0), logits[:1], targets[:1])
    assert running.compute(12.0) == pytest.approx((2.0, (3 * 2.0 + 5.0) / 4, 3 / 4))
    again = RunningMetrics(DeviceContext(torch.device("cpu"), bfloat16=False))
    again.load_state_dict(running.state_dict())
    assert again.compute(12.0) == running.compute(12.0)
    running.reset(12.0)
    assert np.isnan(running.compute(13.0)).all()


def test_several_processes_are_faster() -> None:
    running = RunningMetrics(DeviceContext(torch.device("cpu"), bfloat16=False, world_size=4))
    running.update(torch.tensor(1.0), torch.eye(2), torch.eye(2))
    assert running.compute(1.0) == (8.0, 1.0, 1.0)


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


def test_evaluations_with_missing_values_are_equal() -> None:
    """Also where equality of data classes compares the fields one by one, as from Python 3.13 on."""
    missing = Evaluation(10, 1.0, 0.5, 3.5, 1e-3, float("nan"), 0.9, 0.5)
    again = Evaluation(10, 1.0, 0.5, 3.5, 1e-3, float("nan"), 0.9, 0.5, float("nan"))
    assert missing == again and hash(missing) == hash(again)
    assert [missing].index(again) == 0
    assert missing != Evaluation(10, 1.0, 0.5, 3.5, 1e-3, 100.0, 0.9, 0.5)
    assert missing != Evaluation(11, 1.0, 0.5, 3.5, 1e-3, float("nan"), 0.9, 0.5)

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from windvane.vision.training.metrics import Evaluation, write_metrics, write_tensorboard

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

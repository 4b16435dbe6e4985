"""The program of an exported folder, run as the module that it is a copy of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from leaving import make_frame, make_predictor, make_target, ours, same

from windvane.export import predictor as program
from windvane.export.folder import write_folder
from windvane.predictor import Predictor


@pytest.fixture(params=["binary", "regression"])
def model(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Predictor]:
    X = make_frame()
    kept = make_predictor(tmp_path / "kept", X, make_target(X, request.param), request.param, [("linear", {})])
    write_folder(kept, tmp_path / "out")
    monkeypatch.setattr(program, "HERE", tmp_path / "out")
    for cached in (program.described, program.opened):
        cached.cache_clear()
    yield kept
    for cached in (program.described, program.opened):
        cached.cache_clear()


def test_predictions_are_ours(model: Predictor) -> None:
    X = make_frame(seed=1)
    raw, labels = ours(model, X)
    same(program.blend(X), raw)
    assert (program.predict(X) == labels).all()
    if model.classes is None:
        with pytest.raises(TypeError, match="predicts a number"):
            program.predict_proba(X)
    else:
        same(program.predict_proba(X), raw)


def test_a_table_in_and_predictions_out(
    model: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_frame(6).to_csv(tmp_path / "table.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["predictor.py", str(tmp_path / "table.csv")])
    program.main()
    lines = capsys.readouterr().out.splitlines()
    labels = ours(model, pd.read_csv(tmp_path / "table.csv"))[1]
    assert lines == ["prediction", *(str(label) for label in labels.tolist())]

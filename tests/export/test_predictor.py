"""The program of an exported folder, run as the module that it is a copy of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from leaving import export, make_frame, make_predictor, make_target, ours, program, same

from windvane.persistence import Predictor


@pytest.fixture(params=["binary", "regression"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Predictor:
    X = make_frame()
    kept = make_predictor(tmp_path / "kept", X, make_target(X, request.param), request.param, [("linear", {})])
    export(kept, tmp_path / "out")
    return kept


def test_predictions_are_ours(model: Predictor, tmp_path: Path) -> None:
    X = make_frame(seed=1)
    raw, labels = ours(model, X)
    copy = program(tmp_path / "out")
    assert (copy.predict(X) == labels).all()
    if model.classes is None:
        with pytest.raises(TypeError, match="predicts a number"):
            copy.predict_proba(X)
    else:
        same(copy.predict_proba(X), raw)


def test_a_table_in_and_predictions_out(
    model: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_frame(6).to_csv(tmp_path / "table.csv", index=False)
    copy: Any = program(tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["predictor.py", str(tmp_path / "table.csv")])
    copy.main()
    lines = capsys.readouterr().out.splitlines()
    labels = ours(model, pd.read_csv(tmp_path / "table.csv"))[1]
    assert lines == ["prediction", *(str(label) for label in labels.tolist())]

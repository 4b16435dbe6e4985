"""The program of an exported folder, run as the module that it is a copy of."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from leaving import export, make_frame, make_predictor, make_target, ours, program, same
from shell import shell

from windvane import AutoRegressor
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


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on numbers as people write them, and its export."""
    root = tmp_path_factory.mktemp("prices")
    rng = np.random.default_rng(0)
    amounts, shares = rng.integers(100, 900_000, 80) / 100, rng.integers(0, 1000, 80)
    euros = [f"{amount:,.2f} €".translate(str.maketrans(",.", ".,")) for amount in amounts]
    frame = pd.DataFrame(
        {"row": [f"r{i}" for i in range(80)], "price": euros, "share": [f"{s / 10} %" for s in shares]}
    )
    frame["weight"] = [f"{weight:.2f}".replace(".", ",") for weight in rng.normal(3, 0.5, 80)]
    model = AutoRegressor(n_trials=1, n_jobs=1, random_state=0, verbose=0, families=["linear"], policy="cv3")
    model.fit(frame, amounts * (1 + shares / 1000), id_columns=["row"])
    assert [c.number_format for c in model.predictor_.schema.columns[1:]] == ["1.234,5 €", "1,234.5 %", "1.234,5"]
    model.save(root / "run")
    model.export(root / "out")
    return root


def run_program(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a program, which must not end in a traceback."""
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, encoding="utf-8")
    assert "Traceback" not in done.stderr, done.stderr
    return done


LINES = {
    "numbers": ["a;1.234,50 €;4.5 %;3,1", "b;0,5 €;1 %;2", "c;;;"],
    "bad rows": ["a;1.234,50 €;4.5 %;3,1", "b;many;1 %;2", "", "c;3 €;1 %;2;9;9", "d;3 €;5 of 6;2"],
    "no good row": ["a;many;4.5 %;3,1"],
    "no row": [],
}


@pytest.mark.parametrize("case", LINES)
def test_the_program_reads_a_file_as_windvane_does(case: str, prices: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["row;price;share;weight", *LINES[case], ""]), encoding="utf-8")
    theirs = shell("predict", prices / "run", table, "--out", "-")
    mine = run_program(prices / "out" / "predictor.py", table)
    assert mine.stdout == theirs.stdout and mine.returncode == theirs.exit_code == (2 if case.startswith("no ") else 0)
    assert mine.stderr == theirs.stderr.replace("windvane:", "predictor.py:")
    assert len(mine.stderr.splitlines()) == (0 if case == "numbers" else 1)
    if case == "bad rows":
        assert [line.split(",")[0] for line in mine.stdout.splitlines()] == ["row", "a", "b", "", "", "d"]
        assert "4 of 5 rows cannot be predicted" in mine.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["missing.csv"], "does not exist"),
        (["."], "is a folder"),
        (["empty.csv"], "cannot be read"),
        (["binary.csv"], "no text"),
        (["other.csv"], "X lacks 3 of the 4 columns"),
        (["good.csv", "--what"], "unrecognized arguments: --what"),
        ([], "required: table"),
        (["good.csv", "--proba"], "--proba is for classes"),
    ],
)
def test_an_error_is_one_line(words: list[str], told: str, prices: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "good.csv").write_text("row;price;share;weight\na;1,50 €;4 %;3,1\n", encoding="utf-8")
    places = [word if word.startswith("--") else str(tmp_path / word) for word in words]
    done = run_program(prices / "out" / "predictor.py", *places)
    assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("predictor.py: ") and told in done.stderr


def test_a_damaged_export_is_one_line_and_a_traceback_on_demand(prices: Path, tmp_path: Path) -> None:
    shutil.copytree(prices / "out", tmp_path / "out")
    next((tmp_path / "out").rglob("encoder.json")).write_text("{}")
    (tmp_path / "table.csv").write_text("row;price;share;weight\na;1,50 €;4 %;3,1\n", encoding="utf-8")
    done = run_program(tmp_path / "out" / "predictor.py", tmp_path / "table.csv")
    assert done.returncode == 2 and "damaged" in done.stderr and len(done.stderr.splitlines()) == 1
    command = [sys.executable, str(tmp_path / "out" / "predictor.py"), str(tmp_path / "table.csv"), "--traceback"]
    assert "Traceback" in subprocess.run(command, capture_output=True, text=True).stderr

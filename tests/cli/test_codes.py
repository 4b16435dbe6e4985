"""Codes with leading zeros as labels, from one CSV file to the next."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from shell import shell


def test_labels_keep_their_zeros(tmp_path: Path) -> None:
    frame = pd.DataFrame({"zip": ["01234", "10115", "00777"] * 30, "x": range(90), "area": ["01", "02", "11"] * 30})
    frame.to_csv(tmp_path / "train.csv", index=False)
    run = tmp_path / "run"
    words = ["--target", "area", "--n-trials", "1", "--jobs", "1", "--policy", "holdout", "--families", "linear"]
    done = shell("fit", tmp_path / "train.csv", "--out", run, "--seed", "0", *words)
    assert done.exit_code == 0, done.output
    assert "3 distinct codes with leading zeros" in done.stderr
    frame.drop(columns="area").to_csv(tmp_path / "new.csv", index=False)
    assert shell("predict", run, tmp_path / "new.csv", "--out", tmp_path / "out.csv", "--quiet").exit_code == 0
    assert pd.read_csv(tmp_path / "out.csv", dtype=str)["prediction"].tolist() == frame["area"].tolist()
    frame[frame["area"] == "11"].to_csv(tmp_path / "test.csv", index=False)  # no label shows a zero
    for command in (["evaluate", run, tmp_path / "test.csv"], ["leaderboard", run, "--test", tmp_path / "test.csv"]):
        done = shell(*command, "--target", "area", "--json", "--quiet")
        assert done.exit_code == 0, done.output
        json.loads(done.stdout)
    page = tmp_path / "page.html"
    words = ["--test", tmp_path / "test.csv", "--target", "area", "--out", page, "--quiet"]
    assert shell("report", run, *words).exit_code == 0
    assert "01234" in page.read_text(encoding="utf-8")


def test_labels_that_are_read_as_missing_are_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": range(60), "harm": ["None", "light", "heavy"] * 20, "y": [1.0, None, 2.0] * 20})
    frame.to_csv(tmp_path / "t.csv", index=False)
    warning = "windvane: warning: --target='harm': 20 values are read as missing, among them 'None'. If that is a label"
    done = shell("fit", tmp_path / "t.csv", "--target", "harm", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert warning in done.stderr and "y has 20 missing values" in done.stderr
    done = shell("describe", tmp_path / "t.csv", "--target", "harm")
    assert done.exit_code == 0 and warning in done.stderr
    assert "warning" not in shell("describe", tmp_path / "t.csv", "--target", "y").stderr

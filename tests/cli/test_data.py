"""`windvane describe` as typed in a shell."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from shell import shell
from sklearn.datasets import load_iris


@pytest.fixture
def iris(tmp_path: Path) -> Path:
    frame = load_iris(as_frame=True).frame
    frame.to_csv(tmp_path / "iris.csv", index=False)
    frame.head(60).to_csv(tmp_path / "other.csv", index=False)
    return tmp_path / "iris.csv"


def run(*words: object) -> tuple[int, str, str]:
    result = shell("describe", *words)
    return result.exit_code, result.stdout, result.stderr


def test_a_table_is_described(iris: Path) -> None:
    code, out, _ = run(
        iris, "--target", "target", "--test", iris.with_name("other.csv"), "--out", iris.with_suffix(".html")
    )
    assert code == 0
    assert "target: 3 classes, 0 33.3%, 1 33.3%, 2 33.3%" in out
    assert "60 of 60 rows equal a row of the first table" in out
    assert out.rstrip().endswith("iris.html")
    assert iris.with_suffix(".html").exists()


def test_json_is_all_that_is_printed(iris: Path) -> None:
    code, out, _ = run(iris, "--target", "target", "--json")
    assert code == 0
    assert json.loads(out)["rows"] == len(pd.read_csv(iris))


def test_codes_are_read_alike_in_both_tables(tmp_path: Path) -> None:
    pd.DataFrame({"code": ["01", "02", "A1"] * 20, "size": range(60)}).to_csv(tmp_path / "t.csv", index=False)
    pd.DataFrame({"code": ["01", "02"] * 20, "size": range(40)}).to_csv(tmp_path / "other.csv", index=False)
    code, out, _ = run(tmp_path / "t.csv", "--test", tmp_path / "other.csv")
    assert code == 0
    assert "Categories of the other rows that do not occur here" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "weight"], "--target='weight' is not known"),
        (["--out", "page.txt"], "ends in .html"),
        (["--date-format", "target=dd.mm.yyyy"], "--date-format['target']='dd.mm.yyyy' is not usable. Allowed: a form"),
        (["--task", "clustering", "--target", "target"], "task='clustering'"),
        (["--test", "nowhere.csv"], "nowhere.csv does not exist"),
    ],
)
def test_mistakes_are_one_line(iris: Path, words: list[str], said: str) -> None:
    code, out, err = run(iris, *words)
    assert code == 2
    assert said in err
    assert len((out + err).strip().splitlines()) == 1


def test_a_table_of_the_target_alone(tmp_path: Path) -> None:
    pd.DataFrame({"label": [0, 1] * 9}).to_csv(tmp_path / "t.csv", index=False)
    for words in (["describe"], ["fit", "--out", tmp_path / "run"]):
        done = shell(*words, tmp_path / "t.csv", "--target", "label")
        assert done.exit_code == 2
        assert done.stderr == "windvane: The table has no column beside label. Allowed: at least one to learn from.\n"


def test_a_title_above_the_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Sales of 2024,,\na,b,y\n1,2,3\n4,5,6\n")
    code, _, err = run(tmp_path / "t.csv", "--target", "y")
    assert code == 2
    assert "The first line has no name for 2 columns; if the names stand further down, delete the lines above" in err

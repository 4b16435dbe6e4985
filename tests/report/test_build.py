"""Whole pages: honest, escaped, well formed, and there even where little is left of a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse as sp
from toys import HOSTILE_LABEL, HOSTILE_NAME, check_html

from windvane import AutoClassifier, AutoRegressor, load
from windvane.errors import InputError

ALWAYS = ["Data", "Ensemble", "Use it", "Versions and settings"]


def headings(html: str) -> list[str]:
    return re.findall(r"<h2>([^<]+)</h2>", html)


def written(model: Any, folder: Path, *test: Any) -> str:
    html = model.report(folder / "report.html", *test).read_text(encoding="utf-8")
    check_html(html)
    assert len(html) < 500_000
    assert "nan" not in re.sub(r"<style>.*?</style>|<[^>]*>", "", html, flags=re.S).lower().split()
    return str(html).replace("<wbr>", "")


def test_a_test_score_is_the_headline(binary: Any, tmp_path: Path) -> None:
    model, X, y, _ = binary
    html = written(model, tmp_path, X, y)
    cards = re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd><dd class=\"remark\">([^<]+)<", html)
    assert cards[0][:2] == ("Test roc_auc", f"{model.score(X, y):.4f}")
    assert "190 rows that the search did not see" in cards[0][2]
    assert cards[1][0] == "Validation roc_auc"
    assert "selected the model" in cards[1][2]
    assert cards[2][:2] == ("Constant prediction", "0.5000")
    middle = ["Data", "Train and test", "Search", "Ensemble", "Evaluation", "Predictions", "Columns that matter", "Why"]
    middle.append("Use it")
    assert headings(html) == [*middle, "Versions and settings"]
    assert "no shift is visible" in html


def test_without_a_test_set_the_page_says_what_its_rows_chose(binary: Any, tmp_path: Path) -> None:
    html = written(binary[0], tmp_path)
    assert "Test roc_auc" not in html
    assert "There is no unbiased score yet" in html
    assert "but these rows selected the models and weights" in html
    assert "Train and test" not in headings(html)


def test_hostile_names_are_harmless(binary: Any, tmp_path: Path) -> None:
    model, X, y, _ = binary
    html = written(model, tmp_path, X, y)
    for text in (HOSTILE_NAME, HOSTILE_LABEL, "<img", "<b>red"):
        assert text not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "script" not in re.findall(r"<(\w+)", html)


def test_regression(regression: Any, tmp_path: Path) -> None:
    model, X, y = regression
    html = written(model, tmp_path, X, y)
    assert f"<dd>{-model.score(X, y):.2f}</dd>" in html
    assert "lower is better" in html
    titles = re.findall(r"<figcaption>([^<]+)", html)
    assert {"The target", "True over predicted", "Errors", "Errors over the prediction"} <= set(titles)
    assert "Confusion matrix" not in titles


def test_many_classes(many: Any, tmp_path: Path) -> None:
    model, X, y = many
    html = written(model, tmp_path, X, y)
    assert "The 12 largest of 20 classes are shown." in html
    assert html.count('<th scope="row"') == 13
    assert "5 more" in html
    assert "model.save(&#x27;model&#x27;)" in html


def test_a_saved_model_alone(binary: Any, tmp_path: Path) -> None:
    model, X, y, _ = binary
    model.save(tmp_path / "model")
    html = written(load(tmp_path / "model"), tmp_path)
    assert headings(html) == ["Data", "Search", *ALWAYS[1:]]
    html = written(load(tmp_path / "model"), tmp_path, X, y)
    assert headings(html) == [
        "Data",
        "Search",
        ALWAYS[1],
        "Evaluation",
        "Predictions",
        "Columns that matter",
        *ALWAYS[2:],
    ]


def test_data_that_were_not_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    settings = {"n_trials": 1, "n_jobs": 1, "verbose": 0, "random_state": 0, "families": ["linear"]}
    y = X[:, 0] + rng.normal(size=120)
    model = AutoRegressor(run_dir=tmp_path / "run", keep_data=False, **settings).fit(X, y, X_test=X, y_test=y)
    html = written(model, tmp_path)
    assert "a saved model has none, nor a run with keep_data=False" in html
    assert "Test rmse" in html
    assert headings(html) == ["Data", "Search", *ALWAYS[1:]]
    model.refit(X, y)
    assert "Test rmse" not in written(model, tmp_path)  # that score was of other models


def test_sparse_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = sp.random(150, 12, density=0.3, random_state=0, format="csr")
    y = np.asarray(X.sum(axis=1)).ravel() + 0.1 * rng.normal(size=150) > 1.8
    settings = {"n_trials": 1, "n_jobs": 1, "verbose": 0, "random_state": 0, "families": ["linear"]}
    model = AutoClassifier(**settings).fit(X[:100], y[:100])
    html = written(model, tmp_path, X[100:], y[100:])
    assert "a sparse matrix of numbers" in html
    assert "no plain columns, to compare" in html


def test_a_path_is_refused_before_the_work(binary: Any, tmp_path: Path) -> None:
    model, X, *_ = binary
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(InputError, match="windvane did not write it"):
        model.report(tmp_path / "notes.html")
    with pytest.raises(InputError, match="y_test belongs to X_test"):
        model.report(tmp_path / "report.html", None, X.iloc[:, 0])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.html"]

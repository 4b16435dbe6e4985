"""What the sections on the predictions say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from windvane.evaluation.columns.importance import Importance
from windvane.evaluation.predictions import Predictions
from windvane.report.build import build_report
from windvane.report.predictions_section import (
    classification_section,
    headline,
    importance_section,
    regression_section,
)
from windvane.report.report_data import ReportData
from windvane.runtime.columns.table import Table

RNG = np.random.default_rng(0)
LABELS = ["no", "yes"]


def make(target: Any, prediction: Any) -> Predictions:
    return Predictions(Table(np.empty((len(target), 0)), 0), np.arange(len(target)), target, prediction)


def classification_html(predictions: Predictions) -> str:
    return "".join(classification_section(predictions, LABELS, positive=1).content)


def regression_html(predictions: Predictions) -> str:
    return "".join(regression_section(predictions, seed=0).content)


def test_confusion_cells_are_counts_shaded_by_share() -> None:
    raw = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]])
    html = classification_html(make(np.array([0, 0, 1, 1]), raw))
    assert re.findall(r'--v:(\d+)%"[^>]*>(\d+)<', html) == [("50", "1"), ("50", "1"), ("0", "0"), ("100", "2")]
    assert "Accuracy 75.0%" in html


@pytest.mark.parametrize("target", [np.zeros(5, dtype=np.int64), np.array([0, 1, 1, 0, 1])])
def test_one_class_alone_has_no_curves(target: Any) -> None:
    raw = np.column_stack([np.linspace(0, 1, 5), np.linspace(1, 0, 5)])
    titles = re.findall(r"<figcaption>([^<]+)", classification_html(make(target, raw)))
    assert ("ROC" in titles) == (len(np.unique(target)) == 2)
    assert "Confusion matrix" in titles


def test_no_predictions_no_section(binary: Any) -> None:
    page = build_report(ReportData(binary[0].predictor_))
    assert "Predictions" not in [section.title for section in page.sections]


@pytest.mark.parametrize("constant", [False, True])
def test_errors_of_numbers(constant: bool) -> None:
    target = RNG.normal(size=2000)
    prediction = np.zeros(2000) if constant else target + RNG.normal(0, 0.1, 2000)
    html = regression_html(make(target, prediction))
    assert "800 rows drawn at random" in html
    median = np.median(np.abs(prediction - target))
    assert f"Half of the errors are below {median:#.3g}" in html


def test_perfect_numbers() -> None:
    target = RNG.normal(size=30)
    assert "Half of the errors are below 0," in regression_html(make(target, target.copy()))


def test_the_headline_names_what_chose_the_model(binary: Any) -> None:
    html = "".join(headline(ReportData.of(binary[0]), seed=0)).replace("<wbr>", "")
    assert re.findall(r"<dt>([^<]+)", html)[0] == "Validation roc_auc"
    assert "selected the model, so it is optimistic; higher is better" in html


def test_importance_in_words() -> None:
    drops = {f"c{i}": (1.0 / (i + 1), 0.01) for i in range(20)} | {"none": (-0.2, 0.1)}
    found = Importance(drops, n_rows=77, n_repeats=1, n_omitted=3)
    predictions = make(np.zeros(77), np.zeros(77))
    html = "".join(importance_section(found, predictions, "r2").content)
    assert "(once, 77 test rows)" in html
    assert "<em>1.00</em>" in html
    again = importance_section(replace(found, n_repeats=2), predictions, "r2")
    assert "<em>1.00 ± 0.01</em>" in "".join(again.content)
    assert "6 more columns matter less." in html
    assert "3 columns were omitted for lack of time" in html
    flat = Importance({"a": (0.0, 0.0)}, 5, 2)
    assert "<em>none</em>" in "".join(importance_section(flat, predictions, "r2").content)

"""What the sections on the predictions say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from windvane.report.evidence import Evidence, Judged, Run, collect
from windvane.report.importance import Importance
from windvane.report.score_part import headline, importance_section, score_section
from windvane.runtime.table import Table

RNG = np.random.default_rng(0)


def judged(target: Any, raw: Any) -> Judged:
    return Judged(Table(np.empty((len(target), 0)), 0), np.arange(len(target)), target, raw)


def test_confusion_cells_are_counts_shaded_by_share(binary: Any) -> None:
    model = binary[0]
    raw = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]])
    section = score_section(Evidence(Run.of(model), test=judged(np.array([0, 0, 1, 1]), raw)))
    assert section is not None
    html = "".join(section.content)
    assert re.findall(r'--v:(\d+)%"[^>]*>(\d+)<', html) == [("50", "1"), ("50", "1"), ("0", "0"), ("100", "2")]
    assert "75.0% are right" in html


@pytest.mark.parametrize("target", [np.zeros(5, dtype=np.int64), np.array([0, 1, 1, 0, 1])])
def test_one_class_alone_has_no_curves(binary: Any, target: Any) -> None:
    raw = np.column_stack([np.linspace(0, 1, 5), np.linspace(1, 0, 5)])
    section = score_section(Evidence(Run.of(binary[0]), test=judged(target, raw)))
    assert section is not None
    titles = re.findall(r"<figcaption>([^<]+)", "".join(section.content))
    assert ("ROC" in titles) == (len(np.unique(target)) == 2)
    assert "Calibration" in titles


def test_no_predictions_no_section(binary: Any) -> None:
    assert score_section(Evidence(Run.of(binary[0]))) is None


@pytest.mark.parametrize("constant", [False, True])
def test_errors_of_numbers(regression: Any, constant: bool) -> None:
    target = RNG.normal(size=2000)
    raw = np.zeros(2000) if constant else target + RNG.normal(0, 0.1, 2000)
    section = score_section(Evidence(Run.of(regression[0]), test=judged(target, raw)))
    assert section is not None
    html = "".join(section.content)
    assert "800 rows drawn at random" in html
    median = np.median(np.abs(raw - target))
    assert f"Half of the errors are below {median:#.3g}" in html


def test_perfect_numbers(regression: Any) -> None:
    target = RNG.normal(size=30)
    section = score_section(Evidence(Run.of(regression[0]), test=judged(target, target.copy())))
    assert section is not None
    assert "Half of the errors are below 0," in "".join(section.content)


def test_the_headline_names_what_chose_the_model(binary: Any) -> None:
    html = "".join(headline(collect(Run.of(binary[0])))).replace("<wbr>", "")
    assert re.findall(r"<dt>([^<]+)", html)[0] == "Validation roc_auc"
    assert "chose the model, so it is optimistic; higher is better" in html


def test_importance_in_words() -> None:
    losses = {f"c{i}": (1.0 / (i + 1), 0.01) for i in range(20)} | {"none": (-0.2, 0.1)}
    found = Importance(rows=77, repeats=1, losses=losses, left_out=3)
    html = "".join(importance_section(found, judged(np.zeros(77), np.zeros(77)), "r2").content)
    assert "(once, 77 test rows)" in html
    assert "<em>1.00</em>" in html
    again = importance_section(replace(found, repeats=2), judged(np.zeros(77), np.zeros(77)), "r2")
    assert "<em>1.00 ± 0.01</em>" in "".join(again.content)
    assert "6 more columns lose less." in html
    assert "For 3 columns" in html
    flat = Importance(5, 2, {"a": (0.0, 0.0)}, 0)
    assert "<em>none</em>" in "".join(importance_section(flat, judged(np.zeros(5), np.zeros(5)), "r2").content)

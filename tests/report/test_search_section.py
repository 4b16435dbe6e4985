"""What the sections on the search say."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from toys import make_trial

from windvane.data.task import Task
from windvane.evaluation.metrics import get_metric
from windvane.pages.html_builder import Html
from windvane.persistence import Predictor
from windvane.report.report_data import ReportData
from windvane.report.search_section import MAX_ERROR_LENGTH, ensemble_section, failure_section, search_section
from windvane.runtime.columns.schema import Schema
from windvane.runtime.ensemble import Ensemble, Member
from windvane.search.strategy.policy import make_policy

TASK = Task("binary", 100, 1, 2)


def make(trials: list[Any], *, n_curve: int = 20, temperature: float = 1.0) -> ReportData:
    members = (
        Member(0, "checkpoint_0000", "toy", 0.5),
        Member(1, "checkpoint_0000", "toy", 0.3),
        Member(2, "s", "tree", 0.2),
    )
    ensemble = Ensemble(members, 0.1, temperature, decision_weights=(1.0, 2.5))
    classes = np.array(["no", "yes"])
    models: Any = ((1, 2), (1, 2), (1, 2))
    predictor = Predictor(
        Schema((), False, 1), classes, ensemble, models, task=TASK, metric=get_metric("roc_auc", TASK), folders=()
    )
    curve = [(float(i), 0.9 if i == 0 else 0.4 - i / 100, 0.3 - i / 100) for i in range(n_curve)]
    return ReportData(predictor, trials, curve, make_policy("cv3-halving", "of a test"))


def text(content: Any) -> str:
    return "\n".join(content)


def test_the_search_in_words_and_pictures() -> None:
    trials = [make_trial(i, 0.1 + i / 100, fold_losses=(0.1, 0.2, float("inf")), ended=75.0) for i in range(30)]
    html = text(search_section(make([*trials, make_trial(30, float("inf"))])).content)
    assert "3 folds, with successive halving (cv3-halving), because: of a test." in html
    assert "31 trials in 1 min 15 s (31 from the portfolio); 30 with a usable model." in html
    assert re.findall(r"<figcaption>([^<]+)", html) == ["Score over time", "Spread over folds"]
    assert html.count("<td>toy #") == 31
    assert "The other 19 trials" in html
    assert "0.9000" in html  # ROC AUC of a loss of 0.1


def test_the_first_bad_model_does_not_flatten_the_curve() -> None:
    html = text(search_section(make([make_trial(0, 0.1)])).content)
    svg = html[html.index("<svg") : html.index("</svg>")]
    lowest = min(float(label) for label in re.findall(r'text-anchor="end" class="tick">([\d.]+)<', svg))
    assert lowest > 0.5  # the first single model has 0.1


@pytest.mark.parametrize("n_curve", [0, 1])
def test_no_curve_no_folds(n_curve: int) -> None:
    html = text(search_section(make([make_trial(0, 0.1, fold_losses=(0.1,))], n_curve=n_curve)).content)
    assert "<figcaption>" not in html


def test_the_ensemble() -> None:
    trials = [make_trial(i, 0.1, config={"rate": 0.000123456, "kind": "<x>"}, best_iterations=(3, 4)) for i in range(2)]
    html = text(ensemble_section(make(trials, temperature=1.25)).content)
    assert "3 members, 6 models in all" in html
    assert "temperature 1.250" in html
    assert "“yes” is predicted above the probability 0.2857." in html
    weights = re.findall(r"<b>([^<]+)</b>.*?width:([\d.]+)%.*?<em>([^<]+)</em>", html)
    assert weights[:3] == [("toy #0", "100.0", "50%"), ("toy #1", "60.0", "30%"), ("tree #2", "40.0", "20%")]
    assert weights[3:] == [("toy", "100.0", "80%"), ("tree", "25.0", "20%")]
    assert html.count("<details>") == 2  # the trial of the third is not there
    assert "0.0001235" in html
    assert "&lt;x&gt;" in html
    assert "3, 4" in html


def test_failures_are_counted_by_reason() -> None:
    assert failure_section([make_trial(0, 0.1), make_trial(1, 0.2, status="stopped")]) is None
    trials = [make_trial(i, float("inf")) for i in range(3)]
    trials.append(make_trial(3, 0.3, status="timeout", error="x" * 1000))
    section = failure_section([*trials, make_trial(4, 0.1)])
    assert section is not None
    html = Html(text(section.content))
    assert "4 of 5 trials failed or ended early" in html
    items = re.findall(r"<li>(.*?)</li>", re.sub("</?(b|pre|code)>", "|", html))
    assert items[0] == "|toy|: 3 trials, the library raised an error.||it broke||"
    assert (
        items[1]
        == f"|toy|: 1 trial, stopped at its time limit; its last checkpoint is used.||{'x' * MAX_ERROR_LENGTH}||"
    )

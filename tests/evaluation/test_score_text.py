from __future__ import annotations

import pytest

from windvane.evaluation.metrics import CLASSIFICATION, REGRESSION, Metric
from windvane.evaluation.score_text import natural_score, score_text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        (REGRESSION["rmse"], 26453.6, "RMSE 26,454"),
        (REGRESSION["rmse"], 1234.56, "RMSE 1,234.6"),
        (REGRESSION["rmse"], 123456789.4, "RMSE 123,456,789"),
        (REGRESSION["mae"], 1e20, "MAE 1e+20"),
        (REGRESSION["r2"], 0.912356, "R² 0.91236"),
        (CLASSIFICATION["roc_auc"], 0.981234, "ROC AUC 0.98123"),
        (CLASSIFICATION["balanced_accuracy"], 1.0, "balanced accuracy 1"),
        (Metric("within 10 %", max), float("nan"), "within 10 % nan"),
    ],
)
def test_score_text(metric: Metric, value: float, text: str) -> None:
    assert score_text(metric, value) == text


def test_natural_sign() -> None:
    assert natural_score(REGRESSION["rmse"], -3.0) == 3.0
    assert natural_score(CLASSIFICATION["roc_auc"], 0.5) == 0.5

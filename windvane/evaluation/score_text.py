"""Scores as people write them: the metric's name, its natural sign, few digits."""

from __future__ import annotations

import math

from windvane.evaluation.metrics import Metric

_NAMES = {"rmse": "RMSE", "mse": "MSE", "mae": "MAE", "r2": "R²", "roc_auc": "ROC AUC", "log_loss": "log loss"}
MAX_PLAIN = 1e15  # larger numbers are written with an exponent


def metric_name(metric: Metric) -> str:
    """Return the name of a metric as it is written in a sentence."""
    return _NAMES.get(metric.name, metric.name.replace("_", " "))


def score_number(value: float) -> str:
    """Write a value with five digits, or all those before the point: 0.98123, 26,454."""
    if not math.isfinite(value) or not 1e4 <= abs(value) < MAX_PLAIN:
        return f"{value:,.5g}"
    return f"{value:,.0f}"


def score_text(metric: Metric, value: float) -> str:
    """Write the name and the value of a metric, in the direction of the metric."""
    return f"{metric_name(metric)} {score_number(value)}"


def natural_score(metric: Metric, score: float) -> float:
    """Turn a score for which higher is better into the metric's own direction, and back."""
    return score if metric.greater_is_better else -score

"""The content of an evaluation, which its text and its page are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from windvane.data.task import Kind


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationTables:
    """The tables and values of a `windvane.Evaluation`, which documents them."""

    metric: str
    task: Kind
    n_rows: int
    is_test: bool
    metrics: pd.DataFrame
    classes: pd.DataFrame | None
    confusion: pd.DataFrame | None
    segments: pd.DataFrame
    worst_rows: pd.DataFrame
    lift: pd.DataFrame | None
    calibration: pd.DataFrame | None
    positive_class: Any = None
    targets: pd.DataFrame | None = None
    threshold: float | None = None

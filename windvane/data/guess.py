"""Whether a target is to be classified or is a number to predict, where the user did not say."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from pandas.api import types

MAX_WHOLE_CLASSES = 20  # whole numbers of more distinct values than this are taken for amounts
MIN_ROWS_A_CLASS = 3


def guess_task(target: pd.Series) -> tuple[Literal["classification", "regression"], str]:
    """Infer the task from the target's values."""
    present = target.dropna()
    distinct = int(present.nunique())
    if not types.is_numeric_dtype(present.dtype) or types.is_bool_dtype(present.dtype):
        return "classification", f"{distinct} distinct values that are not numbers"
    if (present != present.round()).any():
        return "regression", "numbers with fractions"
    if distinct <= MAX_WHOLE_CLASSES and (distinct == 2 or len(present) >= MIN_ROWS_A_CLASS * distinct):
        return "classification", f"{distinct} distinct whole numbers"
    return "regression", f"{distinct} distinct whole numbers in {len(present)} rows"

"""How a column of texts writes its numbers, if it holds numbers."""

from __future__ import annotations

from numbers import Number

import numpy as np
import pandas as pd

from windvane.runtime.columns.column_values import MISSING_TEXTS, is_missing
from windvane.runtime.columns.number_texts import Evidence, find_forms

SAMPLE = 1000  # values that show that most columns of texts hold no numbers


def number_forms(values: pd.Series) -> Evidence:
    """Find how the numbers of a column are written as texts, beside which there may be true numbers."""
    evidence = _forms_of(values.iloc[:SAMPLE])
    return _forms_of(values) if len(values) > SAMPLE and evidence.forms else evidence


def _forms_of(values: pd.Series) -> Evidence:
    texts: dict[str, None] = {}
    for value in values.to_numpy(dtype=object):
        if isinstance(value, str):
            texts[value.strip()] = None
        elif not is_missing(value) and (isinstance(value, bool | np.bool_) or not isinstance(value, Number)):
            return Evidence((), False)
    return find_forms(text for text in texts if text not in MISSING_TEXTS)

"""How a column of texts writes its numbers, if it holds numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Number

import numpy as np
import pandas as pd

from windvane.runtime.columns.column_values import MISSING_TEXTS, is_missing, plain_numbers
from windvane.runtime.columns.number_texts import Evidence, find_forms

SAMPLE = 1000  # values that show that most columns of texts hold no numbers
MOST_ODD, LEAST_NUMBERS = 0.1, 20  # of distinct texts: share that are no numbers, and how many are


def number_forms(values: pd.Series) -> Evidence:
    """Find how the numbers of a column are written as texts, beside which there may be true numbers."""
    evidence = _forms_of(values.iloc[:SAMPLE])
    return _forms_of(values) if len(values) > SAMPLE and evidence.forms else evidence


def texts_beside_numbers(texts: Sequence[str]) -> list[str]:
    """Return the few of many distinct texts that keep the others from being numbers; empty where that is not so."""
    most = MOST_ODD * len(texts)
    odd = [text for text, number in zip(texts, plain_numbers(texts).tolist(), strict=True) if number != number]
    if len(odd) > most:  # perhaps written in a form that Python does not read
        odd, rest = without_digits(texts)
        if len(odd) > most or not find_forms(rest).forms:
            return []
    return odd if len(texts) - len(odd) >= LEAST_NUMBERS else []


def without_digits(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Divide texts into those without a digit, such as "unknown", and the others."""
    odd, rest = list[str](), list[str]()
    for text in texts:
        (rest if any(map(str.isdigit, text)) else odd).append(text)
    return odd, rest


def _forms_of(values: pd.Series) -> Evidence:
    texts: dict[str, None] = {}
    for value in values.to_numpy(dtype=object):
        if isinstance(value, str):
            texts[value.strip()] = None
        elif not is_missing(value) and (isinstance(value, bool | np.bool_) or not isinstance(value, Number)):
            return Evidence((), False)
    return find_forms(text for text in texts if text not in MISSING_TEXTS)

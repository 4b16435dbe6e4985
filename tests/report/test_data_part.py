"""What the sections on the data say."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse as sp

from windvane.data.column_types import infer_schema
from windvane.data.files import to_frame
from windvane.report.data_part import drift_section, kinds
from windvane.report.drift import Drift


def test_kinds_are_counted() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4], "c": ["x", "y"], "d": [1, 1]})
    assert kinds(infer_schema(frame)) == "2 numbers, 1 category, 1 left out"
    assert kinds(infer_schema(to_frame(sp.csr_matrix(np.eye(3))))) == "a sparse matrix of numbers"


@pytest.mark.parametrize(
    ("drift", "shared", "words"),
    [
        (Drift(0.52, 0.01, []), 0, ["no drift is visible"]),
        (Drift(0.6, 0.01, [("when", 0.75, 0.5)]), 0, ["differ a little", "when", "75% · 0.50"]),
        (Drift(0.9, 0.01, [("when", 0.75, 0.5)]), 5, ["differ clearly", "5 of 50 test rows (10.0%) equal"]),
        (None, 0, ["too few rows"]),
    ],
)
def test_drift_in_words(drift: Drift | None, shared: int, words: list[str]) -> None:
    text = "".join(drift_section(drift, shared, 50).content)
    assert all(word in text for word in words)
    assert ("warn" in text) == bool(shared or (drift is not None and drift.visible))
    if drift is not None and drift.visible:
        assert re.search(r'style="width:100\.0%"', text)

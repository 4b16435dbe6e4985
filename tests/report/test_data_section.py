"""What the sections on the data say."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse as sp

from windvane.data.column_types import infer_schema
from windvane.data.files import to_frame
from windvane.report.data_section import TableSummary, shift_section, table_size
from windvane.report.dataset_shift import ColumnShift, DatasetShift


def test_kinds_are_counted() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4], "c": ["x", "y"], "d": [1, 1]})
    assert table_size(2, infer_schema(frame)) == "2 rows, 4 columns: 2 numeric, 1 categorical, 1 dropped"
    sparse = infer_schema(to_frame(sp.csr_matrix(np.eye(3))))
    assert table_size(3, sparse) == "3 rows, 3 columns: a sparse matrix of numbers"


@pytest.mark.parametrize(
    ("shift", "shared", "words"),
    [
        (DatasetShift(0.52, 0.01, []), 0, ["no shift is visible"]),
        (DatasetShift(0.6, 0.01, [ColumnShift("when", 0.75, 0.5)]), 0, ["differ a little", "when", "75% · 0.50"]),
        (
            DatasetShift(0.9, 0.01, [ColumnShift("when", 0.75, 0.5)]),
            5,
            ["differ clearly", "5 of 50 test rows (10.0%) equal"],
        ),
        (None, 0, ["too few rows"]),
    ],
)
def test_shift_in_words(shift: DatasetShift | None, shared: int, words: list[str]) -> None:
    schema = infer_schema(pd.DataFrame({"when": [1.0, 2.0]}))
    text = "".join(shift_section(TableSummary(2, schema, shift=shift, n_shared=shared, n_test=50)).content)
    assert all(word in text for word in words)
    assert ("warn" in text) == bool(shared or (shift is not None and shift.is_visible))
    if shift is not None and shift.is_visible:
        assert re.search(r'style="width:100\.0%"', text)

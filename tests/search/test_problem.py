from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys import make_problem


@pytest.mark.parametrize(
    ("n", "cells", "rows"), [(90, 1e9, None), (9000, 3000, 2000), (9000, 30_000, None), (9000, 7000, 2333)]
)
def test_first_models_of_large_data_see_few_rows(n: int, cells: float, rows: int | None) -> None:
    """Three columns and one output; 6,000 rows of 9,000 train."""
    assert make_problem("regression", n=n).initial_sample_size(cells) == rows


def test_many_classes_need_more_rows_and_are_dearer() -> None:
    problem = make_problem("multiclass", n=9000)
    assert problem.initial_sample_size(9 * 2500) == 2500


def test_the_problem_survives_the_disk(tmp_path: Path) -> None:
    problem = replace(make_problem("multiclass", n=60), weight=np.arange(60.0))
    problem.write(tmp_path)
    again = type(problem).read(tmp_path, problem.metric)
    np.testing.assert_array_equal(again.table.matrix, problem.table.matrix)
    assert again.task == problem.task

"""The openers, on arrays made by hand; tests/export/test_folder.py holds them to every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse as sp

from windvane.export.members import OPENERS, load_arrays

FOREST = {
    # x0 <= 0.5 ? (missing: left) 0 : (x1 <= 2 ? 1 : 2), and one leaf alone
    "sizes": np.array([5, 1]),
    "right": np.array([2, 0, 4, 0, 0, 0], dtype=np.int32),
    "feature": np.array([0, -1, 1, -1, -1, -1], dtype=np.int32),
    "threshold": np.array([0.5, 0, 2, 0, 0, 0], dtype=np.float32),
    "missing_left": np.array([True, False, False, False, False, False]),
    "values": np.array([[0.0], [10.0], [20.0], [4.0]]),
}


@pytest.mark.parametrize("wrap", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
def test_forest(wrap: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "trees.npz", **FOREST)
    predict = OPENERS["forest"](tmp_path, {"n_classes": 0})
    rows = np.array([[0.5, 9], [np.nan, 9], [0.6, 2], [0.6, 2.5], [0.6, np.nan], [1e300, 0]])
    np.testing.assert_array_equal(predict(wrap(rows)), [2.0, 2.0, 7.0, 12.0, 12.0, 7.0])


def test_linear_model_of_one_class_and_of_two_among_three(tmp_path: Path) -> None:
    np.savez(tmp_path / "linear.npz", coefficients=np.array([[2.0]]), intercept=np.array([1.0]))
    one = OPENERS["linear"](tmp_path, {"n_classes": 3, "classes": [1]})
    np.testing.assert_array_equal(one(np.zeros((2, 1))), [[0, 1, 0]] * 2)
    two = OPENERS["linear"](tmp_path, {"n_classes": 3, "classes": [0, 2]})
    p = 1 / (1 + np.exp(-5))
    np.testing.assert_allclose(two(np.array([[2.0]])), [[1 - p, 0, p]])


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        load_arrays(tmp_path / "bad.npz")

"""The openers, on arrays made by hand; tests/export/test_folder.py holds them to every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse as sp
from scipy.stats import multivariate_normal

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


def test_boosted_trees(tmp_path: Path) -> None:
    # Two trees: x1 in {0, 9} ? (missing: right) 1 : (x0 <= 0.5 ? (missing: left) 2 : 4), and one leaf alone.
    sets = np.zeros((1, 32), dtype=np.uint8)
    sets[0, 0], sets[0, 1] = 1 << 0, 1 << 1
    trees = {
        "sizes": np.array([5, 1]),
        "left": np.array([1, 0, 3, 0, 0, 0], dtype=np.uint32),
        "right": np.array([2, 0, 4, 0, 0, 0], dtype=np.uint32),
        "feature": np.array([1, -1, 0, -1, -1, -1]),
        "threshold": np.array([np.nan, 0, 0.5, 0, 0, 0]),
        "missing_left": np.array([False, False, True, False, False, False]),
        "which": np.array([0, -1, -1, -1, -1, -1]),
        "sets": sets,
        "value": np.array([0, 1.0, 0, 2.0, 4.0, 0.25]),
        "baseline": np.array([[10.0]]),
    }
    np.savez(tmp_path / "trees.npz", **trees)
    rows = np.array([[0, 0], [1, 9], [0.5, 1], [np.nan, 8], [0.6, np.nan], [0.5000001, 255]])
    predict = OPENERS["hist_gradient_boosting"](tmp_path, {"n_classes": 0, "units": (100.0, 2.0)})
    np.testing.assert_array_equal(predict(rows), 100 + 2 * (10.25 + np.array([1, 1, 2, 2, 4, 4])))
    three = {**trees, "baseline": np.array([[1.0, 2.0, 3.0]]), "sizes": np.array([1, 1, 1]), "value": np.arange(3.0)}
    three |= {"feature": np.full(3, -1), "left": np.zeros(3), "right": np.zeros(3)}
    np.savez(tmp_path / "trees.npz", **three)
    predict = OPENERS["hist_gradient_boosting"](tmp_path, {"n_classes": 3, "classes": [0, 1, 2]})
    powers = np.exp([1.0, 3.0, 5.0])
    np.testing.assert_allclose(predict(rows), np.tile(powers / powers.sum(), (6, 1)))


def test_sigmoids_of_linear_scores(tmp_path: Path) -> None:
    np.savez(tmp_path / "sgd.npz", coefficients=np.eye(3), intercept=np.zeros(3), slope=np.ones(3), shift=np.zeros(3))
    three = OPENERS["sgd"](tmp_path, {"n_classes": 4, "classes": [0, 1, 3]})
    np.testing.assert_allclose(three(np.zeros((1, 3))), [[1 / 3, 1 / 3, 0, 1 / 3]])
    np.testing.assert_allclose(three(np.full((1, 3), -1e5)), [[1 / 3, 1 / 3, 0, 1 / 3]])
    arrays = {"coefficients": np.array([[2.0]]), "intercept": np.array([1.0])}
    np.savez(tmp_path / "sgd.npz", **arrays, slope=np.array([0.5]), shift=np.array([-1.0]))
    two = OPENERS["sgd"](tmp_path, {"n_classes": 2, "classes": [0, 1]})
    p = 1 / (1 + np.exp(-(0.5 * 5 - 1)))
    np.testing.assert_allclose(two(np.array([[2.0]])), [[1 - p, p]])
    one = OPENERS["sgd"](tmp_path, {"n_classes": 2, "classes": [1]})
    np.testing.assert_array_equal(one(np.array([[2.0]])), [[0, 1]])
    number = OPENERS["sgd"](tmp_path, {"n_classes": 0, "classes": [], "units": (10.0, 3.0)})
    np.testing.assert_allclose(number(np.array([[2.0]])), [25.0])


@pytest.mark.parametrize("wrap", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
def test_kernels(wrap: Any, tmp_path: Path) -> None:
    rows, landmarks = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 2.0], [3.0, 0.0]])
    kept = {"rows": landmarks}
    if wrap is sp.csr_matrix:
        held = sp.csr_matrix(landmarks)
        kept = {"data": held.data, "indices": held.indices, "indptr": held.indptr, "shape": np.array([2, 2])}
    np.savez(tmp_path / "kernel.npz", dual=np.array([[2.0], [-1.0]]), intercept=np.array([0.5]), **kept)
    lengths = {
        "rbf": ((rows[:, None] - landmarks) ** 2).sum(axis=2),
        "laplacian": abs(rows[:, None] - landmarks).sum(axis=2),
    }
    kernels = {name: np.exp(-0.3 * length) for name, length in lengths.items()}
    kernels["polynomial"] = (0.3 * rows @ landmarks.T + 1) ** 3
    for kernel, wanted in kernels.items():
        facts = {"n_classes": 0, "units": (0.0, 1.0), "kernel": kernel, "gamma": 0.3, "degree": 3}
        np.testing.assert_allclose(OPENERS["kernel"](tmp_path, facts)(wrap(rows)), wanted @ [2.0, -1.0] + 0.5)


def test_neighbours(tmp_path: Path) -> None:
    arrays = {"rows": np.array([[0.0], [1.0], [4.0], [100.0]], dtype=np.float32), "weight": np.array([1.0, 1, 2, 1])}
    np.savez(tmp_path / "neighbours.npz", target=np.array([5.0, 7.0, 9.0, 0.0]), **arrays)
    facts = {"n_classes": 0, "units": (0.0, 2.0), "n_neighbours": 3, "weights": "uniform", "p": 2}
    np.testing.assert_allclose(OPENERS["neighbours"](tmp_path, facts)(np.array([[2.0]])), [2 * (5 + 7 + 2 * 9) / 4])
    facts["weights"] = "distance"  # 2, 1 and 2 away
    wanted = 2 * (5 / 2 + 7 + 2 * 9 / 2) / (1 / 2 + 1 + 2 / 2)
    np.testing.assert_allclose(OPENERS["neighbours"](tmp_path, facts)(np.array([[2.0]])), [wanted])
    np.savez(tmp_path / "neighbours.npz", target=np.array([0, 1, 1, 0]), **arrays)
    facts |= {"n_classes": 3, "weights": "uniform", "n_neighbours": 9}  # more than there are: all
    shares = np.array([2, 3, 0]) * (1 + 1 / 4)
    np.testing.assert_allclose(OPENERS["neighbours"](tmp_path, facts)(np.zeros((1, 1))), [shares / shares.sum()])


@pytest.mark.parametrize("wrap", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
def test_normal_distributions(wrap: Any, tmp_path: Path) -> None:
    means, spreads = np.array([[0.0, 0.0], [1.0, 2.0]]), [np.diag([1.0, 4.0]), np.array([[2.0, 0.5], [0.5, 1.0]])]
    maps = np.stack([np.linalg.inv(np.linalg.cholesky(spread)).T for spread in spreads])
    offsets = np.array([-0.5 * np.log(np.linalg.det(spread)) for spread in spreads]) + np.log([0.3, 0.7])
    np.savez(tmp_path / "discriminant.npz", means=means, maps=maps, offsets=offsets)
    facts = {"n_classes": 3, "classes": [0, 2], "linear": False, "sharpness": 0.5}
    rows = np.array([[0.5, 1.0], [3.0, -2.0]])
    pairs = zip(means, spreads, strict=True)
    densities = np.column_stack([multivariate_normal(mean, spread).pdf(rows) for mean, spread in pairs])
    shares = np.sqrt(densities * [0.3, 0.7])
    found = OPENERS["discriminant"](tmp_path, facts)(wrap(rows))
    np.testing.assert_allclose(found[:, [0, 2]], shares / shares.sum(axis=1, keepdims=True))
    assert (found[:, 1] == 0).all()
    np.savez(tmp_path / "discriminant.npz", means=means, maps=means[:, :, None], offsets=np.array([0.0, -1.0]))
    linear = OPENERS["discriminant"](tmp_path, {**facts, "linear": True, "sharpness": 2.0})(wrap(rows))
    p = 1 / (1 + np.exp(-2 * (rows @ [1.0, 2.0] - 1)))
    np.testing.assert_allclose(linear, np.column_stack([1 - p, 0 * p, p]))


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

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse as sp
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, RandomForestRegressor

from windvane.errors import ModelFileError
from windvane.runtime.models.trees import ForestPredictor, TreeArrays
from windvane.runtime.serialization import read_arrays, write_arrays


def fitted(kind: type, features: Any, target: Any) -> Any:
    return kind(20, random_state=0, max_features=0.5).fit(features, target)


def features_with_holes(n: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 6)).astype(np.float32)
    features[:, 0] = rng.integers(0, 4, n)
    features[rng.random((n, 6)) < 0.2] = np.nan
    return features


@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier, RandomForestRegressor])
@pytest.mark.parametrize("n_rows", [1, 5, 100])
def test_few_and_many_rows_are_predicted_as_by_scikit_learn(kind: type, n_rows: int, tmp_path: Path) -> None:
    features = features_with_holes(400)
    target = np.nan_to_num(features[:, 0] + features[:, 1]).astype(float)
    target = target if kind is RandomForestRegressor else np.digitize(target, [0, 1, 2])
    forest = fitted(kind, features, target)
    rows = features_with_holes(n_rows, seed=1)
    expected = forest.predict(rows)[:, None] if kind is RandomForestRegressor else forest.predict_proba(rows)
    grown = [tree.tree_ for tree in forest.estimators_]
    parts = [TreeArrays.of(grown[:7]), TreeArrays.of(grown[7:])]
    np.testing.assert_allclose(ForestPredictor(parts, 6)(rows), expected, rtol=1e-12, atol=1e-12)
    parts[0].write(tmp_path / "a")
    np.testing.assert_allclose(
        ForestPredictor([TreeArrays.read(tmp_path / "a", 6), parts[1]], 6)(rows), expected, rtol=1e-12, atol=1e-12
    )


def test_the_first_trees_are_a_smaller_forest(tmp_path: Path) -> None:
    features = features_with_holes(200)
    forest = fitted(RandomForestClassifier, features, np.arange(200) % 3)
    grown = [tree.tree_ for tree in forest.estimators_]
    rows = features_with_holes(50, seed=1)
    few = TreeArrays.of(grown).first(7)
    np.testing.assert_array_equal(ForestPredictor([few], 6)(rows), ForestPredictor([TreeArrays.of(grown[:7])], 6)(rows))
    few.write(tmp_path / "few")
    assert len(TreeArrays.read(tmp_path / "few", 6).sizes) == 7
    np.testing.assert_array_equal(ForestPredictor([few.first(99)], 6)(rows), ForestPredictor([few], 6)(rows))


@pytest.mark.parametrize("n_classes", [2, 26])
def test_values_of_many_classes_take_little_space(n_classes: int, tmp_path: Path) -> None:
    """Leaves that are pure, and some that are not."""
    features = features_with_holes(1500)
    target = np.random.default_rng(0).integers(0, n_classes, 1500)
    grown = ExtraTreesClassifier(10, random_state=0, min_samples_split=4).fit(features, target).estimators_
    trees = TreeArrays.of([tree.tree_ for tree in grown])
    assert (trees.values > 0).sum(axis=1).std() > 0.1
    trees.write(tmp_path / "trees")
    assert all(np.array_equal(array, vars(trees)[name]) for name, array in vars(read(tmp_path)).items())
    size = (tmp_path / "trees").stat().st_size - 3000  # of the names of the arrays
    assert size / len(trees.values) < (10 if n_classes == 2 else 13)


def read(folder: Path) -> TreeArrays:
    return TreeArrays.read(folder / "trees", 6)


def test_values_that_all_differ_are_written_as_they_are(tmp_path: Path) -> None:
    features = features_with_holes(300)
    grown = RandomForestRegressor(5, random_state=0).fit(features, np.random.default_rng(0).normal(size=300))
    trees = TreeArrays.of([tree.tree_ for tree in grown.estimators_])
    trees.write(tmp_path / "trees")
    assert "values" in read_arrays(tmp_path / "trees")
    assert all(np.array_equal(array, vars(trees)[name]) for name, array in vars(read(tmp_path)).items())


@pytest.mark.parametrize("name", ["counts", "classes", "places", "distinct"])
def test_damaged_shares(name: str, tmp_path: Path) -> None:
    features = features_with_holes(300)
    forest = fitted(ExtraTreesClassifier, features, np.arange(300) % 10)
    TreeArrays.of([tree.tree_ for tree in forest.estimators_]).write(tmp_path / "trees")
    arrays = read_arrays(tmp_path / "trees")
    arrays[name] = arrays[name] + 99 if name == "classes" else arrays[name][:0]
    write_arrays(tmp_path / "trees", arrays)
    with pytest.raises(ModelFileError):
        read(tmp_path)


def test_sparse_rows() -> None:
    rows = sp.random(300, 30, 0.2, format="csr", random_state=0, dtype=np.float32)
    target = (rows.toarray()[:, 0] > 0.1).astype(int)
    forest = fitted(RandomForestClassifier, rows, target)
    descent = ForestPredictor([TreeArrays.of([tree.tree_ for tree in forest.estimators_])], 30)
    for some in (sp.csr_matrix(rows), sp.csr_matrix(rows[:3])):
        np.testing.assert_allclose(descent(some), forest.predict_proba(some), atol=1e-12)


def first(array: Any, value: int) -> Any:
    """Return a copy whose first number is another one."""
    changed = array.astype(np.int64)
    changed[0] = value
    return changed.astype(array.dtype if 0 <= value <= np.iinfo(array.dtype).max else np.int64)


def test_impossible_trees_are_refused(tmp_path: Path) -> None:
    features = features_with_holes(100)
    forest = fitted(RandomForestClassifier, features, np.arange(100) % 2)
    trees = TreeArrays.of([tree.tree_ for tree in forest.estimators_])
    trees.write(tmp_path / "good")
    kept, size = read_arrays(tmp_path / "good"), int(trees.sizes[0])
    bad = {
        "right": [first(kept["right"], value) for value in (0, 1, size, -5)] + [kept["right"].astype(float)],
        "feature": [first(kept["feature"], value) for value in (6, -1, -2)],
        "sizes": [first(kept["sizes"], value) for value in (size - 1, 2**62, -1, 0)] + [kept["sizes"][None]],
        "inner": [~kept["inner"], kept["inner"][1:], kept["inner"].astype(float)],
        "threshold": [kept["threshold"][1:], kept["threshold"].astype(complex)],
        "missing_left": [kept["missing_left"].astype(int)],
        "places": [kept["places"][1:], first(kept["places"], 10**6)],
        "n_values": [np.array([3]), np.array([0]), np.array([], dtype=int)],
    }
    for name, arrays in bad.items():
        for one in arrays:
            write_arrays(tmp_path / "bad", kept | {name: one})
            with pytest.raises(ModelFileError):
                TreeArrays.read(tmp_path / "bad", 6)
    with pytest.raises(ModelFileError):
        TreeArrays.read(tmp_path / "good", 5)
    with pytest.raises(ModelFileError, match="features"):
        ForestPredictor([trees], 6)(features[:, :5])

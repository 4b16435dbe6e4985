from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from windvane.data.fitted_parts import pack, unpack
from windvane.errors import ModelFileError

X = np.random.default_rng(0).normal(size=(20, 3))


def through_a_file(content: Any, folder: Path) -> Any:
    (folder / "parts.npz").write_bytes(pack(content))
    return unpack(folder / "parts.npz")


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@settings(deadline=None, max_examples=40)
@given(st.recursive(PLAIN, lambda some: st.lists(some) | st.tuples(some, some) | st.dictionaries(PLAIN, some)))
def test_plain_values_come_back(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    assert through_a_file(content, tmp_path_factory.mktemp("plain")) == content


def test_arrays_types_and_slices_come_back(tmp_path: Path) -> None:
    some = {
        "array": np.arange(6, dtype=np.int32).reshape(2, 3),
        "none": np.empty((0, 4)),
        "text": np.array(["a", "äö"]),
        "objects": np.array([None, "b", 2.5, np.arange(2)], dtype=object),
        "scalar": np.float32(0.1),
        "slice": slice(2, None),
        "dtype": np.dtype(np.int64),
        "type": np.float64,
        "sparse": sp.csr_matrix(np.eye(3)),
        "nan": float("nan"),
    }
    found = through_a_file(some, tmp_path)
    assert list(found) == list(some) and found["nan"] != found["nan"]
    for name in ("array", "none", "text", "scalar"):
        np.testing.assert_array_equal(found[name], some[name])
        assert found[name].dtype == some[name].dtype  # type: ignore[attr-defined]
    assert found["objects"][:3].tolist() == [None, "b", 2.5]
    assert (found["slice"], found["dtype"], found["type"]) == (some["slice"], some["dtype"], some["type"])
    np.testing.assert_array_equal(found["sparse"].toarray(), np.eye(3))


def test_a_fitted_pipeline_comes_back(tmp_path: Path) -> None:
    fitted = Pipeline([("one", StandardScaler()), ("two", StandardScaler(with_std=False))]).fit(X)
    found = through_a_file([fitted, None], tmp_path)[0]
    assert repr(found) == repr(fitted)
    np.testing.assert_array_equal(found.transform(X), fitted.transform(X))


@pytest.mark.parametrize("content", [LogisticRegression(), FunctionTransformer(np.sqrt), Path, {1, 2}, open])
def test_what_is_not_in_the_list_is_not_kept(content: object) -> None:
    with pytest.raises(TypeError, match="cannot be kept"):
        pack(content)


@pytest.mark.parametrize(
    "tree",
    [
        ["object", "LogisticRegression", ["dict", []]],
        ["object", "os.system", ["dict", []]],
        ["object", "Pipeline", 3],
        ["array", "7"],
        ["csr", [1, 1], [["array", "0"]]],
        ["objects", [2], [1]],
        ["dtype", "O8x"],
        ["nothing"],
        [],
        {"a": 1},
    ],
)
def test_a_forged_tree_is_refused(tree: object, tmp_path: Path) -> None:
    text = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    np.savez(tmp_path / "parts.npz", tree=text, allow_pickle=False)
    with pytest.raises(ModelFileError, match=r"parts\.npz"):
        unpack(tmp_path / "parts.npz")


@pytest.mark.parametrize("content", [None, b"", b"nothing of the kind", b"PK\x03\x04"])
def test_what_cannot_be_read_is_one_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "parts.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"parts\.npz"):
        unpack(path)

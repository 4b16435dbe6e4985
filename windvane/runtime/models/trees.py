"""Many decision trees as plain arrays: cheap to write, checked when read, fast for one row.

scikit-learn numbers the nodes of a tree depth first, so the left child of node i is node i + 1 and only the right one
needs keeping. Features are float32, so a float32 threshold, rounded downwards, decides exactly as the float64 one.
Files hold some 4 bytes a node of scikit-learn's 64, and of the values those of leaves.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse as sp

from ..columns.encoder import Encoder, float32
from ..columns.table import Floats, Table
from ..errors import ModelFileError
from ..output import Output
from ..serialization import read_arrays, read_json, reading, write_arrays, write_json
from .fitted import FittedModel, LoadOptions

FOREST_SIZE = 128  # trees of a whole forest
# Rows up to which all trees are descended at once in numpy; above, scikit-learn's own C descends tree by tree.
_FEW_ROWS = 16
HAS_SKLEARN = importlib.util.find_spec("sklearn") is not None


@dataclass(frozen=True)
class TreeArrays:
    """Some trees, their nodes one after the other."""

    sizes: NDArray[np.int64]  # number of nodes of each tree, int64
    right: NDArray[np.int32]  # right child of each node, counted from the root of its tree, int32; 0 for a leaf
    feature: NDArray[np.int32]  # feature that each node asks for, int32; -1 for a leaf
    threshold: NDArray[np.float32]  # float32; a row goes left where its feature is at most this; 0 for a leaf
    missing_left: NDArray[np.bool_]  # whether a row goes left where its feature is missing; False for a leaf
    values: Floats  # float64, shape (leaves, k): mean target or shares of the k classes, in the order of the leaves

    @classmethod
    def of(cls, grown: Sequence[Any]) -> TreeArrays:
        """Take over the ``tree_`` of scikit-learn's decision trees, at least one."""
        states = [tree.__getstate__() for tree in grown]
        nodes = np.concatenate([state["nodes"] for state in states])  # (N,)
        values = np.concatenate([state["values"][:, 0, :] for state in states])  # (N, k)
        sizes = np.array([state["node_count"] for state in states], dtype=np.int64)
        leaf = nodes["left_child"] < 0
        if (nodes["left_child"] - _own(sizes) != 1)[~leaf].any():
            raise RuntimeError("this scikit-learn does not number the nodes of a tree depth first")
        threshold = nodes["threshold"].astype(np.float32)
        above = threshold > nodes["threshold"]
        threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
        return cls(
            sizes=sizes,
            right=np.where(leaf, 0, nodes["right_child"]).astype(np.int32),
            feature=np.where(leaf, -1, nodes["feature"]).astype(np.int32),
            threshold=np.where(leaf, np.float32(0), threshold),
            missing_left=nodes["missing_go_to_left"].astype(bool) & ~leaf,
            values=np.ascontiguousarray(values[leaf]),
        )

    @classmethod
    def read(cls, path: Path, n_features: int) -> TreeArrays:
        """Read what `write` wrote and check it, so that no descent can leave its tree or go round in it."""
        kept = read_arrays(path)
        with reading(path):
            trees = cls(**_unpack(kept))
            inner, own = trees.feature >= 0, _own(trees.sizes)
            sound = (
                bool((trees.feature < n_features).all())
                and bool((trees.right > own + 1)[inner].all())
                and bool((trees.right < np.repeat(trees.sizes, trees.sizes))[inner].all())
                and trees.values.shape == (int((~inner).sum()), trees.values.shape[1])
            )
        if not sound:
            raise ModelFileError(f"{path} holds no possible trees.")
        return trees

    def first(self, count: int) -> TreeArrays:
        """Take the first trees, all where there are not so many."""
        nodes = int(self.sizes[:count].sum())
        leaves = int((self.feature[:nodes] < 0).sum())
        return TreeArrays(
            sizes=self.sizes[:count],
            right=self.right[:nodes],
            feature=self.feature[:nodes],
            threshold=self.threshold[:nodes],
            missing_left=self.missing_left[:nodes],
            values=self.values[:leaves],
        )

    def write(self, path: Path) -> None:
        """Write the arrays without what follows from others, in the smallest types that hold them."""
        inner = self.feature >= 0
        arrays: dict[str, NDArray[Any]] = {
            "sizes": self.sizes,
            "inner": np.packbits(inner),
            "right": _small(self.right[inner]),
            "feature": _small(self.feature[inner]),
            "threshold": self.threshold[inner],
            "missing_left": np.packbits(self.missing_left[inner]),
        }
        write_arrays(path, arrays | _pack_values(self.values))

    def compiled(self, i: int, n_features: int, with_values: bool = False) -> Any:
        """Rebuild scikit-learn's tree: what its descent reads, without statistics."""
        from sklearn.tree._tree import NODE_DTYPE, Tree

        size, root = int(self.sizes[i]), int(self.sizes[:i].sum())
        inside = slice(root, root + size)
        nodes = np.zeros(size, dtype=NODE_DTYPE)
        leaf = self.feature[inside] < 0
        nodes["left_child"] = np.where(leaf, -1, np.arange(size) + 1)
        nodes["right_child"] = np.where(leaf, -1, self.right[inside])
        nodes["feature"] = np.where(leaf, -2, self.feature[inside])
        nodes["threshold"] = self.threshold[inside]
        nodes["missing_go_to_left"] = self.missing_left[inside]
        values = np.zeros((size, 1, self.values.shape[1] if with_values else 1))
        if with_values:
            first = int((self.feature[:root] < 0).sum())
            values[leaf, 0] = self.values[first : first + int(leaf.sum())]
        tree = Tree(n_features, np.array([values.shape[2]], dtype=np.intp), 1)
        # The depth is only reported, never used to descend.
        tree.__setstate__({"max_depth": 0, "node_count": size, "nodes": nodes, "values": values})
        return tree


class ForestPredictor:
    """Mean of the leaf values that rows reach in all trees."""

    def __init__(self, parts: Sequence[TreeArrays], n_features: int) -> None:
        self._n_features = n_features
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
        self._trees = TreeArrays(**joined)
        sizes = self._trees.sizes
        self._roots = np.cumsum(sizes) - sizes  # (T,)
        leaf = self._trees.feature < 0
        self._leaf_row = np.cumsum(leaf) - 1  # (N,): row of `values`, where the node is a leaf
        at = np.arange(len(leaf))
        # Both children side by side; a leaf leads to itself, so that all rows can take the same number of steps.
        self._child = np.empty(2 * len(leaf), dtype=np.int64)  # (2 N,)
        self._child[0::2] = np.where(leaf, at, at + 1)
        self._child[1::2] = np.where(leaf, at, self._trees.right + np.repeat(self._roots, sizes))
        self._feature = np.maximum(self._trees.feature, 0)
        self._compiled: list[Any] | None = None

    def __call__(self, features: NDArray[np.float32] | sp.csr_matrix) -> Floats:
        if features.shape[1] != self._n_features:
            raise ModelFileError(f"The trees want {self._n_features} features, the encoder gives {features.shape[1]}.")
        if features.shape[0] > _FEW_ROWS:
            return self._many(features)
        return self._few(features.toarray() if isinstance(features, sp.csr_matrix) else features)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what descends all trees: for each node its two children, feature, threshold and (leaves) values."""
        values = self._trees.values[np.maximum(self._leaf_row, 0)].astype(np.float32)  # (N, k)
        return {
            "roots": self._roots,
            "child": self._child,
            "feature": self._feature.astype(np.int64),
            "threshold": self._trees.threshold,
            "values": values,
        }

    @property
    def depth(self) -> int:
        """Number of steps after which every row is in a leaf."""
        level, steps = self._roots, 0
        while (self._trees.feature[level] >= 0).any():
            inner = level[self._trees.feature[level] >= 0]
            level, steps = np.concatenate([self._child[2 * inner], self._child[2 * inner + 1]]), steps + 1
        return steps

    def _few(self, features: NDArray[np.float32]) -> Floats:
        n, trees = len(features), self._trees
        flat, starts = features.ravel(), np.repeat(np.arange(n) * self._n_features, len(self._roots))
        node = np.tile(self._roots, n)  # (n T,)
        missing = bool(np.isnan(flat).any())
        while True:
            value = flat[starts + self._feature[node]]
            right = ~(value <= trees.threshold[node])
            if missing:
                right &= ~(np.isnan(value) & trees.missing_left[node])
            following = self._child[2 * node + right]
            if np.array_equal(following, node):
                break
            node = following
        reached = trees.values[self._leaf_row[node]].reshape(n, len(self._roots), -1)  # (n, T, k)
        return np.asarray(reached.mean(axis=1))

    def _many(self, features: NDArray[np.float32] | sp.csr_matrix) -> Floats:
        if not HAS_SKLEARN:  # as may be where an exported model is used
            dense = features.toarray() if isinstance(features, sp.csr_matrix) else features
            starts = range(0, len(dense), _FEW_ROWS)
            return np.concatenate([self._few(dense[start : start + _FEW_ROWS]) for start in starts])
        self._compiled = self._compiled or [self._trees.compiled(i, self._n_features) for i in range(len(self._roots))]
        total = np.zeros((features.shape[0], self._trees.values.shape[1]))
        for root, tree in zip(self._roots, self._compiled, strict=True):
            total += self._trees.values[self._leaf_row[tree.apply(features) + root]]
        return total / len(self._compiled)


def _small(counts: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers from 0 in one, two or four bytes each."""
    largest = int(counts.max(initial=0))
    return counts.astype(np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.int32)


def _pack_values(values: Floats) -> dict[str, NDArray[Any]]:
    """Return values without those that are 0 where these are most, and each distinct number once where that is less.

    Shares are quotients of small numbers of rows, so that many leaves have few distinct ones.
    """
    arrays = {"n_values": np.array([values.shape[1]])}
    present = values != 0
    if int(present.sum()) * 2 < values.size:
        arrays |= {"classes": _small(np.nonzero(present)[1]), "counts": _small(present.sum(axis=1))}
        values = values[present]
    places, distinct = pd.factorize(values.ravel(), use_na_sentinel=False)
    if 4 * len(distinct) < values.size:
        return arrays | {"distinct": distinct, "places": _small(places)}
    return arrays | {"values": values.ravel()}


def _unpack(kept: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays that `TreeArrays.write` packed; ValueError, TypeError or LookupError where they do not fit."""
    sizes = kept["sizes"].astype(np.int64, casting="safe")
    n_nodes = int(sizes.sum())
    if sizes.ndim != 1 or not (sizes > 0).all() or len(kept["inner"]) != -(-n_nodes // 8):
        raise ValueError("the sizes of the trees are not those of their nodes")
    inner = np.unpackbits(kept["inner"], count=n_nodes).astype(bool)
    n_inner = int(inner.sum())
    missing = np.unpackbits(kept["missing_left"], count=n_inner).astype(bool)
    unpacked = {"sizes": sizes}
    for name, array, dtype, leaf in (
        ("right", kept["right"], np.int32, 0),
        ("feature", kept["feature"], np.int32, -1),
        ("threshold", kept["threshold"], np.float32, 0.0),
        ("missing_left", missing, np.bool_, False),
    ):
        if array.shape != (n_inner,):
            raise ValueError(f"{name} is of {array.shape} and not of {n_inner} nodes")
        unpacked[name] = np.full(n_nodes, leaf, dtype=dtype)
        unpacked[name][inner] = array.astype(dtype, casting="safe")
    return unpacked | {"values": _unpack_values(kept, n_nodes - n_inner)}


def _unpack_values(kept: dict[str, NDArray[Any]], n_leaves: int) -> Floats:
    """Return what `_pack_values` packed, shape (leaves, k)."""
    numbers = kept["values"] if "values" in kept else kept["distinct"][kept["places"]]
    numbers, k = numbers.astype(np.float64, casting="safe"), int(kept["n_values"][0])
    if "classes" not in kept:
        return numbers.reshape(n_leaves, k)
    counts, classes = kept["counts"], kept["classes"]
    if len(counts) != n_leaves or not int(counts.sum()) == len(classes) == len(numbers):
        raise ValueError("shares and classes of leaves do not go together")
    if len(classes) and int(classes.min()) < 0:
        raise ValueError("a class below 0")
    values = np.zeros((n_leaves, k))
    values[np.repeat(np.arange(n_leaves), counts), classes] = numbers
    return values


def _own(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of each node within its tree."""
    return np.asarray(np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes))


class FittedForest(FittedModel):
    """Decision trees as arrays, in the portions in which they grew, so that each is written once."""

    kind = "forest"

    def __init__(
        self, encoder: Encoder, output: Output, parts: Sequence[TreeArrays], n_features: int, folder: Path | None = None
    ) -> None:
        super().__init__(encoder, output)
        self.parts, self.n_features = list(parts), n_features
        self.folder = folder  # where some of the parts lie already: their files can be linked
        self._predictor: ForestPredictor | None = None

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> FittedForest:
        # The forests of several folds are averaged: together they keep as many trees as one.
        wanted = -(-FOREST_SIZE // options.n_bagged)
        parts: list[TreeArrays] = []
        n_features = int(content["n_features"])
        for i in range(int(content["parts"])):
            if wanted <= 0:
                break
            parts.append(TreeArrays.read(folder / f"trees_{i}.npz", n_features).first(wanted))
            wanted -= len(parts[-1].sizes)
        output.check_has_classes()
        width = max(1, len(output.classes))
        if not parts or any(part.values.shape[1] != width for part in parts):
            raise ValueError("trees and classes do not go together")
        return cls(encoder, output, parts, n_features, folder)

    @staticmethod
    def drop_unread(folder: Path, n_bagged: int) -> None:
        """Delete the trees that `load` leaves out where so many forests are averaged."""
        content, read, wanted = read_json(folder / "model.json"), 0, -(-FOREST_SIZE // n_bagged)
        while read < int(content["parts"]) and wanted > 0:
            wanted -= len(read_arrays(folder / f"trees_{read}.npz")["sizes"])
            read += 1
        for i in range(read, int(content["parts"])):
            (folder / f"trees_{i}.npz").unlink()
        (folder / "model.json").unlink()  # it may be a link
        write_json(folder / "model.json", {**content, "parts": read})

    def predict(self, table: Table) -> Floats:
        if self._predictor is None:
            self._predictor = ForestPredictor(self.parts, self.n_features)
        found = self._predictor(float32(self.encoder.transform(table)))  # (n, k)
        return self.output.from_probabilities(found) if self.output.n_classes else found[:, 0]

    def save(self, folder: Path) -> None:
        for i, part in enumerate(self.parts):
            target = folder / f"trees_{i}.npz"
            try:
                if self.folder is None:
                    raise FileNotFoundError
                os.link(self.folder / target.name, target)
            except OSError:  # new, moved away, or a file system without links
                part.write(target)
        self.folder = folder
        self._save(folder, {"parts": len(self.parts), "n_features": self.n_features})

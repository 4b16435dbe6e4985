"""Decision trees of every library as arrays, and these as one node of a graph."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from windvane.export.onnx.graph import ML, Graph
from windvane.runtime.columns.table import Floats
from windvane.runtime.models.trees import TreeArrays

XGBOOST_LOG_LINKS = ("count:poisson", "reg:tweedie")  # objectives
AT_MOST, BELOW, GREATER, MEMBER = 0, 1, 3, 6  # modes of a node: how a feature is compared with its split


class Branch(NamedTuple):
    """An inner node; a row goes to its true side where the comparison holds."""

    feature: int
    mode: int
    split: Any  # a number; the set of a MEMBER node
    missing_true: bool  # whether missing values go to the true side
    true_side: Any
    false_side: Any


@dataclass
class Trees:
    """Trees whose leaves hold k numbers; a prediction is the sum of the leaves that a row reaches."""

    n_values: int  # k
    feature: list[int] = field(default_factory=list)
    mode: list[int] = field(default_factory=list)
    split: list[float] = field(default_factory=list)
    missing_true: list[bool] = field(default_factory=list)
    children: list[tuple[int, bool, int, bool]] = field(default_factory=list)  # true, is it a leaf; false, is it one
    members: list[float] = field(default_factory=list)  # of the sets of MEMBER nodes, NaN behind each
    roots: list[int] = field(default_factory=list)
    leaves: list[Sequence[float]] = field(default_factory=list)  # k numbers each
    tree_of_leaf: list[int] = field(default_factory=list)
    constant: Any = None  # (k,): what trees without a node add

    def __post_init__(self) -> None:
        self.constant = np.zeros(self.n_values)

    def add(
        self, root: Any, branch_of: Callable[[Any], Branch | None], leaf_of: Callable[[Any], Sequence[float]]
    ) -> None:
        """Add a tree, by what a node is: a branch (None for a leaf), and the k numbers of a leaf."""
        if branch_of(root) is None:
            self.constant += np.asarray(leaf_of(root))
            return
        self.roots.append(len(self.feature))
        waiting = [(root, -1, True)]
        while waiting:
            node, parent, side = waiting.pop()
            branch = branch_of(node)
            place = len(self.leaves) if branch is None else len(self.feature)
            if parent >= 0:
                true, true_leaf, false, false_leaf = self.children[parent]
                own = (place, branch is None)
                self.children[parent] = (*own, false, false_leaf) if side else (true, true_leaf, *own)
            if branch is None:
                self.leaves.append(leaf_of(node))
                self.tree_of_leaf.append(len(self.roots) - 1)
                continue
            if branch.mode == MEMBER:
                self.members += [*branch.split, np.nan]
            self.feature.append(branch.feature)
            self.mode.append(branch.mode)
            self.split.append(0.0 if branch.mode == MEMBER else branch.split)
            self.missing_true.append(branch.missing_true)
            self.children.append((0, False, 0, False))
            waiting += [(branch.false_side, place, False), (branch.true_side, place, True)]

    def sum(self, graph: Graph, x: str) -> str:
        """Add the trees to a graph: (n, k) of features (n, q)."""
        if not self.roots:
            zero = graph.add("Mul", graph.cast(graph.add("IsNaN", graph.columns(x, [0])), "double"), 0.0)
            return graph.add("Add", zero, self.constant)
        values = np.asarray(self.leaves, dtype=np.float64).reshape(-1, self.n_values)
        if (np.count_nonzero(values, axis=1) <= 1).all():
            targets = np.abs(values).argmax(axis=1)
            found = self._node(graph, x, targets, values[np.arange(len(values)), targets], self.n_values)
            return graph.add("Add", found, self.constant)
        # A leaf of a node holds one number: the position of the leaf, whose values are looked up.
        trees = np.asarray(self.tree_of_leaf)
        reached = self._node(graph, x, trees, np.arange(len(values)), len(self.roots))  # (n, trees)
        picked = graph.add("Gather", values, graph.cast(reached, "int64"), attributes={"axis": 0})  # (n, trees, k)
        return graph.add("Add", graph.sum(picked, 1, keep=False), self.constant)

    def _node(self, graph: Graph, x: str, targets: NDArray[Any], weights: NDArray[Any], n_targets: int) -> str:
        from onnx import numpy_helper

        def tensor(values: Any, dtype: Any) -> Any:
            return numpy_helper.from_array(np.asarray(values, dtype=dtype))

        true, true_leaf, false, false_leaf = np.asarray(self.children, dtype=np.int64).T.tolist()
        attributes = {
            "aggregate_function": 1,  # the sum
            "post_transform": 0,
            "n_targets": n_targets,
            "tree_roots": self.roots,
            "nodes_featureids": self.feature,
            "nodes_modes": tensor(self.mode, np.uint8),
            "nodes_splits": tensor(self.split, np.float64),
            "nodes_missing_value_tracks_true": list(map(int, self.missing_true)),
            "nodes_trueleafs": true_leaf,
            "nodes_truenodeids": true,
            "nodes_falseleafs": false_leaf,
            "nodes_falsenodeids": false,
            "leaf_targetids": targets.tolist(),
            "leaf_weights": tensor(weights, np.float64),
        }
        if self.members:
            attributes["membership_values"] = tensor(self.members, np.float64)
        return graph.add("TreeEnsemble", x, attributes=attributes, domain=ML)


def of_forest(parts: Sequence[TreeArrays]) -> Trees:
    """Return the trees of a forest, their leaves divided by the number of trees."""
    trees = Trees(parts[0].values.shape[1])
    n_trees = sum(len(part.sizes) for part in parts)
    for part in parts:
        first_leaf = 0
        for size, root in zip(part.sizes.tolist(), (np.cumsum(part.sizes) - part.sizes).tolist(), strict=True):
            inside = slice(root, root + size)
            leaf = part.feature[inside] < 0
            values = part.values[first_leaf : first_leaf + int(leaf.sum())] / n_trees
            first_leaf += len(values)
            if size == 1:
                trees.constant += values[0]
                continue
            node, end = np.cumsum(~leaf) - 1 + len(trees.feature), np.cumsum(leaf) - 1 + len(trees.leaves)
            place, inner = np.where(leaf, end, node), np.flatnonzero(~leaf)
            left, right = inner + 1, part.right[inside][inner]
            trees.roots.append(len(trees.feature))
            trees.tree_of_leaf += [len(trees.roots) - 1] * len(values)
            trees.feature += part.feature[inside][inner].tolist()
            trees.mode += [AT_MOST] * len(inner)
            trees.split += part.threshold[inside][inner].astype(np.float64).tolist()
            trees.missing_true += part.missing_left[inside][inner].tolist()
            sides = (place[left], leaf[left], place[right], leaf[right])
            trees.children += zip(*(side.tolist() for side in sides), strict=True)
            trees.leaves += values.tolist()
    return trees


def of_lightgbm(booster: Any, best_iteration: int) -> tuple[Trees, str]:
    """Return the trees of a booster, and the name of its objective with the parameters."""
    content = booster.dump_model(num_iteration=best_iteration)
    k = int(content["num_tree_per_iteration"])
    trees = Trees(k)

    def branch_of(node: Any) -> Branch | None:
        if "split_index" not in node:
            return None
        sides = (node["left_child"], node["right_child"])
        if node["decision_type"] == "==":
            members = [float(code) for code in node["threshold"].split("||")]
            return Branch(node["split_feature"], MEMBER, members, False, *sides)
        assert node["decision_type"] == "<=" and node["missing_type"] in ("None", "NaN")
        threshold = float(node["threshold"])
        # Without missing values in training a missing one is 0.
        missing_true = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0
        return Branch(node["split_feature"], AT_MOST, threshold, bool(missing_true), *sides)

    for i, tree in enumerate(content["tree_info"]):

        def leaf_of(node: Any, place: int = i % k) -> list[float]:
            return _one_of(k, place, node["leaf_value"])

        trees.add(tree["tree_structure"], branch_of, leaf_of)
    return trees, content["objective"]


def of_catboost(booster: Any, best_iteration: int, n_values: int) -> tuple[Trees, Floats]:
    """Return the trees of a model on numbers, and what it adds to their sum."""
    with tempfile.TemporaryDirectory(prefix="windvane-") as folder:
        path = Path(folder) / "model.json"
        booster.save_model(str(path), format="json")
        content = json.loads(path.read_text(encoding="utf-8"))
    features = content["features_info"]["float_features"]
    treatments = {one["flat_feature_index"]: one["nan_value_treatment"] for one in features}
    places = {one["feature_index"]: one["flat_feature_index"] for one in features}
    scale, bias = content["scale_and_bias"]
    trees = Trees(n_values)
    for tree in content["oblivious_trees"][:best_iteration]:
        splits, depth = tree["splits"] or [], len(tree["splits"] or [])
        values = (np.asarray(tree["leaf_values"]) * scale).reshape(-1, n_values).tolist()

        def branch_of(node: tuple[int, int], splits: Any = splits, depth: int = depth) -> Branch | None:
            level, leaf = node  # splits above, and the bits of those that were passed
            if level == depth:
                return None
            feature = places[splits[level]["float_feature_index"]]
            passed = (level + 1, leaf | 1 << level)
            border = float(np.float32(splits[level]["border"]))
            return Branch(feature, GREATER, border, treatments[feature] == "AsTrue", passed, (level + 1, leaf))

        def leaf_of(node: tuple[int, int], values: list[list[float]] = values) -> list[float]:
            return values[node[1]]

        trees.add((0, 0), branch_of, leaf_of)
    return trees, np.broadcast_to(np.asarray(bias, dtype=np.float64), (n_values,))


def of_xgboost(booster: Any) -> tuple[Trees, Floats, str]:
    """Return the trees of a booster, what it adds to their sum, and the name of its objective."""
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    content, objective = learner["gradient_booster"]["model"], learner["objective"]["name"]
    base = np.asarray(json.loads(learner["learner_model_param"]["base_score"]), dtype=np.float64)
    k = max(1, int(learner["learner_model_param"]["num_class"]))
    trees = Trees(k)
    for tree, place in zip(content["trees"], content["tree_info"], strict=True):
        first, size = tree["categories_segments"], tree["categories_sizes"]
        sets = {
            node: [float(code) for code in tree["categories"][first[i] : first[i] + size[i]]]
            for i, node in enumerate(tree["categories_nodes"])
        }

        def branch_of(node: int, tree: Any = tree, sets: Any = sets) -> Branch | None:
            left, right = tree["left_children"][node], tree["right_children"][node]
            if left < 0:
                return None
            feature, missing_left = tree["split_indices"][node], bool(tree["default_left"][node])
            if node in sets:  # those of the set go right
                return Branch(feature, MEMBER, sets[node], not missing_left, right, left)
            split = float(np.float32(tree["split_conditions"][node]))
            return Branch(feature, BELOW, split, missing_left, left, right)

        def leaf_of(node: int, tree: Any = tree, place: int = place) -> list[float]:
            return _one_of(k, place, float(np.float32(tree["split_conditions"][node])))

        trees.add(0, branch_of, leaf_of)
    return trees, _link(base, objective), objective


def _link(base: Floats, objective: str) -> Floats:
    """Return the score of what XGBoost predicts without a tree."""
    if objective == "binary:logistic":
        return np.asarray(logit(np.clip(base, 1e-6, 1 - 1e-6)))
    return np.log(base) if objective in XGBOOST_LOG_LINKS else base


def of_histograms(predictors: Sequence[Sequence[Any]]) -> Trees:
    """Return the trees of scikit-learn's histogram gradient boosting without categories."""
    k = len(predictors[0])
    trees = Trees(k)
    for iteration in predictors:
        for place, predictor in enumerate(iteration):
            nodes = predictor.nodes

            def branch_of(i: int, nodes: Any = nodes) -> Branch | None:
                node = nodes[i]
                if node["is_leaf"]:
                    return None
                split, missing_left = float(node["num_threshold"]), bool(node["missing_go_to_left"])
                sides = (int(node["left"]), int(node["right"]))
                return Branch(int(node["feature_idx"]), AT_MOST, split, missing_left, *sides)

            def leaf_of(i: int, nodes: Any = nodes, place: int = place) -> list[float]:
                return _one_of(k, place, float(nodes[i]["value"]))

            trees.add(0, branch_of, leaf_of)
    return trees


def _one_of(k: int, place: int, value: float) -> list[float]:
    """Return k numbers, zero but for one."""
    return [value if j == place else 0.0 for j in range(k)]

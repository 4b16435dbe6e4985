"""The models of an exported folder, each opened from its native files.

`windvane.export.source` copies those of `OPENERS` that a folder needs. Each takes the model's folder and what JSON says
of it, and gives a function from features to probabilities of shape (n, n_classes) or numbers of shape (n,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from scipy.special import expit, softmax

from windvane.data.encoders import float32
from windvane.data.table import Floats
from windvane.models.layers import Design, find_scores, squash
from windvane.models.sklearn_files import TRUSTED

Facts = Mapping[str, Any]
Predict = Callable[[Any], Floats]


def open_lightgbm(folder: Path, facts: Facts) -> Predict:
    """Open LightGBM's own text."""
    import lightgbm as lgb

    booster = lgb.Booster(model_file=folder / "model.txt")

    def predict(features: Any) -> Floats:
        found = np.asarray(booster.predict(features))
        if not facts["n_classes"]:
            return in_units(found, facts)
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found

    return predict


def open_catboost(folder: Path, facts: Facts) -> Predict:
    """Open CatBoost's own file; it knows categories by the text of their code."""
    import catboost

    model = catboost.CatBoost().load_model(str(folder / "model.cbm"))
    categories = slice(*facts["categories"])
    names = np.array([*(str(code).encode() for code in range(facts["largest"] + 1)), b"missing"], dtype=object)

    def predict(features: Any) -> Floats:
        codes, numbers = features[:, categories], float32(np.delete(features, categories, axis=1))
        rows = np.where(np.isnan(codes), len(names) - 1, codes).astype(np.intp)
        data = catboost.FeaturesData(
            num_feature_data=numbers if numbers.shape[1] else None,
            cat_feature_data=names[rows] if codes.shape[1] else None,
        )
        kind = "Probability" if facts["n_classes"] else "RawFormulaVal"
        found: Floats = model.predict(data, prediction_type=kind)
        return found if facts["n_classes"] else in_units(found, facts)

    return predict


def open_forest(folder: Path, facts: Facts) -> Predict:
    """Open trees: a row goes left, to the next node, where its feature is at most the threshold."""
    trees = load_arrays(folder / "trees.npz")
    roots = np.cumsum(trees["sizes"]) - trees["sizes"]
    trees["left"] = np.arange(len(trees["feature"])) - np.repeat(roots, trees["sizes"]) + 1
    leaf_row = np.cumsum(trees["feature"] < 0) - 1

    def goes_left(value: NDArray[Any], at: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.where(np.isnan(value), trees["missing_left"][at], value <= trees["threshold"][at]))

    def predict(features: Any) -> Floats:
        rows = float32(features.toarray() if isinstance(features, sp.csr_matrix) else features)
        total = np.zeros((len(rows), trees["values"].shape[1]))
        for root in roots:
            total += trees["values"][leaf_row[descend(root, rows, trees, goes_left)]]
        total /= len(roots)
        return of_all_classes(total, facts) if facts["n_classes"] else total[:, 0]

    return predict


def open_linear(folder: Path, facts: Facts) -> Predict:
    """Open a linear model: scores, and for classes their logistic function or softmax."""
    arrays = load_arrays(folder / "linear.npz")

    def predict(features: Any) -> Floats:
        return linked(np.asarray(features @ arrays["coefficients"].T + arrays["intercept"]), facts)

    return predict


def open_mlp(folder: Path, facts: Facts) -> Predict:
    """Open a network: layers of weights and biases."""
    arrays = load_arrays(folder / "mlp.npz")

    def predict(features: Any) -> Floats:
        hidden = float32(features).astype(np.float64)
        for i in range(facts["layers"]):
            hidden = hidden @ arrays[f"weights_{i}"] + arrays[f"bias_{i}"]
            if i < facts["layers"] - 1:
                hidden = np.tanh(hidden) if facts["activation"] == "tanh" else np.maximum(hidden, 0)
        if not facts["n_classes"]:
            return in_units(hidden[:, 0], facts)
        return np.asarray(softmax(np.hstack([0 * hidden, hidden]) if hidden.shape[1] == 1 else hidden, axis=1))

    return predict


def open_network(folder: Path, facts: Facts) -> Predict:
    """Open a network with embeddings."""
    arrays, design = load_arrays(folder / "network.npz"), Design(**facts["design"])
    parts = design.views(arrays["best"].astype(np.float64))

    def predict(features: Any) -> Floats:
        scores = find_scores(design, parts, squash(float32(features).astype(np.float64), arrays["stretch"]))
        if not facts["n_classes"]:
            return in_units(np.clip(scores[:, 0], *facts["range"]), facts)
        return np.asarray(softmax(scores, axis=1))

    return predict


def open_sklearn(folder: Path, facts: Facts) -> Predict:
    """Open an estimator of scikit-learn from skops' file, which holds no other types than those named here."""
    import skops.io

    estimator = skops.io.load(folder / "model.skops", trusted=list(TRUSTED))

    def predict(features: Any) -> Floats:
        rows = features.toarray() if facts["dense"] and isinstance(features, sp.csr_matrix) else features
        rows = float32(rows).astype(np.float64)
        if not facts["n_classes"]:
            return in_units(estimator.predict(rows).ravel(), facts)
        return of_all_classes(estimator.predict_proba(rows), {**facts, "classes": estimator.classes_})

    return predict


OPENERS = {
    "lightgbm": open_lightgbm,
    "catboost": open_catboost,
    "forest": open_forest,
    "linear": open_linear,
    "mlp": open_mlp,
    "network": open_network,
    "sklearn": open_sklearn,
}


def descend(root: int, rows: Any, trees: Mapping[str, NDArray[Any]], goes_left: Callable[[Any, Any], Any]) -> Any:
    """Follow rows from a root to the leaves that they reach; shape (n,). Children are counted from the root."""
    node, going = np.full(len(rows), root), np.arange(len(rows))
    going = going[trees["feature"][node] >= 0]
    while len(going):
        at = node[going]
        left = goes_left(rows[going, trees["feature"][at]], at)
        node[going] = root + np.where(left, trees["left"][at], trees["right"][at])
        going = going[trees["feature"][node[going]] >= 0]
    return node


def linked(scores: Floats, facts: Facts) -> Floats:
    """Turn scores into predictions: one column for a number or the second of two classes, else one for each class."""
    if not facts["n_classes"]:
        return in_units(scores[:, 0], facts)
    if len(facts["classes"]) == 1:
        return of_all_classes(np.ones((len(scores), 1)), facts)
    two = len(facts["classes"]) == 2
    return of_all_classes(expit(np.hstack([-scores, scores])) if two else softmax(scores, axis=1), facts)


def in_units(found: Floats, facts: Facts) -> Floats:
    """Turn what was learned with mean 0 and spread 1 back into the units of the target."""
    mean, spread = facts["units"]
    return np.asarray(found * spread + mean)


def of_all_classes(found: Floats, facts: Facts) -> Floats:
    """Give classes that the model never saw the probability 0."""
    every = np.zeros((len(found), facts["n_classes"]))
    every[:, facts["classes"]] = found
    return every


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read named arrays; nothing in the file is executed."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}

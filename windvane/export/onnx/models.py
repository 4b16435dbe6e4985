"""The fitted models of each family in a graph: encoded rows -> probabilities of all classes, or numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from windvane.export.onnx.graph import Graph
from windvane.export.onnx.trees import XGBOOST_LOG_LINKS, of_catboost, of_forest, of_histograms, of_lightgbm, of_xgboost
from windvane.export.realmlp import embedding_matrices
from windvane.models.boosting.boosting_family import LOG_LINKS
from windvane.runtime.models.realmlp import CLIP, SELU_ALPHA, SELU_SCALE
from windvane.runtime.output import Output


def obstacle(model: Any, family: str) -> str | None:
    """Name what a graph has no node for in a fitted model of a family; None if there is nothing."""
    kind = getattr(model, "kind", "")
    known = type(model.estimator).__name__ in _ESTIMATORS if kind == "sklearn" else kind in _BUILDERS
    if not known:
        return f"the family {family!r}"
    if kind == "catboost" and model.encoder.cardinalities:
        return "CatBoost with categories, whose statistics only CatBoost computes"
    return None


def predict(graph: Graph, model: Any, x: str) -> str:
    """Add a model: probabilities (n, n_classes), or numbers (n, 1) in the units of the target; x is (n, q), double."""
    return _BUILDERS[model.kind](graph, model, x)


def _probabilities(graph: Graph, output: Output, found: str) -> str:
    """Give classes that training did not see the probability 0."""
    if len(output.classes) == output.n_classes:
        return found
    return graph.add("MatMul", found, np.eye(output.n_classes)[list(output.classes)])


def _number(graph: Graph, output: Output, found: str) -> str:
    """Turn numbers of mean 0 into those of the target."""
    return graph.add("Add", graph.add("Mul", found, output.scale), output.mean)


def _linear(graph: Graph, model: Any, x: str) -> str:
    """Turn linear scores into predictions, as `Output.from_scores` does."""
    output, scores = model.output, graph.affine(x, model.coefficients.T, model.intercept)
    if not output.n_classes:
        return _number(graph, output, scores)
    if len(output.classes) == 1:
        certain = graph.add("Add", graph.add("Mul", graph.columns(scores, [0]), 0.0), 1.0)
        return _probabilities(graph, output, certain)
    return _probabilities(graph, output, _of_logits(graph, scores, len(model.intercept)))


def _of_logits(graph: Graph, scores: str, n_columns: int) -> str:
    """Return probabilities of scores, one column for two classes or else one for each."""
    if n_columns > 1:
        return graph.softmax(scores)
    sides = [graph.add("Sigmoid", graph.add("Neg", scores)), graph.add("Sigmoid", scores)]
    return graph.concat(sides)


def _lightgbm(graph: Graph, model: Any, x: str) -> str:
    trees, objective = of_lightgbm(model.booster, model.best_iteration)
    scores = trees.sum(graph, x)
    if not model.output.n_classes:
        has_log_link = objective.split()[0] in LOG_LINKS
        return _number(graph, model.output, graph.add("Exp", scores) if has_log_link else scores)
    if trees.n_values == 1:
        parameters = dict(part.split(":") for part in objective.split()[1:])
        scores = graph.add("Mul", scores, float(parameters.get("sigmoid", 1.0)))
    return _of_logits(graph, scores, trees.n_values)


def _catboost(graph: Graph, model: Any, x: str) -> str:
    n_classes = model.output.n_classes
    trees, bias = of_catboost(model.booster, model.best_iteration, n_classes if n_classes > 2 else 1)
    scores = graph.add("Add", trees.sum(graph, graph.single(x)), bias)
    return _of_logits(graph, scores, trees.n_values) if n_classes else _number(graph, model.output, scores)


def _xgboost(graph: Graph, model: Any, x: str) -> str:
    trees, base, objective = of_xgboost(model.booster)
    scores = graph.add("Add", trees.sum(graph, graph.single(x)), base)
    if model.output.n_classes:
        return _of_logits(graph, scores, trees.n_values)
    return _number(graph, model.output, graph.add("Exp", scores) if objective in XGBOOST_LOG_LINKS else scores)


def _forest(graph: Graph, model: Any, x: str) -> str:
    found = of_forest(model.parts).sum(graph, graph.single(x))
    return _probabilities(graph, model.output, found) if model.output.n_classes else found


def _mlp(graph: Graph, model: Any, x: str) -> str:
    layers = len(model.arrays) // 2
    hidden = graph.single(x)
    arrays = [array.astype(np.float64) for array in model.arrays]
    for i, (weights, bias) in enumerate(zip(arrays[:layers], arrays[layers:], strict=True)):
        hidden = graph.affine(hidden, weights, bias)
        if i < layers - 1:
            hidden = graph.add("Tanh", hidden) if model.activation == "tanh" else graph.at_least(hidden, 0.0)
    if not model.output.n_classes:
        return _number(graph, model.output, hidden)
    return _of_logits(graph, hidden, arrays[-1].shape[-1])


def _realmlp(graph: Graph, model: Any, x: str) -> str:
    spec = model.spec
    parts = spec.views(model.parameters.astype(np.float64))
    scaled = graph.add("Mul", graph.single(x), model.input_scale.astype(np.float64))
    bent = graph.add("Div", scaled, CLIP)
    lengths = graph.add("Sqrt", graph.add("Add", graph.add("Mul", bent, bent), 1.0))
    features = graph.add("Div", scaled, lengths)
    z = features
    if spec.embedded:
        turns, mix = embedding_matrices(parts, spec.inputs, 2 * np.pi)
        cosines = graph.add("Cos", graph.affine(features, turns, parts["phases"].ravel()))
        z = graph.concat([features, graph.affine(cosines, mix, parts["offset"].ravel())])
    z = graph.affine(z, parts["scale"][:, None] * parts["weights_0"], parts["bias_0"])
    for i in range(1, spec.layers):
        up = graph.at_least(z, 0.0)
        if spec.activation == "selu":
            below = graph.add("Sub", graph.add("Exp", graph.at_most(z, 0.0)), 1.0)
            up = graph.add("Add", graph.add("Mul", up, SELU_SCALE), graph.add("Mul", below, SELU_SCALE * SELU_ALPHA))
        z = graph.affine(up, parts[f"weights_{i}"], parts[f"bias_{i}"])
    if model.output.n_classes:
        return graph.softmax(z)
    return _number(graph, model.output, graph.clip(z, *model.limits))


def _sklearn(graph: Graph, model: Any, x: str) -> str:
    found = _ESTIMATORS[type(model.estimator).__name__](graph, model.estimator, graph.single(x))
    if model.output.n_classes:
        return _probabilities(graph, model.output, found)
    return _number(graph, model.output, found)


def _histogram_classifier(graph: Graph, estimator: Any, x: str) -> str:
    return _of_logits(graph, _histogram_regressor(graph, estimator, x), len(estimator._predictors[0]))


def _histogram_regressor(graph: Graph, estimator: Any, x: str) -> str:
    """The scores of a classifier, or numbers."""
    baseline = np.asarray(estimator._baseline_prediction, dtype=float).ravel()
    return graph.add("Add", of_histograms(estimator._predictors).sum(graph, x), baseline)


def _sgd_regressor(graph: Graph, estimator: Any, x: str) -> str:
    return graph.affine(x, estimator.coef_.reshape(-1, 1), estimator.intercept_)


def _sgd_classifier(graph: Graph, estimator: Any, x: str) -> str:
    """One against all others, the probabilities divided by their sum."""
    scores = graph.affine(x, estimator.coef_.T, estimator.intercept_)
    if estimator.loss == "log_loss":
        found = graph.add("Sigmoid", scores)
    else:
        found = graph.add("Div", graph.add("Add", graph.clip(scores, -1.0, 1.0), 1.0), 2.0)
    if len(estimator.classes_) == 2:
        return graph.concat([graph.add("Sub", 1.0, found), found])
    total = graph.sum(found, 1, keep=True)
    is_zero = graph.add("Equal", total, 0.0)
    found = graph.add("Where", is_zero, 1.0, found)
    return graph.add("Div", found, graph.add("Where", is_zero, float(len(estimator.classes_)), total))


Builder = Callable[[Graph, Any, str], str]
_BUILDERS: Mapping[str, Builder] = {
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "xgboost": _xgboost,
    "forest": _forest,
    "linear": _linear,
    "mlp": _mlp,
    "realmlp": _realmlp,
    "sklearn": _sklearn,
}
_ESTIMATORS: Mapping[str, Builder] = {  # what follows `sklearn_features`
    "HistGradientBoostingClassifier": _histogram_classifier,
    "HistGradientBoostingRegressor": _histogram_regressor,
    "SGDClassifier": _sgd_classifier,
    "SGDRegressor": _sgd_regressor,
}

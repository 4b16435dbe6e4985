"""Each family's model said as a fitted scikit-learn object (LightGBM's and CatBoost's: as their own estimators).

Most are fitted to a toy table, and what they learned is then replaced. Attributes that are not public are few, and the
tests hold each to the model's predictions: `_Booster` of LightGBM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from windvane.data.store import read_json
from windvane.data.table import Floats
from windvane.export.families import Kept, read_catboost
from windvane.export.networks import build_network
from windvane.models.sklearn_family import SklearnModel, takes_sparse

_SINGLE = float(np.finfo(np.float32).max)


def model_steps(family: str, kept: Kept) -> list[tuple[str, Any]]:
    """Encode as the fold learned it, then predict class codes or numbers.

    Parameters
    ----------
    family
        One of `BUILDERS`.
    kept
        Its model.

    Returns
    -------
    list of tuple
        Steps of a pipeline.
    """
    steps: list[tuple[str, Any]] = []
    columns, sparse = kept.encoder.columns_, False
    if columns is not None:
        takes = isinstance(kept.model, SklearnModel) and takes_sparse(kept.model.estimator)
        sparse = columns.sparse_output_ = bool(columns.sparse_output_) and takes
        steps.append(("encode", columns))
    if family in _SINGLE_PRECISION or isinstance(kept.model, SklearnModel):
        steps += _single(sparse)
    model = BUILDERS[family](kept)
    if not kept.task.is_classification and family in _IN_UNITS:
        model = _in_units(model, *kept.units)
    return [*steps, ("model", model)]


def linear_classifier(
    coefficients: NDArray[Any], intercept: NDArray[Any], classes: NDArray[Any], kind: Any = LogisticRegression
) -> Any:
    """Make a linear classifier of what another one learned.

    Parameters
    ----------
    coefficients, intercept
        Shapes (k, q) and (k,): k = 1 for two classes.
    classes
        Labels.
    kind
        One of scikit-learn's classes, called without arguments.

    Returns
    -------
    object of `kind`
        As if fitted.
    """
    model = kind()
    model.coef_, model.intercept_, model.classes_ = coefficients, intercept, classes
    model.n_features_in_ = coefficients.shape[1]
    return model


def _single(sparse: bool) -> list[tuple[str, Any]]:
    """Round to float32 and back; what is beyond its range is cut off."""
    if sparse:
        calls = {"low": ("maximum", -_SINGLE), "high": ("minimum", _SINGLE)}
        calls |= {"single": ("astype", "float32"), "double": ("astype", "float64")}
        return [(name, FunctionTransformer(methodcaller(*call))) for name, call in calls.items()]
    return [
        ("cut", FunctionTransformer(np.clip, kw_args={"a_min": -_SINGLE, "a_max": _SINGLE})),
        ("single", FunctionTransformer(np.asarray, kw_args={"dtype": "float32"})),
        ("double", FunctionTransformer(np.asarray, kw_args={"dtype": "float64"})),
    ]


def _in_units(model: Any, mean: float, spread: float) -> TransformedTargetRegressor:
    """Turn predictions with mean 0 and spread 1 into those of the target."""
    frozen: Any = FrozenEstimator(model)
    whole = TransformedTargetRegressor(frozen, transformer=StandardScaler(), check_inverse=False)
    whole.fit(np.zeros((2, 1)), np.array([0.0, 1.0]))
    whole.transformer_.mean_, whole.transformer_.scale_ = np.array([mean]), np.array([spread])
    whole.transformer_.var_ = whole.transformer_.scale_**2
    return whole


def _line(coefficients: Floats, intercept: Floats) -> Ridge:
    ridge = Ridge()
    ridge.coef_, ridge.intercept_ = coefficients[0], float(intercept[0])
    ridge.n_features_in_ = coefficients.shape[1]
    return ridge


def _build_linear(kept: Kept) -> Any:
    model = kept.model
    if kept.task.is_classification:
        return linear_classifier(model.coefficients, model.intercept, model.classes)
    return _line(model.coefficients, model.intercept)


def _build_mlp(kept: Kept) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    layers = len(kept.model.best) // 2
    widths = [array.shape[1] for array in kept.model.best[: layers - 1]]
    kind = MLPClassifier if kept.task.is_classification else MLPRegressor
    network = kind(hidden_layer_sizes=widths, activation=kept.model.activation, solver="adam", batch_size=1)
    X, y = _toy(kept, kept.model.best[0].shape[0])
    network.partial_fit(X, y, **({"classes": np.unique(y)} if kept.task.is_classification else {}))
    arrays = [array.astype(np.float64) for array in kept.model.best]
    network.coefs_, network.intercepts_ = arrays[:layers], arrays[layers:]
    return network


def _build_forest(name: str, kept: Kept) -> Any:
    from sklearn import ensemble

    n_features = int(read_json(kept.folder / "state.json")["n_features"])
    X, y = _toy(kept, n_features)
    kind = getattr(ensemble, name + ("Classifier" if kept.task.is_classification else "Regressor"))
    forest = kind(1, max_depth=1, random_state=0).fit(X, y)
    trees = []
    for part in kept.model.parts:
        for i in range(len(part.sizes)):
            tree = copy(forest.estimators_[0])
            tree.tree_ = part.compiled(i, n_features, with_values=True)
            trees.append(tree)
    forest.estimators_ = trees
    return forest.set_params(n_estimators=len(trees), max_depth=None)


def _build_sklearn(kept: Kept) -> Any:
    return kept.model.estimator


def _build_lightgbm(kept: Kept) -> Any:
    import lightgbm as lgb

    kind = lgb.LGBMClassifier if kept.task.is_classification else lgb.LGBMRegressor
    X, y = _toy(kept, kept.model.booster.num_feature())
    model = kind(n_estimators=1, verbosity=-1).fit(X, y)
    # Its other attributes (classes, number of features) are those of the toy.
    text = kept.model.booster.model_to_string(num_iteration=kept.model.best_iteration)
    model._Booster = lgb.Booster(model_str=text)
    return model


def _build_catboost(kept: Kept) -> Any:
    import catboost

    kind = catboost.CatBoostClassifier if kept.task.is_classification else catboost.CatBoostRegressor
    return read_catboost(kind(), kept)


def _toy(kept: Kept, n_features: int, n_rows: int = 0) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Make a table on which a model of the right shape is fitted, to have what it learned replaced."""
    k = max(2, kept.task.n_classes)
    y = np.resize(np.repeat(np.arange(k), 2), max(2 * k, n_rows))
    X = np.random.default_rng(0).random((len(y), n_features))
    return X, y if kept.task.is_classification else y.astype(float)


# Family -> what makes scikit-learn's model of it, for class codes or for a target with mean 0 and spread 1.
BUILDERS: Mapping[str, Callable[[Kept], Any]] = {
    "lightgbm": _build_lightgbm,
    "catboost": _build_catboost,
    "random_forest": partial(_build_forest, "RandomForest"),
    "extra_trees": partial(_build_forest, "ExtraTrees"),
    "linear": _build_linear,
    "mlp": _build_mlp,
    "network": build_network,
    "hist_gradient_boosting": _build_sklearn,
    "sgd": _build_sklearn,
    "kernel": _build_sklearn,
    "neighbours": _build_sklearn,
    "discriminant": _build_sklearn,
}
# Their features are rounded to float32.
_SINGLE_PRECISION = ("mlp", "network", "random_forest", "extra_trees", "catboost")
_IN_UNITS = (
    *("lightgbm", "catboost", "hist_gradient_boosting", "linear", "mlp", "network"),
    *("sgd", "kernel", "neighbours"),
)

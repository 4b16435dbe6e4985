"""Each family's model as a fitted scikit-learn object (boosters: as their library's own estimators).

Most are fitted to a toy table, and what they learned is then replaced. Attributes that are not public are few, and the
tests hold each to the model's predictions: `_Booster` of LightGBM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from windvane.data.task import Task
from windvane.export.encoder_pipeline import Steps, clip, encoder_steps, linear_classifier
from windvane.export.realmlp import build_realmlp
from windvane.models.forest import forest_type

_SINGLE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class FoldModel:
    """A fitted model with the folder that holds it."""

    model: Any  # one of `windvane.runtime.models`
    folder: Path
    task: Task
    family: str


def model_steps(fold: FoldModel) -> Steps:
    """Return steps of a pipeline: encode as the fold learned it, then predict class codes or numbers."""
    model = fold.model
    takes_sparse = model.kind == "sklearn" and not model.dense
    steps = encoder_steps(model.encoder, sparse=takes_sparse)
    if model.kind in _SINGLE_PRECISION:
        steps += _single(takes_sparse and any(step.get("sparse") for step in model.encoder.steps))
    estimator = BUILDERS[model.kind](fold)
    if not fold.task.is_classification and model.kind != "forest":
        estimator = _in_units(estimator, model.output.mean, model.output.scale)
    return [*steps, ("model", estimator)]


def _single(sparse: bool) -> Steps:
    """Round to float32 and back; what is beyond its range is cut off."""
    if sparse:
        calls: dict[str, tuple[str, Any]] = {"low": ("maximum", -_SINGLE), "high": ("minimum", _SINGLE)}
        calls |= {"single": ("astype", "float32"), "double": ("astype", "float64")}
        return [(name, FunctionTransformer(methodcaller(*call))) for name, call in calls.items()]
    return [
        ("cut", clip(-_SINGLE, _SINGLE)),
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


def _build_linear(fold: FoldModel) -> Any:
    model = fold.model
    if fold.task.is_classification:
        return linear_classifier(model.coefficients, model.intercept, model.classes)
    ridge = Ridge()
    ridge.coef_, ridge.intercept_ = model.coefficients[0], float(model.intercept[0])
    ridge.n_features_in_ = model.coefficients.shape[1]
    return ridge


def _build_mlp(fold: FoldModel) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    layers = len(fold.model.arrays) // 2
    widths = [array.shape[1] for array in fold.model.arrays[: layers - 1]]
    kind = MLPClassifier if fold.task.is_classification else MLPRegressor
    network = kind(hidden_layer_sizes=widths, activation=fold.model.activation, solver="adam", batch_size=1)
    X, y = _toy(fold, fold.model.arrays[0].shape[0])
    network.partial_fit(X, y, **({"classes": np.unique(y)} if fold.task.is_classification else {}))
    arrays = [array.astype(np.float64) for array in fold.model.arrays]
    network.coefs_, network.intercepts_ = arrays[:layers], arrays[layers:]
    return network


def _build_forest(fold: FoldModel) -> Any:
    n_features = fold.model.n_features
    X, y = _toy(fold, n_features)
    forest = forest_type(fold.family, fold.task)(1, max_depth=1, random_state=0).fit(X, y)
    trees = []
    for part in fold.model.parts:
        for i in range(len(part.sizes)):
            tree = copy(forest.estimators_[0])
            tree.tree_ = part.compiled(i, n_features, with_values=True)
            trees.append(tree)
    forest.estimators_ = trees
    return forest.set_params(n_estimators=len(trees), max_depth=None)


def _build_sklearn(fold: FoldModel) -> Any:
    return deepcopy(fold.model.estimator)  # the output of its steps will be set


def _build_lightgbm(fold: FoldModel) -> Any:
    import lightgbm as lgb

    kind = lgb.LGBMClassifier if fold.task.is_classification else lgb.LGBMRegressor
    X, y = _toy(fold, fold.model.booster.num_feature())
    model = kind(n_estimators=1, verbosity=-1).fit(X, y)
    # Its other attributes (classes, number of features) are those of the toy.
    text = fold.model.booster.model_to_string(num_iteration=fold.model.best_iteration)
    model._Booster = lgb.Booster(model_str=text)
    return model


def _build_catboost(fold: FoldModel) -> Any:
    import catboost

    kind = catboost.CatBoostClassifier if fold.task.is_classification else catboost.CatBoostRegressor
    return kind().load_model(str(fold.folder / "model.cbm"))


def _build_xgboost(fold: FoldModel) -> Any:
    import xgboost

    kind = xgboost.XGBClassifier if fold.task.is_classification else xgboost.XGBRegressor
    model = kind(enable_categorical=True, feature_types=fold.model.booster.feature_types)
    model.load_model(fold.folder / "model.ubj")
    return model


def _toy(fold: FoldModel, n_features: int) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return data to fit a model of the right shape on, before what it learned is replaced."""
    k = max(2, fold.task.n_classes)
    y = np.repeat(np.arange(k), 2)
    X = np.random.default_rng(0).random((len(y), n_features))
    return X, y if fold.task.is_classification else y.astype(float)


# Kind of model -> what makes scikit-learn's estimator of it, for class codes or a target with mean 0 and spread 1.
BUILDERS: Mapping[str, Callable[[FoldModel], Any]] = {
    "lightgbm": _build_lightgbm,
    "catboost": _build_catboost,
    "xgboost": _build_xgboost,
    "forest": _build_forest,
    "linear": _build_linear,
    "mlp": _build_mlp,
    "realmlp": build_realmlp,
    "sklearn": _build_sklearn,
}
_SINGLE_PRECISION = {"mlp", "realmlp", "forest", "catboost", "xgboost", "sklearn"}  # features rounded to float32

"""Each family's model said as a fitted scikit-learn object (LightGBM's and CatBoost's: as their own estimators).

Most are fitted to a toy table, and what they learned is then replaced. Attributes that are not public are few, and the
tests hold each to the model's predictions: `_Booster` of LightGBM, `_predictors` and `_baseline_prediction` of
scikit-learn's histogram boosting.
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
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from windvane.data.store import read_json
from windvane.data.table import Floats
from windvane.export.families import Kept, read_catboost
from windvane.export.realmlp import build_realmlp
from windvane.models.neighbours import CLOSEST

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
        # Rows that are compared with kept ones stay as those are; what follows elsewhere wants arrays.
        sparse = columns.sparse_output_ = bool(columns.sparse_output_) and family in _COMPARING
        steps.append(("encode", columns))
    if family in _SINGLE_PRECISION:
        steps += _single(sparse)
        if family != "neighbours":  # which compares single with single
            steps.append(("double", FunctionTransformer(np.asarray, kw_args={"dtype": "float64"})))
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


def has_even_weights(model: Any) -> bool:
    """Whether rows of a nearest neighbours model, or those of one class, weigh the same, as scikit-learn has it."""
    groups = model.target if len(model.classes) else np.zeros(len(model.target), dtype=int)
    return bool(model.weight.min() > 0) and all(
        np.ptp(model.weight[groups == group]) == 0 for group in np.unique(groups)
    )


def _single(sparse: bool) -> list[tuple[str, Any]]:
    """Round to float32; what is beyond its range is cut off."""
    if sparse:
        calls = {"low": ("maximum", -_SINGLE), "high": ("minimum", _SINGLE), "single": ("astype", "float32")}
        return [(name, FunctionTransformer(methodcaller(*call))) for name, call in calls.items()]
    return [
        ("cut", FunctionTransformer(np.clip, kw_args={"a_min": -_SINGLE, "a_max": _SINGLE})),
        ("single", FunctionTransformer(np.asarray, kw_args={"dtype": "float32"})),
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


def _build_sgd(kept: Kept) -> Any:
    """Write the sigmoids into the coefficients; of their probabilities, those of more than two classes are shares."""
    model = kept.model
    coefficients, intercept = model.best[:, :-1], model.best[:, -1]
    if not kept.task.is_classification:
        return _line(coefficients, intercept)
    slope, shift = model.sigmoids.slope, model.sigmoids.shift
    kind = partial(SGDClassifier, loss="log_loss")
    return linear_classifier(slope[:, None] * coefficients, slope * intercept + shift, model.classes, kind)


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


def _build_histogram(kept: Kept) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    model, p = kept.model, kept.encoder.n_numbers
    levels = []  # for each native category the codes that training saw, which scikit-learn numbers again
    for ranks in model.levels.ranks[:, :-1]:
        numbers, first = np.unique(ranks, return_index=True)
        levels.append(first[~np.isnan(numbers)])
    X, y = _toy(kept, model.n_features, max(map(len, levels), default=0))
    for j, codes in enumerate(levels):
        X[:, p + j] = np.resize(codes, len(X))
    kind = HistGradientBoostingClassifier if kept.task.is_classification else HistGradientBoostingRegressor
    categories = list(range(p, p + len(levels))) or None
    boosting = kind(max_iter=1, early_stopping=False, categorical_features=categories).fit(X, y)
    boosting._predictors = model.trees[: model.best_iteration]
    boosting._baseline_prediction = model.baseline
    return boosting.set_params(max_iter=model.best_iteration)


def _build_kernel(kept: Kept) -> Any:
    """Take the coefficients of the kernels for what Nystroem's method maps them with, so that it gives the scores."""
    from sklearn.kernel_approximation import Nystroem

    model = kept.model
    own = {"coef0": 1.0, "degree": model.degree} if model.kernel == "polynomial" else {}
    kernels = Nystroem(kernel=model.kernel, gamma=model.gamma, n_components=1, **own).fit(model.landmarks[:1])
    kernels.components_, kernels.normalization_ = model.landmarks, model.dual.T
    kernels.set_params(n_components=len(model.dual))
    same = np.eye(model.dual.shape[1])
    if kept.task.is_classification:
        return Pipeline([("scores", kernels), ("link", linear_classifier(same, model.intercept, model.classes))])
    return Pipeline([("scores", kernels), ("link", _line(same, model.intercept))])


def _build_neighbours(kept: Kept) -> Any:
    """Let the neighbours vote; with q the shares of their votes, one more row of n_c / n and the weights w of classes.

    What is to be normalised is w (k q + n_c / n), so its logarithm is log w, log k and log (q + n_c / (n k)).
    """
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    model, n = kept.model, len(kept.model.target)
    k = min(model.config["n_neighbours"], n)
    relative = [
        ("double", FunctionTransformer(np.asarray, kw_args={"dtype": "float64"})),
        ("relative", Normalizer(norm="max")),
        ("least", FunctionTransformer(np.clip, kw_args={"a_min": CLOSEST, "a_max": 1.0})),
        ("inverse", FunctionTransformer(np.reciprocal)),
    ]
    weights = "uniform" if model.config["weights"] == "uniform" else Pipeline(relative).fit(np.ones((1, k))).transform
    kind = KNeighborsClassifier if kept.task.is_classification else KNeighborsRegressor
    neighbours = kind(k, p=model.config["p"], weights=weights).fit(model.rows, model.target)
    if not kept.task.is_classification:
        return neighbours
    codes = np.repeat(model.classes, 2)
    toy = np.zeros((len(codes), 1))
    vote = VotingClassifier([("neighbours", FrozenEstimator(neighbours))], voting="soft").fit(toy, codes)
    more = StandardScaler(with_std=False).fit(np.zeros((2, len(model.classes))))
    more.mean_ = -np.bincount(model.target) / (n * k)
    weight = np.log(model.weight[np.unique(model.target, return_index=True)[1]])  # (n_classes,)
    same = np.eye(len(weight))
    if len(weight) == 2:
        same, weight = same[1:] - same[:1], weight[1:] - weight[:1]
    link = linear_classifier(same, weight, model.classes)
    return Pipeline([("votes", vote), ("more", more), ("log", FunctionTransformer(np.log)), ("link", link)])


def _build_discriminant(kept: Kept) -> Any:
    """Write the temperature into coefficients, or into covariances and their determinants."""
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

    model, sharpness = kept.model, kept.model.sharpness
    if model.linear:
        coefficients, offsets = sharpness * model.maps[:, :, 0], sharpness * model.offsets
        if len(offsets) == 2:
            coefficients, offsets = coefficients[1:] - coefficients[:1], offsets[1:] - offsets[:1]
        return linear_classifier(coefficients, offsets, model.classes)
    normal = QuadraticDiscriminantAnalysis()
    normal.classes_, normal.means_, normal.priors_ = model.classes, model.means, np.ones(len(model.classes))
    q = normal.n_features_in_ = model.means.shape[1]
    spreads = np.exp(-2 * sharpness * model.offsets / q)  # (k,)
    normal.scalings_ = [np.full(q, spread) for spread in spreads]
    normal.rotations_ = [a * np.sqrt(sharpness * spread) for a, spread in zip(model.maps, spreads, strict=True)]
    return normal


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
    "network": build_realmlp,
    "hist_gradient_boosting": _build_histogram,
    "sgd": _build_sgd,
    "kernel": _build_kernel,
    "neighbours": _build_neighbours,
    "discriminant": _build_discriminant,
}
# Their features are rounded to float32.
_SINGLE_PRECISION = ("mlp", "network", "random_forest", "extra_trees", "catboost", "neighbours")
_COMPARING = ("kernel", "neighbours")
_IN_UNITS = (
    *("lightgbm", "catboost", "hist_gradient_boosting", "linear", "mlp", "network"),
    *("sgd", "kernel", "neighbours"),
)

"""Configurations that may enter a portfolio: ours, random ones, and what Auto-Sklearn 2.0 published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from windvane.data.task import Task
from windvane.errors import InputError
from windvane.models.base import Family, Value
from windvane.models.search_space import fill_defaults, sample, validate
from windvane.search.strategy.portfolio import PortfolioEntry

Read = Callable[[Any], Value]

_SCALES = {"standardize": "standard", "robust_scaler": "robust", "quantile_transformer": "quantile", "minmax": "minmax"}
_NUMERIC = "data_preprocessor:feature_type:numerical_transformer:"
_CATEGORICAL = "data_preprocessor:feature_type:categorical_transformer:category_coalescence:"
# Published name -> ours and how to read the value; a name that stands without a prefix belongs to the classifier.
_DENSE: dict[str, tuple[str, Read]] = {
    _NUMERIC + "rescaling:__choice__": ("scale", lambda value: _SCALES.get(value, "standard")),
    _NUMERIC + "imputation:strategy": ("impute", str),
    _CATEGORICAL + "minority_coalescer:minimum_fraction": ("min_frequency", float),
}
_TREES: dict[str, tuple[str, Read]] = {
    "criterion": ("criterion", str),
    "max_features": ("max_features", float),  # an exponent there as here
    "min_samples_split": ("min_samples_split", int),
    "min_samples_leaf": ("min_samples_leaf", int),
    "bootstrap": ("bootstrap", lambda value: str(value) == "True"),
}
_NETWORK: dict[str, tuple[str, Read]] = {
    "hidden_layer_depth": ("depth", int),
    "num_nodes_per_layer": ("width", int),
    "activation": ("activation", str),
    "learning_rate_init": ("learning_rate", float),
    "alpha": ("alpha", float),
}
_BOOSTING: dict[str, tuple[str, Read]] = {
    "learning_rate": ("learning_rate", float),
    "max_leaf_nodes": ("num_leaves", int),
    "min_samples_leaf": ("min_data_in_leaf", int),
}
# Published classifier -> our family. The linear ones differ in loss and penalty, so they have no counterpart here.
_FAMILIES: dict[str, tuple[str, dict[str, tuple[str, Read]]]] = {
    "extra_trees": ("extra_trees", _TREES),
    "random_forest": ("random_forest", _TREES),
    "mlp": ("mlp", {**_NETWORK, **_DENSE}),
    "gradient_boosting": ("lightgbm", _BOOSTING),
}


# What practitioners and tuned portfolios use, beside the defaults; random draws from wide ranges rarely lie here.
_SHALLOW = {"feature_fraction": 0.6, "bagging_fraction": 0.9, "lambda_l2": 0.5}
GUESSES = (
    PortfolioEntry("lightgbm", {}),
    PortfolioEntry("linear", {}),
    PortfolioEntry("catboost", {}),
    PortfolioEntry("extra_trees", {}),
    PortfolioEntry("network", {}),
    PortfolioEntry("lightgbm", {"features": "generated"}),
    PortfolioEntry("mlp", {}),
    PortfolioEntry(
        "lightgbm",
        {
            **{"learning_rate": 0.04, "num_leaves": 39, "min_data_in_leaf": 3, "feature_fraction": 0.46},
            **{"bagging_fraction": 0.88, "extra_trees": True, "lambda_l1": 0.24, "lambda_l2": 0.36},
        },
    ),
    PortfolioEntry("catboost", {"features": "generated"}),
    PortfolioEntry("network", {"width": 256, "dropout": 0.3, "weight_decay": 0.06}),
    PortfolioEntry("random_forest", {}),
    PortfolioEntry("catboost", {"depth": 5, "learning_rate": 0.06, "l2_leaf_reg": 3.0}),
    PortfolioEntry("lightgbm", {"learning_rate": 0.05, "num_leaves": 8, "min_data_in_leaf": 24, **_SHALLOW}),
    PortfolioEntry("extra_trees", {"max_features": 0.8, "min_samples_leaf": 2}),
    PortfolioEntry("network", {"depth": 2, "width": 64, "learning_rate": 0.06}),
    PortfolioEntry("linear", {"scale": "quantile"}),
    PortfolioEntry(
        "lightgbm",
        {
            **{"learning_rate": 0.03, "num_leaves": 128, "min_data_in_leaf": 12, "feature_fraction": 0.5},
            **{"bagging_fraction": 0.95, "extra_trees": True, "lambda_l2": 1.6},
        },
    ),
    PortfolioEntry(
        "lightgbm",
        {
            **{"learning_rate": 0.04, "num_leaves": 20, "min_data_in_leaf": 10, "feature_fraction": 0.45},
            **{"bagging_fraction": 0.8, "extra_trees": True, "lambda_l2": 1.0, "features": "generated"},
        },
    ),
    PortfolioEntry("network", {"embedding": "none", "scale": "quantile", "width": 256, "dropout": 0.3}),
    PortfolioEntry("catboost", {"depth": 4, "learning_rate": 0.12, "l2_leaf_reg": 1.0}),
    PortfolioEntry(
        "lightgbm", {"learning_rate": 0.12, "num_leaves": 31, "feature_fraction": 0.7, "min_data_in_leaf": 20}
    ),
    PortfolioEntry("mlp", {"depth": 1, "width": 256, "alpha": 0.01, "learning_rate": 0.0005, "scale": "standard"}),
    PortfolioEntry("extra_trees", {"min_samples_leaf": 3, "max_features": 0.5, "bootstrap": True}),
    PortfolioEntry("network", {"dropout": 0.0, "learning_rate": 0.02, "sigma": 0.5}),
    PortfolioEntry("catboost", {"depth": 8, "learning_rate": 0.05, "l2_leaf_reg": 5.0, "rsm": 0.8}),
    PortfolioEntry(
        "lightgbm", {"learning_rate": 0.1, "num_leaves": 4, "feature_fraction": 0.7, "min_data_in_leaf": 10}
    ),
    PortfolioEntry("random_forest", {"max_features": 0.7, "min_samples_leaf": 3}),
    PortfolioEntry("network", {"depth": 4, "width": 192, "dropout": 0.05, "sigma": 0.05}),
    PortfolioEntry("network", {"embedding": "none", "activation": "relu", "weight_decay": 0.1}),
)


# Quick ones, for tables of tens of thousands of rows, where 60 s carry few trials.
LARGE = (
    PortfolioEntry("lightgbm", {}),
    PortfolioEntry(
        "lightgbm", {"learning_rate": 0.12, "num_leaves": 31, "feature_fraction": 0.7, "min_data_in_leaf": 20}
    ),
    PortfolioEntry(
        "lightgbm", {"learning_rate": 0.12, "num_leaves": 31, "feature_fraction": 0.7, "features": "generated"}
    ),
    PortfolioEntry("catboost", {"depth": 6, "learning_rate": 0.2, "l2_leaf_reg": 3.0}),
    PortfolioEntry(
        "lightgbm", {"learning_rate": 0.15, "num_leaves": 128, "feature_fraction": 0.6, "bagging_fraction": 0.9}
    ),
    PortfolioEntry("linear", {}),
    PortfolioEntry("network", {"depth": 2, "width": 64, "learning_rate": 0.06}),
    PortfolioEntry("extra_trees", {"min_samples_leaf": 3, "max_features": 0.5, "bootstrap": True}),
    PortfolioEntry("lightgbm", {"learning_rate": 0.2, "num_leaves": 16, "feature_fraction": 0.5, "lambda_l2": 1.0}),
    PortfolioEntry("catboost", {"depth": 6, "learning_rate": 0.2, "l2_leaf_reg": 3.0, "features": "generated"}),
    PortfolioEntry("catboost", {}),
    PortfolioEntry(
        "lightgbm",
        {"learning_rate": 0.1, "num_leaves": 64, "feature_fraction": 0.5, "extra_trees": True, "lambda_l2": 0.5},
    ),
    PortfolioEntry("network", {}),
    PortfolioEntry("random_forest", {"max_features": 0.7, "min_samples_leaf": 3}),
)


def make_candidates(
    task: Task,
    families: Mapping[str, Family],
    draws: Mapping[str, int],
    seed: int,
    published: Iterable[PortfolioEntry] = (),
) -> list[PortfolioEntry]:
    """List the candidates of a task kind: guesses, defaults, what others published, and random ones of each family."""
    rng = np.random.default_rng(seed)
    spaces = {name: family.search_space(task) for name, family in families.items()}
    drawn = [
        PortfolioEntry(name, {key: _rounded(value) for key, value in sample(space, rng).items()})
        for name, space in spaces.items()
        for _ in range(draws.get(name, 0))
    ]
    listed = [*GUESSES, *(PortfolioEntry(name, {}) for name in families), *published, *drawn]
    candidates: dict[str, PortfolioEntry] = {}
    for entry in listed:
        if entry.family in families:
            whole = fill_defaults(entry.config, spaces[entry.family])
            candidates.setdefault(json.dumps([entry.family, whole], sort_keys=True), entry)
    return list(candidates.values())


def read_published(folder: Path, families: Mapping[str, Family], most: int) -> list[PortfolioEntry]:
    """Read published portfolios of Auto-Sklearn 2.0: the first of each file, then the second of each, and so on."""
    portfolios = [
        list(json.loads(path.read_text(encoding="utf-8"))["portfolio"].values())
        for path in sorted(folder.glob("*/portfolio_*.json"))
    ]
    found: list[PortfolioEntry] = []
    for rank in zip_longest(*portfolios):
        for published in rank:
            entry = None if published is None else translate(published, families)
            if entry is not None and entry not in found:
                found.append(entry)
    return found[:most]


def translate(published: Mapping[str, Any], families: Mapping[str, Family]) -> PortfolioEntry | None:
    """Translate a configuration of auto-sklearn; None if it has no counterpart."""
    classifier = published["classifier:__choice__"]
    name, words = _FAMILIES.get(classifier, ("", {}))
    if name not in families:
        return None
    config: dict[str, Value] = {}
    for theirs, (ours, read) in words.items():
        key = theirs if ":" in theirs else f"classifier:{classifier}:{theirs}"
        if key in published:
            config[ours] = _rounded(read(published[key]))
    space = families[name].search_space(Task("binary", 1000, 10, 2))
    try:
        validate(config, space)
    except InputError:
        return None
    whole = fill_defaults(config, space)
    return PortfolioEntry(name, {key: value for key, value in config.items() if key in whole})


def _rounded(value: Value) -> Value:
    return float(f"{value:.4g}") if isinstance(value, float) else value

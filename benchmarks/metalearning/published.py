"""Configurations that may enter a portfolio: what Auto-Sklearn 2.0 published, in our words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from windvane.data.task import Task
from windvane.errors import InputError
from windvane.models.base import Family, Value
from windvane.models.search_space import fill_defaults, validate
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

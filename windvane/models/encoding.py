"""The hyperparameters of encoding that families share which want scaled numbers, and of weighing classes.

They are the preprocessing choices of Auto-Sklearn 2.0's space, table 18 of its supplement: seven rescalings, three
imputations, merging of rare levels, balanced classes. What is learned, is learned inside the training part.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from windvane.data.encoders import DENSE, Choices
from windvane.data.task import Task
from windvane.models.base import Config, Param, Part


def encoding_space(scale: str) -> dict[str, Param]:
    """Make the hyperparameters of encoding.

    Parameters
    ----------
    scale
        How the family's default configuration scales.

    Returns
    -------
    dict
        Name -> hyperparameter, for the space of a family; `encoding_choices` reads them.
    """
    from optuna.distributions import CategoricalDistribution as Choice
    from optuna.distributions import FloatDistribution as Float
    from optuna.distributions import IntDistribution as Int

    scales = ["standard", "robust", "quantile", "minmax", "power", "normalise", "none"]
    return {
        "scale": Param(Choice(scales), scale),
        "robust_low": Param(Float(1e-3, 0.3), 0.25, when={"scale": ("robust",)}),
        "robust_high": Param(Float(0.7, 0.999), 0.75, when={"scale": ("robust",)}),
        "quantiles": Param(Int(10, 2000, log=True), 1000, when={"scale": ("quantile",)}),
        "quantile_shape": Param(Choice(["normal", "uniform"]), "normal", when={"scale": ("quantile",)}),
        "impute": Param(Choice(["median", "mean", "most_frequent"]), "median"),
        "merge_rare": Param(Choice([True, False]), True),
        "min_frequency": Param(Float(1e-4, 0.5, log=True), 1e-3, when={"merge_rare": (True,)}),
        "onehot_max": Param(Choice([10, 40, 150]), 40),
    }


def encoding_choices(config: Config) -> Choices:
    """Read the hyperparameters of `encoding_space` from a complete configuration."""
    names = {"scale", "robust_low", "robust_high", "quantiles", "quantile_shape", "impute", "onehot_max"}
    chosen: dict[str, object] = {name: value for name, value in config.items() if name in names}
    return replace(DENSE, **chosen, min_frequency=config.get("min_frequency", 0.0))  # type: ignore[arg-type]


def weighing_space(task: Task) -> dict[str, Param]:
    """Make the hyperparameter of weighing classes, where there are classes; `weigh` reads it."""
    from optuna.distributions import CategoricalDistribution as Choice

    return {"class_weight": Param(Choice(["none", "balanced"]), "none")} if task.is_classification else {}


def weigh(config: Config, train: Part) -> Part:
    """Give every class of a training part the same total weight, where the configuration wants that.

    Parameters
    ----------
    config
        A complete configuration.
    train
        n rows.

    Returns
    -------
    Part
        The same rows; weights of rows are kept within their class, and so is the sum of all.
    """
    if config.get("class_weight", "none") == "none":
        return train
    weight = np.ones(len(train.target)) if train.weight is None else train.weight
    totals = np.bincount(train.target, weights=weight)  # (classes up to the last of the part,)
    return replace(train, weight=weight * weight.sum() / (np.count_nonzero(totals) * totals[train.target]))

"""Families made of scikit-learn's estimators. Measurement did not put them into the default search.

Ranges are those of Auto-Sklearn 2.0 where it has the estimator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline

from windvane.data.task import Task
from windvane.models.base import Config, Param
from windvane.models.encoding import ORDINAL
from windvane.models.search_space import choice, real, whole
from windvane.models.sklearn_family import SklearnFamily
from windvane.runtime.columns.table import Table


def sgd() -> SklearnFamily:
    """Linear models by stochastic gradient descent, epoch by epoch."""

    def search_space(task: Task) -> Mapping[str, Param]:
        losses = ["log_loss", "modified_huber"] if task.is_classification else ["squared_error", "huber"]
        step = 1e-2 if task.is_classification else 1e-3
        return {
            "loss": choice(losses, losses[0]),
            "penalty": choice(["l2", "l1", "elasticnet"], "l2"),
            "alpha": real(1e-7, 1e-1, 1e-4, log=True),
            "l1_ratio": real(1e-9, 1.0, 0.15, log=True, when={"penalty": ("elasticnet",)}),
            "learning_rate": choice(["invscaling", "constant"], "constant"),
            "eta0": real(1e-6, 1e-2, step, log=True),
            "power_t": real(1e-5, 1.0, 0.25, when={"learning_rate": ("invscaling",)}),
            "average": choice([False, True], False),
        }

    return SklearnFamily(
        "sgd",
        classifier=SGDClassifier,
        regressor=SGDRegressor,
        search_space=search_space,
        iterations="partial_fit",
        max_iterations=1024,
    )


def kernel() -> SklearnFamily:
    """Logistic and ridge regression on the kernels between rows and some rows of the training (Nystroem's method)."""

    def pipeline(linear: Any) -> Any:
        from sklearn.kernel_approximation import Nystroem

        return Pipeline([("kernel", Nystroem()), ("linear", linear)])

    def search_space(task: Task) -> Mapping[str, Param]:
        if task.is_classification:
            penalty = {"C": real(1e-2, 1e3, 30.0, log=True)}
        else:
            penalty = {"alpha": real(1e-3, 1e2, 0.1, log=True)}
        return {
            **penalty,
            "kernel": choice(["rbf", "laplacian", "polynomial"], "rbf"),
            "gamma": real(1e-2, 10.0, 0.3, log=True),
            "degree": whole(2, 4, 3, when={"kernel": ("polynomial",)}),
            "n_components": whole(64, 1024, 300, log=True),
        }

    def parameters(config: Config, features: Any, target: NDArray[Any]) -> Mapping[str, Any]:
        n_rows, n_features = features.shape
        chosen = {
            "kernel__kernel": config["kernel"],
            # The distance between rows grows with the number of features, and so does the unit of gamma.
            "kernel__gamma": float(config["gamma"]) / n_features,
            "kernel__n_components": min(int(config["n_components"]), n_rows),
        }
        if config["kernel"] == "polynomial":
            chosen |= {"kernel__degree": config["degree"], "kernel__coef0": 1.0}
        return chosen | {f"linear__{name}": config[name] for name in ("C", "alpha") if name in config}

    def supports(task: Task, table: Table) -> bool:
        return task.n_rows * task.n_outputs <= 300_000

    return SklearnFamily(
        "kernel",
        classifier=lambda: pipeline(LogisticRegression(max_iter=200)),
        regressor=lambda: pipeline(Ridge()),
        search_space=search_space,
        parameters=parameters,
        supports=supports,
    )


def neighbours() -> SklearnFamily:
    """Nearest neighbours; every prediction looks at every row."""

    def search_space(task: Task) -> Mapping[str, Param]:
        return {
            "n_neighbors": whole(1, 100, 15, log=True),
            "weights": choice(["distance", "uniform"], "distance"),
            "p": choice([1, 2], 2),
        }

    def parameters(config: Config, features: Any, target: NDArray[Any]) -> Mapping[str, Any]:
        return {**config, "n_neighbors": min(int(config["n_neighbors"]), features.shape[0])}

    def supports(task: Task, table: Table) -> bool:
        return task.n_rows <= 50_000 and task.n_rows * task.n_columns <= 5_000_000

    return SklearnFamily(
        "neighbours",
        classifier=KNeighborsClassifier(algorithm="brute"),
        regressor=KNeighborsRegressor(algorithm="brute"),
        search_space=search_space,
        parameters=parameters,
        supports=supports,
    )


def discriminant() -> SklearnFamily:
    """Linear and quadratic discriminant analysis with a temperature for its densities, which are too sure."""

    def classifier() -> Any:
        from sklearn.calibration import CalibratedClassifierCV

        return CalibratedClassifierCV(LinearDiscriminantAnalysis(), method="temperature", ensemble=False)

    def search_space(task: Task) -> Mapping[str, Param]:
        return {
            "kind": choice(["ledoit_wolf", "linear", "quadratic"], "ledoit_wolf"),
            "shrinkage": real(1e-4, 1.0, 0.1, log=True, when={"kind": ("linear", "quadratic")}),
        }

    def parameters(config: Config, features: Any, target: NDArray[Any]) -> Mapping[str, Any]:
        if config["kind"] == "quadratic":
            estimator = QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=config["shrinkage"])
        else:
            estimator = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=config.get("shrinkage", "auto"))
        smallest = np.unique(target, return_counts=True)[1].min()
        return {"estimator": estimator, "cv": int(np.clip(smallest, 2, 5))}

    def supports(task: Task, table: Table) -> bool:
        return table.sparse is None and task.n_columns <= 1000

    return SklearnFamily(
        "discriminant",
        classifier=classifier,
        search_space=search_space,
        parameters=parameters,
        min_class_size=4,
        supports=supports,
        trusted=["sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis"],
    )


def hist_gradient_boosting() -> SklearnFamily:
    """Leaf-wise boosted trees over histograms."""

    def classifier() -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(early_stopping=False)

    def regressor() -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(early_stopping=False)

    def search_space(task: Task) -> Mapping[str, Param]:
        return {
            "learning_rate": real(0.01, 1.0, 0.1, log=True),
            "max_leaf_nodes": whole(3, 2047, 31, log=True),
            "min_samples_leaf": whole(1, 200, 20, log=True),
            "l2_regularization": real(1e-10, 1.0, 1e-10, log=True),
        }

    def parameters(config: Config, features: Any, target: NDArray[Any]) -> Mapping[str, Any]:
        # A leaf of more than a tenth of the rows would forbid nearly every split on small data.
        return {**config, "min_samples_leaf": min(int(config["min_samples_leaf"]), max(1, len(target) // 10))}

    return SklearnFamily(
        "hist_gradient_boosting",
        classifier=classifier,
        regressor=regressor,
        search_space=search_space,
        parameters=parameters,
        encoding=replace(ORDINAL, impute="median"),  # its bins refuse a column without any number
        iterations="max_iter",
        max_iterations=512,
    )

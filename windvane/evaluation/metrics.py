"""Metrics: windvane's, scikit-learn's and the user's, all turned into losses (lower is better).

Inside windvane a target holds class codes 0 .. k - 1 or numbers, a prediction probabilities of shape (n, k) or numbers
of shape (n,).
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import get_scorer, get_scorer_names

from windvane.data.task import Task
from windvane.errors import InputError, unknown_name_error
from windvane.evaluation.metric_functions import (
    accuracy,
    average_precision,
    balanced_accuracy,
    f1,
    f1_macro,
    f1_weighted,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2,
    roc_auc,
    root_mean_squared_error,
)
from windvane.runtime.columns.table import Floats

Needs = Literal["probabilities", "labels", "values"]


@dataclass(frozen=True)
class Metric:
    """A metric of windvane or of the user.

    Parameters
    ----------
    name
        Its name in reports.
    function
        Takes the true labels or numbers and the prediction, arrays of n rows, and returns a number. If it has a
        parameter ``sample_weight``, it receives the weights of the rows, if there are any.
    needs
        What `function` takes as prediction: "probabilities" of shape (n, k) with classes in sorted order, "labels" of
        shape (n,), or, for regression, "values" of shape (n,).
    greater_is_better
        Whether it is a score. The loss is then one minus the score, otherwise the value itself.
    classes
        Labels by code; set by `get_metric`. None if `function` takes codes.

    Raises
    ------
    InputError
        If `function` is not callable or `needs` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from windvane import Metric
    >>> def within_10_percent(y_true, y_pred):
    ...     return (abs(y_pred - y_true) <= 0.1 * abs(y_true)).mean()
    >>> metric = Metric("within 10 %", within_10_percent, needs="values")
    >>> metric.loss(np.array([1.0, 2.0]), np.array([1.05, 3.0]))
    0.5
    """

    name: str
    function: Callable[..., float]
    needs: Needs = "labels"
    greater_is_better: bool = True
    classes: NDArray[Any] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"function={self.function!r} cannot be called; a metric needs a function.")
        if self.needs not in get_args(Needs):
            raise unknown_name_error("needs", self.needs, get_args(Needs))

    def loss(self, target: NDArray[Any], prediction: Floats, weight: Floats | None = None) -> float:
        """Loss of a prediction.

        Parameters
        ----------
        target
            Class codes or numbers, shape (n,).
        prediction
            Probabilities of shape (n, k) or numbers of shape (n,).
        weight
            Weights of the rows, shape (n,); ignored if all are zero.

        Returns
        -------
        float
            Lower is better; infinite if the prediction has NaN or infinite values.
        """
        if not np.isfinite(prediction).all():
            return float("inf")
        answer: NDArray[Any] = prediction.argmax(axis=1) if self.needs == "labels" else prediction
        if self.classes is not None:
            target = self.classes[target]
            answer = self.classes[answer] if self.needs == "labels" else answer
        if weight is not None and weight.any() and _takes(self.function, "sample_weight"):
            value = float(self.function(target, answer, sample_weight=weight))
        else:
            value = float(self.function(target, answer))
        return 1.0 - value if self.greater_is_better else value

    def score(self, loss: float) -> float:
        """Value of the metric for a loss.

        Parameters
        ----------
        loss
            Returned by `loss`.

        Returns
        -------
        float
            In the direction of `function`.
        """
        return 1.0 - loss if self.greater_is_better else loss


CLASSIFICATION = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", roc_auc, "probabilities"),
        Metric("log_loss", log_loss, "probabilities", greater_is_better=False),
        Metric("balanced_accuracy", balanced_accuracy),
        Metric("accuracy", accuracy),
        Metric("average_precision", average_precision, "probabilities"),
        Metric("f1", f1),
        Metric("f1_macro", f1_macro),
        Metric("f1_weighted", f1_weighted),
    )
}
REGRESSION = {
    metric.name: metric
    for metric in (
        Metric("rmse", root_mean_squared_error, "values", greater_is_better=False),
        Metric("mae", mean_absolute_error, "values", greater_is_better=False),
        Metric("mse", mean_squared_error, "values", greater_is_better=False),
        Metric("r2", r2, "values"),
    )
}
# Metrics for two classes, and what to use for more.
BINARY = {name: f"{name}_macro" for name in ("f1", "precision", "recall", "jaccard")} | dict.fromkeys(
    ("positive_likelihood_ratio", "negative_likelihood_ratio", "neg_negative_likelihood_ratio"), "balanced_accuracy"
)
ALIASES = {
    "auc": "roc_auc",
    "roc_auc_ovr": "roc_auc",
    "logloss": "log_loss",
    "neg_log_loss": "log_loss",
    "cross_entropy": "log_loss",
    "acc": "accuracy",
    "balanced_acc": "balanced_accuracy",
    "ap": "average_precision",
    "root_mean_squared_error": "rmse",
    "neg_root_mean_squared_error": "rmse",
    "mean_absolute_error": "mae",
    "neg_mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "neg_mean_squared_error": "mse",
}


def get_metric(metric: Any, task: Task, classes: NDArray[Any] | None = None) -> Metric:
    """Return the metric for a name, a scikit-learn scorer or a `Metric`; InputError if it does not fit the task.

    "auto" is roc_auc for two classes, log_loss for more and rmse for numbers. roc_auc and average_precision of more
    than two classes are the mean over the classes, each against the rest.
    """
    if isinstance(metric, str):
        return _named(metric, task)
    if isinstance(metric, Metric):
        found = dataclasses.replace(metric, classes=classes)
    elif hasattr(metric, "_score_func") and hasattr(metric, "_response_method"):
        found = _of_scorer(metric, metric._score_func.__name__, task, classes)
    else:
        wrap = ": wrap it as windvane.Metric(name, function, needs=...)" if callable(metric) else ""
        raise InputError(f"metric={metric!r} is not a name, scikit-learn scorer or windvane.Metric{wrap}.")
    if (found.needs == "values") == task.is_classification:
        goal, needs = (
            ("classification", "'labels' or 'probabilities'") if task.is_classification else ("regression", "'values'")
        )
        raise InputError(f"metric={found.name!r} has needs={found.needs!r}, but for {goal} it must be {needs}.")
    return found


def _named(given: str, task: Task) -> Metric:
    auto = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
    name = auto[task.kind] if given == "auto" else ALIASES.get(given, given)
    own, others = (CLASSIFICATION, REGRESSION) if task.is_classification else (REGRESSION, CLASSIFICATION)
    if task.kind == "multiclass" and name in BINARY:
        raise InputError(f"metric={given!r} is for two classes, but there are {task.n_classes}. Use {BINARY[name]!r}.")
    if name in own:
        return own[name]
    scorers = _scorers(task.is_classification)
    key = name if name in scorers else f"neg_{name}"
    if key in scorers:
        return _of_scorer(scorers[key], key.removeprefix("neg_"), task, None)
    allowed = list(dict.fromkeys([*own, *(ALIASES.get(scorer, scorer.removeprefix("neg_")) for scorer in scorers)]))
    if name in others or not {name, f"neg_{name}"}.isdisjoint(_scorers(not task.is_classification)):
        raise InputError(f"metric={given!r} is not for {task.kind} tasks. Allowed: {', '.join(allowed)}.")
    raise unknown_name_error("metric", given, allowed)


def _scorers(classification: bool) -> dict[str, Any]:
    """Names and scorers of scikit-learn for classification or for regression."""
    scorers = {name: get_scorer(name) for name in get_scorer_names() if not name.endswith("_samples")}
    return {
        name: scorer
        for name, scorer in scorers.items()
        if ".cluster." not in scorer._score_func.__module__ and _is_for_numbers(scorer) != classification
    }


def _is_for_numbers(scorer: Any) -> bool:
    return bool(scorer._score_func.__module__ == "sklearn.metrics._regression")


def _of_scorer(scorer: Any, name: str, task: Task, classes: NDArray[Any] | None) -> Metric:
    """Metric of a scorer; without classes its function receives codes, of which some may be absent."""
    response = scorer._response_method
    methods = (response,) if isinstance(response, str) else tuple(response)
    arguments = dict(scorer._kwargs)
    column = None
    needs: Needs = "labels" if task.is_classification and not _is_for_numbers(scorer) else "values"
    if "predict" not in methods:
        if "predict_proba" not in methods:
            raise InputError(f"metric={name!r} needs {response}, but models only have 'predict' and 'predict_proba'.")
        needs = "probabilities"
        if task.kind == "binary":
            positive = arguments.get("pos_label")
            column = 0 if classes is not None and positive is not None and positive == classes[0] else 1
    if classes is None:
        if _takes(scorer._score_func, "zero_division"):
            arguments["zero_division"] = 0.0
        if needs == "probabilities" and _takes(scorer._score_func, "labels"):
            arguments["labels"] = np.arange(task.n_classes)
    function = ScorerFunction(scorer._score_func, arguments, column)
    return Metric(name, function, needs, greater_is_better=scorer._sign > 0, classes=classes)


@dataclass(frozen=True)
class ScorerFunction:
    """The function inside a scikit-learn scorer."""

    function: Callable[..., float]
    arguments: Mapping[str, Any]
    column: int | None  # of the probabilities; None for all

    def __call__(self, y_true: NDArray[Any], y_pred: Any, sample_weight: Floats | None = None) -> float:
        answer = y_pred if self.column is None else y_pred[:, self.column]
        if sample_weight is not None and _takes(self.function, "sample_weight"):
            return self.function(y_true, answer, sample_weight=sample_weight, **self.arguments)
        return self.function(y_true, answer, **self.arguments)


def round_loss(loss: float) -> float:
    """Six significant digits, so that float noise decides nothing."""
    return float(f"{loss:.6g}")


def _takes(function: Callable[..., float], parameter: str) -> bool:
    try:
        return parameter in inspect.signature(function).parameters
    except ValueError:  # some functions written in C have no signature
        return False

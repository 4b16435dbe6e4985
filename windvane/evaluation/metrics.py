"""Metrics: windvane's, scikit-learn's and the user's, all turned into losses (lower is better).

Inside windvane a target holds class codes 0 .. k - 1 or numbers, a prediction probabilities of shape (n, k) or numbers
of shape (n,).
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import get_scorer, get_scorer_names

from windvane.data.task import Task
from windvane.errors import InputError, MetricError, check_choice, unknown_name_error
from windvane.evaluation import metric_functions as functions
from windvane.runtime.columns.table import Floats

DIGITS, MAX_DIGITS = 6, 14  # significant digits to which losses are compared
MAX_CHECKED_ROWS = 10_000

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
        Whether it is a score. The loss is then minus the score, otherwise the value itself; windvane's and
        scikit-learn's scores become one minus the score.
    classes
        Labels by code; set by `get_metric`. None if `function` takes codes.
    positive
        Code of the positive one of two classes; set by `get_metric`.
    uses_positive
        Whether the metric depends on which class is positive; set by `get_metric`.
    own
        Whether it is the user's own; False for the metrics that have names.

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
    -0.5
    """

    name: str
    function: Callable[..., float]
    needs: Needs = "labels"
    greater_is_better: bool = True
    classes: NDArray[Any] | None = field(default=None, repr=False, compare=False)
    positive: int | None = field(default=None, repr=False, compare=False)
    uses_positive: bool = field(default=False, repr=False, compare=False)
    own: bool = field(default=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"function={self.function!r} cannot be called; a metric needs a function.")
        check_choice("needs", self.needs, get_args(Needs))

    @property
    def of_labels(self) -> bool:
        """Whether it looks at predicted labels, which a threshold changes, also of several labels."""
        if isinstance(self.function, MeanOverTargets):
            return self.function.are_labels and self.function.metric.needs == "labels"
        return self.needs == "labels" or self.function in [metric.function for metric in MULTILABEL.values()]

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

        Raises
        ------
        MetricError
            If the user's own function raises an error or returns no number.
        """
        if not np.isfinite(prediction).all():
            return float("inf")
        answer: NDArray[Any] = prediction.argmax(axis=1) if self.needs == "labels" else prediction
        if self.classes is not None:
            target = self.classes[target]
            answer = self.classes[answer] if self.needs == "labels" else _in_sorted_order(answer, self.classes)
        elif self.uses_positive and self.positive == 0:  # the function takes 1 for the positive class
            target = 1 - target
            answer = 1 - answer if self.needs == "labels" else answer[:, ::-1]
        weighted = weight is not None and weight.any() and _takes(self.function, "sample_weight")
        arguments: dict[str, Any] = {"sample_weight": weight} if weighted else {}
        if not self.own:
            return self.score(float(self.function(target, answer, **arguments)))
        try:
            value = self.function(target, answer, **arguments)
        except MetricError:  # of one of several targets
            raise
        except Exception as error:
            raise MetricError(f"The metric {self.name!r} raised {type(error).__name__}: {error}") from error
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number):
            raise MetricError(f"The metric {self.name!r} returned {value!r}, but must return a number.")
        return self.score(number)  # a value becomes its loss as a loss becomes its value

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
        if not self.greater_is_better:
            return loss
        # The user's may be tiny beside 1, where nothing would be left of the differences.
        return -loss if self.own else 1.0 - loss


def _in_sorted_order(probabilities: Floats, classes: NDArray[Any]) -> Floats:
    """Sort the columns by their labels, which those of an ordered Categorical are not."""
    order = np.argsort(classes)
    return probabilities if (np.diff(order) == 1).all() else probabilities[:, order]


def _named_metric(name: str, function: Callable[..., float], needs: Needs = "labels", *, error: bool = False) -> Metric:
    return Metric(name, function, needs, greater_is_better=not error, own=False)


def _by_name(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


CLASSIFICATION = _by_name(
    _named_metric("roc_auc", functions.roc_auc, "probabilities"),
    _named_metric("log_loss", functions.log_loss, "probabilities", error=True),
    _named_metric("balanced_accuracy", functions.balanced_accuracy),
    _named_metric("accuracy", functions.accuracy),
    _named_metric("average_precision", functions.average_precision, "probabilities"),
    _named_metric("f1", functions.f1),
    _named_metric("f1_macro", functions.f1_macro),
    _named_metric("f1_weighted", functions.f1_weighted),
    _named_metric("precision", functions.precision),
    _named_metric("recall", functions.recall),
    _named_metric("matthews_corrcoef", functions.matthews_corrcoef),
    _named_metric("brier_score", functions.brier_score, "probabilities", error=True),
    _named_metric("quadratic_kappa", functions.quadratic_kappa),
    _named_metric("ordinal_mae", functions.ordinal_mae, error=True),
)
# Metrics of labels with an order, and the power of the distance of two ranks that they count.
ORDINAL = {"quadratic_kappa": 2, "ordinal_mae": 1}
REGRESSION = _by_name(
    _named_metric("rmse", functions.root_mean_squared_error, "values", error=True),
    _named_metric("mae", functions.mean_absolute_error, "values", error=True),
    _named_metric("mse", functions.mean_squared_error, "values", error=True),
    _named_metric("r2", functions.r2, "values"),
)
# Metrics of several labels that are not a mean over the labels.
MULTILABEL = _by_name(
    _named_metric("subset_accuracy", functions.subset_accuracy, "values"),
    _named_metric("f1_micro", functions.f1_micro, "values"),
    _named_metric("f1_samples", functions.f1_samples, "values"),
    _named_metric("hamming_loss", functions.hamming_loss, "values", error=True),
)
RELATIVE = "relative_"  # errors of several numbers, each divided by that of the best constant
_PINBALL = re.compile(r"(?:pinball|quantile)_(0?\.\d+)")
# Metrics that depend on which class is positive.
ONE_SIDED = (
    *("f1", "average_precision", "precision", "recall", "jaccard"),
    *("positive_likelihood_ratio", "negative_likelihood_ratio"),
)
# Metrics for two classes, and what to use for more.
AUTO = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
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
    "neg_brier_score": "brier_score",
    "brier_score_loss": "brier_score",
    "quadratic_weighted_kappa": "quadratic_kappa",
    "root_mean_squared_error": "rmse",
    "neg_root_mean_squared_error": "rmse",
    "mean_absolute_error": "mae",
    "neg_mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "neg_mean_squared_error": "mse",
}


def get_metric(metric: Any, task: Task, classes: NDArray[Any] | None = None, positive: int | None = None) -> Metric:
    """Return the metric for a name, a scikit-learn scorer or a `Metric`; InputError if it does not fit the task.

    `positive` is the code of the positive one of two classes; None for the second one.

    "auto" is roc_auc for two classes, log_loss for more and rmse for numbers. roc_auc and average_precision of more
    than two classes are the mean over the classes, each against the rest. The metric of several targets is the mean
    over the targets; windvane's and scikit-learn's errors of numbers are divided by those of the best constant first.
    """
    if task.n_targets > 1:
        return _of_targets(metric, task)
    positive = (1 if positive is None else positive) if task.kind == "binary" else None
    if isinstance(metric, str):
        found = _named(metric, task)
        if found.name in ORDINAL:
            _check_order(found.name, task, classes)
        uses_positive = positive is not None and found.name.removeprefix("neg_") in ONE_SIDED
        return dataclasses.replace(found, positive=positive, uses_positive=uses_positive, own=False)
    if isinstance(metric, Metric):
        found = dataclasses.replace(metric, classes=classes, positive=positive)
    elif hasattr(metric, "_score_func") and hasattr(metric, "_response_method"):
        found = _of_scorer(metric, _name_of(metric._score_func), task, classes, positive)
    else:
        wrap = ": wrap it as windvane.Metric(name, function, needs=...)" if callable(metric) else ""
        raise InputError(f"metric={metric!r} is not a name, scikit-learn scorer or windvane.Metric{wrap}.")
    if (found.needs == "values") == task.is_classification:
        allowed = "classification it must be 'labels' or 'probabilities'"
        if task.kind == "regression":
            allowed = "regression it must be 'values'"
        raise InputError(f"metric={found.name!r} has needs={found.needs!r}, but for {allowed}.")
    return found


def _check_order(name: str, task: Task, classes: NDArray[Any] | None) -> None:
    if task.ordered or classes is None or classes.dtype.kind in "biuf":
        return
    labels = ", ".join(map(repr, classes.tolist()[:5]))
    raise InputError(
        f"metric={name!r} needs labels with an order, but {labels} have none. Allowed: numbers, or an ordered pandas "
        "Categorical, as in pd.Categorical(y, ['low', 'medium', 'high'], ordered=True), which Parquet files keep."
    )


def _of_targets(metric: Any, task: Task) -> Metric:
    """Return the mean of a metric over several targets."""
    are_labels = task.kind != "regression"
    if isinstance(metric, Metric) and (isinstance(metric.function, MeanOverTargets) or metric.name in MULTILABEL):
        return metric
    if isinstance(metric, str):
        if are_labels and metric in MULTILABEL:
            return MULTILABEL[metric]
        metric = "f1" if are_labels and metric == "f1_macro" else metric.removeprefix(RELATIVE)
    one = get_metric(metric, task.of_one_target())
    is_relative = not are_labels and not one.own and not one.greater_is_better
    return Metric(
        RELATIVE * is_relative + one.name,
        MeanOverTargets(one, are_labels, is_relative),
        "values",
        one.greater_is_better,
        own=one.own,
    )


@dataclass(frozen=True)
class MeanOverTargets:
    """The mean of a metric over t targets: numbers, or probabilities of labels, both of shape (n, t)."""

    metric: Metric  # of one target
    are_labels: bool
    is_relative: bool  # whether each error is divided by that of the best constant

    def __call__(self, y_true: NDArray[Any], y_pred: Floats, sample_weight: Floats | None = None) -> float:
        losses = [self._relative(true, found, sample_weight) for true, found in zip(y_true.T, y_pred.T, strict=True)]
        return self.metric.score(float(np.mean(losses)))

    def loss_of_one(self, true: NDArray[Any], found: Floats, weight: Floats | None = None) -> float:
        """Return the loss of one target, (n,), in its own unit."""
        return self.metric.loss(true, two_columns(found) if self.are_labels else found, weight)

    def _relative(self, true: NDArray[Any], found: Floats, weight: Floats | None) -> float:
        loss = self.loss_of_one(true, found, weight)
        if not self.is_relative:
            return loss
        constant = np.full(len(true), best_constant(true, self.metric, weight))
        reference = self.metric.loss(true, constant, weight)
        return loss / reference if reference > 0 else float(loss > 0)


def _of_one(metric: Metric) -> Metric:
    """Return the metric of each of several targets; that of one target as it is."""
    return metric.function.metric if isinstance(metric.function, MeanOverTargets) else metric


def two_columns(probability: Floats) -> Floats:  # (n,) -> (n, 2)
    """Turn the probabilities that a label is there into those of the two classes."""
    return np.column_stack([1.0 - probability, probability])


def best_constant(numbers: NDArray[Any], metric: Metric, weight: Floats | None = None) -> Any:  # (n,) or (n, t)
    """Return the mean, for mae the median and for a pinball loss the quantile, of each target."""
    if _of_one(metric).name == "mae":
        return np.median(numbers, axis=0)
    level = quantile_level(metric)
    return np.average(numbers, axis=0, weights=weight) if level is None else np.quantile(numbers, level, axis=0)


@dataclass(frozen=True)
class Pinball:
    """Mean of level x shortfall and (1 - level) x excess, which the quantile of this level makes least."""

    level: float

    def __call__(self, y_true: Floats, y_pred: Floats, sample_weight: Floats | None = None) -> float:
        difference = y_true - y_pred
        return float(
            np.average(np.maximum(self.level * difference, (self.level - 1) * difference), weights=sample_weight)
        )


def quantile_level(metric: Metric) -> float | None:
    """Return the level of the quantile that a metric rewards; None for every other metric."""
    function = _of_one(metric).function
    return function.level if isinstance(function, Pinball) else None


def rewards_mean(metric: Metric) -> bool:
    """Return whether a metric of numbers is known to be best where their mean is predicted."""
    one = _of_one(metric)
    return not one.own and one.name in ("rmse", "mse", "r2")


def _named(given: str, task: Task) -> Metric:
    name = AUTO[task.kind] if given == "auto" else ALIASES.get(given, given)
    own, others = (CLASSIFICATION, REGRESSION) if task.is_classification else (REGRESSION, CLASSIFICATION)
    if task.kind == "multiclass" and name in BINARY:
        raise InputError(f"metric={given!r} is for two classes, but there are {task.n_classes}. Use {BINARY[name]!r}.")
    if name in own:
        return own[name]
    if own is REGRESSION and name.partition("_")[0] in ("pinball", "quantile"):
        return _pinball(given)
    scorers = _scorers(task.is_classification)
    key = name if name in scorers else f"neg_{name}"
    if key in scorers:
        return _of_scorer(scorers[key], key.removeprefix("neg_"), task, None)
    allowed = list(dict.fromkeys([*own, *(ALIASES.get(scorer, scorer.removeprefix("neg_")) for scorer in scorers)]))
    if name in others or not {name, f"neg_{name}"}.isdisjoint(_scorers(not task.is_classification)):
        raise InputError(f"metric={given!r} is not for {task.kind} tasks. Allowed: {', '.join(allowed)}.")
    raise unknown_name_error("metric", given, allowed)


def _pinball(given: str) -> Metric:
    found = _PINBALL.fullmatch(given)
    level = 0.0 if found is None else float(found[1])
    if not 0 < level < 1:
        raise InputError(
            f"metric={given!r} names no quantile. Allowed: pinball_ and a level above 0 and below 1, as in "
            "'pinball_0.9'."
        )
    return _named_metric(f"pinball_{level:g}", Pinball(level), "values", error=True)


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


def _name_of(function: Any) -> str:
    """Name of a function, of the one inside a `functools.partial`, or of the class of a callable object."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__name__", type(inner).__name__))


def _of_scorer(scorer: Any, name: str, task: Task, classes: NDArray[Any] | None, positive: int | None = None) -> Metric:
    """Metric of a scorer; without classes its function receives codes, of which some may be absent."""
    function, arguments = scorer._score_func, dict(scorer._kwargs)
    uses_positive, column = False, 1
    if classes is not None and positive is not None and _takes(function, "pos_label"):
        uses_positive = arguments.get("average", "binary") == "binary"
        if uses_positive:
            if arguments.get("pos_label") is None:
                arguments["pos_label"] = classes[positive]
            positive = int(arguments["pos_label"] == classes[1])
            column = int(arguments["pos_label"] != np.sort(classes)[0])  # the function receives sorted probabilities
    response = scorer._response_method
    methods = (response,) if isinstance(response, str) else tuple(response)
    if "predict" in methods:
        needs: Needs = "labels" if task.is_classification and not _is_for_numbers(scorer) else "values"
    elif "predict_proba" in methods:
        needs = "probabilities"
    else:
        raise InputError(f"metric={name!r} needs {response}, but models only have 'predict' and 'predict_proba'.")
    if classes is None:
        if _takes(function, "zero_division"):
            arguments["zero_division"] = 0.0
        if needs == "probabilities" and _takes(function, "labels"):
            arguments["labels"] = np.arange(task.n_classes)
    one_column = column if needs == "probabilities" and task.kind == "binary" else None
    scored = ScorerFunction(function, arguments, one_column)
    return Metric(name, scored, needs, scorer._sign > 0, classes, positive, uses_positive)


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


def check_own_metric(metric: Metric, target: NDArray[Any], task: Task, weight: Floats | None) -> None:
    """Compute a metric of the user once, of a prediction that a model could make; raises MetricError."""
    if not metric.own:
        return
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(target))[:MAX_CHECKED_ROWS]
    other = target[rng.permutation(rows)]
    prediction: Floats = other.astype(np.float64)
    if task.is_classification:
        shares = np.bincount(target, minlength=task.n_classes) / len(target)
        prediction = (np.eye(task.n_classes)[other] + shares) / 2
    metric.loss(target[rows], prediction, None if weight is None else weight[rows])


def significant_digits(losses: Floats) -> int:
    """Digits to which losses are compared: six, and more where all are nearly equal, as beside a large constant."""
    finite = losses[np.isfinite(losses)]
    spread, scale = float(np.ptp(finite)) if len(finite) else 0.0, float(np.abs(finite).max(initial=0.0))
    if spread == 0 or scale / spread == np.inf:
        return DIGITS
    return int(np.clip(DIGITS - 2 + math.ceil(math.log10(scale / spread)), DIGITS, MAX_DIGITS))


def round_loss(loss: float, digits: int = DIGITS) -> float:
    """Few significant digits, so that float noise decides nothing."""
    return float(f"{loss:.{digits}g}")


def _takes(function: Callable[..., float], parameter: str) -> bool:
    try:
        return parameter in inspect.signature(function).parameters
    except ValueError:  # some functions written in C have no signature
        return False

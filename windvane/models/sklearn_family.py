"""Any scikit-learn estimator as a family of models."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.task import Task
from windvane.errors import InputError
from windvane.models.base import Config, DataSplit, Param, TrainingContext
from windvane.models.base_model import BaseFamily, BaseModel, open_model
from windvane.models.early_stopping import is_out_of_patience, validation_loss
from windvane.models.encoding import EncoderSettings, class_weight_space, encoder_settings, preprocessing_space
from windvane.models.targets.target_scaler import TargetScaler
from windvane.runtime.columns.encoder import Encoder
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.models.fitted import FittedModel
from windvane.runtime.models.sklearn_estimator import FittedSklearn, read_estimator, sklearn_features, write_estimator
from windvane.runtime.serialization import check_digest, digest

_FIRST_CHECKPOINT = 8
_PATIENCE = 32  # iterations without improvement that are always allowed
_MIN_PORTION = 8  # iterations of a warm start between two evaluations; each begins by reading all rows

Estimator = Any
Space = Mapping[str, Param] | Callable[[Task], Mapping[str, Param]]
Parameters = Callable[[Config, Any, NDArray[Any]], Mapping[str, Any]]


class SklearnModel(BaseModel):
    family: SklearnFamily

    def __init__(
        self, family: SklearnFamily, encoder: Encoder, target_scaler: TargetScaler, context: TrainingContext
    ) -> None:
        super().__init__(family, encoder, target_scaler, context)
        self.best_loss = np.inf
        self.estimator: Estimator = None  # what predicts: as it was after the best iteration
        self._current: Estimator = None  # what is trained further
        self._trusted = family.trusted_types(context.task)
        self._seconds = 0.0  # of an iteration of the last warm start

    def _resume_training(self, folder: Path, state: Mapping[str, Any], fitted: Any) -> None:
        self.estimator, self.best_loss = fitted.estimator, float(state["best_loss"])
        if state["sha256"] is not None:
            check_digest(folder / "training.skops", state["sha256"])
            self._current = read_estimator(folder / "training.skops", self._trusted)

    def prepare(self, config: Config, features: Any, train: DataSplit, validation: DataSplit) -> None:
        """Choose the rows to learn from, and make or open the estimator that learns."""
        task, family = self.context.task, self.family
        self.n_features = features.shape[1]
        target, weight, rows = self.target_scaler.transform(train.target), train.weight, np.arange(len(train.target))
        if task.is_classification:
            large = np.flatnonzero(np.bincount(target) >= family.min_class_size)
            if len(large) > 1:
                rows = np.flatnonzero(np.isin(target, large))
        estimator = family.create_estimator(task)
        weight_name = _weight_name(estimator)
        if weight is not None and weight_name is None:
            rows, weight = repeat_by_weight(rows, weight), None
        self._target = target[rows]
        # As an argument of `fit`.
        self._weight = {} if weight is None or weight_name is None else {weight_name: weight[rows]}
        if not np.array_equal(rows, np.arange(len(target))):
            features = features[rows]
        dense = not takes_sparse(estimator)
        self._features, self._valid = sklearn_features(features, dense=dense), validation
        self._valid_features = sklearn_features(self.encoder.transform(validation.table), dense=dense)
        self._has_one_class = task.is_classification and len(np.unique(self._target)) == 1
        if self._has_one_class:
            from sklearn.dummy import DummyClassifier

            estimator, self._weight = DummyClassifier(), {}  # whose `fit` names weights otherwise than a pipeline's
        else:
            own = family.own_search_space(task)
            estimator = self._configured(estimator, {name: value for name, value in config.items() if name in own})
        if self._current is None:
            self._current = estimator if self.estimator is None else deepcopy(self.estimator)

    def _configured(self, estimator: Estimator, config: Config) -> Estimator:
        from sklearn.calibration import CalibratedClassifierCV

        task, family = self.context.task, self.family
        translate = family._parameters
        estimator.set_params(**(config if translate is None else translate(config, self._features, self._target)))
        for name, value in estimator.get_params(deep=True).items():
            last = name.rpartition("__")[2]
            if last == "random_state" and value is None:
                estimator.set_params(**{name: self.context.seed % 2**32})
            elif last == "n_jobs":
                estimator.set_params(**{name: self.context.threads})
        if family.iterations not in (None, "partial_fit"):
            estimator.set_params(warm_start=True)
        if task.is_classification and not hasattr(estimator, "predict_proba"):
            if family.iterations is not None:  # which the wrapper of probabilities does not have
                raise InputError(
                    f"SklearnFamily({family.name!r}, iterations={family.iterations!r}) has a classifier without "
                    "predict_proba. Allowed: iterations=None, or a classifier that has it."
                )
            folds = int(np.clip(np.unique(self._target, return_counts=True)[1].min(), 2, 5))
            estimator = CalibratedClassifierCV(estimator, cv=folds, ensemble=False)
        return estimator

    def _train_iterations(self, goal: int, deadline: float) -> None:
        if self.family.iterations is None or self._has_one_class:
            self._call("fit", {})
            self.iterations, self.finished = 1, True
        elif self.family.iterations == "partial_fit":
            self._one_pass()
        else:
            self._warm_start(goal, deadline)
        if self.best_loss == np.inf:  # nothing was evaluated yet
            self.estimator, self.best_iteration = self._current, self.iterations

    def _one_pass(self) -> None:
        if "random_state" in self._current.get_params(deep=False):
            self._current.set_params(random_state=int(self._draw_seeds()[0]))
        first = self.context.task.is_classification and not hasattr(self._current, "classes_")
        try:
            self._call("partial_fit", {"classes": np.unique(self._target)} if first else {})
        except ValueError:
            # scikit-learn refuses coefficients that are not finite: the learning rate is too high, the best remain.
            if not self.iterations:
                raise
            self.finished = True
            return
        self.iterations += 1
        self._evaluate()

    def _warm_start(self, goal: int, deadline: float) -> None:
        """Train up to the next evaluation, which comes after fixed numbers of iterations, or as far as time allows."""
        next_evaluation = 0
        while next_evaluation <= self.iterations:
            next_evaluation += max(_MIN_PORTION, next_evaluation // 4)
        total = min(goal, next_evaluation)
        if deadline < np.inf:
            affordable = int((deadline - time.monotonic()) / self._seconds) if self._seconds else 1
            total = min(total, self.iterations + max(1, affordable))
        begin = time.monotonic()
        self._current.set_params(**{str(self.family.iterations): total})
        self._call("fit", {})
        self._seconds = max((time.monotonic() - begin) / (total - self.iterations), 1e-9)
        self.iterations = total
        if total in (next_evaluation, self.max_iterations):
            self._evaluate()

    def _call(self, method: str, more: dict[str, Any]) -> None:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(self.context.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as those of convergence, which the validation loss shows as well
            with np.errstate(all="ignore"):
                getattr(self._current, method)(self._features, self._target, **self._weight, **more)

    def _evaluate(self) -> None:
        found = self._fitted(self._current).predict_encoded(self._valid_features)
        loss = validation_loss(found, self._valid, self.context.task, self.target_scaler)
        if np.isfinite(loss) and loss < self.best_loss:
            self.best_loss, self.best_iteration = loss, self.iterations
            self.estimator = deepcopy(self._current)
        should_stop = is_out_of_patience(self.iterations, self.best_iteration, _PATIENCE)
        self.finished = should_stop or self.iterations >= self.max_iterations

    def fitted(self) -> FittedModel:
        return self._fitted(self.estimator)

    def _fitted(self, estimator: Estimator) -> FittedSklearn:
        classes = estimator.classes_ if self.context.task.is_classification else ()
        return FittedSklearn(
            self.encoder,
            self.output(classes),
            estimator,
            self.n_features,
            dense=not takes_sparse(estimator),
            name=self.family.name,
            trusted=self._trusted,
        )

    def _save_training(self, folder: Path) -> Mapping[str, Any]:
        """Write the estimator that is trained further, where that is another."""
        sha256 = None
        if self._current is not self.estimator:
            write_estimator(folder / "training.skops", self._current, self._trusted, self.family.name)
            sha256 = digest(folder / "training.skops")
        return {"best_loss": self.best_loss, "sha256": sha256}


class SklearnFamily(BaseFamily):
    """A family of models made of a scikit-learn classifier, a regressor, or one of each.

    The family takes care of what surrounds the estimator: encoding, scaling the target of a regression, classes that
    a fold lacks, weights (an estimator that takes none learns from rows repeated by their weight), random seeds,
    threads, early stopping, and probabilities by `sklearn.calibration.CalibratedClassifierCV` where a classifier has
    no ``predict_proba``. An estimator that is trained in one long ``fit`` cannot stop at a deadline by itself.

    Parameters
    ----------
    name
        Its key in leaderboards and saved models, lower case.
    classifier, regressor
        An unfitted estimator, or a function without arguments that makes one. None where the family does not
        support such tasks.
    search_space
        The hyperparameters, or a function that makes them for a task. They are parameters of the estimator, as
        ``set_params`` takes them, unless `parameters` translates them.
    parameters
        A function of a configuration, the encoded training rows and their target that returns the parameters of the
        estimator. It may depend on the size of the data.
    encoding
        How tables are encoded. With None that belongs to the search: scaling, imputation, rare categories, and
        balanced classes.
    iterations
        None for one ``fit``; "partial_fit" where each call of that method is one iteration; or the parameter that
        counts the iterations of an estimator with ``warm_start``, such as "max_iter" or "n_estimators". A classifier
        needs ``predict_proba`` for the latter two.
    max_iterations
        Of the fully trained model.
    min_class_size
        Classes with fewer training rows are left out of the training and get the probability 0.
    supports
        A function of task and table that tells whether the data are small enough; None for all.
    trusted
        Full names of further types that a saved model may hold. scikit-learn's own estimators are trusted, and so are
        the types of the estimators given.

    Examples
    --------
    >>> from optuna.distributions import FloatDistribution
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from windvane import AutoClassifier, SklearnFamily
    >>> from windvane.models.base import Param
    >>> smoothing = Param(FloatDistribution(1e-9, 1.0, log=True), 1e-9)
    >>> bayes = SklearnFamily("bayes", classifier=GaussianNB(), search_space={"var_smoothing": smoothing})
    >>> model = AutoClassifier(families=[bayes, "lightgbm"])
    """

    kind = "sklearn"
    model_type = SklearnModel

    def __init__(
        self,
        name: str,
        *,
        classifier: Estimator | Callable[[], Estimator] | None = None,
        regressor: Estimator | Callable[[], Estimator] | None = None,
        search_space: Space | None = None,
        parameters: Parameters | None = None,
        encoding: EncoderSettings | None = None,
        iterations: str | None = None,
        max_iterations: int = 512,
        min_class_size: int = 1,
        supports: Callable[[Task, Table], bool] | None = None,
        trusted: Sequence[str] = (),
    ) -> None:
        if classifier is None and regressor is None:
            raise InputError(f"SklearnFamily({name!r}) has neither a classifier nor a regressor. Allowed: one or both.")
        self.name, self._classifier, self._regressor = name, classifier, regressor
        self._search_space, self._parameters, self._encoding = search_space or {}, parameters, encoding
        self.iterations, self.max_iterations, self.min_class_size = iterations, max_iterations, min_class_size
        self._supports, self._trusted = supports, trusted
        if iterations is not None:  # checkpoints after 8, 16, 32 ... up to all of them
            self.steps = (max_iterations,)
            while self.steps[0] >= 2 * _FIRST_CHECKPOINT:
                self.steps = (self.steps[0] // 2, *self.steps)

    @classmethod
    def wrap(cls, estimator: Estimator) -> SklearnFamily:
        """Make a family of an unfitted estimator, named after its class: ``GaussianNB()`` is "gaussian_nb"."""
        from sklearn.base import is_classifier, is_regressor

        last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(last).__name__).lower()
        if is_classifier(estimator):
            return cls(name, classifier=estimator)
        if is_regressor(estimator):
            return cls(name, regressor=estimator)
        raise InputError(f"families holds {estimator!r}, which is neither a classifier nor a regressor.")

    def supports(self, task: Task, table: Table) -> bool:
        """Whether there is an estimator for the task that takes such a table."""
        if (self._classifier if task.is_classification else self._regressor) is None:
            return False
        if task.quantile is not None and "quantile" not in self.create_estimator(task).get_params():
            return False
        if table.sparse is not None and not takes_sparse(self.create_estimator(task)):
            return False
        return self._supports is None or self._supports(task, table)

    def own_search_space(self, task: Task) -> dict[str, Param]:
        """The hyperparameters given, those of the estimator."""
        return dict(self._search_space(task) if callable(self._search_space) else self._search_space)

    def search_space(self, task: Task) -> dict[str, Param]:
        """The hyperparameters given, and those of encoding where they belong to the search."""
        own = self.own_search_space(task)
        if self._encoding is None:
            own |= {**preprocessing_space("standard"), **class_weight_space(task)}
        return own

    def encoding(self, config: Config, table: Table) -> EncoderSettings:
        """As given, else as the configuration wants."""
        return self._encoding or encoder_settings(config)

    def load(self, folder: Path, context: TrainingContext) -> FittedModel:
        """Open a checkpoint for prediction."""
        return open_model(folder, context, self.kind, self.trusted_types(context.task))

    def create_estimator(self, task: Task) -> Estimator:
        """Make a new, unfitted estimator for a task; of a quantile by its parameters ``quantile`` and ``loss``."""
        from sklearn.base import clone

        given = self._classifier if task.is_classification else self._regressor
        made = clone(given) if hasattr(given, "get_params") and not isinstance(given, type) else given()  # type: ignore[misc]
        if task.quantile is not None:
            wanted = {"quantile": task.quantile, "loss": "quantile"}
            made.set_params(**{name: value for name, value in wanted.items() if name in made.get_params()})
        return made

    def trusted_types(self, task: Task) -> list[str]:
        """Return the names of the types that a file may hold beside those that are always trusted."""
        estimator = self.create_estimator(task)
        parts = [estimator, *estimator.get_params(deep=True).values()]
        types = {type(part) for part in parts if hasattr(part, "get_params")}
        return sorted({*self._trusted, *(f"{one.__module__}.{one.__qualname__}" for one in types)})


def repeat_by_weight(rows: NDArray[np.intp], weight: Floats) -> NDArray[np.intp]:
    """Draw as many rows as there are, each as often as its share of the weight says, rounded up or down."""
    edges = np.cumsum(weight[rows])
    points = (np.arange(len(rows)) + 0.5) / len(rows) * edges[-1]
    return np.asarray(rows[np.searchsorted(edges, points)])


def _weight_name(estimator: Estimator) -> str | None:
    """Return the argument of ``fit`` that takes weights of rows; of a pipeline that of its last step."""
    from sklearn.utils.validation import has_fit_parameter

    if hasattr(estimator, "steps"):
        name, last = estimator.steps[-1]
        inner = _weight_name(last)
        return None if inner is None else f"{name}__{inner}"
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None


def takes_sparse(estimator: Estimator) -> bool:
    """Whether an estimator learns from CSR matrices, as scikit-learn's tags say."""
    from sklearn.utils import get_tags

    return bool(get_tags(estimator).input_tags.sparse)

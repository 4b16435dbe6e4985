"""What classifiers add: sets of classes, thresholds and calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin

from windvane.automl.base import AutoML
from windvane.automl.fitted_estimator import library_defaults
from windvane.data.target import TaskType
from windvane.errors import InputError, RunError
from windvane.evaluation.decisions.calibration import Calibration, fit_calibration
from windvane.evaluation.decisions.thresholds import (
    DecisionTuning,
    check_costs,
    label_thresholds_by_hand,
    label_thresholds_of,
    threshold_by_hand,
    threshold_of,
    transfer_decision,
    tune_decision,
    tune_label_thresholds,
    without_decision,
)
from windvane.evaluation.metrics import get_metric
from windvane.evaluation.predictions import Predictions
from windvane.runtime.ensemble import Ensemble
from windvane.search.run.unseen_rows import update_test_score


class AutoMLClassifier(ClassifierMixin, AutoML):
    """What the classifiers add to `AutoML`: sets of classes, thresholds and calibration."""

    _goal: TaskType = "classification"

    @library_defaults()
    def predict_set(
        self, X: Any, coverage: float = 0.9, *, by_class: bool = False, allow_empty: bool = False
    ) -> NDArray[np.bool_]:
        """Predict sets of classes that hold the class of a new row with a wanted probability.

        A class is in the set if its probability is at least a limit, which is learned from the validation rows, each
        predicted by models that did not train on it: the sets with the fewest classes on average [1]_. The coverage is
        a mean over rows like those of training: see the user guide. A changed threshold or calibration leaves the sets
        as they are.

        Parameters
        ----------
        X
            n rows or images, as in `predict`.
        coverage
            Share of new rows whose class is to be in its set, above 0 and below 1.
        by_class
            Whether each class by itself is to have the coverage, so that a rare one is not missed more often. Sets are
            larger, and each class needs enough validation rows.
        allow_empty
            Whether a set may be empty, where no class is probable enough; otherwise it holds the most probable class.

        Returns
        -------
        ndarray of bool
            Shape (n, n_classes), columns in the order of ``classes_``: whether the class is in the set. An image that
            cannot be read has all classes.

        Raises
        ------
        InputError
            If the coverage needs more validation rows than there are.
        ModelFileError
            If the model has no scores of the validation rows: the run lost its file, or it was saved without them.

        References
        ----------
        .. [1] Sadinle, Lei & Wasserman (2019), Least ambiguous set-valued classifiers with bounded error levels,
           Journal of the American Statistical Association 114.

        Examples
        --------
        >>> sets = model.predict_set(X, coverage=0.9)  # doctest: +SKIP
        >>> [model.classes_[row].tolist() for row in sets]  # doctest: +SKIP
        """
        predictor = self._predictor
        if predictor.images is not None:
            return predictor.image_sets(X, coverage, by_class, allow_empty)
        return predictor.table_sets(self._to_table(X), coverage, by_class, allow_empty)

    @property
    def predict_interval(self) -> NoReturn:
        """Is for numbers; use `predict_set`."""
        raise AttributeError("predict_interval is for numbers. Allowed for classes: predict_set.")

    @property
    def threshold_(self) -> Any:
        """Probability of the positive one of two classes above which it is predicted; None for more classes.

        Of several labels a dictionary with the probability of each.
        """
        predictor = self._predictor
        if predictor.targets is not None:
            return label_thresholds_of(predictor.ensemble, predictor.targets.titles)
        positive = predictor.metric.positive
        return None if positive is None else threshold_of(predictor.ensemble, positive)

    def set_threshold(self, value: Any) -> Self:
        """Predict the positive class above another probability, or each of several labels above its own.

        `save`, `export`, `report` and the run directory keep it; `predict_proba` does not change. `fit` and `resume`
        choose another ensemble, for which it must be set again.

        Parameters
        ----------
        value
            Above 0 and below 1; None to predict the most probable class, also of more than two classes. Of several
            labels one number for all, a sequence with one for each, or a mapping of labels, whose others stay.

        Returns
        -------
        self
            With the new threshold.

        Raises
        ------
        InputError
            If the value is no such number, or there are more than two classes.
        """
        predictor = self._predictor
        ensemble, positive = predictor.ensemble, predictor.metric.positive
        if value is None:
            self._set_decision(without_decision(ensemble), None)
        elif predictor.targets is not None:
            self._set_decision(*label_thresholds_by_hand(ensemble, value, predictor.targets.titles))
        elif positive is not None:
            self._set_decision(*threshold_by_hand(ensemble, value, positive, self._out_of_fold(predictor)))
        else:
            raise InputError(
                f"set_threshold({value!r}) is for two classes, but there are {predictor.task.n_classes}. Allowed: "
                "None for the most probable class, or tune_threshold(costs=...)."
            )
        return self

    @library_defaults()
    def tune_threshold(
        self,
        metric: Any = None,
        *,
        precision: float | None = None,
        recall: float | None = None,
        costs: Any = None,
        X: Any = None,
        y: Any = None,
        sample_weight: Any = None,
    ) -> DecisionTuning:
        """Find the decision that is best on the validation rows, predicted out of fold, and use it.

        Of two classes this is a threshold for the probability of the positive one, of several labels one for each. Of
        more classes, a metric gets a factor for each, and costs choose the class with the least expected cost. `save`,
        `export`, `report` and the run directory keep it; `predict_proba` does not change.

        Parameters
        ----------
        metric
            A metric of labels: "f1" (where nothing is given, for two classes; "balanced_accuracy" for more), any name
            of scikit-learn, a scorer or a `windvane.Metric`. Of several labels one that is a mean over the labels.
        precision, recall
            Of two classes, the least precision (or recall): the threshold with the highest recall (or precision) that
            has it.
        costs
            Costs of errors: a matrix with a row for each true class and a column for each predicted one, in the order
            of ``classes_``; a DataFrame with the classes as index and columns; or a mapping of pairs (true, predicted)
            to costs, in which other errors cost 1.
        X, y, sample_weight
            Rows to tune on instead of the validation rows; a saved model has no others.

        Returns
        -------
        DecisionTuning
            The threshold, its score beside that of the most probable class, and the curve over all thresholds.

        Raises
        ------
        InputError
            If more than one goal is given, or no threshold reaches the precision or recall.
        RunError
            If there are no validation rows: the model was saved, or the run kept no data.

        Examples
        --------
        >>> model.tune_threshold("f1")  # doctest: +SKIP
        >>> model.tune_threshold(precision=0.9)  # doctest: +SKIP
        >>> model.tune_threshold(costs={("ill", "well"): 20})  # doctest: +SKIP
        """
        predictor = self._predictor
        positive, targets = predictor.metric.positive, predictor.targets
        goals = {"metric": metric, "precision": precision, "recall": recall, "costs": costs}
        given = [name for name, value in goals.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"tune_threshold has one goal, but {' and '.join(given)} came.")
        if targets is not None and given not in ([], ["metric"]):
            raise InputError(f"{given[0]} is for one target, but there are {len(targets)}. Allowed: metric.")
        if targets is None and positive is None and given in (["precision"], ["recall"]):
            raise InputError(
                f"{given[0]} is for two classes, but there are {predictor.task.n_classes}. Allowed: metric or costs."
            )
        if not given:
            metric = "balanced_accuracy" if targets is None and positive is None else "f1"
        rows = self._rows_to_tune("tune_threshold", predictor.ensemble, X, y, sample_weight)
        if targets is not None:
            ensemble, tuning = tune_label_thresholds(rows, targets.titles, get_metric(metric, predictor.task))
        else:
            assert predictor.classes is not None
            ensemble, tuning = tune_decision(
                rows,
                positive,
                metric=None if metric is None else get_metric(metric, predictor.task, predictor.classes, positive),
                precision=precision,
                recall=recall,
                costs=None if costs is None else check_costs(costs, predictor.classes),
            )
        self._set_decision(ensemble, tuning)
        return tuning

    @library_defaults()
    def calibrate(
        self, method: str = "auto", *, X: Any = None, y: Any = None, sample_weight: Any = None
    ) -> Calibration:
        """Make the probabilities agree with frequencies, as learned from the validation rows, predicted out of fold.

        The ranking of the rows by the probability of the positive class stays as it is, and so do the labels where a
        threshold was tuned or set.

        Parameters
        ----------
        method
            "auto" takes what has the lowest cross-validated log loss, the simpler one where they are equal within the
            noise; or "none", "temperature" (which a search for log loss learns by itself), and for two classes
            "isotonic" and "venn_abers".
        X, y, sample_weight
            Rows to learn from instead of the validation rows; a saved model has no others.

        Returns
        -------
        Calibration
            The method, with log loss and expected calibration error before and after, cross-validated.
        """
        predictor = self._predictor
        predictor.check_one_target("calibrate")
        plain = replace(predictor.ensemble, temperature=1.0, calibration=None)
        rows = self._rows_to_tune("calibrate", plain, X, y, sample_weight)
        found = fit_calibration(rows.prediction, rows.target, rows.weight, method)
        after = replace(plain, temperature=found.temperature, calibration=found.knots, decision_weights=None)
        ensemble, tuning = transfer_decision(predictor.ensemble, after, self.tuning_)
        self._set_decision(ensemble, tuning)
        return found

    def _rows_to_tune(self, method: str, ensemble: Ensemble, X: Any, y: Any, sample_weight: Any) -> Predictions:
        """Return the user's rows, or the validation rows, predicted by this ensemble."""
        if (X is None) != (y is None):
            raise InputError("X and y belong together; only one of them was given.")
        predictor = replace(self._predictor, ensemble=ensemble)
        if X is not None:
            return Predictions.of_test(predictor, X, y, sample_weight, owner=type(self).__name__)
        if sample_weight is not None:
            raise InputError("sample_weight belongs to X and y, which were not given.")
        found = self._out_of_fold(predictor)
        if found is None:
            raise RunError(
                f"{method} needs the validation rows, which only a run directory has that kept its data; or pass X and "
                f"y, rows that were not trained on. {self._where_the_run_is()}"
            )
        return found

    def _set_decision(self, ensemble: Ensemble, tuning: DecisionTuning | None) -> None:
        """Use an ensemble with another decision or calibration, and have the run directory keep it."""
        earlier, metric = self._predictor.ensemble, self._predictor.metric
        validation = self._out_of_fold(replace(self._predictor, ensemble=ensemble))
        if validation is not None:
            ensemble = replace(ensemble, loss=validation.loss(metric))
        elif ensemble != earlier:
            ensemble = replace(ensemble, loss=np.nan)  # of the new decision it is not known
        self.predictor_ = replace(self._predictor, ensemble=ensemble)
        self.tuning_ = tuning
        has_same_score = (
            not metric.of_labels
            and ensemble.calibration == earlier.calibration
            and ensemble.temperature == earlier.temperature
        )
        if not has_same_score:
            self._test_score = None
        directory = self._run_directory
        if directory is None or self._is_refitted(directory):
            return
        directory.lock()
        try:
            directory.write_ensemble(ensemble, self.curve_, self.constant_, tuning)
            if not has_same_score:
                self._score_test(directory)
            elif self._test_score is not None:
                update_test_score(directory.test, ensemble, self._test_score)
        finally:
            directory.unlock()

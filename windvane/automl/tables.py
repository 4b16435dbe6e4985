"""The estimators of tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from windvane.automl.base import AutoML
from windvane.automl.classifier import AutoMLClassifier
from windvane.automl.fitted_estimator import FittedEstimator, library_defaults
from windvane.data.target import TaskType


class AutoClassifier(AutoMLClassifier):
    """Finds the best classifier that a time budget allows.

    Parameters
    ----------
    time_budget
        Seconds, or a text such as "10m"; `fit` returns within it.
    metric
        "auto" (roc_auc for two classes, log_loss for more), a scikit-learn name or scorer, or a `windvane.Metric`.
    n_jobs
        Worker processes; -1 for all cores, on a cluster for all its threads.
    memory_limit
        Megabytes for all that windvane starts; None for 80 % of what is available, on a cluster of each machine.
    policy
        "auto", or "holdout", "cv3", "cv5", "cv10", each also with "-halving".
    families
        Names out of `windvane.FAMILIES`, scikit-learn estimators, and own families; None for those that measurement
        put into the portfolio.
    ensemble_size
        Rounds of the greedy ensemble selection.
    n_trials
        Limit on trials, beside the time budget: whichever is reached first ends the search. Where it is this one, the
        result is the same on every run with the same seed, for one worker or several.
    run_dir
        Directory of the run; None for a temporary one that is deleted with the object.
    random_state
        Seed; None for another one each time.
    verbose
        0 for silence.
    keep_data
        Whether the run directory keeps the data, which `resume` needs.
    portfolio
        File of the configurations that are evaluated first, from ``windvane portfolio build``; None for the portfolio
        that ships.
    scheduler
        Address of a Dask scheduler, as in "tcp://host:8786", whose cluster trains the trials; None for this machine.
    positive_class
        Of two classes the one that f1, precision, recall and average_precision are about, and the curves of the report;
        None for 1 or True as in scikit-learn, and for the rarer class where the labels are others. Of several labels
        the value that says that one is there.
    keep_ids
        Whether to learn from columns that look like identifiers (another value in nearly every row) and say nothing
        about rows that were not learned from; by default they are left out.

    Attributes
    ----------
    classes_
        Labels in the order of the columns of `predict_proba`. Of several labels a pair for each column, or the labels
        where y has lists of them.
    target_names_
        Of several targets the names, in the order of the columns of predictions.
    positive_class_
        The positive one of two classes.
    threshold_
        Probability of the positive class above which it is predicted.
    trials_
        Every `windvane.Trial` of the run.
    policy_
        How it was validated, with the reason in words.
    test_score_
        Score on ``X_test``, which chose nothing: an unbiased estimate.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> model = AutoClassifier(time_budget="30s").fit(X, y)  # doctest: +SKIP
    >>> model.predict(X[:3])  # doctest: +SKIP
    array([0, 0, 0])
    """

    score = FittedEstimator.score  # with the run's metric; the mixin has the accuracy

    def __init__(
        self,
        time_budget: float | str = 600,
        *,
        metric: Any = "auto",
        n_jobs: int | None = -1,
        memory_limit: float | None = None,
        policy: str = "auto",
        families: Sequence[Any] | None = None,
        ensemble_size: int = 25,
        n_trials: int | None = None,
        run_dir: str | Path | None = None,
        random_state: Any = None,
        verbose: int = 1,
        keep_data: bool = True,
        portfolio: str | Path | None = None,
        scheduler: str | None = None,
        keep_ids: bool = False,
        positive_class: Any = None,
    ) -> None:
        super().__init__(
            time_budget,
            metric=metric,
            n_jobs=n_jobs,
            memory_limit=memory_limit,
            policy=policy,
            families=families,
            ensemble_size=ensemble_size,
            n_trials=n_trials,
            run_dir=run_dir,
            random_state=random_state,
            verbose=verbose,
            keep_data=keep_data,
            portfolio=portfolio,
            scheduler=scheduler,
            keep_ids=keep_ids,
        )
        self.positive_class = positive_class

    @library_defaults()
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict probabilities.

        Parameters
        ----------
        X
            n rows.

        Returns
        -------
        ndarray
            Shape (n, n_classes), columns in the order of ``classes_``, rows sum to 1. Of several labels the probability
            that each is there, shape (n, t), columns in the order of ``target_names_``.
        """
        return self._predictor.predict_raw(self._to_table(X))


class AutoRegressor(RegressorMixin, AutoML):
    """Finds the best regressor that a time budget allows.

    Parameters and attributes are those of `AutoClassifier`, without classes; ``metric="auto"`` is rmse. "pinball_0.9"
    predicts a quantile, here the one that nine of ten targets are below. The metric of several targets is the mean over
    them, of errors such as rmse each divided by that of the best constant.
    """

    _goal: TaskType = "regression"
    score = FittedEstimator.score  # with the run's metric; the mixin has R2

    @library_defaults()
    def predict_interval(self, X: Any, coverage: float = 0.9) -> NDArray[np.float64]:
        """Predict intervals that hold the target of a new row with a wanted probability.

        They are learned from the errors on the validation rows, each predicted by models that did not train on it
        (cross-conformal prediction [1]_). Intervals are wider where errors are larger for similar predictions, if that
        has the better cross-validated interval score, and else of constant width; each side has its own width, as in
        [2]_. The coverage is a mean over rows like those of training: see the user guide.

        Parameters
        ----------
        X
            n rows, as in `predict`.
        coverage
            Share of new rows whose target is to be in its interval, above 0 and below 1.

        Returns
        -------
        ndarray
            Shape (n, 2): lower and upper ends. The prediction is between them.

        Raises
        ------
        InputError
            If the coverage needs more validation rows than there are.
        ModelFileError
            If the model has no scores of the validation rows: the run lost its file, or it was saved without them.

        References
        ----------
        .. [1] Barber, Candès, Ramdas & Tibshirani (2021), Predictive inference with the jackknife+, Annals of
           Statistics 49.
        .. [2] Romano, Patterson & Candès (2019), Conformalized quantile regression, NeurIPS.

        Examples
        --------
        >>> lower, upper = model.predict_interval(X, coverage=0.9).T  # doctest: +SKIP
        """
        return self._predictor.table_intervals(self._to_table(X), coverage)

    @property
    def predict_set(self) -> NoReturn:
        """Is for classes; use `predict_interval`."""
        raise AttributeError("predict_set is for classes. Allowed for numbers: predict_interval.")

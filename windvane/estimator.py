"""What both estimators share: one run, told in the order in which it happens, and what can be asked of it later.

`fit` starts the workers, types the table, chooses policy and folds, searches until the clock ends, and opens the
ensemble. How each of these is done is in `windvane.runs` and `windvane.search`.
"""

from __future__ import annotations

import time as clocks
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from windvane import persist
from windvane.data.files import to_frame
from windvane.data.target import TaskType, check_sample_weight, encode_target
from windvane.errors import InputError, RunError
from windvane.evaluation.predictions import Predictions
from windvane.models import FAMILIES
from windvane.predictor import Predictor
from windvane.refit import refitted
from windvane.results import facts_of, predictor_of
from windvane.runs import Outcome, begin, conduct, open_run, remove, reopen, temporary_directory
from windvane.runtime.table import Table
from windvane.search.cluster import ClusterPool
from windvane.search.loop import Callback
from windvane.search.policy import Policy
from windvane.search.portfolio import read_portfolio
from windvane.search.prepare import Given, choose_families, prepare
from windvane.search.run import RunDirectory
from windvane.search.trial import Trial
from windvane.search.workers import Pool, Workers
from windvane.settings import Settings, parse_seconds


class Estimator(BaseEstimator):
    """What both estimators share; the constructor stores, `fit` learns."""

    _goal: TaskType

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
    ) -> None:
        self.time_budget = time_budget
        self.metric = metric
        self.n_jobs = n_jobs
        self.memory_limit = memory_limit
        self.policy = policy
        self.families = families
        self.ensemble_size = ensemble_size
        self.n_trials = n_trials
        self.run_dir = run_dir
        self.random_state = random_state
        self.verbose = verbose
        self.keep_data = keep_data
        self.portfolio = portfolio
        self.scheduler = scheduler

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        groups: Any = None,
        time: Any = None,
        split: Any = None,
        sample_weight: Any = None,
        X_test: Any = None,
        y_test: Any = None,
        callbacks: Sequence[Callback] = (),
        dask_client: Any = None,
    ) -> Self:
        """Search for the best model within the time budget.

        Ctrl-C ends the search early and returns fitted; a second one raises. Where ``run_dir`` holds a run on the
        same data with the same metric, policy, families and seed, the search goes on from there.

        Parameters
        ----------
        X
            The columns, n rows: pandas, polars, pyarrow, numpy, lists or a scipy sparse matrix.
        y
            The target, n values.
        groups
            n labels; rows of one group are never in both parts of a fold.
        time
            n instants or numbers; validation rows are always later than the rows trained on.
        split
            A scikit-learn splitter, or pairs of training and validation positions, instead of the policy's folds.
        sample_weight
            n weights; they weigh training and metric.
        X_test, y_test
            Rows that nothing is learned or chosen from; their honest score, taken after the budget's end, becomes
            ``test_score_``.
        callbacks
            Each gets every finished `windvane.Trial`; one that returns True ends the search.
        dask_client
            A `distributed.Client` whose cluster evaluates the trials.

        Returns
        -------
        self
            Fitted.

        Raises
        ------
        InputError
            Where an argument, a column or the target is not usable.
        RunError
            Where ``run_dir`` is in use, or holds another run.
        NoModelError
            Where no model came out; says what failed and why.
        """
        started = clocks.monotonic()
        if (X_test is None) != (y_test is None):
            raise InputError("X_test and y_test belong together; only one of them was given.")
        settings = reopen(Settings.check(self), given_seed=self.random_state is not None)
        pool = self._workers(settings, dask_client)  # they start while the table is typed
        settings = replace(settings, n_jobs=pool.n_workers)
        directory = None
        try:
            given = Given(self._goal, self.metric, self.families, groups, time, split, sample_weight)
            prepared = prepare(X, y, given, settings, owner=type(self).__name__)
            for note in prepared.notes:
                warnings.warn(note, UserWarning, stacklevel=2)
            portfolio = read_portfolio(prepared.problem.task, prepared.families, settings.portfolio)
            directory = begin(type(self).__name__, prepared, settings, own_metric=not isinstance(self.metric, str))
            outcome = conduct(prepared, settings, portfolio, pool, directory, started, callbacks)
        except BaseException:
            if directory is not None and self.run_dir is None:
                remove(directory.root)
            raise
        finally:
            pool.close()
            if directory is not None:
                directory.unlock()
        self._take(outcome, directory)
        if X_test is not None:
            self.test_score_ = self.score(X_test, y_test)
        return self

    def resume(
        self,
        time_budget: float | str | None = None,
        *,
        callbacks: Sequence[Callback] = (),
        dask_client: Any = None,
    ) -> Self:
        """Go on with the search.

        Parameters
        ----------
        time_budget
            Seconds to add, or a text such as "10m"; the constructor's where it is None.
        callbacks, dask_client
            As in `fit`.

        Returns
        -------
        self
            At least as good on validation as before.

        Raises
        ------
        RunError
            Where the run is not there any more, or its data were not kept.
        """
        started = clocks.monotonic()
        directory = getattr(self, "_directory", None)
        if directory is None or not directory.exists():
            raise RunError("There is no run to resume: fit first, or load a run directory (a saved model is not one).")
        seconds = parse_seconds(self.time_budget if time_budget is None else time_budget)
        settings = replace(Settings.check(self), time_budget=seconds, n_trials=None, run_dir=directory.root)
        pool = self._workers(settings, dask_client)
        try:
            directory.lock()
            metric = None if isinstance(self.metric, str) else self.metric
            prepared = open_run(directory, self.families, metric)
            settings = replace(settings, seed=prepared.problem.seed, n_jobs=pool.n_workers)
            portfolio = read_portfolio(prepared.problem.task, prepared.families, settings.portfolio)
            outcome = conduct(prepared, settings, portfolio, pool, directory, started, callbacks)
        finally:
            pool.close()
            directory.unlock()
        self._take(outcome, directory)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels or numbers.

        Parameters
        ----------
        X
            n rows with the columns of the training table, in any order where they have names.

        Returns
        -------
        ndarray
            Shape (n,).
        """
        return predictor_of(self).predict(self._table(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Judge the ensemble by the run's metric.

        Parameters
        ----------
        X, y
            n rows with their target.
        sample_weight
            n weights, or None.

        Returns
        -------
        float
            Higher is better; errors such as log loss and rmse come negative, as in scikit-learn.
        """
        predictor = predictor_of(self)
        predictions = Predictions.of_test(predictor, X, y, sample_weight, owner=type(self).__name__)
        score = predictions.score(predictor.metric)
        return score if predictor.metric.greater_is_better else -score

    def refit(self, X: Any, y: Any, *, sample_weight: Any = None) -> Self:
        """Train the ensemble's configurations once on all rows, instead of averaging the models of the folds.

        Each grows for as many iterations as were best on its folds. Prediction gets faster by the number of folds;
        no validation score speaks for the new models.

        Parameters
        ----------
        X, y
            Columns as in `fit`, any number of rows; the labels must be known ones.
        sample_weight
            A weight for each row, or None.

        Returns
        -------
        self
            With the new models.
        """
        predictor = predictor_of(self)
        target, _ = encode_target(y, self._goal, classes=predictor.classes)
        table = self._table(X)
        if len(target) != table.n_rows:
            raise InputError(f"X and y have different lengths: {table.n_rows} and {len(target)}.")
        weight = None if sample_weight is None else check_sample_weight(sample_weight, table.n_rows)
        folder = Path(self._keep_folder()) / "refit"
        families = {**FAMILIES, **choose_families(self.families)}
        self.__dict__.pop("test_score_", None)  # of the models before
        self.predictor_ = refitted(predictor, self.trials_, families, (table, target, weight), folder)
        return self

    def _workers(self, settings: Settings, dask_client: Any) -> Workers:
        if dask_client is None and self.scheduler is None:
            return Pool(settings.n_jobs, settings.memory_limit)
        return ClusterPool.connect(self.scheduler, dask_client, n_jobs=self.n_jobs, memory_limit=self.memory_limit)

    def _table(self, X: Any) -> Table:
        return predictor_of(self).schema.transform(to_frame(X), owner=type(self).__name__)

    def _keep_folder(self) -> Path:
        """Name the folder of this object's files; a temporary one goes with the object."""
        if getattr(self, "_directory", None) is None:
            self._directory = RunDirectory(temporary_directory())
            self._finalizer = weakref.finalize(self, remove, self._directory.root)
        return Path(self._directory.root)

    def _take(self, outcome: Outcome, directory: RunDirectory) -> None:
        if hasattr(self, "_finalizer") and self._directory.root != directory.root:
            self._finalizer()  # the temporary directory of an earlier fit
        if self.run_dir is None and getattr(self, "_directory", None) is not directory:
            self._finalizer = weakref.finalize(self, remove, directory.root)
        self._directory = directory
        self.predictor_ = outcome.predictor
        self.__dict__.pop("test_score_", None)  # of an earlier ensemble
        self.trials_: list[Trial] = outcome.trials
        self.curve_ = outcome.curve
        self.policy_: Policy = outcome.policy
        self._learn_names(outcome.predictor)

    def _learn_names(self, predictor: Predictor) -> None:
        if predictor.classes is not None:
            self.classes_ = predictor.classes
        self.n_features_in_ = len(predictor.schema.feature_names)
        if predictor.schema.named:
            self.feature_names_in_ = np.array(predictor.schema.feature_names, dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        """Pack the models in their own formats; what is temporary stays behind."""
        state = dict(super().__getstate__())
        if "predictor_" in state:
            state["_packed"] = persist.to_bytes(facts_of(self), state.pop("predictor_"))
        for name in ("_finalizer", "_directory"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state.pop("_packed", None)
        super().__setstate__(state)
        if packed is not None:
            folder = self._keep_folder()
            persist.from_bytes(packed, folder)
            metric = None if isinstance(self.metric, str) else self.metric
            self.predictor_ = persist.read_predictor(folder, choose_families(self.families), metric)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        return tags

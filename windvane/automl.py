"""The estimators: fit, resume, predict, and everything that can be asked of a fitted model.

`AutoML.fit` is the story of one run: workers start, the table is typed, policy and folds are chosen, the search runs
until the budget ends, and the ensemble is opened. `windvane.search` does each of these.
"""

from __future__ import annotations

import shutil
import time as clock
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from windvane import persistence
from windvane.data.files import to_frame
from windvane.data.images.duplicates import count_copies
from windvane.data.images.read import list_labelled
from windvane.data.images.sources import Columns
from windvane.data.rows import order_notes, take_rows
from windvane.data.series.lags import keep_last, know_rows
from windvane.data.target import TaskType, counted_rows
from windvane.data.targets import encode_as_trained
from windvane.errors import (
    DiskError,
    InputError,
    RunError,
    WindvaneError,
    check_integer,
    check_usable,
    unknown_name_error,
)
from windvane.evaluation.columns.explanation import Explanation, Sampling, explain
from windvane.evaluation.columns.importance import feature_importance
from windvane.evaluation.decisions.calibration import Calibration, fit_calibration
from windvane.evaluation.decisions.thresholds import (
    DecisionTuning,
    check_costs,
    chosen_by_hand,
    threshold_of,
    transfer_decision,
    tune_decision,
)
from windvane.evaluation.evaluation import Evaluation, columns_for_segments, evaluate
from windvane.evaluation.metrics import get_metric
from windvane.evaluation.predictions import Predictions
from windvane.evaluation.score_text import natural_score
from windvane.models import FAMILIES, IMAGE_DEFAULT, LAST_RESORT
from windvane.models.base import DataSplit
from windvane.models.image_network import FineTune, check_weights, installed_weights
from windvane.models.search_space import import_optuna
from windvane.persistence import Predictor
from windvane.progress import CountProgress, Progress
from windvane.runtime.columns.table import Table
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.serialization import DAMAGE, delete_with, temporary_folder
from windvane.search.image_problem import ImageOptions, labelled_tests, list_training_images, prepare_image_problem
from windvane.search.out_of_fold import out_of_fold
from windvane.search.problem import PreparedProblem, Problem, check_test_rows, choose_families, prepare_problem
from windvane.search.refit import refit_ensemble, trainer_without
from windvane.search.run.compact import compact_run, size_of
from windvane.search.run.history import leaderboard, performance_over_time
from windvane.search.run.record import RunRecord
from windvane.search.run.run_directory import RunDirectory
from windvane.search.run.unseen_rows import read_test_rows, read_test_score, update_test_score, write_test_rows
from windvane.search.runner import (
    SearchResult,
    create_run,
    inherit_settings,
    inherited_positive_class,
    open_run,
    read_result,
    run_search,
    select_without,
)
from windvane.search.search import Callback
from windvane.search.strategy.policy import Policy
from windvane.search.strategy.portfolio import PortfolioEntry, read_portfolio
from windvane.search.trial import Trial
from windvane.search.trial_scores import score_trials
from windvane.search.workers.dask_pool import DaskPool
from windvane.search.workers.pool import WorkerPool, affordable_workers
from windvane.settings import Settings, parse_seconds, resolve_jobs
from windvane.stop_signals import StopRequest, stop_on_signal

_NOT_FOR_CLASSES = "predict_interval is for numbers. Allowed for classes: predict_set."


@contextmanager
def _own_settings() -> Iterator[None]:
    """Run with the settings that NumPy and scikit-learn come with, whatever the user's session has set.

    Worker processes have these; with frames as output (``transform_output``) estimators would not predict the same.
    """
    with (
        np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
        config_context(transform_output="default", enable_metadata_routing=False, assume_finite=False),
    ):
        yield


class AutoML(BaseEstimator):
    """What both estimators share; the constructor stores, `fit` learns."""

    _goal: TaskType
    _takes_several_targets = True
    _directory: RunDirectory | None = None  # of the run
    _finalizer: Callable[[], object]  # deletes a temporary directory
    _policy: Policy | None = None
    _test_score: float | None = None
    _report_path: Path | None = None  # of the last report

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
        self.keep_ids = keep_ids

    @_own_settings()
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        groups: Any = None,
        time: Any = None,
        split: Any = None,
        lags: Any = None,
        sample_weight: Any = None,
        X_test: Any = None,
        y_test: Any = None,
        ignore: str | Sequence[str] | None = None,
        id_columns: str | Sequence[str] | None = None,
        column_types: Mapping[str, str] | None = None,
        date_formats: Mapping[str, str] | None = None,
        callbacks: Sequence[Callback] = (),
        dask_client: Any = None,
    ) -> Self:
        """Search for the best model within the time budget.

        Ctrl-C or SIGTERM ends the search early and returns fitted; a second one raises, and so does one before there is
        a model. Nothing is deleted then: the exception names the folder of what there is, and `load` opens it. If
        ``run_dir`` holds a run of the same data, metric, policy, families and seed, it is resumed.

        Parameters
        ----------
        X
            The columns, n rows: pandas, polars, pyarrow, numpy, lists or a scipy sparse matrix.
        y
            The target, n values. Rows are matched by position; labels of X in another order raise a warning. Several
            targets are columns (an array, a sparse matrix or a DataFrame): numbers for a regressor, for a classifier
            two values each (multilabel), or a list of labels for each row. One run learns all of them.
        groups
            n labels; rows of one group are never in both the training and the validation set of a fold. A text is the
            name of a column of X, which is not learned from then.
        time
            n instants or numbers; validation rows are always later than the rows trained on. A text is the name of a
            column of X, which is not learned from then.
        split
            Instead of the policy's folds a `TimeSplit` (beside ``time``: gap, rolling windows, embargo), a
            scikit-learn splitter, or pairs of training and validation positions.
        lags
            Earlier values as columns, beside the name of a column as ``time``: whole numbers for those of the target
            so many steps before, or `Lags`. `predict` knows the rows of `fit` and of `update_lags`.
        sample_weight
            n weights for training and metric. Only their ratios count; a row of weight 0 is left out of everything.
        X_test, y_test
            Rows that nothing is learned or chosen from; their score, computed after the budget's end, becomes
            ``test_score_``.
        ignore
            Names of columns that are not learned from; tables to predict need not have them.
        id_columns
            Names of columns that name a row: not learned from, and written beside its prediction in a shell.
        column_types
            How to read columns that are not what their values suggest: name -> "number", "category", "date" or "text".
        date_formats
            Formats of dates written as texts: name -> format, as in ``"%d.%m.%Y"``.
        callbacks
            Each is called with every finished `windvane.Trial`; one that returns True ends the search.
        dask_client
            A `distributed.Client` whose cluster trains the trials.

        Returns
        -------
        self
            Fitted.

        Raises
        ------
        InputError
            If an argument, a column or the target cannot be used.
        RunError
            If ``run_dir`` is in use, or holds another run.
        NoModelError
            If no model was trained; says what failed and why.
        DiskError
            If ``run_dir`` cannot be written before there is a model.
        """
        started = clock.monotonic()
        if (X_test is None) != (y_test is None):
            raise InputError("X_test and y_test belong together; only one of them was given.")

        def prepare(settings: Settings) -> PreparedProblem:
            prepared = prepare_problem(
                X,
                y,
                self._goal,
                settings,
                metric=self.metric,
                families=self.families,
                groups=groups,
                time=time,
                split=split,
                lags=lags,
                sample_weight=sample_weight,
                ignore=ignore,
                id_columns=id_columns,
                column_types=column_types,
                date_formats=date_formats,
                positive_class=getattr(self, "positive_class", None),
                earlier_positive_class=inherited_positive_class(settings),
                owner=type(self).__name__,
            )
            if X_test is not None:
                check_test_rows(prepared, X_test, y_test, type(self).__name__)
            return prepared

        self._fit(prepare, started, callbacks, dask_client, test=(X_test, y_test))
        return self

    def _fit(
        self,
        prepare: Callable[[Settings], PreparedProblem],
        started: float,
        callbacks: Sequence[Callback],
        dask_client: Any = None,
        test: tuple[Any, Any] | None = None,
    ) -> None:
        """Search on what `prepare` makes of the user's data, and score test rows; the budget counts from `started`."""
        settings = inherit_settings(Settings.check(self), seed_is_given=self.random_state is not None)
        pool = self._start_workers(settings, dask_client)  # they start while the data are prepared
        settings = replace(settings, n_jobs=pool.n_workers)
        directory = None
        try:
            import_optuna()
            prepared = prepare(settings)
            for warning in prepared.warnings:
                warnings.warn(warning, UserWarning, stacklevel=3)
            portfolio = self._read_portfolio(prepared, settings)
            own_metric = not isinstance(self.metric, str)
            with stop_on_signal() as stop:
                directory = create_run(type(self).__name__, prepared, settings, own_metric)
                result = self._run_search(prepared, settings, portfolio, pool, directory, started, callbacks, stop)
                self._set_result(result, directory)
                if test is not None:
                    self._score_test(directory, *test)
        except BaseException as error:
            if directory is not None:
                self._leave(directory, error)
            raise
        finally:
            pool.close()
            if directory is not None:
                directory.unlock()

    @_own_settings()
    def resume(
        self,
        time_budget: float | str | None = None,
        *,
        n_trials: int | None = None,
        callbacks: Sequence[Callback] = (),
        dask_client: Any = None,
    ) -> Self:
        """Continue the search.

        Parameters
        ----------
        time_budget
            Seconds to add, or a text such as "10m"; None for the constructor's.
        n_trials
            Limit on the trials that are added; None for no limit but time.
        callbacks, dask_client
            As in `fit`.

        Returns
        -------
        self
            At least as good on validation as before.

        Raises
        ------
        RunError
            If the run does not exist any more, its data were not kept, or the model was saved without them.
        """
        started = clock.monotonic()
        directory = self._run_directory
        if directory is None:
            raise RunError(f"There is no run to resume. {self._where_the_run_is()}")
        seconds = parse_seconds(self.time_budget if time_budget is None else time_budget)
        if n_trials is not None:
            check_integer("n_trials", n_trials)
            n_trials = int(n_trials) + len(directory.read_history().trials)
        settings = replace(Settings.check(self), time_budget=seconds, n_trials=n_trials, run_dir=directory.root)
        pool = self._start_workers(settings, dask_client)
        try:
            import_optuna()
            directory.lock()
            prepared = open_run(directory, self._families_to_search(), self._own_metric)
            settings = replace(settings, seed=prepared.problem.seed, n_jobs=pool.n_workers)
            portfolio = self._read_portfolio(prepared, settings)
            with stop_on_signal() as stop:
                result = self._run_search(prepared, settings, portfolio, pool, directory, started, callbacks, stop)
                self._set_result(result, directory)
                self._score_test(directory)
        finally:
            pool.close()
            directory.unlock()
        return self

    @_own_settings()
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels or numbers.

        Parameters
        ----------
        X
            n rows with the columns of the training table, in any order if they have names.

        Returns
        -------
        ndarray
            Shape (n,). Several targets have the form that they had in `fit`: an array of shape (n, t), a DataFrame with
            the index of X, or a list of labels for each row.
        """
        found: NDArray[Any] = self._predictor.predict_table(self._to_table(X))
        if isinstance(found, pd.DataFrame) and isinstance(X, pd.DataFrame):
            return found.set_index(X.index)
        return found

    @_own_settings()
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Evaluate the ensemble with the run's metric.

        Parameters
        ----------
        X, y
            n rows with their target.
        sample_weight
            n weights, or None.

        Returns
        -------
        float
            Higher is better; errors such as log loss and rmse are negative, as in scikit-learn.
        """
        predictor = self._predictor
        predictions = Predictions.of_test(predictor, X, y, sample_weight, owner=type(self).__name__)
        return natural_score(predictor.metric, predictions.score(predictor.metric))

    @_own_settings()
    def refit(self, X: Any, y: Any, *, sample_weight: Any = None) -> Self:
        """Train the ensemble's configurations once on all rows, instead of averaging the models of the folds.

        Each trains for as many iterations as were best on its folds. Prediction becomes faster by the number of folds;
        there is no validation score of the new models.

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
        predictor = self._predictor_of_tables("refit")
        for warning in order_notes(X, {"y": y, "sample_weight": sample_weight}):
            warnings.warn(warning, UserWarning, stacklevel=2)
        schema = predictor.schema
        if schema.lags is not None:  # of rows that are all known
            schema = know_rows(schema, X, encode_as_trained(y, predictor.classes, None), predictor.classes)
            predictor = replace(predictor, schema=keep_last(schema))
        table = self._to_table(X) if schema.lags is None else schema.transform(to_frame(X), type(self).__name__)
        weight, rows = counted_rows(sample_weight, table.n_rows)
        if rows is not None:
            y, table = take_rows(y, rows, table.n_rows, "y"), table.take(rows)
        target = encode_as_trained(y, predictor.classes, predictor.targets)
        if len(target) != table.n_rows:
            raise InputError(f"X and y have different lengths: {table.n_rows} and {len(target)}.")
        known = {trial.number for trial in self.trials_}
        if not known.issuperset(member.number for member in predictor.ensemble.members):
            raise RunError(f"refit needs the configurations of the trials. {self._where_the_run_is()}")
        folder = self._folder() / "refit"
        families = {LAST_RESORT.name: LAST_RESORT, **FAMILIES, **choose_families(self.families)}
        import_optuna()
        self._test_score = None
        self.predictor_ = refit_ensemble(predictor, self.trials_, families, DataSplit(table, target, weight), folder)
        return self

    def update_lags(self, X: Any, y: Any) -> Self:
        """Let `predict` know further rows: later ones find their lags among them. No model changes.

        `save` and `export` keep them; the run directory has the rows of `fit` alone.

        Parameters
        ----------
        X, y
            Rows with their target, in the columns of `fit`. They replace known rows of their series and time.

        Returns
        -------
        self
            With the last rows of each series.

        Raises
        ------
        InputError
            If the model was fitted without ``lags``, or a column is missing.
        """
        predictor = self._predictor_of_tables("update_lags")
        if predictor.schema.lags is None:
            raise InputError("update_lags is for models with lags; fit was called without lags=.")
        target = encode_as_trained(y, predictor.classes, None)
        schema = keep_last(know_rows(predictor.schema, X, target, predictor.classes))
        self.predictor_ = replace(predictor, schema=schema)
        return self

    @_own_settings()
    def evaluate(
        self,
        X: Any,
        y: Any,
        *,
        by: Any = None,
        sample_weight: Any = None,
        metrics: Any = None,
        n_worst: int = 10,
        random_state: int = 0,
    ) -> Evaluation:
        """Evaluate the model on rows with a known target: scores, classes, segments, worst rows.

        Parameters
        ----------
        X, y
            n rows with their target, preferably rows that were not trained on. Every class of y must be one of
            training, and no value may be missing.
        by
            Name of a column of X, several names, or n values, for the score of each segment: values of few distinct
            ones, else five bins of about equal counts. The column need not be one that the model reads.
        sample_weight
            n weights for every score, or None; rows of weight 0 do not count.
        metrics
            More metrics: names, scikit-learn scorers or `windvane.Metric`; None for the usual ones of the task. The
            run's metric always comes first.
        n_worst
            Number of rows in ``worst_rows``.
        random_state
            Seed of the bootstrap.

        Returns
        -------
        Evaluation
            Prints as text, shows as HTML in notebooks; ``to_json()`` and ``report(path)`` write it.
        """
        predictor = self._predictor
        test = Predictions.of_test(predictor, X, y, sample_weight, owner=type(self).__name__)
        frame = to_frame(X) if predictor.images is None else None
        columns = frame if isinstance(frame, pd.DataFrame) else None
        found = columns_for_segments(by, columns, test.table.n_rows)
        segments = {name: values[test.rows] for name, values in found.items()}
        return evaluate(
            test,
            predictor.metric,
            predictor.task,
            predictor.classes,
            metrics=metrics,
            segments=segments,
            columns=columns,
            targets=predictor.targets,
            n_worst=n_worst,
            seed=random_state,
        )

    @_own_settings()
    def leaderboard(self, X_test: Any = None, y_test: Any = None) -> pd.DataFrame:
        """Rank all trials of the run, and a constant prediction.

        Parameters
        ----------
        X_test, y_test
            Rows that the search did not see, for the score of every trial's models on them. A saved model has the
            models of its ensemble alone; the others have no score.

        Returns
        -------
        pandas.DataFrame
            One row for each trial, best validation loss first, indexed by rank. That loss helped to choose the
            ensemble, so it is optimistic. ``test_score`` is as in `score`: higher is better. ``baseline`` marks the
            constant (class frequencies, mean or median; without a number), the first linear model and LightGBM by
            default, all evaluated on the same folds.
        """
        ensemble = self._predictor.ensemble  # raises first if the model is not fitted
        if not self.trials_:
            raise RunError(f"There is no leaderboard without trials. {self._where_the_run_is()}")
        if (X_test is None) != (y_test is None):
            raise InputError("X_test and y_test belong together; only one of them was given.")
        scores = None if X_test is None else self._score_trials(X_test, y_test)
        return leaderboard(self.trials_, ensemble, self.constant_, scores)

    @property
    def policy_(self) -> Policy:
        """How the run was validated, with the reason in words."""
        check_is_fitted(self, "predictor_")
        if self._policy is None:
            raise AttributeError(f"There is no policy_. {self._where_the_run_is()}")
        return self._policy

    @property
    def test_score_(self) -> float:
        """Score of the ensemble on ``X_test``, which chose nothing: an unbiased estimate."""
        check_is_fitted(self, "predictor_")
        if self._test_score is None:
            raise AttributeError("There is no test_score_: fit was called without X_test and y_test.")
        return self._test_score

    @property
    def performance_over_time_(self) -> pd.DataFrame:
        """Validation score of the best single model and of the ensemble, over seconds."""
        metric = self._predictor.metric
        if not self.curve_:
            raise RunError(f"There are no losses over time. {self._where_the_run_is()}")
        return performance_over_time(self.curve_, metric)

    @_own_settings()
    def feature_importance(
        self,
        X: Any,
        y: Any,
        *,
        n_repeats: int = 5,
        time_budget: float | str = "1m",
        groups: str | Mapping[str, Sequence[str]] | None = None,
        method: str = "shuffle",
    ) -> pd.DataFrame:
        """Measure how much the score drops when a column, or a group of columns, is shuffled or left out.

        Columns that carry the same information hide each other: when one is shuffled, the others still tell. `groups`
        shuffles them together.

        Parameters
        ----------
        X, y
            Rows to measure on, preferably rows that were not trained on.
        n_repeats
            Shuffles of each column.
        time_budget
            Seconds, or a text such as "10m", after which it returns with what it has, and a warning.
        groups
            Name of a group -> names of its columns, or ``"correlated"`` for groups of numbers and dates of which any
            two have a rank correlation of at least 0.8. Other columns stay alone.
        method
            ``"shuffle"`` asks the ensemble; ``"drop"`` trains its configuration of the largest weight again without
            each column, on at most 10,000 rows of the run: what the column adds to the others.

        Returns
        -------
        pandas.DataFrame
            Columns importance and std (NaN for "drop"), one row for each column or group, largest first; those without
            a value are last.

        Raises
        ------
        InputError
            If an argument cannot be used, or the data of the run are not here for ``"drop"``.
        """
        predictor = self._predictor_of_tables("feature_importance")
        seconds = parse_seconds(time_budget)
        if method not in ("shuffle", "drop"):
            raise unknown_name_error("method", method, ("shuffle", "drop"))
        without = None
        if method == "drop":
            families = {LAST_RESORT.name: LAST_RESORT, **FAMILIES, **choose_families(self.families)}
            problem = self._training_problem("method='drop' trains again")
            without = trainer_without(predictor, self.trials_, families, problem)
        measured = "shuffled" if without is None else "left out"
        with CountProgress(f"windvane: columns {measured}", quiet=self.verbose == 0) as progress:
            return feature_importance(
                predictor,
                predictor.metric,
                X,
                y,
                n_repeats,
                seconds,
                progress.update,
                groups=groups,
                predict_without=without,
            )

    @_own_settings()
    def explain(
        self, X: Any, *, label: Any = None, background: Any = None, time_budget: float | str = "1m"
    ) -> Explanation:
        """Say how much each column moves each prediction (Shapley values), for numbers or the probability of a class.

        Parameters
        ----------
        X
            n rows to explain.
        label
            The class whose probability is explained; None for the positive one of two, and for the one that is
            predicted for each row among more.
        background
            Rows whose values stand for not knowing a column; None for those that the run learned from.
        time_budget
            Seconds, or a text such as "10m"; more of them make the values more precise.

        Returns
        -------
        Explanation
            ``values`` has a contribution for each row and column, which add up to the prediction less ``base``;
            ``importance()`` ranks the columns, ``row(i)`` explains one row, ``standard_error`` says how precise it is.

        Raises
        ------
        InputError
            If an argument cannot be used, or the data of the run are not here and no background is given.
        """
        predictor = self._predictor_of_tables("explain")
        predictor.check_one_target("explain")
        seconds = parse_seconds(time_budget)
        with CountProgress("windvane: rounds", quiet=self.verbose == 0) as progress:
            return explain(
                predictor,
                X,
                self._training_rows() if background is None else self._to_table(background),
                label,
                positive=1 if predictor.metric.positive is None else predictor.metric.positive,
                sampling=Sampling(max_seconds=seconds, on_round=progress.update),
            )

    def _training_rows(self) -> Table:
        """Read the rows that the run learned from."""
        return self._training_problem("background is needed", " Allowed: some hundred rows of them.").table

    def _training_problem(self, needed_for: str, advice: str = "") -> Problem:
        """Read the data that the run learned from."""
        directory = self._run_directory
        try:
            if directory is None:
                raise RunError("the model was saved without them")
            return Problem.read(directory.data, self._predictor.metric)
        except RunError as error:
            raise InputError(f"{needed_for}, but the training data are not here: {error}.{advice}") from error

    @_own_settings()
    def report(self, path: str | Path, X_test: Any = None, y_test: Any = None) -> Path:
        """Write one self-contained page on the run: scores, data, search, errors.

        Parameters
        ----------
        path
            A name that ends in .html; an earlier page is replaced, any other file is left alone.
        X_test, y_test
            Rows that the search did not see, for an unbiased score; without ``y_test`` the page compares their columns
            with those of training.

        Returns
        -------
        Path
            Of the page.
        """
        from windvane.report.build import write_report

        self._report_path = write_report(self, Path(path), X_test, y_test)
        return self._report_path

    def _html_repr(self) -> str:
        """Return what a notebook shows: the settings before the fit, the result after it."""
        from windvane.report.notebook import estimator_html

        return estimator_html(self)

    def save(self, path: str | Path) -> None:
        """Save the predictor and the records of its trials, without data, in a new folder; `windvane.load` opens it.

        Parameters
        ----------
        path
            Must not exist, or be an empty folder; nothing is overwritten.
        """
        manifest = {**self._manifest(), "run": self._record().to_json()}
        persistence.write_predictor(manifest, self._predictor, Path(path))

    def compact(self) -> tuple[int, int]:
        """Delete from the run directory what the ensemble does not need, and return its bytes before and after.

        Kept are the models and validation predictions of the ensemble's trials, the records of all trials, the data
        and the test rows: `predict`, `evaluate`, `explain`, `report` and `leaderboard` work as before. Deleted are the
        models and validation predictions of all other trials, and what continues the training of a model. `resume`
        adds new trials, to which only those of the ensemble are compared; `leaderboard(X_test, y_test)` and
        `to_sklearn` have the ensemble's models alone.

        Returns
        -------
        tuple of int
            Bytes before and after.

        Raises
        ------
        RunError
            If the run is not here, is in use, or has no whole ensemble on disk.
        """
        directory = self._run_directory
        if directory is None:
            raise RunError(f"There is no run to make smaller. {self._where_the_run_is()}")
        before = size_of(directory.root)
        directory.lock()
        try:
            ensemble = directory.read_ensemble()
            if ensemble is None or directory.damaged_members(ensemble):
                raise RunError(
                    f"The run in {str(directory.root)!r} has no whole ensemble: resume it for a moment before."
                )
            compact_run(directory, ensemble)
        finally:
            directory.unlock()
        return before, size_of(directory.root)

    def export(self, folder: str | Path) -> None:
        """Write a folder that predicts without windvane: native model files and a `predictor.py`.

        Parameters
        ----------
        folder
            Must not exist, or be an empty folder; nothing is overwritten.
        """
        from windvane.export.folder import write_folder

        write_folder(
            {**self._manifest(), "run": self._record().to_json()}, self._predictor_of_tables("export"), Path(folder)
        )

    @_own_settings()
    def to_onnx(self, path: str | Path) -> Path:
        """Write the ensemble with its preprocessing as one ONNX file, checked against `predict_proba` to 1e-5.

        Parameters
        ----------
        path
            A new file that ends in .onnx. Its inputs are the columns by name, each of shape (n, 1): numbers as double,
            categories as texts; or X, double of shape (n, p), if training had an array of numbers. Its outputs are
            ``probabilities`` (n, k) and ``label`` (n,), or ``prediction`` (n,). NaN and the empty text are missing.

        Returns
        -------
        Path
            The file, after onnxruntime has computed the same predictions.

        Raises
        ------
        InputError
            If the table has columns of dates, durations or texts or is sparse, if no member can be expressed, or if
            onnx and onnxruntime are missing.

        Warns
        -----
        UserWarning
            If ONNX cannot express some members: another ensemble is selected without them, as by `to_sklearn`.

        Examples
        --------
        >>> model.to_onnx("churn.onnx")  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("churn.onnx")  # doctest: +SKIP
        >>> session.run(["label"], {"age": [[41.0]], "plan": [["basic"]]})  # doctest: +SKIP
        """
        from windvane.export.onnx.ensemble import export_onnx

        predictor, directory = self._predictor_of_tables("to_onnx"), self._run_directory
        try:
            rows = None if directory is None else Problem.read(directory.data, predictor.metric).table
        except RunError:  # keep_data=False
            rows = None
        if rows is not None:
            rows = rows.take(np.arange(rows.n_rows)[:: max(1, rows.n_rows // 500)])
        return export_onnx(predictor, self._select_without, path, rows)

    def to_optuna(self, path: str | Path) -> Any:
        """Write the trials of the run as a study of Optuna, as for its dashboard.

        Parameters
        ----------
        path
            A new file that ends in .db, a database of SQLite: ``optuna-dashboard sqlite:///study.db`` shows it.

        Returns
        -------
        optuna.Study
            Opened from the file, named "windvane". The parameters of a trial are its family and hyperparameters, as in
            "lightgbm.num_leaves"; its value is the validation score in the metric's direction; without a usable model
            it has failed. User attributes hold the rest of its record.

        Raises
        ------
        InputError
            If the path is no such file.
        RunError
            If the model has no records of its trials.

        Examples
        --------
        >>> study = model.to_optuna("study.db")  # doctest: +SKIP
        >>> study.best_trial.params  # doctest: +SKIP
        """
        from windvane.export.optuna_study import write_study

        predictor = self._predictor  # raises first if the model is not fitted
        if not self.trials_:
            raise RunError(f"There are no trials. {self._where_the_run_is()}")
        known = {LAST_RESORT.name: LAST_RESORT, **FAMILIES, **choose_families(self._families_to_search())}
        return write_study(self.trials_, predictor, known, Path(path))

    @_own_settings()
    def to_sklearn(self) -> Any:
        """Convert the ensemble to objects of scikit-learn and the boosters' libraries; none is windvane's.

        Returns
        -------
        Pipeline or FixedThresholdClassifier
            Fitted, with the same predictions. Where scikit-learn cannot express a model, another ensemble is selected
            without it, and a warning states its loss; an `InputError` names what in the table cannot be expressed.
        """
        from windvane.export.plain import to_sklearn

        predictor = self._predictor_of_tables("to_sklearn")
        predictor.check_one_target("to_sklearn")
        return to_sklearn(predictor, self._select_without)

    def _score_trials(self, X_test: Any, y_test: Any) -> dict[int | None, float]:
        """Score every trial, and the constant under None, on rows that the search did not see."""
        predictor, metric = self._predictor, self._predictor.metric
        test = Predictions.of_test(predictor, X_test, y_test, owner=type(self).__name__)
        known = choose_families(self.families)
        with CountProgress("windvane: trials scored", quiet=self.verbose == 0) as progress:
            scores = score_trials(predictor, self.trials_, self._run_directory, known, test, progress.update)
        if self.constant_ is not None:
            scores[None] = natural_score(metric, test.constant_score(metric, self.constant_.values))
        return scores

    @property
    def _predictor(self) -> Predictor:
        check_is_fitted(self, "predictor_")
        return self.predictor_

    def _select_without(self, families: Collection[str], numbers: Collection[int]) -> Predictor | None:
        directory = self._run_directory
        if directory is None or self._is_refitted(directory):
            return None
        known, chosen = choose_families(self.families), self._predictor.ensemble
        found = select_without(directory, self._predictor, self.ensemble_size, known, families, numbers)
        if found is None or self.tuning_ is None:
            return found
        # The user's decision holds for any ensemble.
        decided = replace(
            found.ensemble,
            temperature=chosen.temperature,
            calibration=chosen.calibration,
            decision_weights=chosen.decision_weights,
            costs=chosen.costs,
        )
        found = replace(found, ensemble=decided)
        validation = self._out_of_fold(found)
        loss = float("nan") if validation is None else validation.loss(found.metric)
        return replace(found, ensemble=replace(decided, loss=loss))

    def _is_refitted(self, directory: RunDirectory) -> bool:
        """Whether other models predict than those of the run's trials."""
        folders = [folder for folders in self._predictor.folders for folder in folders]
        return any(directory.trials not in folder.parents for folder in folders)

    def _out_of_fold(self, predictor: Predictor) -> Predictions | None:
        """Predict the validation rows by models that did not train on them; None if they were not kept."""
        directory = self._run_directory
        if directory is None:
            return None
        try:
            problem = Problem.read(directory.data, predictor.metric)
        except RunError:  # keep_data=False
            return None
        return out_of_fold(predictor, problem, directory, can_predict=False)

    @property
    def _run_directory(self) -> RunDirectory | None:
        """The directory of the run; None for a model that was saved, pickled, or whose directory is gone."""
        directory = self._directory
        is_run = directory is not None and directory.exists() and directory.manifest().get("kind") == "run"
        return directory if is_run else None

    def _where_the_run_is(self) -> str:
        """Say what would have what is missing here."""
        if self._policy is not None and self._directory is not None and not self._directory.exists():
            return f"Its directory, {str(self._directory.root)!r}, is gone; call fit again."
        return (
            "This model was saved or copied without it: load the run directory, which has the data (data/) and the "
            "trials (history.jsonl, trials/), or call fit."
        )

    def _record(self) -> RunRecord:
        return RunRecord(self.trials_, self.curve_, self._policy, self._test_score, self.constant_, self.tuning_)

    def _score_test(self, directory: RunDirectory, X_test: Any = None, y_test: Any = None) -> Predictions | None:
        """Score rows that the search did not see, given now or kept when the run began; None without any."""
        predictor = self._predictor
        if X_test is not None:
            found = Predictions.of_test(predictor, X_test, y_test, owner=type(self).__name__)
        elif (kept := read_test_rows(directory.test, predictor)) is not None:
            found = kept
        else:
            return None
        self._test_score = natural_score(predictor.metric, found.score(predictor.metric))
        try:
            if X_test is not None:
                names = () if predictor.images is None else predictor.images.short_names(X_test)
                score, keep = self._test_score, bool(self.keep_data)
                write_test_rows(directory.test, found, predictor.ensemble, score, keep=keep, names=names)
            else:
                update_test_score(directory.test, predictor.ensemble, self._test_score)
        except DiskError as error:
            warnings.warn(str(error), UserWarning, stacklevel=3)
        return found

    def _predictor_of_tables(self, method: str) -> Predictor:
        if self._predictor.images is not None:
            raise InputError(f"{method} is for tables; {type(self).__name__} predicts images. Allowed: predict, save.")
        return self._predictor

    @property
    def _own_metric(self) -> Any:
        return None if isinstance(self.metric, str) else self.metric

    def _families_to_search(self) -> Any:
        """Return the families as for `choose_families`."""
        return self.families

    def _read_portfolio(self, prepared: PreparedProblem, settings: Settings) -> list[PortfolioEntry]:
        return read_portfolio(prepared.problem.task, prepared.families, settings.portfolio)

    def _start_workers(self, settings: Settings, dask_client: Any) -> WorkerPool | DaskPool:
        if dask_client is None and self.scheduler is None:
            n_workers = affordable_workers(settings.n_jobs, settings.memory_limit)
            if n_workers < settings.n_jobs:
                warnings.warn(
                    f"memory_limit={settings.memory_limit:.0f} MB is enough for {n_workers} worker processes, not for "
                    f"n_jobs={settings.n_jobs}.",
                    UserWarning,
                    stacklevel=3,
                )
            return WorkerPool(n_workers, settings.memory_limit)
        return DaskPool.connect(self.scheduler, dask_client, n_jobs=self.n_jobs, memory_limit=self.memory_limit)

    def _run_search(
        self,
        prepared: PreparedProblem,
        settings: Settings,
        portfolio: Sequence[PortfolioEntry],
        pool: WorkerPool | DaskPool,
        directory: RunDirectory,
        started: float,
        callbacks: Sequence[Callback],
        stop: StopRequest,
    ) -> SearchResult:
        seconds_left = settings.time_budget - (clock.monotonic() - started)
        with Progress(quiet=settings.verbose == 0) as progress:
            progress.start(seconds_left, settings.n_jobs, prepared.problem.metric)
            progress.resume(directory.read_history().trials)
            for note in prepared.notes:
                progress.note(note)
            result = run_search(
                prepared,
                settings,
                portfolio,
                pool,
                directory,
                started,
                callbacks=callbacks,
                listener=progress,
                stop=stop,
            )
            ended = sum(trial.status != "stopped" for trial in result.trials)
            if settings.n_trials is not None and ended < settings.n_trials and not stop.requested:
                progress.note(
                    f"The time budget ended after {ended} of {settings.n_trials} trials: another run with this seed "
                    "may differ."
                )
            return result

    def _leave(self, directory: RunDirectory, error: BaseException) -> None:
        """Say where a run is that an error ended; without one trial, a temporary one is deleted."""
        if any(directory.trials.glob("*/checkpoint_*")):
            error.add_note(
                f"The run so far is in {str(directory.root)!r}: windvane.load opens it, resume continues it."
            )
        elif self.run_dir is None:
            directory.drop(directory.root)

    def _to_table(self, X: Any) -> Table:
        predictor = self._predictor
        one = X if predictor.images is not None else predictor.schema.one_row(X)
        return predictor.table(one, owner=type(self).__name__)

    def _manifest(self) -> dict[str, Any]:
        predictor = self._predictor
        manifest = persistence.build_manifest(
            type(self).__name__,
            predictor.task,
            predictor.schema,
            predictor.classes,
            predictor.metric,
            own_metric=self._own_metric is not None,
            targets=predictor.targets,
        )
        return manifest if predictor.images is None else {**manifest, "images": predictor.images.to_json()}

    def _set_result(self, result: SearchResult, directory: RunDirectory) -> None:
        earlier = self._directory
        if hasattr(self, "_finalizer") and earlier is not None and earlier.root != directory.root:
            self._finalizer()  # deletes the temporary directory of an earlier fit
        if self.run_dir is None and earlier is not directory:
            self._finalizer = delete_with(self, directory.root)
        self._directory = directory
        self._test_score = None
        self.trials_: list[Trial] = result.trials
        self.curve_ = result.curve
        self._policy = result.policy
        self.constant_, self.tuning_ = result.constant, result.tuning
        self._set_predictor(result.predictor)

    def _set_predictor(self, predictor: Predictor) -> None:
        self.predictor_ = predictor
        if predictor.targets is not None:
            self.target_names_ = predictor.targets.titles
            if predictor.targets.values is not None:
                is_lists = predictor.targets.form == "lists"
                self.classes_: Any = predictor.targets.names if is_lists else list(predictor.targets.values)
        if predictor.classes is not None:
            self.classes_ = predictor.classes
            if predictor.metric.positive is not None:
                self.positive_class_ = predictor.classes[predictor.metric.positive]
        self.n_features_in_ = len(predictor.schema.input_names)
        if predictor.schema.named:
            self.feature_names_in_ = np.array(predictor.schema.input_names, dtype=object)

    def _folder(self) -> Path:
        """Return the folder of this object's files; a temporary one is deleted with the object."""
        if self._directory is None:
            self._directory = RunDirectory(temporary_folder())
            self._finalizer = delete_with(self, self._directory.root)
        return self._directory.root

    def __getstate__(self) -> dict[str, Any]:
        """Pack the models in their own formats; temporary files are left out."""
        state = dict(super().__getstate__())
        if "predictor_" in state:
            state["_packed"] = persistence.to_bytes(self._manifest(), state.pop("predictor_"))
        for name in ("_finalizer", "_directory"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state.pop("_packed", None)
        super().__setstate__(state)
        if packed is not None:
            folder = self._folder()
            persistence.from_bytes(packed, folder)
            self.predictor_ = persistence.read_predictor(folder, choose_families(self.families), self._own_metric)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = self._takes_several_targets
        return tags


class AutoMLClassifier(ClassifierMixin, AutoML):
    """What the classifiers share beside `AutoML`: from probabilities to labels, and calibration."""

    @_own_settings()
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
            If the model is of an earlier version, which kept no probabilities.

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
        raise AttributeError(_NOT_FOR_CLASSES)

    @property
    def threshold_(self) -> float | None:
        """Probability of the positive one of two classes above which it is predicted; None for more classes."""
        predictor = self._predictor
        positive = predictor.metric.positive
        return None if positive is None else threshold_of(predictor.ensemble, positive)

    def set_threshold(self, value: float | None) -> Self:
        """Predict the positive class above another probability.

        `save`, `export`, `report` and the run directory keep it; `predict_proba` does not change. `fit` and `resume`
        choose another ensemble, for which it must be set again.

        Parameters
        ----------
        value
            Above 0 and below 1; None to predict the most probable class, also of more than two classes.

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
        predictor.check_one_target("set_threshold")
        positive = predictor.metric.positive
        if positive is None:
            if value is not None:
                raise InputError(
                    f"set_threshold({value!r}) is for two classes, but there are {predictor.task.n_classes}. Allowed: "
                    "None for the most probable class, or tune_threshold(costs=...)."
                )
            ensemble, tuning = replace(predictor.ensemble, decision_weights=None, costs=None), None
        else:
            ensemble, tuning = chosen_by_hand(predictor.ensemble, value, positive, self._out_of_fold(predictor))
        self._set_decision(ensemble, tuning)
        return self

    @_own_settings()
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

        Of two classes this is a threshold for the probability of the positive one. Of more, a metric gets a factor for
        each class, and costs choose the class with the least expected cost. `save`, `export`, `report` and the run
        directory keep it; `predict_proba` does not change.

        Parameters
        ----------
        metric
            A metric of labels: "f1" (where nothing is given, for two classes; "balanced_accuracy" for more), any name
            of scikit-learn, a scorer or a `windvane.Metric`.
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
        predictor.check_one_target("tune_threshold")
        positive = predictor.metric.positive
        goals = {"metric": metric, "precision": precision, "recall": recall, "costs": costs}
        given = [name for name, value in goals.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"tune_threshold has one goal, but {' and '.join(given)} came.")
        if positive is None and (precision is not None or recall is not None):
            raise InputError(
                f"{given[0]} is for two classes, but there are {predictor.task.n_classes}. Allowed: metric or costs."
            )
        if not given:
            metric = "f1" if positive is not None else "balanced_accuracy"
        assert predictor.classes is not None
        ensemble, tuning = tune_decision(
            self._rows_to_tune("tune_threshold", predictor.ensemble, X, y, sample_weight),
            predictor.classes,
            positive,
            metric=None if metric is None else get_metric(metric, predictor.task, predictor.classes, positive),
            precision=precision,
            recall=recall,
            costs=None if costs is None else check_costs(costs, predictor.classes),
        )
        self._set_decision(ensemble, tuning)
        return tuning

    @_own_settings()
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
        metric = self._predictor.metric
        validation = self._out_of_fold(replace(self._predictor, ensemble=ensemble))
        if validation is not None:
            ensemble = replace(ensemble, loss=validation.loss(metric))
        elif ensemble != self._predictor.ensemble:
            ensemble = replace(ensemble, loss=float("nan"))  # of the new decision it is not known
        before = self._predictor.ensemble
        is_same_score = metric.needs != "labels" and ensemble.calibration == before.calibration
        is_same_score &= ensemble.temperature == before.temperature
        self.predictor_ = replace(self._predictor, ensemble=ensemble)
        self.tuning_ = tuning
        if not is_same_score:
            self._test_score = None
        directory = self._run_directory
        if directory is None or self._is_refitted(directory):
            return
        directory.lock()
        try:
            directory.write_ensemble(ensemble, self.curve_, self.constant_, tuning)
            if not is_same_score:
                self._score_test(directory)
            elif self._test_score is not None:
                update_test_score(directory.test, ensemble, self._test_score)
        finally:
            directory.unlock()


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

    _goal: TaskType = "classification"
    score = AutoML.score  # with the run's metric; the mixin has the accuracy

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

    @_own_settings()
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
    score = AutoML.score  # with the run's metric; the mixin has R2

    @_own_settings()
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
            If the model is of an earlier version, which kept no errors.

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


class AutoImageClassifier(AutoMLClassifier):
    """Finds the best image classifier that a time budget allows.

    Features of frozen pretrained networks come first, for the families of `AutoClassifier`; networks are fine-tuned and
    trained from scratch beside them. Whatever is best on validation images is blended.

    Parameters
    ----------
    time_budget
        Seconds, or a text such as "10m"; `fit` returns within it, reading included.
    metric
        "auto" (log_loss), a scikit-learn name or scorer, or a `windvane.Metric`.
    weights
        Pretrained networks, the cheapest first: names of installed packages ("efficientnet_lite0" to
        "efficientnet_lite2"), "timm/NAME" for timm's hub, "NAME=FILE" for a network of timm and a file, or the folder
        of a run. None for the installed packages; an empty list for none.
    n_jobs, memory_limit, ensemble_size, n_trials, run_dir, random_state, verbose, keep_data, portfolio
        As in `AutoClassifier`.
    policy
        As in `AutoClassifier`; "auto" holds out a share of the images, or takes folds where images are few.
    families
        Names out of `windvane.FAMILIES`, scikit-learn estimators, and own families; None for those of the portfolio.

    Attributes
    ----------
    classes_
        Labels in the order of the columns of `predict_proba`.
    trials_, policy_
        As in `AutoClassifier`.
    test_score_
        Score on the test split of the images, if there is one; it chose nothing.

    Examples
    --------
    >>> model = AutoImageClassifier(time_budget="5m").fit("flowers/")  # doctest: +SKIP
    >>> model.predict("new_photos/")  # doctest: +SKIP
    array(['daisy', 'tulip'], dtype='<U9')
    """

    _goal: TaskType = "classification"
    _takes_several_targets = False
    scheduler = None  # images are trained on this machine
    keep_ids = True  # features have no identifiers

    def __init__(
        self,
        time_budget: float | str = 600,
        *,
        metric: Any = "auto",
        weights: Sequence[str] | None = None,
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
    ) -> None:
        self.time_budget = time_budget
        self.metric = metric
        self.weights = weights
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

    @_own_settings()
    def fit(  # type: ignore[override]  # images instead of a table
        self,
        X: Any,
        y: Any = None,
        *,
        groups: Any = None,
        valid: float | None = None,
        columns: Columns | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Search for the best classifier of images within the time budget.

        Ctrl-C ends the search early and returns fitted; a second one raises. If ``run_dir`` holds a run of the same
        images and settings, it is resumed.

        Parameters
        ----------
        X
            A folder with a sub-folder for each class, or with train, valid and test above these; a table (a file or a
            DataFrame) with a column of images or paths and one of labels; arrays of shape (n, h, w) or (n, h, w, c); or
            a list of paths, arrays, encoded bytes or images of Pillow. A test split gives ``test_score_``.
        y
            n labels, if X has none.
        groups
            Images that belong together (frames of one film, photos of one patient) and stay on one side of a split: n
            labels, the name of a column, or a function of the name of an image.
        valid
            Share of the images that validate; None for a validation split of X, or what suits the number of images.
        columns
            Which columns of a table hold what; None for the usual names.
        callbacks
            As in `AutoClassifier.fit`.

        Returns
        -------
        self
            Fitted. A warning names images that cannot be read and are left out.

        Raises
        ------
        InputError
            If an argument or the images cannot be used.
        RunError
            If ``run_dir`` is in use, or holds another run.
        NoModelError
            If no model was trained; says what failed and why.
        """
        started = clock.monotonic()
        usable = valid is None or (isinstance(valid, int | float) and 0 < valid < 1)
        check_usable("valid", valid, usable, "a share above 0 and below 1, or None")
        if find_spec("timm") is None:
            raise InputError("Images need torch and timm: pip install 'windvane[images]'.")
        weights = self._image_weights()
        options = ImageOptions(y, groups, valid, columns or Columns(), weights, wants_weights=self.weights is None)
        listing, digest = list_training_images(X, options)
        scratch = temporary_folder()

        def prepare(settings: Settings) -> PreparedProblem:
            families = choose_families(self._families_to_search(), IMAGE_DEFAULT)
            directory = None if settings.run_dir is None else RunDirectory(settings.run_dir)
            if directory is not None and (directory.data / "task.json").exists() and directory.exists():
                same = directory.manifest().get("source") == digest
                if same:
                    return open_run(directory, list(families.values()), self._own_metric)
            metric = "log_loss" if self.metric == "auto" else self.metric
            return prepare_image_problem(
                listing, digest, options, settings, families, metric=metric, folder=scratch, started=started
            )

        tests, notes = labelled_tests(listing)
        for note in notes:
            warnings.warn(note, UserWarning, stacklevel=2)
        test = ([listing.items[i] for i in tests], [listing.labels[i] for i in tests]) if tests else None
        try:
            self._fit(prepare, started, callbacks, test=test)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return self

    def _score_test(self, directory: RunDirectory, X_test: Any = None, y_test: Any = None) -> Predictions | None:
        """Score images that the search did not see, and warn where they look like training images."""
        found = super()._score_test(directory, X_test, y_test)
        if X_test is None or found is None or found.table.images is None:
            return found
        try:
            training = Problem.read(directory.data, self._predictor.metric).table.images
        except RunError:  # keep_data=False
            return found
        if training is None:
            return found
        n_copies = count_copies(found.table.images.each(), training.each())
        if n_copies:
            warnings.warn(
                f"{n_copies:,} of {len(found):,} test images look like training images: the test score is too good.",
                UserWarning,
                stacklevel=3,
            )
        return found

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels.

        Parameters
        ----------
        X
            n images, in any form that `fit` takes, or a folder of images at any depth, or one file. Sub-folders and
            columns of labels are not read.

        Returns
        -------
        ndarray
            Shape (n,), in the order of X; of a folder in natural order of names.
        """
        predictor = self._predictor
        assert predictor.classes is not None
        return np.asarray(predictor.classes[predictor.decide(self.predict_proba(X))])

    @_own_settings()
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict probabilities.

        Parameters
        ----------
        X
            n images, as in `predict`.

        Returns
        -------
        ndarray
            Shape (n, n_classes), columns in the order of ``classes_``. An image that cannot be read has the frequencies
            of the classes in training, and a warning names it.
        """
        return self._predictor.predict_images(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Evaluate the ensemble with the run's metric.

        Parameters
        ----------
        X, y
            Images and labels, as in `fit`.
        sample_weight
            n weights, or None.

        Returns
        -------
        float
            Higher is better; errors such as log loss are negative, as in scikit-learn.
        """
        return AutoML.score(self, *self._labelled(X, y), sample_weight)  # super() would be the mixin, with the accuracy

    def evaluate(
        self,
        X: Any,
        y: Any = None,
        *,
        by: Any = None,
        sample_weight: Any = None,
        metrics: Any = None,
        n_worst: int = 10,
        random_state: int = 0,
    ) -> Evaluation:
        """Evaluate the model on images with known labels: scores, classes, segments, worst images.

        Parameters
        ----------
        X, y
            Images and labels, as in `fit`.
        by
            n values, for the score of each segment.
        sample_weight, metrics, n_worst, random_state
            As in `AutoClassifier.evaluate`.

        Returns
        -------
        Evaluation
            As for tables.
        """
        images, labels = self._labelled(X, y)
        return super().evaluate(
            images,
            labels,
            by=by,
            sample_weight=sample_weight,
            metrics=metrics,
            n_worst=n_worst,
            random_state=random_state,
        )

    def leaderboard(self, X_test: Any = None, y_test: Any = None) -> pd.DataFrame:
        """Rank all trials of the run, and a constant prediction.

        Parameters
        ----------
        X_test, y_test
            Images and labels that the search did not see, as in `fit`, for the score of every trial on them.

        Returns
        -------
        pandas.DataFrame
            As in `AutoClassifier.leaderboard`.
        """
        return super().leaderboard(*((None, None) if X_test is None else self._labelled(X_test, y_test)))

    def report(self, path: str | Path, X_test: Any = None, y_test: Any = None) -> Path:
        """Write one self-contained page on the run: scores, errors, doubtful labels, copies, what networks look at.

        Parameters
        ----------
        path
            A name that ends in .html; an earlier page is replaced, any other file is left alone.
        X_test, y_test
            Images and labels that the search did not see, as in `fit`, for an unbiased score; None for the test split
            of `fit`, if there was one.

        Returns
        -------
        Path
            Of the page.
        """
        return super().report(path, *((None, None) if X_test is None else self._labelled(X_test, y_test)))

    def _labelled(self, X: Any, y: Any) -> tuple[list[Any], list[Any]]:
        """Return images, in a form that `predict` takes, and their labels."""
        reader = self._predictor.images
        assert reader is not None
        listing = list_labelled(X, y, reader.columns)
        return listing.items, listing.labels

    @_own_settings()
    def to_torch(self) -> Any:
        """Convert the ensemble to one network with its preprocessing.

        Returns
        -------
        torch.nn.Module
            Maps uint8 images of shape (n, 3, s, s), where s is its ``image_size``, to probabilities in the order of its
            ``classes``. It was compared with `predict_proba`. Where a member cannot be a network, another ensemble is
            selected without it, and a warning states its loss.
        """
        from windvane.export.image_model import image_ensemble

        return image_ensemble(self._predictor, self._select_without)[0]

    @_own_settings()
    def export(self, folder: str | Path) -> None:
        """Write a folder that predicts without windvane and torch: ONNX, torch.export and a `predictor.py`.

        Parameters
        ----------
        folder
            Must not exist, or be an empty folder; nothing is overwritten.
        """
        from windvane.export.image_model import export_image_ensemble

        export_image_ensemble(self._predictor, self._select_without, folder)

    def refit(self, X: Any, y: Any, *, sample_weight: Any = None) -> Self:
        """Raise `InputError`: models on features have learned from all images, those that validated them among them.

        Networks that learned from pixels would have to be trained again for as long.
        """
        raise InputError(
            "refit is for tables. Models on frozen features have learned from all images of fit already; to learn from "
            "more images call fit with all of them."
        )

    def prediction_table(self, X: Any, *, proba: bool = False) -> pd.DataFrame:
        """Predict a table with one row for each image.

        Parameters
        ----------
        X
            n images, as in `predict`.
        proba
            Give a column of probabilities for each class instead of the predicted class and its probability.

        Returns
        -------
        pandas.DataFrame
            Columns name, prediction and probability; or name and one column for each class.
        """
        predictor = self._predictor
        assert predictor.images is not None and predictor.classes is not None
        probabilities = self.predict_proba(X)
        names = pd.DataFrame({"name": predictor.images.listing(X).names})
        if proba:
            labels = [str(label) for label in predictor.classes.tolist()]
            return names.join(pd.DataFrame(probabilities, columns=labels))
        chosen = predictor.decide(probabilities)
        prediction = predictor.classes[chosen]
        return names.assign(prediction=prediction, probability=probabilities[np.arange(len(chosen)), chosen])

    def _image_weights(self) -> tuple[str, ...]:
        if self.weights is None:
            return installed_weights()
        return check_weights(self.weights)

    def _families_to_search(self) -> Any:
        if isinstance(self.families, str):
            chosen: list[Any] = [self.families]
        else:
            chosen = list(IMAGE_DEFAULT if self.families is None else self.families)
        return [FineTune(self._image_weights()) if family == FineTune.name else family for family in chosen]

    def _read_portfolio(self, prepared: PreparedProblem, settings: Settings) -> list[PortfolioEntry]:
        return read_portfolio(prepared.problem.task, prepared.families, settings.portfolio, kind="images")


def keep_decision(model: AutoClassifier | AutoRegressor | AutoImageClassifier, folder: Path) -> None:
    """Write the decision and calibration of a loaded model into its folder; a run directory has them already."""
    if persistence.read_manifest(folder / "manifest.json").get("kind") != "run":
        persistence.update_ensemble(folder, model.predictor_.ensemble, model._record().to_json())


def load(
    path: str | Path, *, metric: Any = None, families: Sequence[Any] | None = None, n_jobs: int | None = -1
) -> AutoClassifier | AutoRegressor | AutoImageClassifier:
    """Open a saved model, or a run, finished or not.

    Parameters
    ----------
    path
        A folder from ``save`` or ``export``, or a run directory.
    metric
        The user's own metric if the run had one; no file can hold it. Without it ``score`` is that of
        ``metric="auto"``, and a warning says so.
    families
        Estimators and own families of the run, beside the names of others it may use; None for windvane's.
    n_jobs
        Threads for prediction, and workers if the run is resumed.

    Returns
    -------
    AutoClassifier, AutoRegressor or AutoImageClassifier
        Fitted.

    Raises
    ------
    RunError
        If the folder is neither.
    VersionError
        If another version wrote it and this one cannot read it.
    ModelFileError
        If a file is missing, damaged or not trusted; nothing in it is executed.
    NoModelError
        If an unfinished run has no usable model yet.

    Examples
    --------
    >>> model = load("runs/churn")  # doctest: +SKIP
    >>> model.predict(X[:3])  # doctest: +SKIP
    array(['no', 'yes', 'no'], dtype=object)
    """
    folder = Path(path).absolute()  # the process may change its working directory later
    try:
        return _load(folder, metric, families, n_jobs)
    except WindvaneError:
        raise
    except DAMAGE as error:
        raise RunError(f"{str(folder)!r} is damaged: {error!r}") from error


def _load(
    folder: Path, metric: Any, families: Sequence[Any] | None, n_jobs: int | None
) -> AutoClassifier | AutoRegressor | AutoImageClassifier:
    manifest = persistence.read_manifest(folder / "manifest.json")
    kinds: dict[str, type[AutoClassifier] | type[AutoRegressor] | type[AutoImageClassifier]]
    kinds = {kind.__name__: kind for kind in (AutoClassifier, AutoRegressor, AutoImageClassifier)}
    if manifest.get("estimator") not in kinds:
        raise RunError(f"{str(folder)!r} is damaged: its manifest names no estimator of windvane.")
    is_run = manifest.get("kind") == "run"
    model = kinds[manifest["estimator"]](
        metric=metric if metric is not None else "auto" if manifest.get("own_metric") else manifest.get("metric"),
        families=families if families is not None else manifest.get("families"),
        n_jobs=n_jobs,
        run_dir=folder if is_run else None,
    )
    known = choose_families(families)
    if is_run:
        directory = RunDirectory(folder)
        model._set_result(read_result(directory, known, metric, resolve_jobs(n_jobs)), directory)
        score = read_test_score(directory.test, model.predictor_.ensemble)
        if score is not None and not (manifest.get("own_metric") and metric is None):
            model._test_score = score
    else:
        record = RunRecord.from_json(manifest["run"]) if "run" in manifest else RunRecord([], [], None)
        model.trials_, model.curve_ = list(record.trials), record.curve
        model._policy, model._test_score = record.policy, record.test_score
        model.constant_, model.tuning_ = record.constant, record.tuning
        model._set_predictor(persistence.read_predictor(folder, known, metric, threads=resolve_jobs(n_jobs)))
    if manifest.get("own_metric") and metric is None:
        warnings.warn(
            f"The metric {manifest['metric']!r} was the user's own, and no file can hold it: score() is that of "
            f"{model.predictor_.metric.name!r} now. load(path, metric=...) brings it.",
            UserWarning,
            stacklevel=3,
        )
    return model

"""The story of one run: workers start, the table is typed, policy and folds are chosen, the search runs until the
budget ends, and the ensemble is opened. `windvane.search` does each of these.
"""

from __future__ import annotations

import math
import shutil
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from windvane.automl.fitted_estimator import FittedEstimator, library_defaults
from windvane.data.series.lags import keep_last, know_rows
from windvane.data.target import TaskType
from windvane.data.targets import encode_as_trained
from windvane.errors import DiskError, InputError, RunError, check_integer, warn_user
from windvane.evaluation.predictions import Predictions, labelled_rows
from windvane.evaluation.score_text import natural_score
from windvane.models.base import DataSplit
from windvane.models.search_space import import_optuna
from windvane.persistence import Predictor
from windvane.progress import Progress
from windvane.runtime.serialization import delete_with
from windvane.search.problem import PreparedProblem
from windvane.search.refit import refit_ensemble
from windvane.search.run.compact import compact_run, size_of
from windvane.search.run.record import RunRecord
from windvane.search.run.run_directory import RunDirectory
from windvane.search.run.unseen_rows import read_test_rows, update_test_score, write_test_rows
from windvane.search.runner import (
    create_run,
    finish_search,
    inherit_settings,
    inherited_positive_class,
    open_run,
    prepare_search,
)
from windvane.search.search import Callback
from windvane.search.strategy.budget import SlowdownMeter
from windvane.search.strategy.families import choose_families
from windvane.search.strategy.portfolio import PortfolioEntry, read_portfolio
from windvane.search.table_problem import TableOptions, check_test_rows, prepare_table_problem
from windvane.search.workers.dask_pool import DaskPool
from windvane.search.workers.pool import WorkerPool, affordable_workers
from windvane.settings import Settings, parse_seconds
from windvane.stop_signals import stop_on_signal


class AutoML(FittedEstimator):
    """What the estimators share; the constructor stores, `fit` learns."""

    _goal: TaskType
    _takes_several_targets = True

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

    @library_defaults()
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

        options = TableOptions(
            groups=groups,
            time=time,
            split=split,
            lags=lags,
            sample_weight=sample_weight,
            ignore=ignore,
            id_columns=id_columns,
            column_types=column_types,
            date_formats=date_formats,
        )

        def prepare(settings: Settings) -> PreparedProblem:
            prepared = prepare_table_problem(
                X,
                y,
                self._goal,
                options,
                settings,
                choose_families(self.families),
                metric=self.metric,
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
        test: tuple[Any, Any] = (None, None),
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
                warn_user(warning)
            portfolio = self._read_portfolio(prepared, settings)
            with stop_on_signal() as stop:
                meter = SlowdownMeter()
                directory = create_run(type(self).__name__, prepared, settings, self._own_metric is not None)
                with Progress(quiet=settings.verbose == 0) as progress:
                    search = prepare_search(
                        prepared,
                        settings,
                        portfolio,
                        pool,
                        directory,
                        started,
                        callbacks,
                        progress,
                        stop,
                        slowdown=meter.read(),
                        kept_seconds=self._seconds_to_score(prepared, settings, test[0]),
                    )
                    result = finish_search(search, search.run(), prepared, settings)
                del search  # with the predictions of its candidates
                self._set_result(*result, directory)
                deadline = math.inf if settings.n_trials is not None else started + settings.time_budget
                self._score_test(directory, *test, deadline=deadline)
        except BaseException as error:
            if directory is not None:
                self._on_error(directory, error)
            raise
        finally:
            pool.close()
            if directory is not None:
                directory.unlock()

    @library_defaults()
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
            n_trials = check_integer("n_trials", n_trials) + len(directory.read_history().trials)
        settings = replace(Settings.check(self), time_budget=seconds, n_trials=n_trials, run_dir=directory.root)
        pool = self._start_workers(settings, dask_client)
        try:
            import_optuna()
            directory.lock()
            prepared = open_run(directory, self._families_to_search(), self._own_metric)
            settings = replace(settings, seed=prepared.problem.seed, n_jobs=pool.n_workers)
            portfolio = self._read_portfolio(prepared, settings)
            with stop_on_signal() as stop:
                with Progress(quiet=settings.verbose == 0) as progress:
                    search = prepare_search(
                        prepared, settings, portfolio, pool, directory, started, callbacks, progress, stop
                    )
                    result = finish_search(search, search.run(), prepared, settings)
                del search
                self._set_result(*result, directory)
                self._score_test(directory)
        finally:
            pool.close()
            directory.unlock()
        return self

    @library_defaults()
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
        predictor = reader = self._predictor_of_tables("refit")
        if predictor.schema.lags is not None:  # of rows that are all known
            target = encode_as_trained(y, predictor.classes, None)
            schema = know_rows(predictor.schema, X, target, predictor.classes)
            predictor, reader = replace(predictor, schema=keep_last(schema)), replace(predictor, schema=schema)
        table, rows, target, weight = labelled_rows(reader, X, y, sample_weight, type(self).__name__)
        known = {trial.number for trial in self.trials_}
        if not known.issuperset(member.number for member in predictor.ensemble.members):
            raise RunError(f"refit needs the configurations of the trials. {self._where_the_run_is()}")
        folder = self._folder() / "refit"
        import_optuna()
        self._test_score = None
        train = DataSplit(table if rows is None else table.take(rows), target, weight)
        self.predictor_ = refit_ensemble(predictor, self.trials_, self._known_families, train, folder)
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
            ensemble = directory.read_outcome().ensemble
            if ensemble is None or directory.damaged_members(ensemble):
                raise RunError(
                    f"The run in {str(directory.root)!r} has no whole ensemble: resume it for a moment before."
                )
            compact_run(directory, ensemble)
        finally:
            directory.unlock()
        return before, size_of(directory.root)

    def _seconds_to_score(self, prepared: PreparedProblem, settings: Settings, X_test: Any) -> float:
        """Return the seconds of the budget that the score of test data needs: 0 for tables, scored after it."""
        return 0.0

    def _score_test(
        self, directory: RunDirectory, X_test: Any = None, y_test: Any = None, deadline: float = math.inf
    ) -> Predictions | None:
        """Score rows that the search did not see, given now or kept when the run began; None without any.

        `deadline` is for images, whose features take long.
        """
        predictor = self._predictor
        if X_test is None:
            found = read_test_rows(directory.test, predictor)
        else:
            found = Predictions.of_test(predictor, X_test, y_test, owner=type(self).__name__)
        if found is None:
            return None
        self._test_score = natural_score(predictor.metric, found.score(predictor.metric))
        try:
            if X_test is not None:
                names = () if predictor.images is None else predictor.images.short_names(X_test)
                write_test_rows(directory.test, found, self._test_score, keep=bool(self.keep_data), names=names)
            else:
                update_test_score(directory.test, predictor.ensemble, self._test_score)
        except DiskError as error:
            warn_user(str(error))
        return found

    def _read_portfolio(self, prepared: PreparedProblem, settings: Settings) -> list[PortfolioEntry]:
        kind = None if prepared.images is None else "images"
        return read_portfolio(prepared.problem.task, prepared.families, settings.portfolio, kind)

    def _start_workers(self, settings: Settings, dask_client: Any) -> WorkerPool | DaskPool:
        if dask_client is None and self.scheduler is None:
            n_workers = affordable_workers(settings.n_jobs, settings.memory_limit)
            if n_workers < settings.n_jobs:
                warn_user(
                    f"memory_limit={settings.memory_limit:.0f} MB is enough for {n_workers} worker processes, not for "
                    f"n_jobs={settings.n_jobs}.",
                )
            return WorkerPool(n_workers, settings.memory_limit)
        return DaskPool.connect(self.scheduler, dask_client, n_jobs=self.n_jobs, memory_limit=self.memory_limit)

    def _on_error(self, directory: RunDirectory, error: BaseException) -> None:
        """Note on an error where its run is; a temporary directory without a checkpoint is deleted."""
        if any(directory.trials.glob("*/checkpoint_*")):
            error.add_note(
                f"The run so far is in {str(directory.root)!r}: windvane.load opens it, resume continues it."
            )
        elif self.run_dir is None:
            shutil.rmtree(directory.root, ignore_errors=True)

    def _set_result(self, predictor: Predictor, record: RunRecord, directory: RunDirectory) -> None:
        earlier = self._directory
        if hasattr(self, "_finalizer") and earlier is not None and earlier.root != directory.root:
            self._finalizer()  # deletes the temporary directory of an earlier fit
        if self.run_dir is None and earlier is not directory:
            self._finalizer = delete_with(self, directory.root)
        self._directory = directory
        self._set_record(record)
        self._set_predictor(predictor)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = self._takes_several_targets
        return tags

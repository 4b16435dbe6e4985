"""What can be asked of a fitted model: predictions, scores, explanations, a report, and files to keep."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from windvane import persistence
from windvane.data.files import to_frame
from windvane.errors import InputError, RunError, check_choice
from windvane.evaluation.columns.explanation import Explanation, ShapleySampling, explain
from windvane.evaluation.columns.importance import feature_importance
from windvane.evaluation.evaluation import Evaluation, columns_for_segments, evaluate
from windvane.evaluation.predictions import Predictions
from windvane.evaluation.score_text import natural_score
from windvane.models import FAMILIES, LAST_RESORT
from windvane.models.base import Family
from windvane.packing import unpack_folder
from windvane.persistence import Predictor
from windvane.progress import CountProgress
from windvane.runtime.columns.table import Table
from windvane.runtime.serialization import delete_with, temporary_folder
from windvane.search.out_of_fold import out_of_fold
from windvane.search.problem import Problem
from windvane.search.refit import trainer_without
from windvane.search.run.history import leaderboard, performance_over_time
from windvane.search.run.record import RunRecord
from windvane.search.run.run_directory import RunDirectory
from windvane.search.runner import select_without
from windvane.search.strategy.families import choose_families
from windvane.search.strategy.policy import Policy
from windvane.search.trial_scores import score_trials
from windvane.settings import parse_seconds


@contextmanager
def library_defaults() -> Iterator[None]:
    """Run with the settings that NumPy and scikit-learn come with, whatever the user's session has set.

    Worker processes have these; with frames as output (``transform_output``) estimators would not predict the same.
    """
    with (
        np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
        config_context(transform_output="default", enable_metadata_routing=False, assume_finite=False),
    ):
        yield


class FittedEstimator(BaseEstimator):
    """What a model can do once it has a predictor, the records of its trials and perhaps the directory of its run."""

    # Of the constructors.
    metric: Any
    families: Sequence[Any] | None
    ensemble_size: int
    verbose: int

    _directory: RunDirectory | None = None  # of the run
    _finalizer: Callable[[], object]  # deletes a temporary directory
    _policy: Policy | None = None
    _test_score: float | None = None
    _report_path: Path | None = None  # of the last report

    @library_defaults()
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

    @library_defaults()
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

    @library_defaults()
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
        if predictor.images is not None:
            columns = pd.DataFrame({"image": predictor.images.short_names(X)})
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

    @library_defaults()
    def leaderboard(self, X_test: Any = None, y_test: Any = None) -> pd.DataFrame:
        """Rank all trials of the run, and a constant prediction.

        Parameters
        ----------
        X_test, y_test
            Rows (or images, as in `fit`) that the search did not see, for the score of every trial's models on them. A
            saved model has the models of its ensemble alone; the others have no score.

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
        X_test, y_test = self._labelled(X_test, y_test)
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
            raise AttributeError("There is no test_score_: fit had no test rows, or the model has changed since then.")
        return self._test_score

    @property
    def performance_over_time_(self) -> pd.DataFrame:
        """Validation score of the best single model and of the ensemble, over seconds."""
        metric = self._predictor.metric
        if not self.curve_:
            raise RunError(f"There are no losses over time. {self._where_the_run_is()}")
        return performance_over_time(self.curve_, metric)

    @library_defaults()
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
        check_choice("method", method, ("shuffle", "drop"))
        without = None
        if method == "drop":
            problem = self._training_problem("method='drop' trains again")
            without = trainer_without(predictor, self.trials_, self._known_families, problem)
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

    @library_defaults()
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
        if background is None:
            rows = self._training_problem("background is needed", " Allowed: some hundred rows of them.").table
        else:
            rows = self._to_table(background)
        with CountProgress("windvane: rounds", quiet=self.verbose == 0) as progress:
            return explain(
                predictor,
                X,
                rows,
                label,
                positive=predictor.metric.positive,
                sampling=ShapleySampling(max_seconds=seconds, on_round=progress.update),
            )

    @library_defaults()
    def report(self, path: str | Path, X_test: Any = None, y_test: Any = None) -> Path:
        """Write one self-contained page on the run: scores, data, search, errors.

        Of images: doubtful labels, copies, and what the networks look at.

        Parameters
        ----------
        path
            A name that ends in .html; an earlier page is replaced, any other file is left alone.
        X_test, y_test
            Rows that the search did not see, for an unbiased score; without ``y_test`` the page compares their columns
            with those of training. Images and labels, as in `fit`; None for the test split of `fit`, if there was one.

        Returns
        -------
        Path
            Of the page.
        """
        from windvane.report.build import write_report

        self._report_path = write_report(self, Path(path), *self._labelled(X_test, y_test))
        return self._report_path

    def save(self, path: str | Path) -> None:
        """Save the predictor and the records of its trials, without data, in a new folder; `windvane.load` opens it.

        Parameters
        ----------
        path
            Must not exist, or be an empty folder; nothing is overwritten.
        """
        persistence.write_predictor(self._manifest_with_record(), self._predictor, Path(path))

    def export(self, folder: str | Path) -> None:
        """Write a folder that predicts without windvane: native model files and a `predictor.py`.

        Parameters
        ----------
        folder
            Must not exist, or be an empty folder; nothing is overwritten.
        """
        from windvane.export.folder import write_folder

        write_folder(self._manifest_with_record(), self._predictor_of_tables("export"), Path(folder))

    @library_defaults()
    def to_onnx(self, path: str | Path) -> Path:
        """Write the ensemble with its preprocessing as one ONNX file, checked against `predict_proba` to 1e-5.

        Parameters
        ----------
        path
            A new file that ends in .onnx. Its inputs are the columns by name, each of shape (n, 1): numbers as double,
            dates and durations as double in seconds, categories and texts as texts; or X, double of shape (n, p), if
            training had an array of numbers. Its outputs are ``probabilities`` (n, k) and ``label`` (n,), or
            ``prediction`` (n,). NaN and the empty text are missing.

        Returns
        -------
        Path
            The file, after onnxruntime has computed the same predictions.

        Raises
        ------
        InputError
            If the model has several targets, if the table is sparse, has lags or numbers written as texts, if no member
            can be expressed, or if onnx and onnxruntime are missing.

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

        predictor, problem = self._predictor_of_tables("to_onnx"), self._kept_problem()
        predictor.check_one_target("to_onnx")
        rows = None
        if problem is not None:
            n_rows = problem.table.n_rows
            rows = problem.table.take(np.arange(0, n_rows, max(1, n_rows // 500)))
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
        return write_study(self.trials_, predictor, self._known_families, Path(path))

    @library_defaults()
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

    def _html_repr(self) -> str:
        """Return what a notebook shows: the settings before the fit, the result after it."""
        from windvane.report.notebook import estimator_html

        return estimator_html(self)

    def _score_trials(self, X_test: Any, y_test: Any) -> dict[int | None, float]:
        """Score every trial, and the constant under None, on rows that the search did not see."""
        predictor = self._predictor
        test = Predictions.of_test(predictor, X_test, y_test, owner=type(self).__name__)
        known = choose_families(self.families)
        with CountProgress("windvane: trials scored", quiet=self.verbose == 0) as progress:
            scores = score_trials(predictor, self.trials_, self._run_directory, known, test, progress.update)
        if self.constant_ is not None:
            constant = test.constant_score(predictor.metric, self.constant_.values)
            scores[None] = natural_score(predictor.metric, constant)
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
        # The user's decision and calibration hold for any ensemble.
        selected = found.ensemble
        decided = replace(chosen, members=selected.members, averages_roots=selected.averages_roots)
        found = replace(found, ensemble=decided)
        validation = self._out_of_fold(found)
        loss = np.nan if validation is None else validation.loss(found.metric)
        return replace(found, ensemble=replace(decided, loss=loss))

    def _is_refitted(self, directory: RunDirectory) -> bool:
        """Whether other models predict than those of the run's trials."""
        folders = [folder for folders in self._predictor.folders for folder in folders]
        return any(directory.trials not in folder.parents for folder in folders)

    def _out_of_fold(self, predictor: Predictor) -> Predictions | None:
        """Predict the validation rows by models that did not train on them; None if they were not kept."""
        problem, directory = self._kept_problem(), self._run_directory
        if problem is None or directory is None:
            return None
        return out_of_fold(predictor, problem, directory, can_predict=False)

    def _training_problem(self, needed_for: str, advice: str = "") -> Problem:
        """Read the data that the run learned from; InputError says what they were needed for."""
        try:
            return self._read_problem()
        except RunError as error:
            raise InputError(f"{needed_for}, but the training data are not here: {error}.{advice}") from error

    def _kept_problem(self) -> Problem | None:
        """Read the data that the run learned from; None if they are not here."""
        try:
            return self._read_problem()
        except RunError:  # keep_data=False
            return None

    def _read_problem(self) -> Problem:
        directory = self._run_directory
        if directory is None:
            raise RunError("the model was saved without them")
        return Problem.read(directory.data, self._predictor.metric)

    @property
    def _run_directory(self) -> RunDirectory | None:
        """The directory of the run; None for a model that was saved, pickled, or whose directory is gone."""
        directory = self._directory
        is_run = directory is not None and directory.exists() and directory.manifest().get("kind") == "run"
        return directory if is_run else None

    def _where_the_run_is(self) -> str:
        """Say, for messages, where the data and the trials are that are missing here."""
        if self._policy is not None and self._directory is not None and not self._directory.exists():
            return f"Its directory, {str(self._directory.root)!r}, is gone; call fit again."
        return (
            "This model was saved or copied without it: load the run directory, which has the data (data/) and the "
            "trials (history.jsonl, trials/), or call fit."
        )

    def _labelled(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Return rows and their target; of images, the labels that come with them."""
        return X, y

    def _set_record(self, record: RunRecord) -> None:
        self.trials_, self.curve_ = list(record.trials), record.curve
        self._policy, self._test_score = record.policy, record.test_score
        self.constant_, self.tuning_ = record.constant, record.tuning

    def _record(self) -> RunRecord:
        return RunRecord(self.trials_, self.curve_, self._policy, self._test_score, self.constant_, self.tuning_)

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

    @property
    def _known_families(self) -> dict[str, Family]:
        """Families by name: windvane's and the user's."""
        return {LAST_RESORT.name: LAST_RESORT, **FAMILIES, **choose_families(self._families_to_search())}

    def _to_table(self, X: Any) -> Table:
        """Return the typed table of rows; images go through `Predictor.predict_images` instead."""
        predictor = self._predictor
        return predictor.table(predictor.schema.one_row(X), owner=type(self).__name__)

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

    def _manifest_with_record(self) -> dict[str, Any]:
        return {**self._manifest(), "run": self._record().to_json()}

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
            unpack_folder(packed, folder)
            self.predictor_ = persistence.read_predictor(folder, choose_families(self.families), self._own_metric)

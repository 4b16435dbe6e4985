"""What a report can draw on: the run, its out-of-fold predictions, and a test set where one was given.

Notation: n rows, k classes, v judged rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from windvane.data.files import to_frame
from windvane.data.target import Goal, encode_target
from windvane.errors import InputError, RunError
from windvane.models import FAMILIES
from windvane.models.base import Setting
from windvane.predictor import Predictor
from windvane.runtime.ensemble import apply_temperature
from windvane.runtime.table import Floats, Integers, Table
from windvane.search.policy import Policy
from windvane.search.problem import Problem
from windvane.search.run_directory import RunDirectory
from windvane.search.trial import Trial


@dataclass(frozen=True)
class Run:
    """A fitted run as its estimator knows it.

    Attributes
    ----------
    predictor
        The ensemble.
    trials, curve, policy
        Of the search; empty and None for a saved model.
    directory
        Of the run; None where there is none.
    test_score
        Score of a test set given to `fit`, higher is better; None where there was none.
    lasting
        Whether the directory stays when the program ends.
    """

    predictor: Predictor
    trials: Sequence[Trial] = ()
    curve: Sequence[tuple[float, float, float]] = ()
    policy: Policy | None = None
    directory: RunDirectory | None = None
    test_score: float | None = None
    lasting: bool = False

    @classmethod
    def of(cls, model: Any) -> Run:
        """Take the run of a fitted estimator.

        Parameters
        ----------
        model
            An `AutoClassifier` or `AutoRegressor`.

        Returns
        -------
        Run
            With None for what a saved model does not have.

        Raises
        ------
        NotFittedError
            Where it is not fitted.
        """
        check_is_fitted(model, "predictor_")
        return cls(
            model.predictor_,
            model.trials_,
            model.curve_,
            policy=getattr(model, "policy_", None),
            directory=getattr(model, "_directory", None),
            test_score=getattr(model, "test_score_", None),
            lasting=model.run_dir is not None,
        )


@dataclass(frozen=True)
class Judged:
    """Rows with known target and prediction.

    Attributes
    ----------
    table, rows
        The judged rows are `table` at the positions `rows`, shape (v,).
    target
        Class codes or numbers, shape (v,).
    raw
        Probabilities of shape (v, k) or numbers of shape (v,).
    weight
        Weights of shape (v,), or None.
    fold_of
        Which fold's models did not see each row, shape (v,); None for a test set, which none of them saw.
    predictor
        What can predict the rows once more, for out-of-fold rows with the models of all folds; None where nothing can.
    """

    table: Table
    rows: Integers
    target: NDArray[Any]
    raw: Floats
    weight: Floats | None = None
    fold_of: Integers | None = None
    predictor: Predictor | None = None

    @property
    def is_test(self) -> bool:
        """Whether the rows chose nothing."""
        return self.fold_of is None

    @property
    def name(self) -> str:
        """What to call the rows."""
        return "test rows" if self.is_test else "validation rows (out of fold)"

    def sample(self, most: int, seed: int) -> Judged:
        """Draw some of the rows.

        Parameters
        ----------
        most
            How many at most.
        seed
            Of the draw.

        Returns
        -------
        Judged
            At most that many rows.
        """
        if len(self.rows) <= most:
            return self
        some = np.sort(np.random.default_rng(seed).choice(len(self.rows), most, replace=False))
        return replace(
            self,
            rows=self.rows[some],
            target=self.target[some],
            raw=self.raw[some],
            weight=None if self.weight is None else self.weight[some],
            fold_of=None if self.fold_of is None else self.fold_of[some],
        )


@dataclass(frozen=True)
class Evidence:
    """What is there to report on.

    Attributes
    ----------
    run
        As the estimator knows it.
    manifest
        Versions and settings of the run; empty where there is no directory.
    problem
        The training data; None where they were not kept.
    validation
        Out-of-fold predictions of the ensemble; None where they are not there.
    test
        The test set; None where none was given.
    """

    run: Run
    manifest: Mapping[str, Any] = field(default_factory=dict)
    problem: Problem | None = None
    validation: Judged | None = None
    test: Judged | None = None

    @property
    def judged(self) -> Judged | None:
        """The rows that figures are drawn of: those of the test set where there is one."""
        return self.test or self.validation

    @property
    def labels(self) -> list[str]:
        """Names of the classes, by code."""
        classes = self.run.predictor.classes
        return [] if classes is None else [str(label) for label in classes.tolist()]


def collect(run: Run, X_test: Any = None, y_test: Any = None) -> Evidence:
    """Gather what a run kept, and predict the test set.

    Parameters
    ----------
    run
        The run.
    X_test, y_test
        Rows that the search did not see, or None.

    Returns
    -------
    Evidence
        With None for whatever is not there.

    Raises
    ------
    InputError
        Where the test set cannot be used.
    """
    if (X_test is None) != (y_test is None):
        raise InputError("X_test and y_test belong together; only one of them was given.")
    test = None if X_test is None else judge_test(run.predictor, X_test, y_test)
    directory = run.directory
    if directory is None or not directory.exists():
        return Evidence(run, test=test)
    manifest = directory.manifest()
    try:
        problem = Problem.read(directory.data, run.predictor.metric)
    except RunError:  # keep_data=False
        return Evidence(run, manifest, test=test)
    return Evidence(run, manifest, problem, out_of_fold(run, problem, directory), test)


def judge_test(predictor: Predictor, X: Any, y: Any) -> Judged:
    """Predict a test set.

    Parameters
    ----------
    predictor
        The ensemble.
    X, y
        v rows with their target.

    Returns
    -------
    Judged
        The rows.

    Raises
    ------
    InputError
        Where X or y cannot be used.
    """
    goal: Goal = "classification" if predictor.task.is_classification else "regression"
    target, _ = encode_target(y, goal, classes=predictor.classes)
    table = predictor.schema.transform(to_frame(X))
    if table.n_rows != len(target):
        raise InputError(f"X_test and y_test have different lengths: {table.n_rows} and {len(target)}.")
    rows = np.arange(table.n_rows)
    return Judged(table, rows, target, predictor.predict_raw(table), predictor=predictor)


def out_of_fold(run: Run, problem: Problem, directory: RunDirectory) -> Judged | None:
    """Blend the kept validation predictions of the members.

    Parameters
    ----------
    run
        Gives the ensemble.
    problem
        Gives target and folds.
    directory
        Where the predictions lie.

    Returns
    -------
    Judged or None
        None where one of them is not there.
    """
    ensemble, rows = run.predictor.ensemble, problem.valid_rows
    shape = (len(rows), problem.task.n_classes) if problem.task.is_classification else (len(rows),)
    raw = np.zeros(shape)  # (v, k) or (v,)
    for member in ensemble.members:
        try:
            single = np.load(directory.checkpoint(member.number, member.step) / "valid.npy")
        except (OSError, ValueError):
            return None
        if single.shape != shape:
            return None
        raw += member.weight * single
    if problem.task.is_classification:
        raw = apply_temperature(raw, ensemble.temperature)
    return Judged(
        problem.table,
        rows,
        problem.target[rows],
        raw,
        None if problem.weight is None else problem.weight[rows],
        np.repeat(np.arange(len(problem.folds)), [len(fold.valid) for fold in problem.folds]),
        _with_every_fold(run.predictor, problem, directory),
    )


def _with_every_fold(predictor: Predictor, problem: Problem, directory: RunDirectory) -> Predictor | None:
    """Open the models of all folds of each member; None where they are not those that predict (a refit)."""
    members = predictor.ensemble.members
    steps = [directory.checkpoint(member.number, member.step) for member in members]
    as_searched = all(
        folder.parent == step for folders, step in zip(predictor.folders, steps, strict=True) for folder in folders
    )
    if not as_searched or any(member.family not in FAMILIES for member in members):
        return None
    setting, folds = Setting(problem.task, 0), range(len(problem.folds))
    models = [
        [FAMILIES[member.family].load(step / f"fold_{fold}", setting) for fold in folds]
        for member, step in zip(members, steps, strict=True)
    ]
    return replace(predictor, models=models)


def predict_again(judged: Judged, table: Table) -> Floats:
    """Predict rows with the models that did not see them.

    Parameters
    ----------
    judged
        With a predictor.
    table
        Its v rows, changed or not.

    Returns
    -------
    ndarray
        Probabilities of shape (v, k) or numbers of shape (v,).
    """
    predictor, fold_of = judged.predictor, judged.fold_of
    assert predictor is not None
    if fold_of is None:
        return predictor.predict_raw(table)
    parts = np.empty((table.n_rows, predictor.task.n_classes) if predictor.task.is_classification else table.n_rows)
    for fold in np.unique(fold_of):
        rows = np.flatnonzero(fold_of == fold)
        one = replace(predictor, models=[[models[fold]] for models in predictor.models])
        parts[rows] = one.predict_raw(table.take(rows))
    return parts

"""What a report is about: the run, its out-of-fold predictions, and a test set if there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from windvane.data.files import to_frame
from windvane.data.task import Task
from windvane.errors import InputError, RunError
from windvane.evaluation.baseline import ConstantBaseline
from windvane.evaluation.decisions.thresholds import DecisionTuning
from windvane.evaluation.metrics import Metric
from windvane.evaluation.predictions import Predictions
from windvane.persistence import Predictor
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Table
from windvane.runtime.ensemble import Ensemble
from windvane.search.out_of_fold import out_of_fold
from windvane.search.problem import Problem
from windvane.search.run.run_directory import RunDirectory
from windvane.search.run.unseen_rows import read_test_names, read_test_rows
from windvane.search.strategy.policy import Policy
from windvane.search.trial import Trial


@dataclass(frozen=True)
class ReportData:
    """A fitted run; a saved model has only the predictor."""

    predictor: Predictor
    trials: Sequence[Trial] = ()
    curve: Sequence[tuple[float, float, float]] = ()  # seconds, loss of the best trial, loss of the ensemble
    policy: Policy | None = None
    directory: RunDirectory | None = None
    kept_in: Path | None = None  # the directory, if it outlives the program
    constant: ConstantBaseline | None = None
    tuning: DecisionTuning | None = None  # of the threshold
    test_score: float | None = None  # of the test set given to `fit`, higher is better
    manifest: Mapping[str, Any] = field(default_factory=dict)  # versions and settings; empty without a directory
    problem: Problem | None = None  # the training data, if they were kept
    validation: Predictions | None = None  # out of fold
    test: Predictions | None = None
    other_rows: Table | None = None  # rows that the search did not see, with or without their target
    test_names: tuple[str, ...] = ()  # of the images of the test set

    @classmethod
    def of(cls, model: Any, X_test: Any = None, y_test: Any = None) -> Self:
        """Collect what the run of a fitted estimator kept, and predict the test set."""
        check_is_fitted(model, "predictor_")
        if X_test is None and y_test is not None:
            raise InputError("y_test belongs to X_test, which was not given.")
        predictor, directory = model.predictor_, getattr(model, "_directory", None)
        test_score = getattr(model, "test_score_", None)
        test_names: tuple[str, ...] = ()
        test = None if y_test is None else Predictions.of_test(predictor, X_test, y_test)
        if test is not None and predictor.images is not None:
            test_names = predictor.images.short_names(X_test)
        manifest, problem, validation = {}, None, None
        if directory is not None and directory.exists() and directory.manifest().get("kind") == "run":
            manifest = directory.manifest()
            if X_test is None and test_score is not None:  # the rows that fit was given
                test, test_names = read_test_rows(directory.test, predictor), read_test_names(directory.test)
            with suppress(RunError):  # keep_data=False
                problem = Problem.read(directory.data, predictor.metric)
            if problem is not None:
                validation = out_of_fold(predictor, problem, directory)
        other_rows = None if test is None else test.table
        if test is None and X_test is not None:
            other_rows = predictor.schema.transform(to_frame(X_test))
        return cls(
            predictor,
            model.trials_,
            model.curve_,
            getattr(model, "policy_", None),
            directory,
            kept_in=None if model.run_dir is None or directory is None else directory.root,
            constant=model.constant_,
            tuning=model.tuning_,
            test_score=test_score,
            manifest=manifest,
            problem=problem,
            validation=validation,
            test=test,
            other_rows=other_rows,
            test_names=test_names,
        )

    @property
    def task(self) -> Task:
        return self.predictor.task

    @property
    def metric(self) -> Metric:
        return self.predictor.metric

    @property
    def metric_title(self) -> str:
        """Name of the metric, with the positive class if it depends on that."""
        metric = self.metric
        if not metric.uses_positive or metric.positive is None:
            return metric.name
        return f"{metric.name} of “{self.labels[metric.positive]}”"

    @property
    def schema(self) -> Schema:
        return self.predictor.schema

    @property
    def ensemble(self) -> Ensemble:
        return self.predictor.ensemble

    @cached_property
    def image_names(self) -> tuple[str, ...]:
        """Names of the images that were learned from, by row; empty where they are unknown."""
        return () if self.directory is None else self.directory.read_image_names()

    @property
    def labels(self) -> list[str]:
        """Names of the classes, by code."""
        return self.predictor.class_names

    @property
    def predictions(self) -> Predictions | None:
        """The rows of all figures: the test set if there is one, otherwise the validation rows."""
        return self.test or self.validation

"""The problem of a run on a table: read rows and columns, choose metric, policy and folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.column_types import doubts, dropped_notes, infer_schema, leave_out, reading_notes
from windvane.data.files import to_frame
from windvane.data.rows import order_notes, take_rows, take_split
from windvane.data.series.lags import describe_lags, keep_last, learn_lags, name_of_target, target_values
from windvane.data.series.time_split import TimeSplit, describe_split
from windvane.data.splits import Fold, SplitOptions, count_groups, make_folds
from windvane.data.target import (
    TaskType,
    choose_positive,
    counted_rows,
    encode_target,
    ordered_categories,
    similar_labels,
    written_form,
)
from windvane.data.targets import are_several, encode_as_trained, encode_targets, strata_of
from windvane.data.task import Kind, Task
from windvane.errors import InputError, unknown_name_error
from windvane.evaluation.columns.identifiers import find_identifiers, identifier_doubts, leave_out_identifiers
from windvane.evaluation.columns.time_order import random_folds_flatter
from windvane.evaluation.columns.totals_row import totals_row_warning
from windvane.evaluation.metrics import Metric, check_own_metric, get_metric, quantile_level, rewards_mean
from windvane.models.base import Family
from windvane.runtime.columns.lag_features import LagFeatures
from windvane.runtime.columns.schema import CARRIED, GROUPING, IGNORED, ORDERING, Frame, Schema
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.labels import labels_to_json
from windvane.runtime.targets import Targets
from windvane.search.problem import PreparedProblem, Problem
from windvane.search.strategy.families import supported_families
from windvane.search.strategy.policy import Policy, make_policy, select_policy
from windvane.settings import Settings

# The reason for leaving out the columns that an argument names.
LEFT_OUT = {"ignore": IGNORED, "id_columns": CARRIED, "groups": GROUPING, "time": ORDERING}


@dataclass(frozen=True)
class TableOptions:
    """What a user passes to `fit` about a table, under the names of its arguments."""

    groups: Any = None
    time: Any = None
    split: Any = None
    lags: Any = None
    sample_weight: Any = None
    ignore: Any = None
    id_columns: Any = None
    column_types: Mapping[str, str] | None = None
    date_formats: Mapping[str, str] | None = None


def prepare_table_problem(
    X: Any,
    y: Any,
    goal: TaskType,
    options: TableOptions,
    settings: Settings,
    families: Mapping[str, Family],
    *,
    metric: Any = "auto",
    positive_class: Any = None,
    earlier_positive_class: Any = None,
    owner: str = "estimator",
) -> PreparedProblem:
    """Infer the column types, encode the target, choose metric, policy and folds.

    `earlier_positive_class` is that of the run that is resumed, `owner` the name of the estimator, for messages. Raises
    InputError if an argument cannot be used.
    """
    frame, lags = to_frame(X), None
    aligned = {"y": y, "groups": options.groups, "time": options.time, "sample_weight": options.sample_weight}
    warnings = order_notes(X, aligned)
    rows = _read_rows(frame, y, goal, options, positive_class)
    frame = rows.frame
    if options.lags is not None:
        lags = _learn_lags(rows, name_of_target(y), options)
        assert isinstance(frame, pd.DataFrame)  # others have no names
        frame = lags.add(frame)
    schema, table, useful_ids = _read_columns(frame, rows, options, settings.keep_ids, owner)
    task = rows.describe(table.n_columns)
    positive, why = None, ""
    if rows.classes is not None:
        positive, why = choose_positive(positive_class, rows.classes, rows.target, earlier=earlier_positive_class)
    resolved = get_metric(metric, task, rows.classes, positive)
    log_link = goal == "regression" and rewards_mean(resolved) and bool((rows.target >= 0).all())
    task = replace(task, quantile=quantile_level(resolved), log_link=log_link)
    check_own_metric(resolved, rows.target, task, rows.weight)
    policy, few_groups = _choose_policy(settings, task, rows.by)
    folds, policy, moved = _split(rows, policy, settings)
    warnings += [
        *similar_labels(rows.labels or ()),
        *doubts(schema),
        *_doubts_about_rows(rows, schema, table, task, resolved, useful_ids),
        *moved,
    ]
    notes = few_groups
    if rows.labels is not None and resolved.positive is not None and resolved.uses_positive:
        notes.append(f"{resolved.name}: the positive class is {rows.labels[resolved.positive]!r} ({why}).")
    if lags is not None:
        schema = keep_last(replace(schema, lags=lags))
        notes.append(describe_lags(lags))
    form = written_form(rows.y) if goal == "regression" and rows.targets is None else None
    if form is not None:
        notes.append(f"The target is read as numbers written like {form}.")
    return PreparedProblem(
        Problem(task, resolved, table, rows.target, rows.weight, tuple(folds), settings.seed),
        schema,
        rows.classes,
        policy,
        supported_families(families, task, table),
        tuple(warnings),
        (*notes, *reading_notes(schema), *dropped_notes(schema)),
        targets=rows.targets,
    )


@dataclass(frozen=True)
class _Rows:
    """The rows that count, their target as models learn it, and how they are to be split."""

    frame: Frame
    y: Any  # as the user gave it
    goal: TaskType
    target: NDArray[Any]  # (n,), of several targets (n, t)
    classes: NDArray[Any] | None  # of one target
    targets: Targets | None  # several of them
    weight: Floats | None  # (n,)
    by: SplitOptions
    named: Mapping[str, str]  # groups and time where they are the names of columns

    @property
    def labels(self) -> list[Any] | None:
        """The classes as Python's values."""
        return None if self.classes is None else self.classes.tolist()

    @property
    def n_classes(self) -> int:
        """Of one target; 0 of numbers and of several targets."""
        return 0 if self.classes is None else len(self.classes)

    def describe(self, n_columns: int) -> Task:
        kind: Kind = "regression" if self.goal == "regression" else "multiclass" if self.n_classes > 2 else "binary"
        n_targets = 1 if self.targets is None else len(self.targets)
        ordered = self.classes is not None and ordered_categories(self.y) is not None
        return Task(kind, len(self.target), n_columns, self.n_classes, n_targets, ordered=ordered)


def _read_rows(frame: Frame, y: Any, goal: TaskType, options: TableOptions, positive_class: Any) -> _Rows:
    """Drop the rows of weight 0, which are no rows, and encode the target of the others."""
    named: dict[str, str] = {}
    by = {"groups": options.groups, "time": options.time}
    for argument, given in by.items():
        if isinstance(given, str):
            named[argument], by[argument] = given, _column(frame, given, argument)
    n_rows, split = int(frame.shape[0]), options.split
    weight, counted = counted_rows(options.sample_weight, n_rows)
    if counted is not None:
        frame = frame.iloc[counted] if isinstance(frame, pd.DataFrame) else frame[counted]
        y = take_rows(y, counted, n_rows, "y")
        by = {argument: take_rows(given, counted, n_rows, argument) for argument, given in by.items()}
        split = take_split(split, counted, n_rows)
    classes: NDArray[Any] | None = None
    targets: Targets | None = None
    if are_several(y):
        target, targets = encode_targets(y, goal, positive=positive_class)
    else:
        target, classes = encode_target(y, goal)
    if classes is not None:
        labels_to_json(classes)  # refuses what no file can keep, before the search
    n_rows = int(frame.shape[0])
    if len(target) != n_rows:
        raise InputError(
            f"X and y have different lengths: {n_rows} and {len(target)} "
            f"(inconsistent numbers of samples: [{n_rows}, {len(target)}]). Allowed: one target for each row."
        )
    return _Rows(frame, y, goal, target, classes, targets, weight, SplitOptions(**by, splitter=split), named)


def _column(frame: Any, name: str, argument: str) -> pd.Series:
    """Return the column that an argument names."""
    if not isinstance(frame, pd.DataFrame) or name not in frame.columns:
        names = map(str, frame.columns) if isinstance(frame, pd.DataFrame) else ()
        raise unknown_name_error(argument, name, names)
    values: pd.Series = frame[name]
    return values


def _learn_lags(rows: _Rows, target_name: str, options: TableOptions) -> LagFeatures:
    if rows.targets is not None:
        raise InputError(
            f"lags is for one target, but y has {len(rows.targets)}. Allowed: a run for one of them, or no lags."
        )
    return learn_lags(
        rows.frame,
        options.lags,
        rows.named.get("time"),
        target_values(rows.target, rows.classes),
        target_name,
        rows.by.splitter if isinstance(rows.by.splitter, TimeSplit) else TimeSplit(),
        column_types=options.column_types,
        date_formats=options.date_formats,
    )


def _read_columns(
    frame: Frame, rows: _Rows, options: TableOptions, keep_ids: bool, owner: str
) -> tuple[Schema, Table, list[str]]:
    """Infer the column types; also return the names of columns that look like identifiers and yet are of use."""
    schema = infer_schema(frame, options.column_types, options.date_formats)
    schema = leave_out_named(schema, {"ignore": options.ignore, "id_columns": options.id_columns, **rows.named})
    table = schema.transform(frame, owner=owner)
    if keep_ids:
        return schema, table, []
    n_classes = 0 if rows.goal == "regression" else max(2, rows.n_classes)  # of each target
    ids = find_identifiers(schema, table)
    kept, _, useful = leave_out_identifiers(schema, ids, table, rows.target, n_classes, options.column_types)
    return kept, table if kept is schema else kept.transform(frame, owner=owner), useful


def _split(rows: _Rows, policy: Policy, settings: Settings) -> tuple[list[Fold], Policy, tuple[str, ...]]:
    """Split the rows by a policy, which becomes that of a splitter; also return what to warn of."""
    splitter = rows.by.splitter
    strata = rows.target if rows.targets is None else strata_of(rows.target)
    folds, moved = make_folds(strata, policy.n_folds, seed=settings.seed, by=rows.by, classes=rows.labels)
    if splitter is not None:
        reason = describe_split(splitter) if isinstance(splitter, TimeSplit) else "the splitter that was given"
        policy = Policy(policy.name, len(folds), policy.halving, reason)
    return folds, policy, moved


def _choose_policy(settings: Settings, task: Task, by: SplitOptions) -> tuple[Policy, list[str]]:
    """Choose the policy; also return a note where an automatic one has no more folds than there are groups."""
    if settings.policy != "auto":
        return make_policy(settings.policy, "chosen by the user"), []
    one = task.of_one_target()
    if settings.n_trials is not None:  # nothing may depend on cores or clock
        policy = select_policy(one, cpu_seconds=np.inf)
    else:
        policy = select_policy(one, settings.time_budget * settings.n_jobs / task.n_targets)
    if by.groups is None or by.time is not None or by.splitter is not None:
        return policy, []
    fewer = policy.for_groups(count_groups(by.groups, task.n_rows))
    if fewer.n_folds == policy.n_folds:
        return policy, []
    return fewer, [f"Validated by {fewer.n_folds} folds, not {policy.n_folds}: {fewer.reason}."]


def _doubts_about_rows(
    rows: _Rows, schema: Schema, table: Table, task: Task, metric: Metric, useful_ids: list[str]
) -> list[str]:
    """Warn of a last row of totals, columns that number the rows, and random folds of rows that are in an order."""
    totals = totals_row_warning(schema, table, rows.target)
    if rows.by.time is not None:  # there are trends then, and later rows are not predicted by their number
        return totals
    warnings = [*totals, *identifier_doubts(useful_ids)]
    if rows.by.splitter is None and rows.by.groups is None and rows.targets is None:
        flattering = random_folds_flatter(schema, table, rows.target, task, metric)
        warnings += [] if flattering is None else [flattering]
    return warnings


def leave_out_named(schema: Schema, given: Mapping[str, Any]) -> Schema:
    """Drop the columns that the arguments of `LEFT_OUT` name."""
    reasons: dict[str, str] = {}
    for argument, names in given.items():
        if names is None:
            continue
        for name in [names] if isinstance(names, str) else list(names):
            if str(name) not in schema.feature_names or not schema.columns:
                raise unknown_name_error(argument, name, schema.feature_names)
            reasons[str(name)] = LEFT_OUT[argument]
    return leave_out(schema, reasons) if reasons else schema


def check_test_rows(prepared: PreparedProblem, X_test: Any, y_test: Any, owner: str) -> None:
    """Raise InputError if test rows cannot be predicted and scored, before any time is spent on training."""
    try:
        target = encode_as_trained(y_test, prepared.classes, prepared.targets)
        n_rows = prepared.schema.transform(to_frame(X_test), owner=owner).n_rows
    except InputError as error:
        raise type(error)(f"X_test and y_test cannot be used: {error}") from error
    if n_rows != len(target):
        raise InputError(f"X_test and y_test have different lengths: {n_rows} and {len(target)}.")

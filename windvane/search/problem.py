"""The problem of a run: what a user passed to `fit`, as every trial needs it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.column_types import doubts, dropped_notes, infer_schema, leave_out, reading_notes
from windvane.data.files import to_frame
from windvane.data.rows import order_notes, take_rows, take_split
from windvane.data.series.lags import describe_lags, keep_last, learn_lags, name_of_target, target_values
from windvane.data.series.time_split import TimeSplit, describe_split
from windvane.data.splits import Fold, SplitOptions, make_folds
from windvane.data.table_io import read_table, write_table
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
from windvane.errors import InputError, MetricError, RunError, check_usable, unknown_name_error
from windvane.evaluation.baseline import ConstantBaseline, constant_prediction
from windvane.evaluation.columns.identifiers import find_identifiers, useless_columns
from windvane.evaluation.columns.time_order import random_folds_flatter
from windvane.evaluation.metrics import Metric, check_own_metric, get_metric, quantile_level, rewards_mean
from windvane.models import DEFAULT, FAMILIES
from windvane.models.base import DataSplit, Family
from windvane.models.sklearn_family import SklearnFamily
from windvane.models.targets.multi_target import for_task
from windvane.runtime.columns.lag_features import LagFeatures
from windvane.runtime.columns.schema import CARRIED, GROUPING, IDENTIFIER, IGNORED, ORDERING, Frame, Schema, name_text
from windvane.runtime.columns.table import Floats, Integers, Table
from windvane.runtime.labels import labels_to_json
from windvane.runtime.serialization import DAMAGE
from windvane.runtime.targets import Targets
from windvane.search.run.replace_folder import replace_folder
from windvane.search.strategy.policy import Policy, make_policy, select_policy
from windvane.settings import Settings

if TYPE_CHECKING:
    from windvane.image_reader import ImageReader

# The reason for leaving out the columns that an argument names.
LEFT_OUT = {"ignore": IGNORED, "id_columns": CARRIED, "groups": GROUPING, "time": ORDERING}
FAMILY_METHODS = ("name", "supports", "search_space", "checkpoint_iterations", "create_model", "load")


@dataclass(frozen=True)
class Problem:
    """What every trial of a run is trained and evaluated on."""

    task: Task
    metric: Metric
    table: Table  # all rows
    target: NDArray[Any]  # shape (n,), of several targets (n, t)
    weight: Floats | None  # shape (n,)
    folds: tuple[Fold, ...]
    seed: int  # of the samples of rows
    refits: bool = False  # whether models of a single fold are trained again, on all rows, to predict

    @property
    def validation_rows(self) -> Integers:
        """Validation rows, fold after fold: the order of the predictions in a checkpoint; shape (v,)."""
        return np.concatenate([fold.validation for fold in self.folds])

    def part(self, rows: Integers) -> DataSplit:
        return DataSplit(self.table, self.target, self.weight).take(rows)

    def weight_of(self, rows: Integers) -> Floats | None:
        return None if self.weight is None else self.weight[rows]

    def sample_rows(self, train: Integers, n_rows: int) -> Integers:
        """Draw `n_rows` of the positions `train`, every class among them; a larger draw contains the smaller ones."""
        order = np.random.default_rng(self.seed).permutation(len(train))
        if self.task.is_classification:
            # The first row of each class comes first, so that no sample lacks a class.
            _, first = np.unique(self.target[train[order]], return_index=True)
            order = np.concatenate([order[first], np.delete(order, first)])
            n_rows = max(n_rows, len(first))
        return np.sort(train[order[:n_rows]])

    def initial_sample_size(self, max_cells: float) -> int | None:
        """Return the rows that first models of `max_cells` (rows x columns x outputs) train on; None for all."""
        n_train = min(len(fold.train) for fold in self.folds)
        per_row = max(1, self.task.n_columns) * max(1, self.task.n_outputs)
        n_rows = int(max(max_cells / per_row, 2_000, 20 * max(1, self.task.n_classes)))
        return n_rows if n_rows * 2 < n_train else None

    def loss(self, prediction: Floats, rows: Integers) -> float:
        """Return the loss of a prediction of some rows, weighted if there are weights."""
        return self.metric.loss(self.target[rows], prediction, self.weight_of(rows))

    def constant_baseline(self) -> ConstantBaseline | None:
        """Evaluate a constant on the folds; None if the user's metric cannot be computed of it."""
        n_classes = self.task.n_classes
        parts = []
        for fold in self.folds:
            constant = constant_prediction(self.target[fold.train], n_classes, self.metric, self.weight_of(fold.train))
            parts.append(np.broadcast_to(constant, (len(fold.validation), *constant.shape)))
        try:
            loss = self.loss(np.concatenate(parts), self.validation_rows)
        except MetricError:
            return None
        whole = np.atleast_1d(constant_prediction(self.target, n_classes, self.metric, self.weight))
        return ConstantBaseline(tuple(map(float, whole)), loss)

    def fingerprint(self, terms: object = None) -> str:
        """Return a digest of the data, to tell whether another call passes the same.

        `terms` are JSON values: what the user calls the columns, their categories and the labels.
        """
        table, sparse = self.table, self.table.sparse
        arrays: list[NDArray[Any]] = [table.matrix, self.target]
        arrays += [] if self.weight is None else [self.weight]
        arrays += [] if sparse is None else [sparse.data, sparse.indices, sparse.indptr]
        arrays += [] if table.images is None else [table.images.pixels, table.images.rows]
        texts = [text.tolist() for text in table.texts]
        return array_digest(arrays, [table.n_numbers, table.cardinalities, self.weight is None, texts, terms])

    def write(self, folder: Path) -> None:
        """Write all but the metric, which the session sends, whole or not at all; DiskError if the disk is full."""
        shutil.rmtree(folder, ignore_errors=True)  # there may be no room for both
        arrays: dict[str, Any] = {}
        for i, fold in enumerate(self.folds):
            arrays[f"train_{i}"], arrays[f"valid_{i}"] = fold.train, fold.validation
        task = {**self.task.to_json(), "seed": self.seed, "refits": self.refits}
        safe = "The data of the run do not fit there; no trial was begun."
        with replace_folder(folder, f"{folder.name}.tmp", safe) as temporary:
            write_table(self.table, temporary)
            np.save(temporary / "target.npy", self.target)
            if self.weight is not None:
                np.save(temporary / "weight.npy", self.weight)
            np.savez(temporary / "folds.npz", **arrays)
            (temporary / "task.json").write_text(json.dumps(task))

    @classmethod
    def read(cls, folder: Path, metric: Metric) -> Problem:
        """Read the files of `write`, the table memory-mapped; raises RunError if the folder is incomplete."""
        try:
            record = json.loads((folder / "task.json").read_text())
            seed, refits = int(record.pop("seed")), bool(record.pop("refits"))
            weight = folder / "weight.npy"
            with np.load(folder / "folds.npz") as arrays:
                count = len(arrays.files) // 2
                folds = tuple(Fold(arrays[f"train_{i}"], arrays[f"valid_{i}"]) for i in range(count))
            return cls(
                task=Task(**record),
                metric=metric,
                table=read_table(folder),
                target=np.load(folder / "target.npy"),
                weight=np.load(weight) if weight.exists() else None,
                folds=folds,
                seed=seed,
                refits=refits,
            )
        except DAMAGE as error:
            raise RunError(f"The data of the run in {folder.parent} cannot be read: {error}") from error


@dataclass(frozen=True)
class PreparedProblem:
    """A problem, and what the user calls its columns and classes."""

    problem: Problem
    schema: Schema
    classes: NDArray[Any] | None  # labels in the order of their codes; None for regression
    policy: Policy
    families: Mapping[str, Family]  # by name, those that support the problem
    warnings: tuple[str, ...] = ()  # for the user: what may be a mistake
    notes: tuple[str, ...] = ()  # for the user: how the table was read
    images: ImageSource | None = None  # where the table was made of images
    targets: Targets | None = None  # several of them


@dataclass(frozen=True, eq=False)
class ImageSource:
    """What a run of images keeps beside its table."""

    reader: ImageReader  # reads new images in the same way
    names: tuple[str, ...]  # of the images, for reports
    digest: str  # of the images and labels as they were given
    seconds_per_image: float = 0.0  # that decoding and features took


def prepare_problem(
    X: Any,
    y: Any,
    goal: TaskType,
    settings: Settings,
    *,
    metric: Any = "auto",
    families: Any = None,
    groups: Any = None,
    time: Any = None,
    split: Any = None,
    lags: Any = None,
    sample_weight: Any = None,
    ignore: Any = None,
    id_columns: Any = None,
    column_types: Mapping[str, str] | None = None,
    date_formats: Mapping[str, str] | None = None,
    positive_class: Any = None,
    earlier_positive_class: Any = None,
    owner: str = "estimator",
) -> PreparedProblem:
    """Infer the column types, encode the target, choose policy and folds.

    The arguments are those of `AutoML` and of its `fit`, as the user passed them; `earlier_positive_class` is that of
    the run that is resumed, `owner` the name of the estimator, for messages. Raises InputError if one cannot be used.
    """
    chosen = choose_families(families)
    frame = to_frame(X)
    warnings = order_notes(X, {"y": y, "groups": groups, "time": time, "sample_weight": sample_weight})
    target_name = name_of_target(y)
    named = {name: given for name, given in (("groups", groups), ("time", time)) if isinstance(given, str)}
    groups = _column(frame, groups, "groups") if "groups" in named else groups
    time = _column(frame, time, "time") if "time" in named else time
    frame, y, by, weight = _leave_out_weightless(frame, y, SplitOptions(groups, time, split), sample_weight)
    target, classes, targets = _encode(y, goal, positive_class, int(frame.shape[0]))
    features: LagFeatures | None = None
    if lags is not None:
        if targets is not None:
            raise InputError(
                f"lags is for one target, but y has {len(targets)}. Allowed: a run for one of them, or no lags."
            )
        features = learn_lags(
            frame,
            lags,
            named.get("time"),
            target_values(target, classes),
            target_name,
            by.splitter if isinstance(by.splitter, TimeSplit) else TimeSplit(),
            column_types=column_types,
            date_formats=date_formats,
        )
        assert isinstance(frame, pd.DataFrame)  # others have no names
        frame = features.add(frame)
    schema = infer_schema(frame, column_types, date_formats)
    schema = leave_out_named(schema, {"ignore": ignore, "id_columns": id_columns, **named})
    table = schema.transform(frame, owner=owner)
    n_classes = 0 if classes is None else len(classes)
    kind: Kind = "regression" if goal == "regression" else "multiclass" if n_classes > 2 else "binary"
    kept_identifiers: list[str] = []
    if not settings.keep_ids:
        ids, k = find_identifiers(schema, table), 0 if kind == "regression" else max(2, n_classes)
        kept, _, kept_identifiers = leave_out_identifiers(schema, ids, table, target, k, column_types)
        if kept is not schema:
            schema, table = kept, kept.transform(frame, owner=owner)
    n_targets = 1 if targets is None else len(targets)
    ordered = classes is not None and ordered_categories(y) is not None
    task = Task(kind, len(target), table.n_columns, n_classes, n_targets, ordered=ordered)
    positive: int | None = None
    why = ""
    if classes is not None:
        positive, why = choose_positive(positive_class, classes, target, earlier=earlier_positive_class)
    resolved = get_metric(metric, task, classes, positive)
    log_link = kind == "regression" and rewards_mean(resolved) and bool((target >= 0).all())
    task = replace(task, quantile=quantile_level(resolved), log_link=log_link)
    check_own_metric(resolved, target, task, weight)
    policy = _choose_policy(settings, task)
    labels = None if classes is None else classes.tolist()
    strata = target if targets is None else strata_of(target)
    folds, moved = make_folds(strata, policy.n_folds, seed=settings.seed, by=by, classes=labels)
    if by.splitter is not None:
        reason = describe_split(by.splitter) if isinstance(by.splitter, TimeSplit) else "the splitter that was given"
        policy = Policy(policy.name, len(folds), policy.halving, reason)
    warnings += [*similar_labels(labels or ()), *doubts(schema)]
    if by.time is None:  # in the order of time there are trends, and later rows are not predicted by their number
        warnings += identifier_doubts(kept_identifiers)
    if by.time is None and by.splitter is None and by.groups is None and targets is None:
        flattering = random_folds_flatter(schema, table, target, task, resolved)
        warnings += [] if flattering is None else [flattering]
    warnings += moved
    notes = []
    if classes is not None and resolved.positive is not None and resolved.uses_positive:
        notes.append(f"{resolved.name}: the positive class is {classes.tolist()[resolved.positive]!r} ({why}).")
    if features is not None:
        schema = keep_last(replace(schema, lags=features))
        notes.append(describe_lags(features))
    form = written_form(y) if goal == "regression" and targets is None else None
    if form is not None:
        notes.append(f"The target is read as numbers written like {form}.")
    return PreparedProblem(
        Problem(task, resolved, table, target, weight, tuple(folds), settings.seed),
        schema,
        classes,
        policy,
        supported_families(chosen, task, table),
        tuple(warnings),
        (*notes, *reading_notes(schema), *dropped_notes(schema)),
        targets=targets,
    )


def _column(frame: Any, name: str, argument: str) -> pd.Series:
    """Return the column that an argument names."""
    if not isinstance(frame, pd.DataFrame) or name not in frame.columns:
        names = map(str, frame.columns) if isinstance(frame, pd.DataFrame) else ()
        raise unknown_name_error(argument, name, names)
    values: pd.Series = frame[name]
    return values


def _leave_out_weightless(
    frame: Frame, y: Any, by: SplitOptions, sample_weight: Any
) -> tuple[Frame, Any, SplitOptions, Floats | None]:
    """Drop the rows of weight 0, which are no rows; also return the weights of the others, None where all are equal."""
    n_rows = int(frame.shape[0])
    weight, rows = counted_rows(sample_weight, n_rows)
    if rows is None:
        return frame, y, by, weight
    frame = frame.iloc[rows] if isinstance(frame, pd.DataFrame) else frame[rows]
    y = take_rows(y, rows, n_rows, "y")
    groups, time = take_rows(by.groups, rows, n_rows, "groups"), take_rows(by.time, rows, n_rows, "time")
    return frame, y, SplitOptions(groups, time, take_split(by.splitter, rows, n_rows)), weight


def _encode(
    y: Any, goal: TaskType, positive_class: Any, n_rows: int
) -> tuple[NDArray[Any], NDArray[Any] | None, Targets | None]:
    """Return codes or numbers of one or several targets, and the classes of one or what describes several."""
    classes: NDArray[Any] | None = None
    targets: Targets | None = None
    if are_several(y):
        target, targets = encode_targets(y, goal, positive=positive_class)
    else:
        target, classes = encode_target(y, goal)
    if classes is not None:
        labels_to_json(classes)  # refuses what no file can keep, before the search
    if len(target) != n_rows:
        raise InputError(
            f"X and y have different lengths: {n_rows} and {len(target)} "
            f"(inconsistent numbers of samples: [{n_rows}, {len(target)}]). Allowed: one target for each row."
        )
    return target, classes, targets


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


def leave_out_identifiers(
    schema: Schema,
    ids: Sequence[str],
    table: Table,
    target: NDArray[Any],
    n_classes: int,
    column_types: Mapping[str, str] | None,
) -> tuple[Schema, list[str], list[str]]:
    """Drop the columns out of `ids` that do not help to predict new rows, unless the user declared their types.

    Also return the names of those that were tested, and of those that help.
    """
    declared = set(map(name_text, column_types or ()))
    tested = [name for name in ids if name not in declared]
    useless = useless_columns(tested, schema, table, target, n_classes)
    if useless and all(column.kind == "dropped" or column.name in useless for column in schema.columns):
        return schema, tested, []  # nothing else could be learned from
    useful = [name for name in tested if name not in useless]
    return leave_out(schema, dict.fromkeys(useless, IDENTIFIER)) if useless else schema, tested, useful


def identifier_doubts(names: Sequence[str]) -> list[str]:
    """Return a warning for each column that looks like an identifier and yet is learned from."""
    return [
        f"Column {name!r} looks like an identifier, but predicts the target, as the number of a row does in a sorted "
        "table. It is learned from; ignore= (--ignore) leaves it out."
        for name in names
    ]


def check_test_rows(prepared: PreparedProblem, X_test: Any, y_test: Any, owner: str) -> None:
    """Raise InputError if test rows cannot be predicted and scored, before any time is spent on training."""
    try:
        target = encode_as_trained(y_test, prepared.classes, prepared.targets)
        n_rows = prepared.schema.transform(to_frame(X_test), owner=owner).n_rows
    except InputError as error:
        raise type(error)(f"X_test and y_test cannot be used: {error}") from error
    if n_rows != len(target):
        raise InputError(f"X_test and y_test have different lengths: {n_rows} and {len(target)}.")


def choose_families(families: Any, default: Sequence[str] = DEFAULT) -> dict[str, Family]:
    """Return the families that the argument ``families`` names, by name.

    None means the `default` ones. Otherwise names, scikit-learn estimators (each becomes a `SklearnFamily` named after
    its class) and own `Family` objects; raises InputError for anything else.
    """
    if families is None:
        return {name: FAMILIES[name] for name in default}
    if isinstance(families, str):
        families = [families]
    usable = isinstance(families, Sequence) and len(families) > 0
    check_usable("families", families, usable, f"None, or a list of: {', '.join(FAMILIES)}")
    chosen: dict[str, Family] = {}
    for family in families:
        if isinstance(family, str):
            if family not in FAMILIES:
                raise unknown_name_error("families", family, FAMILIES)
            chosen[family] = FAMILIES[family]
            package = getattr(FAMILIES[family], "package", None)
            if package is not None and find_spec(package) is None:
                raise InputError(f"families={family!r} needs the package {package}: pip install 'windvane[{package}]'.")
        elif not isinstance(family, type) and all(hasattr(family, name) for name in FAMILY_METHODS):
            chosen[family.name] = family
        elif not isinstance(family, type) and hasattr(family, "fit") and hasattr(family, "get_params"):
            wrapped = SklearnFamily.wrap(family)
            chosen[wrapped.name] = wrapped
        else:
            raise InputError(
                f"families holds {family!r}. Allowed: names, scikit-learn estimators, or objects like "
                "windvane.models.base.Family."
            )
    return chosen


def supported_families(chosen: Mapping[str, Family], task: Task, table: Table) -> dict[str, Family]:
    """Keep the families that can be trained on a table; raises InputError if none is left."""
    fitting = {name: for_task(family, task) for name, family in chosen.items()}
    supported = {name: family for name, family in fitting.items() if family.supports(task, table)}
    if not supported and task.quantile is not None:
        raise InputError(
            f"families={list(chosen)!r}: none of them learns a quantile. Allowed: lightgbm, catboost, xgboost, "
            "hist_gradient_boosting, and estimators with a parameter quantile."
        )
    if not supported:
        allowed = [name for name, family in FAMILIES.items() if for_task(family, task).supports(task, table)]
        raise InputError(f"families={list(chosen)!r}: none of them supports these data. Allowed: {', '.join(allowed)}.")
    return supported


def _choose_policy(settings: Settings, task: Task) -> Policy:
    if settings.policy != "auto":
        return make_policy(settings.policy, "chosen by the user")
    one = task.of_one_target()
    if settings.n_trials is not None:  # nothing may depend on cores or clock
        return select_policy(one, cpu_seconds=np.inf)
    return select_policy(one, settings.time_budget * settings.n_jobs / task.n_targets)


def array_digest(arrays: Iterable[NDArray[Any]], terms: object = None) -> str:
    """Return a hexadecimal digest of arrays, their types, shapes and order, and of JSON values."""
    digest = hashlib.blake2b(json.dumps(terms).encode(), digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

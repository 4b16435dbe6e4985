"""What a user hands over becomes the problem of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.column_types import infer_schema
from windvane.data.files import to_frame
from windvane.data.splits import SplitOptions, make_folds
from windvane.data.target import TaskType, check_sample_weight, encode_target
from windvane.data.task import Kind, Task
from windvane.errors import InputError, unknown
from windvane.evaluation.metrics import Metric, get_metric
from windvane.models import DEFAULT, FAMILIES
from windvane.models.base import Family
from windvane.models.sklearn_family import SklearnFamily
from windvane.runtime.schema import Schema
from windvane.runtime.table import Table
from windvane.search.policy import Policy, make_policy, select_policy
from windvane.search.run import Problem
from windvane.settings import Settings

_FAMILY_PARTS = ("name", "supports", "space", "steps", "start", "load")


@dataclass(frozen=True)
class Given:
    """What the user gave beside X and y, as it came.

    Attributes
    ----------
    goal
        What the estimator is for.
    metric, families
        Of the constructor.
    groups, time, split, sample_weight
        Of `fit`; None where nothing was given.
    """

    goal: TaskType
    metric: Any = "auto"
    families: Any = None
    groups: Any = None
    time: Any = None
    split: Any = None
    sample_weight: Any = None


@dataclass(frozen=True)
class Prepared:
    """A problem with what is needed to speak of it in the user's terms.

    Attributes
    ----------
    problem
        For the workers.
    schema
        How columns became a table.
    classes
        Labels in the order of their codes; None for regression.
    policy
        How the folds were chosen.
    families
        By name, those that fit the problem.
    notes
        What the user should hear.
    """

    problem: Problem
    schema: Schema
    classes: NDArray[Any] | None
    policy: Policy
    families: Mapping[str, Family]
    notes: tuple[str, ...]


def prepare(X: Any, y: Any, given: Given, settings: Settings, owner: str) -> Prepared:
    """Type the table, encode the target, choose policy and folds.

    Parameters
    ----------
    X, y
        Columns and target, n rows, as the user has them.
    given
        What else the user gave.
    settings
        Of the run.
    owner
        Name of the estimator, for messages.

    Returns
    -------
    Prepared
        The problem of the run.

    Raises
    ------
    InputError
        Where something that was given is not usable.
    """
    chosen = choose_families(given.families)
    frame = to_frame(X)
    target, classes = encode_target(y, given.goal)
    n_rows = int(frame.shape[0])
    if len(target) != n_rows:
        raise InputError(
            f"X and y have different lengths: {n_rows} and {len(target)} "
            f"(inconsistent numbers of samples: [{n_rows}, {len(target)}]). Allowed: one target for each row."
        )
    weight = None if given.sample_weight is None else check_sample_weight(given.sample_weight, n_rows)
    schema = infer_schema(frame)
    table = schema.transform(frame, owner=owner)
    kind: Kind = "regression" if classes is None else "binary" if len(classes) == 2 else "multiclass"
    task = Task(kind, n_rows, table.n_columns, 0 if classes is None else len(classes))
    resolved = get_metric(given.metric, task, classes)
    policy = _policy(settings, task)
    by = SplitOptions(given.groups, given.time, given.split)
    labels = None if classes is None else classes.tolist()
    folds, notes = make_folds(target, policy.n_folds, seed=settings.seed, by=by, classes=labels)
    if given.split is not None:
        policy = Policy(policy.name, len(folds), policy.halving, "the splitter that was given")
    problem = Problem(task, resolved, table, target, weight, tuple(folds), settings.seed)
    fitting = fitting_families(chosen, task, table)
    return Prepared(problem, schema, classes, policy, fitting, notes)


def choose_families(families: Any) -> dict[str, Family]:
    """Read the argument ``families``.

    Parameters
    ----------
    families
        None for the default ones, or names, scikit-learn estimators (each becomes a `SklearnFamily` named after its
        class) and own `Family` objects.

    Returns
    -------
    dict
        By name.

    Raises
    ------
    InputError
        For an unknown name, an object that is no family, or nothing at all.
    """
    if families is None:
        return {name: FAMILIES[name] for name in DEFAULT}
    if isinstance(families, str):
        families = [families]
    if not isinstance(families, Sequence) or not families:
        raise InputError(f"families={families!r} is not usable. Allowed: None, or a list of: {', '.join(FAMILIES)}.")
    chosen: dict[str, Family] = {}
    for family in families:
        if isinstance(family, str):
            if family not in FAMILIES:
                raise unknown("families", family, FAMILIES)
            chosen[family] = FAMILIES[family]
        elif not isinstance(family, type) and all(hasattr(family, name) for name in _FAMILY_PARTS):
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


def fitting_families(chosen: Mapping[str, Family], task: Task, table: Table) -> dict[str, Family]:
    """Keep the families that can be trained on a table.

    Parameters
    ----------
    chosen
        What the user allows.
    task, table
        The problem.

    Returns
    -------
    dict
        By name.

    Raises
    ------
    InputError
        Where none is left.
    """
    fitting = {name: family for name, family in chosen.items() if family.supports(task, table)}
    if not fitting:
        raise InputError(
            f"families={list(chosen)!r}: none of them supports this table. Allowed: {', '.join(FAMILIES)}."
        )
    return fitting


def own_parts(metric: Metric, families: Mapping[str, Family]) -> dict[str, Any]:
    """Collect what workers cannot import by name: the metric and the families of the session.

    Parameters
    ----------
    metric
        The resolved metric.
    families
        Of the run.

    Returns
    -------
    dict
        For `windvane.search.channel.pack`.
    """
    return {"metric": metric, "families": {name: f for name, f in families.items() if FAMILIES.get(name) is not f}}


def first_rows(problem: Problem, cells: float) -> int | None:
    """Say on how many rows the first models of large data train.

    Parameters
    ----------
    problem
        Its size decides.
    cells
        Rows x columns x outputs that a first model may have.

    Returns
    -------
    int or None
        None where all rows are few enough.
    """
    task = problem.task
    n_train = min(len(fold.train) for fold in problem.folds)
    per_row = max(1, task.n_columns) * max(1, task.n_outputs)
    rows = int(max(cells / per_row, 2_000, 20 * max(1, task.n_classes)))
    return rows if rows * 2 < n_train else None


def _policy(settings: Settings, task: Task) -> Policy:
    if settings.policy != "auto":
        return make_policy(settings.policy, "chosen by the user")
    if settings.n_trials is not None:  # nothing may depend on cores or clock
        return select_policy(task, cpu_seconds=np.inf)
    return select_policy(task, settings.time_budget * settings.n_jobs)

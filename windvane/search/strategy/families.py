"""Which families a run searches: those that the user names, as far as they support the problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from windvane.data.task import Task
from windvane.errors import InputError, check_usable, unknown_name_error
from windvane.models import DEFAULT, FAMILIES
from windvane.models.base import Family
from windvane.models.sklearn_family import SklearnFamily
from windvane.models.targets.multi_target import for_task
from windvane.runtime.columns.table import Table

FAMILY_METHODS = ("name", "supports", "search_space", "checkpoint_iterations", "create_model", "load")


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

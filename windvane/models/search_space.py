"""Search spaces of windvane's own families, and configurations of any: complete one, check one.

A space is a mapping of name -> `Param`, conditions pointing upwards only, so one pass from the top decides which
hyperparameters are active.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from windvane.errors import InputError, unknown_name_error
from windvane.models.base import Config, Param, Value

Space = Mapping[str, Param]
When = Mapping[str, tuple[Value, ...]]


def real(low: float, high: float, default: float, *, log: bool = False, when: When | None = None) -> Param:
    """Make a hyperparameter that is a number of a range."""
    from optuna.distributions import FloatDistribution

    return Param(FloatDistribution(low, high, log=log), default, when)


def whole(low: int, high: int, default: int, *, log: bool = False, when: When | None = None) -> Param:
    """Make a hyperparameter that is a whole number of a range."""
    from optuna.distributions import IntDistribution

    return Param(IntDistribution(low, high, log=log), default, when)


def choice(values: Sequence[Value], default: Value, *, when: When | None = None) -> Param:
    """Make a hyperparameter that is one of some values."""
    from optuna.distributions import CategoricalDistribution

    return Param(CategoricalDistribution(values), default, when)


def fill_defaults(config: Config, space: Space) -> dict[str, Value]:
    """Fill in the default of every active hyperparameter that is missing and leave out what is not active."""
    return choose_active(space, lambda name, param: config.get(name, param.default))


def validate(config: Config, space: Space) -> None:
    """Raise InputError if a configuration does not fit the search space."""
    for name, value in config.items():
        if name not in space:
            raise unknown_name_error("hyperparameter", name, space)
        if not _allows(space[name].distribution, value):
            raise InputError(f"{name}={value!r} is not allowed. Allowed: {_describe(space[name].distribution)}.")


def choose_active(space: Space, choose: Callable[[str, Param], Value]) -> dict[str, Value]:
    """Choose a value for each hyperparameter whose conditions hold, from the top."""
    chosen: dict[str, Value] = {}
    for name, param in space.items():
        if all(parent in chosen and chosen[parent] in values for parent, values in (param.when or {}).items()):
            chosen[name] = choose(name, param)
    return chosen


def import_optuna() -> None:
    """Import optuna for the first time, in a thread whose frames hold nothing.

    optuna keeps the ImportError of what it does without, and with it the frames of all callers: the first fit, with its
    estimator and data, would stay in memory for ever.
    """
    if "optuna" not in sys.modules:
        thread = threading.Thread(target=importlib.import_module, args=("optuna",), name="windvane-import")
        thread.start()
        thread.join()


def _allows(distribution: Any, value: Value) -> bool:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        # True == 1, but a flag is no number.
        return any(type(value) is type(choice) and value == choice for choice in distribution.choices)
    if isinstance(value, bool | str) or (isinstance(distribution, IntDistribution) and not float(value).is_integer()):
        return False
    return bool(distribution.low <= value <= distribution.high)


def _describe(distribution: Any) -> str:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(repr(choice) for choice in distribution.choices)
    kind = "whole numbers" if isinstance(distribution, IntDistribution) else "numbers"
    return f"{kind} from {distribution.low} to {distribution.high}"

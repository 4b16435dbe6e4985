"""The exceptions of windvane, all under one root.

::

    WindvaneError
    ├── InputError (ValueError)      an argument or a column is not usable: what came, what is allowed
    │   ├── MissingColumnsError      a table to predict lacks columns that the model was trained on
    │   └── MetricError              a metric of the user raised an error or returned no number
    ├── RunError                     a run directory cannot be used
    │   ├── RunLockedError           another living process works on it
    │   ├── RunMismatchError         it holds other data, another metric, policy, set of families or seed
    │   └── VersionError             it was written by a version that this one cannot read
    ├── DiskError (OSError)          a file cannot be written: the disk is full, read-only or gone; says what is safe
    ├── ModelFileError               a model file is missing, damaged or not trusted; nothing in it was executed
    ├── NoModelError                 the search ended without one usable model: says what failed and why
    ├── NotFiniteError               training a network came to a number that is not finite
    └── WorkerError                  worker processes could not be started

A user who wants to catch whatever windvane has to say writes::

    try:
        model.fit(X, y)
    except windvane.WindvaneError as error:
        print(error)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path
from typing import Any

from windvane.runtime.errors import (
    DiskError,
    InputError,
    MissingColumnsError,
    ModelFileError,
    WindvaneError,
    some_of,
    warn_user,
)

__all__ = [
    "DiskError",
    "InputError",
    "MetricError",
    "MissingColumnsError",
    "ModelFileError",
    "NoModelError",
    "NotFiniteError",
    "RunError",
    "RunLockedError",
    "RunMismatchError",
    "VersionError",
    "WindvaneError",
    "WorkerError",
    "check_integer",
    "some_of",
    "unknown_name_error",
    "warn_user",
]

for _error in (DiskError, InputError, MissingColumnsError, ModelFileError, WindvaneError):
    _error.__module__ = __name__  # as messages show them
del _error

MOST_NAMES = 24  # listed in a message


class RunError(WindvaneError):
    """A run directory cannot be used."""


class RunLockedError(RunError):
    """Another living process works on the run directory."""


class RunMismatchError(RunError):
    """The run directory holds other data or other settings."""


class VersionError(RunError):
    """A file was written by a version of windvane that this one cannot read."""


class MetricError(InputError):
    """A metric of the user raised an error or returned no number."""


class NoModelError(WindvaneError):
    """The search ended without one usable model."""


class NotFiniteError(WindvaneError):
    """Training a network came to a number that is not finite."""


class WorkerError(WindvaneError):
    """Worker processes could not be started."""


def unknown_name_error(argument: str, given: object, allowed: Iterable[str]) -> InputError:
    """Return the error for an unknown name, with the nearest valid one."""
    names = list(allowed)
    plain = {name.casefold().replace("-", "_").strip(): name for name in reversed(names)}
    nearest = get_close_matches(str(given).casefold().replace("-", "_").strip(), plain, n=1, cutoff=0.5)
    hint = f" Did you mean {plain[nearest[0]]!r}?" if nearest else ""
    return InputError(f"{argument}={given!r} is not known.{hint} Allowed: {some_of(names, MOST_NAMES)}.")


def check_usable(argument: str, given: object, usable: bool, allowed: str) -> None:
    """Raise `InputError` if an argument is not usable; `allowed` describes what is."""
    if not usable:
        raise InputError(f"{argument}={given!r} is not usable. Allowed: {allowed}.")


def check_new_file(path: str | Path, suffix: str) -> Path:
    """Return the argument `path`; raise `InputError` unless it is a new file of a kind in a folder."""
    file = Path(path)
    usable = file.suffix == suffix and not file.exists() and file.parent.is_dir()
    check_usable("path", str(path), usable, f"a new file, ending in {suffix}, in a folder")
    return file


def check_choice(argument: str, given: object, allowed: Iterable[str]) -> None:
    """Raise `InputError` if an argument is not one of the allowed names."""
    if given not in (names := list(allowed)):
        raise unknown_name_error(argument, given, names)


def check_number(
    argument: str,
    given: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    whole: bool = False,
    optional: bool = False,
) -> None:
    """Raise `InputError` if an argument is not a finite number, or a Python integer, within bounds."""
    if optional and given is None:
        return
    usable = isinstance(given, int if whole else int | float) and not isinstance(given, bool)
    limits = []
    if above is not None:
        limits.append(f"above {above}")
        usable = usable and above < given  # type: ignore[operator]
    if at_least is not None:
        limits.append(f"of at least {at_least}")
        usable = usable and at_least <= given  # type: ignore[operator]
    if below is not None:
        limits.append(f"below {below}")
        usable = usable and given < below  # type: ignore[operator]
    allowed = f"a {'whole ' * whole}number {' and '.join(limits)}{', or None' * optional}"
    check_usable(argument, given, usable and given != math.inf, allowed)


def check_integer(argument: str, given: Any, least: int = 1) -> int:
    """Return an integer of at least `least` as one of Python; raise `InputError` if an argument is not one."""
    usable = isinstance(given, Integral) and not isinstance(given, bool) and int(given) >= least
    check_usable(argument, given, usable, f"a whole number of at least {least}")
    return int(given)

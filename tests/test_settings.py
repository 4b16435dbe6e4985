from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windvane import settings
from windvane.errors import InputError
from windvane.settings import POLICIES, Settings, available_cores, available_memory, parse_seconds, resolve_jobs

SOUND: dict[str, Any] = {
    "time_budget": 60,
    "metric": "auto",
    "n_jobs": 1,
    "memory_limit": 1000,
    "policy": "auto",
    "families": None,
    "ensemble_size": 25,
    "n_trials": None,
    "run_dir": None,
    "random_state": 0,
    "verbose": 1,
    "keep_data": True,
    "portfolio": None,
    "keep_ids": False,
}


def check(**changes: Any) -> Settings:
    return Settings.check(SimpleNamespace(**{**SOUND, **changes}))


def test_sound_choices_come_out_resolved() -> None:
    found = check(time_budget="10m", n_trials=np.int64(3), run_dir="runs/a", random_state=np.int32(7), verbose=False)
    assert found == Settings(600.0, 1, 1000.0, "auto", 25, 3, Path("runs/a").absolute(), 7, 0, True)
    with pytest.raises(AttributeError):
        found.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        (np.float32(2.5), 2.5),
        (np.int64(3), 3),
        ("90", 90),
        ("45s", 45),
        ("10m", 600),
        ("10 min", 600),
        ("1h30m", 5400),
        (" 1H 30 M 5 sec ", 5405),
        ("1.5h", 5400),
        ("1d", 86400),
    ],
)
def test_lengths_of_time(text: Any, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *(0, -1, True, np.True_, None, float("nan"), float("inf"), [60], np.array([1, 2]), b"60s", "", " ", "0", "-5s"),
        *(
            "soon",
            "10x",
            "10m!",
            "1:30",
            "1h30",
            "1 0",
            "1e3",
            "1.2.3",
            "m10",
            "inf",
            "5 m s",
            "1" * 400,
            "9" * 99 + "!",
        ),
    ],
)
def test_what_is_no_length_of_time(text: Any) -> None:
    with pytest.raises(
        InputError, match=r"^budget=.* is not a length of time\. Allowed: seconds above 0.*d \(days\) and w \(weeks\)"
    ):
        parse_seconds(text, "budget")


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_units_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_seconds(f"{hours}h {minutes}m{seconds}s") == 3600 * hours + 60 * minutes + seconds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_budget": 0}, "time_budget=0 is not a length of time"),
        ({"policy": "cv4"}, "policy='cv4' is not known. Did you mean 'cv"),
        ({"policy": "holdout-halfing"}, "Did you mean 'holdout-halving'?"),
        ({"policy": None}, "policy=None is not known"),
        ({"n_jobs": 0}, "n_jobs=0 is not usable. Allowed: a whole number above 0, or -1"),
        ({"n_jobs": 1.5}, "n_jobs=1.5 is not usable"),
        ({"n_jobs": True}, "n_jobs=True is not usable"),
        ({"n_jobs": "all"}, "n_jobs='all' is not usable"),
        ({"memory_limit": 0}, "memory_limit=0 is not usable. Allowed: megabytes above 0, or None."),
        ({"memory_limit": -5.0}, "memory_limit=-5.0 is not usable"),
        ({"memory_limit": float("nan")}, "memory_limit=nan is not usable"),
        ({"memory_limit": float("inf")}, "memory_limit=inf is not usable"),
        ({"memory_limit": "4GB"}, "memory_limit='4GB' is not usable"),
        ({"memory_limit": True}, "memory_limit=True is not usable"),
        ({"ensemble_size": 0}, "ensemble_size=0 is not usable. Allowed: a whole number of at least 1."),
        ({"ensemble_size": 2.0}, "ensemble_size=2.0 is not usable"),
        ({"n_trials": 0}, "n_trials=0 is not usable. Allowed: a whole number of at least 1."),
        ({"n_trials": np.array([1, 2])}, "n_trials=array"),
        ({"run_dir": 5}, "run_dir=5 is not usable. Allowed: the path of a folder, or None."),
        ({"run_dir": ""}, "run_dir='' is not usable"),
        ({"random_state": -1}, "random_state=-1 is not usable. Allowed: a whole number of at least 0."),
        ({"random_state": "seven"}, "random_state='seven' is not usable"),
        ({"random_state": 2**32}, "random_state=4294967296 is not usable. Allowed: a whole number up to 4294967295."),
        ({"verbose": "loud"}, "verbose='loud' is not usable. Allowed: a whole number of at least 0."),
        ({"verbose": None}, "verbose=None is not usable"),
    ],
)
def test_bad_choices_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check(**changes)
    assert message in str(caught.value)


def test_every_policy_is_taken() -> None:
    assert [check(policy=name).policy for name in POLICIES] == list(POLICIES)
    assert len(POLICIES) == 9


def test_jobs_count_from_the_end_as_in_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "available_cores", lambda: 4)
    assert [resolve_jobs(n) for n in (None, -1, -2, -4, -9, 1, 16, np.int64(2))] == [4, 4, 3, 1, 1, 1, 16, 2]


def test_seeds() -> None:
    assert check(random_state=np.random.RandomState(3)).seed == np.random.RandomState(3).randint(2**31 - 1)
    seeds = {check(random_state=None).seed for _ in range(8)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_memory_defaults_to_most_of_what_is_free() -> None:
    total = psutil.virtual_memory().total / settings.MEGABYTE
    assert 0 < check(memory_limit=None).memory_limit <= 0.8 * total
    assert check(memory_limit=np.int64(512)).memory_limit == 512.0
    assert available_cores() >= 1


def test_a_container_limits_cores_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CGROUPS", tmp_path)
    cores, free = available_cores(), available_memory()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert available_cores() == cores
    assert available_memory() == pytest.approx(free, rel=0.2)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{100 * settings.MEGABYTE}\n")
    (tmp_path / "memory.current").write_text(f"{90 * settings.MEGABYTE}\n")
    assert available_cores() == 1
    assert available_memory() == 10.0
    # What the system holds of files makes way for programs.
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {60 * settings.MEGABYTE}\nactive_file 7\n")
    assert available_memory() == 70.0
    (tmp_path / "memory.current").write_text(f"{200 * settings.MEGABYTE}\n")
    assert available_memory() == 0.0


def test_groups_of_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, own = tmp_path / "groups", tmp_path / "own"
    memory, cpu = groups / "memory" / "job", groups / "cpu"
    memory.mkdir(parents=True)
    cpu.mkdir()
    own.write_text("9:name=systemd:/\n5:memory:/job\n2:cpu,cpuacct:/elsewhere\n")
    monkeypatch.setattr(settings, "CGROUPS", groups)
    monkeypatch.setattr(settings, "OWN_CGROUP", own)
    cores, free = available_cores(), available_memory()
    (memory / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # none
    (memory / "memory.usage_in_bytes").write_text(f"{90 * settings.MEGABYTE}\n")
    (cpu / "cpu.cfs_quota_us").write_text("-1\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores() == cores
    assert available_memory() == pytest.approx(free, rel=0.2)
    (memory / "memory.limit_in_bytes").write_text(f"{100 * settings.MEGABYTE}\n")
    (memory / "memory.stat").write_text(f"inactive_file 5\ntotal_inactive_file {20 * settings.MEGABYTE}\n")
    (cpu / "cpu.cfs_quota_us").write_text("50000\n")
    assert available_cores() == 1
    assert available_memory() == 30.0


def test_the_tightest_group_on_the_way_up_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, own = tmp_path / "groups", tmp_path / "own"
    (groups / "slice" / "job").mkdir(parents=True)
    own.write_text("1:name=systemd:/\n0::/slice/job\n")
    monkeypatch.setattr(settings, "CGROUPS", groups)
    monkeypatch.setattr(settings, "OWN_CGROUP", own)
    cores = available_cores()
    for folder, megabytes, quota in ((groups / "slice", 50, "100000"), (groups / "slice" / "job", 80, "max")):
        (folder / "memory.max").write_text(f"{megabytes * settings.MEGABYTE}\n")
        (folder / "memory.current").write_text(f"{10 * settings.MEGABYTE}\n")
        (folder / "cpu.max").write_text(f"{quota} 100000\n")
    assert available_memory() == 40.0
    assert available_cores() == 1 <= cores
    own.write_text("0::/of/another/machine\n")  # as a container may see it: the root alone is there
    assert available_cores() == cores
    own.unlink()
    assert available_cores() == cores

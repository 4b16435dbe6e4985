"""Functions are copied with all that they need, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from windvane.export.source import compose, packages, parse
from windvane.runtime.columns.column_values import date_parts

FIRST = '''"""A module."""
from __future__ import annotations

import json as j
import os.path
from functools import cache

import numpy as np

from windvane_toy.second import Base, helper, twice

# Why it is so.
# In two lines.
LIMIT = 3
UNUSED = 4


@cache
def root(x: np.ndarray) -> object:
    """Do it.

    At length.
    """
    return helper(x), TABLE["a"], LIMIT


def a() -> str:
    """Say it in one line."""
    return j.dumps(os.path.sep)


def b() -> None:
    return twice


TABLE = {"a": a, "b": b}


class Child(Base):
    """Small."""
'''
SECOND = '''"""Another."""
class Base:
    """Root.

    Long.
    """


def helper(x):
    return helper(x) if x else LIMITS


def twice():
    return LIMIT


LIMITS = 1
LIMIT = 2
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of two modules, under a name that counts as windvane's."""
    (tmp_path / "windvane_toy").mkdir()
    (tmp_path / "windvane_toy" / "__init__.py").touch()
    (tmp_path / "windvane_toy" / "first.py").write_text(FIRST)
    (tmp_path / "windvane_toy" / "second.py").write_text(SECOND)
    monkeypatch.syspath_prepend(tmp_path)
    parse.cache_clear()
    yield
    parse.cache_clear()
    for name in [name for name in sys.modules if name.startswith("windvane_toy")]:
        del sys.modules[name]


@pytest.mark.usefixtures("toy")
def test_what_is_needed_comes_along_and_nothing_else() -> None:
    source = compose("windvane_toy.first", ["root"], {"TABLE": {"a"}}, own="windvane_toy")
    assert (
        source
        == '''from __future__ import annotations

import json as j
import os.path
from functools import cache

import numpy as np

# Why it is so.
# In two lines.
LIMIT = 3
LIMITS = 1


def helper(x):
    return helper(x) if x else LIMITS


def a() -> str:
    """Say it in one line."""
    return j.dumps(os.path.sep)


TABLE = {
    "a": a,
}


@cache
def root(x: np.ndarray) -> object:
    """Do it."""
    return helper(x), TABLE["a"], LIMIT
'''
    )


@pytest.mark.usefixtures("toy")
def test_a_copy_beside_is_imported() -> None:
    beside = {"windvane_toy.second": "second"}
    source = compose("windvane_toy.first", ["Child"], beside=beside, own="windvane_toy")
    assert "from second import Base\n" in source
    assert "class Base" not in source
    source = compose("windvane_toy.first", ["Child"], own="windvane_toy")
    assert source.index("class Base") < source.index("class Child")
    assert "Long" not in source


@pytest.mark.usefixtures("toy")
def test_one_name_for_two_things_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"LIMIT is defined in windvane_toy\.\w+ and in windvane_toy\.\w+"):
        compose("windvane_toy.first", ["root", "b"], own="windvane_toy")


def test_a_real_function_runs_alone() -> None:
    source = compose("windvane.runtime.columns.column_values", ["date_parts"])
    space: dict[str, object] = {}
    exec(compile(source, "copy", "exec"), space)
    dates = np.array(["2024-02-29T13:45", "NaT", "1969-12-31T23:59"], dtype="datetime64[us]")
    found = space["date_parts"](dates)  # type: ignore[operator]
    for part, numbers in date_parts(dates).items():
        np.testing.assert_array_equal(found[part], numbers)


def test_packages_are_those_of_others() -> None:
    assert packages(["import json, numpy.linalg as x", "def f():\n    from sklearn.base import clone"]) == {
        *("numpy", "sklearn")
    }


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(ModuleNotFoundError):
        parse("windvane.nothing")

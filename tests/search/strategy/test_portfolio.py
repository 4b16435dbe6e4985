from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys import CLASSES, ToyFamily

from windvane.data.task import Kind, Task
from windvane.errors import InputError
from windvane.models import DEFAULT, FAMILIES
from windvane.models.base import Family
from windvane.models.search_space import fill_defaults, validate
from windvane.search.strategy.portfolio import FORMAT, Case, PortfolioEntry, read_cases, read_portfolio, write_portfolio


@pytest.fixture(params=["binary", "multiclass", "regression"])
def task(request: pytest.FixtureRequest) -> Task:
    kind: Kind = request.param
    return Task(kind, 1000, 10, CLASSES[kind])


def fitting(task: Task) -> dict[str, Family]:
    return {name: FAMILIES[name] for name in DEFAULT}


def test_every_configuration_lies_inside_its_family(task: Task) -> None:
    entries = read_portfolio(task, fitting(task))
    for entry in entries:
        space = FAMILIES[entry.family].search_space(task)
        validate(entry.config, space)
        assert set(entry.config) <= set(fill_defaults(entry.config, space)), "a hyperparameter is given but not active"
    assert {entry.family for entry in entries} == set(fitting(task))
    completed = [(e.family, fill_defaults(e.config, FAMILIES[e.family].search_space(task))) for e in entries]
    assert all(pair not in completed[:i] for i, pair in enumerate(completed)), "the same model stands there twice"


def test_families_that_a_run_lacks_are_left_out_and_the_order_stays(task: Task) -> None:
    entries = read_portfolio(task, fitting(task))
    few = {name: FAMILIES[name] for name in ("linear", "lightgbm")}
    assert read_portfolio(task, few) == [entry for entry in entries if entry.family in few]


def test_a_log_link_is_tried_after_the_first_lightgbm() -> None:
    task = Task("regression", 1000, 10)
    entries = read_portfolio(task, fitting(task))
    added = read_portfolio(replace(task, log_link=True), fitting(task))
    extra = PortfolioEntry("lightgbm", {"objective": "poisson"})
    assert added.index(extra) == 1 + [entry.family for entry in entries].index("lightgbm")
    assert [entry for entry in added if entry != extra] == entries
    linear = {"linear": FAMILIES["linear"]}
    assert read_portfolio(replace(task, log_link=True), linear) == read_portfolio(task, linear)


def test_an_own_family_comes_first_with_its_defaults(task: Task) -> None:
    families: dict[str, Family] = {**fitting(task), "toy": ToyFamily()}
    assert read_portfolio(task, families) == [PortfolioEntry("toy", {}), *read_portfolio(task, fitting(task))]


def test_the_first_case_that_holds_decides(tmp_path: Path) -> None:
    one, two, three = PortfolioEntry("linear", {"C": 0.5}), PortfolioEntry("lightgbm", {}), PortfolioEntry("mlp", {})
    cases = [Case((one,), ("binary",), 500), Case((two, one), ("binary", "multiclass")), Case((three,))]
    write_portfolio(tmp_path / "p.json", cases, "by hand")
    assert read_cases(tmp_path / "p.json") == cases
    families = {name: FAMILIES[name] for name in ("linear", "lightgbm", "mlp")}

    def entries(kind: Kind, n_rows: int) -> list[PortfolioEntry]:
        return read_portfolio(Task(kind, n_rows, 10, CLASSES[kind]), families, tmp_path / "p.json")

    assert entries("binary", 500) == [one]
    assert entries("binary", 501) == entries("multiclass", 10) == [two, one]
    assert entries("regression", 10) == [three]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "has format None. Allowed: a file of format 2"),
        ({"format": 1, "entries": []}, "has format 1. Allowed: a file of format 2"),
        ({"format": FORMAT}, "is not a portfolio: KeyError('cases')"),
        ({"format": FORMAT, "cases": [{"entries": [{"family": "linear"}]}]}, "KeyError('config')"),
        ({"format": FORMAT, "cases": [{"kinds": ["images"], "entries": []}]}, "are not among"),
        ({"format": FORMAT, "cases": [{"max_rows": 10, "entries": []}]}, "no case for a binary task of 1,000 rows"),
        (
            {"format": FORMAT, "cases": [{"entries": [{"family": "linear", "config": {"C": 1e9}}]}]},
            "linear: C=1000000000.0",
        ),
        (
            {"format": FORMAT, "cases": [{"entries": [{"family": "linear", "config": {"strength": 1}}]}]},
            "strength",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_error(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_portfolio(Task("binary", 1000, 10, 2), {"linear": FAMILIES["linear"]}, path)
    assert words in str(caught.value) and "own.json" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_cases(tmp_path / "none.json")

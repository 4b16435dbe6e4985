from __future__ import annotations

import pytest
from toys import CLASSES, ToyFamily

from windvane.data.task import Kind, Task
from windvane.models import FAMILIES
from windvane.models.base import Family
from windvane.models.params import check, complete
from windvane.search.portfolio import Entry, read_portfolio


@pytest.fixture(params=["binary", "multiclass", "regression"])
def task(request: pytest.FixtureRequest) -> Task:
    kind: Kind = request.param
    return Task(kind, 1000, 10, CLASSES[kind])


def fitting(task: Task) -> dict[str, Family]:
    """Give the families of a run on such a task: discriminants predict classes alone."""
    return {name: family for name, family in FAMILIES.items() if task.is_classification or name != "discriminant"}


def test_every_configuration_lies_inside_its_family(task: Task) -> None:
    entries = read_portfolio(task, fitting(task))
    for entry in entries:
        space = FAMILIES[entry.family].space(task)
        check(entry.config, space)
        assert set(entry.config) <= set(complete(entry.config, space)), "a hyperparameter is given but not active"
    assert {entry.family for entry in entries} == set(fitting(task))
    completed = [(e.family, complete(e.config, FAMILIES[e.family].space(task))) for e in entries]
    assert all(pair not in completed[:i] for i, pair in enumerate(completed)), "the same model stands there twice"


def test_families_that_a_run_lacks_are_left_out_and_the_order_stays(task: Task) -> None:
    entries = read_portfolio(task, fitting(task))
    few = {name: FAMILIES[name] for name in ("linear", "mlp")}
    assert read_portfolio(task, few) == [entry for entry in entries if entry.family in few]


def test_an_own_family_comes_first_with_its_defaults(task: Task) -> None:
    families: dict[str, Family] = {**fitting(task), "toy": ToyFamily()}
    assert read_portfolio(task, families) == [Entry("toy", {}), *read_portfolio(task, fitting(task))]

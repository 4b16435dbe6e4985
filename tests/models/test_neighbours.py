from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from windvane.data.encoders import float32
from windvane.data.table import Table
from windvane.data.task import Task
from windvane.models import FAMILIES
from windvane.models.base import Part

FAMILY = FAMILIES["neighbours"]


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("p", [1, 2])
def test_it_is_the_model_of_scikit_learn_with_one_more_neighbour(case: Case, weights: str, p: int) -> None:
    model: Any = case.start(FAMILY, {"n_neighbours": 9, "weights": weights, "p": p})
    model.grow(1)
    task = case.setting.task
    rows = float32(model._encoder.fit_transform(case.train.table, case.train.target, task))
    test = float32(model._encoder.transform(case.test.table))
    kind = KNeighborsClassifier if task.is_classification else KNeighborsRegressor
    other = kind(n_neighbors=9, weights=weights, p=p).fit(rows, case.train.target)
    found = model.predict(case.test.table)
    if not task.is_classification:
        np.testing.assert_allclose(found, other.predict(test), rtol=1e-5)
    else:
        prior = np.bincount(case.train.target) / len(case.train.target)
        np.testing.assert_allclose(found, (9 * other.predict_proba(test) + prior) / 10, atol=1e-5)


def test_a_weight_is_a_number_of_rows() -> None:
    case = make_case("multiclass", n=300)
    times = np.arange(len(case.train.target)) % 3 + 1
    repeated = np.repeat(np.arange(len(times)), times)
    weighted: Any = replace(case, train=replace(case.train, weight=times.astype(float))).start(
        FAMILY, {"n_neighbours": 100, "weights": "uniform"}
    )
    part = Part(case.train.table.take(repeated), case.train.target[repeated])
    many: Any = replace(case, train=part).start(FAMILY, {"n_neighbours": 100, "weights": "uniform"})
    # All rows are neighbours: what the encoder learned of repeated rows changes nothing.
    for model, n in ((weighted, len(times)), (many, len(repeated))):
        model.config["n_neighbours"] = n
        model.grow(1)
    np.testing.assert_allclose(weighted.predict(case.test.table), many.predict(case.test.table), rtol=0.02)


def test_a_row_that_is_there_already_decides_and_no_rounding_does() -> None:
    case = make_case("regression")
    # Categories of many levels are cross-fitted: training has other numbers for them.
    table = Table(np.random.default_rng(0).normal(size=(360, 30)) + 1e3, 30)
    part = replace(case.train, table=table)
    model = replace(case, train=part, valid=part).start(FAMILY)
    model.grow(1)
    together = model.predict(table)
    np.testing.assert_allclose(together, case.train.target, rtol=1e-3, atol=1e-2)
    alone = np.array([model.predict(table.take(np.array([i])))[0] for i in range(20)])
    np.testing.assert_allclose(alone, together[:20], rtol=1e-3)


def test_large_tables_are_refused() -> None:
    table = make_case("binary", n=100).train.table
    assert FAMILY.supports(Task("binary", 50_000, 100, 2), table)
    assert not FAMILY.supports(Task("binary", 50_001, 5, 2), table)
    assert not FAMILY.supports(Task("regression", 10_000, 501), table)

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case, take
from sklearn.kernel_ridge import KernelRidge
from sklearn.svm import SVC

from windvane.data.task import Task
from windvane.models import FAMILIES

FAMILY = FAMILIES["kernel"]


@pytest.mark.parametrize("kernel", ["rbf", "laplacian", "polynomial"])
def test_with_all_rows_it_is_kernel_ridge_regression(kernel: str) -> None:
    case = make_case("regression", n=300)
    model: Any = case.start(FAMILY, {"kernel": kernel, "alpha": 1.0})
    model.grow(1024)
    assert model.finished and model.iterations == len(case.train.target)
    rows = model._encoder.fit_transform(case.train.table, case.train.target, case.setting.task)
    target = model._units.shrink(case.train.target)
    # An intercept without penalty is a constant kernel without end.
    from sklearn.metrics.pairwise import pairwise_kernels

    own = {"coef0": 1.0, "degree": 3} if kernel == "polynomial" else {}
    kernels = pairwise_kernels(rows, metric=kernel, gamma=model.gamma, **own)
    other = KernelRidge(alpha=1.0, kernel="precomputed").fit(kernels + 1e6, target)
    test = pairwise_kernels(model._encoder.transform(case.test.table), rows, metric=kernel, gamma=model.gamma, **own)
    found = model._units.shrink(model.predict(case.test.table))
    np.testing.assert_allclose(found, other.predict(test + 1e6), atol=2e-3)


def test_it_is_as_good_as_a_support_vector_machine() -> None:
    case = make_case("binary", n=1500)
    model: Any = case.start(FAMILY)
    model.grow(1024)
    rows = model._encoder.fit_transform(case.train.table, case.train.target, case.setting.task)
    other = SVC(C=1.0, gamma=model.gamma).fit(rows, case.train.target)
    best = (other.predict(model._encoder.transform(case.test.table)) == case.test.target).mean()
    assert (model.predict(case.test.table).argmax(axis=1) == case.test.target).mean() > best - 0.05


def test_the_time_left_decides_how_far_it_grows(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = case.start(FAMILY)
    seen: list[int] = []
    solve = model._solve

    def slowly(total: int, until: float) -> None:
        solve(total, until)
        seen.append(total)
        model._seconds = 10.0 * len(seen)  # so the next total is expected to take 80 and, after it, 160

    monkeypatch.setattr(model, "_solve", slowly)
    model.grow(1024, until=time.monotonic() + 60)
    assert seen == [64] and model.iterations == 64 and not model.finished
    model.grow(1024, until=time.monotonic() + 100)
    assert seen == [64, 128]
    model.grow(1024)
    assert seen == [64, 128, len(case.train.target)] and model.finished


def test_large_tables_get_fewer_landmarks_or_none() -> None:
    case = make_case("binary", n=100)
    assert FAMILY.steps({}, Task("binary", 1000, 5, 2))[-1] == 1024
    assert FAMILY.steps({}, Task("binary", 100_000, 5, 2))[-1] == 256
    assert FAMILY.supports(Task("binary", 100_000, 5, 2), case.train.table)
    assert not FAMILY.supports(Task("multiclass", 100_000, 5, 26), case.train.table)


def test_rows_that_do_not_differ() -> None:
    case = make_case("binary", n=200)
    same = take(case.train, np.zeros(60, dtype=int))
    same = replace(same, target=np.arange(60) % 2)
    model = replace(case, train=same).start(FAMILY)
    model.grow(64)
    np.testing.assert_allclose(model.predict(same.table), 0.5, atol=0.05)

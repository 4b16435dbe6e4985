"""Importance on the rows of a run: validation rows by the models that did not see them, within the time limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from windvane.evaluation.columns import importance
from windvane.evaluation.columns.importance import N_REPEATS, encoded_columns, permutation_importance
from windvane.report.report_data import ReportData


def test_it_is_what_shuffling_costs(regression: Any) -> None:
    model, X, y = regression
    found = ReportData.of(model, X, y).test
    assert found is not None
    columns = encoded_columns(model.predictor_.schema)
    measured = permutation_importance(found, model.predictor_.metric, columns, seed=0)
    assert measured is not None
    assert (measured.n_rows, measured.n_repeats, measured.n_omitted) == (len(X), N_REPEATS, 0)
    expected = model.feature_importance(X, y, n_repeats=20)
    for name, (mean, std) in measured.drops.items():
        assert mean == pytest.approx(expected.loc[name, "importance"], abs=4 * (std + expected.loc[name, "std"]) + 0.1)
    assert next(iter(measured.drops)) == expected.index[0]
    values = [mean for mean, _ in measured.drops.values()]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_the_public_method_shuffles_as_scikit_learn_does(kind: str, request: pytest.FixtureRequest) -> None:
    from sklearn.inspection import permutation_importance as sklearn_importance

    model, X, y, *_ = request.getfixturevalue(kind)
    found = model.feature_importance(X, y, n_repeats=2).loc[list(X.columns)]
    expected = sklearn_importance(model, X, y, n_repeats=2, random_state=0)
    np.testing.assert_allclose(found["importance"], expected.importances_mean, atol=1e-12)
    np.testing.assert_allclose(found["std"], expected.importances_std, atol=1e-12)


def test_validation_rows_are_measured_out_of_fold(binary: Any) -> None:
    model, *_ = binary
    found = ReportData.of(model).validation
    assert found is not None
    columns = encoded_columns(model.predictor_.schema)
    measured = permutation_importance(found, model.predictor_.metric, columns, seed=0)
    assert measured is not None
    assert measured.n_rows == len(found)
    assert measured.drops["colour"][0] < max(mean for mean, _ in measured.drops.values())


def test_without_time_only_the_most_promising_are_measured(binary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, X, y, _ = binary
    found = ReportData.of(model, X, y).test
    assert found is not None
    metric, columns = model.predictor_.metric, encoded_columns(model.predictor_.schema)
    ticks = iter(np.arange(0.0, 1000.0, 4.0))
    monkeypatch.setattr(importance.time, "monotonic", lambda: float(next(ticks)))
    measured = permutation_importance(found, metric, columns, max_seconds=10.0)
    assert measured is not None
    assert measured.n_omitted == len(columns) - len(measured.drops) > 0
    assert list(measured.drops) == sorted(measured.drops, key=lambda name: -measured.drops[name][0])
    assert set(measured.drops) == set(list(columns)[: len(measured.drops)])
    assert measured.n_repeats == 1
    assert permutation_importance(found, metric, {}) is None

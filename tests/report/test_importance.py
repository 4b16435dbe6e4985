"""Importance: the column that counts comes first, and time is limited."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from windvane.report import importance
from windvane.report.evidence import Run, collect
from windvane.report.importance import measure_importance
from windvane.report.oddities import places


def test_it_is_what_shuffling_costs(regression: Any) -> None:
    model, X, y = regression
    found = collect(Run.of(model), X, y).test
    assert found is not None
    where = places(model.predictor_.schema)
    measured = measure_importance(found, where, list(where), seed=0)
    assert measured is not None
    assert (measured.rows, measured.repeats, measured.left_out) == (len(X), importance.MOST_REPEATS, 0)
    # Against the public method, which shuffles the user's own columns.
    expected = model.feature_importance(X, y, n_repeats=20)
    for name, (mean, spread) in measured.losses.items():
        assert mean == pytest.approx(
            expected.loc[name, "importance"], abs=4 * (spread + expected.loc[name, "std"]) + 0.1
        )
    assert next(iter(measured.losses)) == expected.index[0]
    values = [mean for mean, _ in measured.losses.values()]
    assert values == sorted(values, reverse=True)


def test_validation_rows_are_measured_out_of_fold(binary: Any) -> None:
    model, *_ = binary
    found = collect(Run.of(model)).validation
    assert found is not None
    where = places(model.predictor_.schema)
    measured = measure_importance(found, where, list(where), seed=0)
    assert measured is not None
    assert measured.rows == len(found.rows)
    assert measured.losses["colour"][0] < max(mean for mean, _ in measured.losses.values())


def test_without_time_only_the_most_promising_are_measured(binary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, X, y, _ = binary
    found = collect(Run.of(model), X, y).test
    assert found is not None
    where = places(model.predictor_.schema)
    ticks = iter(np.arange(0.0, 1000.0, 4.0))
    monkeypatch.setattr(importance.time, "monotonic", lambda: float(next(ticks)))
    measured = measure_importance(found, where, list(where), seed=0)
    assert measured is not None
    assert measured.left_out == len(where) - len(measured.losses) > 0
    assert measured.repeats == 1
    assert measure_importance(found, {}, [], seed=0) is None

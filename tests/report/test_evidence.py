"""What a report draws on is what the run kept: out-of-fold predictions, by models that did not see the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from windvane.errors import InputError
from windvane.report.evidence import Run, collect, predict_again


def test_out_of_fold_predictions_have_the_loss_that_chose_the_model(binary: Any, many: Any, regression: Any) -> None:
    for model, X, y, *_ in (binary, many, regression):
        evidence = collect(Run.of(model), X, y)
        predictor, problem, found = model.predictor_, evidence.problem, evidence.validation
        assert problem is not None
        assert found is not None
        shown = predictor.weighted(found.raw) if predictor.metric.needs == "labels" else found.raw
        assert predictor.metric.loss(found.target, shown) == pytest.approx(predictor.ensemble.loss, abs=1e-6)
        np.testing.assert_array_equal(np.sort(found.rows), np.arange(problem.task.n_rows))


def test_rows_are_predicted_again_by_the_models_that_did_not_see_them(binary: Any, regression: Any) -> None:
    for model, *_ in (binary, regression):
        found = collect(Run.of(model)).validation
        assert found is not None
        some = found.sample(40, seed=0)
        again = predict_again(some, some.table.take(some.rows))
        np.testing.assert_allclose(again, some.raw, rtol=1e-4, atol=1e-6)  # kept in single precision
        assert not np.allclose(model.predictor_.predict_raw(some.table.take(some.rows)), some.raw, atol=1e-3)


def test_test_rows_are_predicted_as_the_model_does(binary: Any) -> None:
    model, X, y, _ = binary
    test = collect(Run.of(model), X, y).test
    assert test is not None
    assert test.is_test
    np.testing.assert_allclose(test.raw, model.predict_proba(X))
    np.testing.assert_array_equal(model.classes_[test.target], y)
    assert collect(Run.of(model), X, y).judged is not None


def test_a_sample_keeps_rows_together(binary: Any) -> None:
    found = collect(Run.of(binary[0])).validation
    assert found is not None
    some = found.sample(30, seed=1)
    assert len(some.rows) == 30 == len(np.unique(some.rows))
    where = [int(np.flatnonzero(found.rows == row)[0]) for row in some.rows]
    for name in ("target", "raw", "fold_of"):
        np.testing.assert_array_equal(getattr(some, name), getattr(found, name)[where])
    assert found.sample(10**6, seed=1) is found


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (slice(None), None, "belong together"),
        (slice(0, 5), slice(0, 4), "different lengths: 5 and 4"),
    ],
)
def test_a_test_set_that_cannot_be_used(binary: Any, rows: slice, columns: slice | None, message: str) -> None:
    model, X, y, _ = binary
    with pytest.raises(InputError, match=message):
        collect(Run.of(model), X[rows], None if columns is None else y[columns])

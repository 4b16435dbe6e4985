"""What a report draws on is what the run kept: out-of-fold predictions, by models that did not see the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_squared_error, roc_auc_score

from windvane.errors import InputError
from windvane.evaluation.metrics import get_metric
from windvane.report.report_data import ReportData


def test_out_of_fold_predictions_have_the_loss_that_chose_the_model(binary: Any, many: Any, regression: Any) -> None:
    for model, X, y, *_ in (binary, many, regression):
        data = ReportData.of(model, X, y)
        predictor, problem, found = model.predictor_, data.problem, data.validation
        assert problem is not None
        assert found is not None
        assert found.loss(predictor.metric) == pytest.approx(predictor.ensemble.loss, abs=1e-6)
        np.testing.assert_array_equal(np.sort(found.rows), np.arange(problem.task.n_rows))


def test_rows_are_predicted_again_by_the_models_that_did_not_see_them(binary: Any, regression: Any) -> None:
    for model, *_ in (binary, regression):
        found = ReportData.of(model).validation
        assert found is not None
        some = found.sample(40, seed=0)
        table = some.table.take(some.rows)
        again = some.predict_again(table).prediction
        np.testing.assert_allclose(again, some.prediction, rtol=1e-4, atol=1e-6)  # kept in single precision
        assert not np.allclose(model.predictor_.predict_raw(table), some.prediction, atol=1e-3)


def test_test_rows_are_predicted_as_the_model_does(binary: Any) -> None:
    model, X, y, _ = binary
    data = ReportData.of(model, X, y)
    assert data.test is not None
    assert data.test.is_test
    np.testing.assert_allclose(data.test.prediction, model.predict_proba(X))
    np.testing.assert_array_equal(model.classes_[data.test.target], y)
    assert data.predictions is data.test


def test_score_is_that_of_the_metric(binary: Any, regression: Any) -> None:
    model, X, y, _ = binary
    found = ReportData.of(model, X, y).test
    assert found is not None
    expected = roc_auc_score(y == model.classes_[1], model.predict_proba(X)[:, 1])
    assert found.score(model.predictor_.metric) == pytest.approx(expected)
    low, high = found.interval(model.predictor_.metric, seed=0) or (np.nan, np.nan)
    assert low < expected < high
    model, X, y = regression
    found = ReportData.of(model, X, y).test
    assert found is not None
    expected = mean_squared_error(y, model.predict(X)) ** 0.5
    assert found.score(model.predictor_.metric) == pytest.approx(-model.score(X, y))
    assert found.score(get_metric("rmse", model.predictor_.task)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (None, slice(0, 4), "y_test belongs to X_test"),
        (slice(0, 5), slice(0, 4), "different lengths: 5 and 4"),
    ],
)
def test_a_test_set_that_cannot_be_used(binary: Any, rows: slice | None, columns: slice, message: str) -> None:
    model, X, y, _ = binary
    with pytest.raises(InputError, match=message):
        ReportData.of(model, None if rows is None else X[rows], y[columns])

"""scikit-learn's own checks of an estimator; the exceptions stand in one table, each with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from windvane import AutoClassifier, AutoRegressor

OPTIONS: dict[str, Any] = {"n_trials": 2, "random_state": 0, "verbose": 0, "n_jobs": 1}
QUICK: dict[str, Any] = {**OPTIONS, "families": ["linear"]}

# check -> why windvane does otherwise
EXCEPTIONS = {
    "check_sample_weight_equivalence_on_dense_data": "a repeated row can stand in two folds, a weighted one cannot",
    "check_sample_weight_equivalence_on_sparse_data": "a repeated row can stand in two folds, a weighted one cannot",
}
OF_REGRESSORS = {"check_regressors_train": "wants R2 from score; score is the run's metric, here the negative rmse"}


def exceptions(estimator: Any) -> dict[str, str]:
    """The table, as scikit-learn wants it."""
    return EXCEPTIONS | (OF_REGRESSORS if isinstance(estimator, AutoRegressor) else {})


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
@parametrize_with_checks(
    [AutoClassifier(**QUICK), AutoRegressor(**QUICK)], expected_failed_checks=exceptions, xfail_strict=True
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [AutoClassifier(**OPTIONS), AutoRegressor(**OPTIONS)], expected_failed_checks=exceptions, xfail_strict=True
)
def test_scikit_learn_with_default_families(estimator: Any, check: Any) -> None:
    check(estimator)

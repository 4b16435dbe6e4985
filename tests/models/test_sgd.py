from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case
from sklearn.linear_model import SGDClassifier, SGDRegressor

from windvane.models import FAMILIES

FAMILY = FAMILIES["sgd"]
LOSSES = ["hinge", "modified_huber", "squared_hinge", "perceptron", "passive_aggressive"]


def test_epochs_are_those_of_scikit_learn(case: Case) -> None:
    model: Any = case.start(FAMILY)
    model.grow(6)
    rows = model._encoder.fit_transform(case.train.table, case.train.target, case.setting.task)
    classify = case.setting.task.is_classification
    other: Any = (
        SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01)
        if classify
        else SGDRegressor(learning_rate="constant", eta0=0.001)
    )
    for i in range(6):
        other.random_state = int(np.random.SeedSequence([case.setting.seed, i]).generate_state(1)[0])
        if classify:
            other.partial_fit(rows, case.train.target, np.arange(case.setting.task.n_classes))
        else:
            other.partial_fit(rows, model._units.shrink(case.train.target))
    np.testing.assert_allclose(model.now[:, :-1], np.atleast_2d(other.coef_), rtol=1e-12)
    np.testing.assert_allclose(model.now[:, -1], other.intercept_, rtol=1e-12)
    if classify and model.best_iteration == 6:
        test = model._encoder.transform(case.test.table)
        np.testing.assert_allclose(model.predict(case.test.table), other.predict_proba(test), atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_losses_without_probabilities_are_calibrated(loss: str, kind: Any, tmp_path: Path) -> None:
    case = make_case(kind, n=1500)
    model: Any = case.start(FAMILY, {"loss": loss})
    model.grow(32)
    found = model.predict(case.test.table)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    prior = np.bincount(case.train.target) / len(case.train.target)
    assert case.loss(found) < 0.8 * case.loss(np.tile(prior, (len(found), 1)))
    model.save(tmp_path)
    np.testing.assert_array_equal(FAMILY.load(tmp_path, case.setting).predict(case.test.table), found)


def test_the_rows_that_calibrate_are_not_learned_from() -> None:
    case = make_case("binary")
    model: Any = case.start(FAMILY, {"loss": "hinge"})
    learned, calibrating = model._rows[0], model._sigmoid_rows[0]
    assert len(learned) + len(calibrating) == len(case.train.target)
    assert 0.15 < len(calibrating) / len(case.train.target) < 0.25
    both = {row.tobytes() for row in learned} & {row.tobytes() for row in calibrating}
    assert not both


@pytest.mark.parametrize("loss", ["huber", "epsilon_insensitive", "squared_epsilon_insensitive", "passive_aggressive"])
@pytest.mark.parametrize("average", [False, True])
def test_regression_losses(loss: str, average: bool) -> None:
    case = make_case("regression")
    C = {"C": 0.01} if loss == "passive_aggressive" else {}
    model = case.start(FAMILY, {"loss": loss, "average": average, **C})
    model.grow(32)
    assert case.loss(model.predict(case.test.table)) < 0.7


def test_averages_are_means_over_epochs(tmp_path: Path) -> None:
    case = make_case("binary")
    config = {"average": True, "schedule": "constant", "eta0": 0.05}
    model: Any = case.start(FAMILY, config)
    seen = []
    for i in range(1, 6):
        model.grow(i)
        seen.append(model.now)
    np.testing.assert_allclose(model.mean, np.mean(seen, axis=0), rtol=1e-12)
    model.save(tmp_path)
    continued: Any = case.start(FAMILY, config, kept=tmp_path)
    for either in (model, continued):
        either.grow(9)
    np.testing.assert_array_equal(continued.mean, model.mean)


def test_steps_that_are_too_long_end_the_training() -> None:
    case = make_case("regression")
    model = case.start(FAMILY, {"schedule": "constant", "eta0": 0.1, "scale": "none", "onehot_max": 10})
    model.grow(64)
    assert model.finished and 0 < model.iterations < 64
    assert np.isfinite(model.predict(case.test.table)).all()

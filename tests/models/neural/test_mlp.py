from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case

from windvane.models import FAMILIES
from windvane.runtime.columns.encoder import float32

FAMILY = FAMILIES["mlp"]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_forward_pass_is_that_of_scikit_learn(case: Case, activation: str) -> None:
    model: Any = case.create_model(
        FAMILY, {"activation": activation, "learning_rate": 0.0003}
    )  # so slow that each epoch is the best
    model.train_until(3)
    assert model.best_iteration == 3
    network, rows = model._network, float32(model.encoder.transform(case.test.table))
    if case.context.task.is_classification:
        np.testing.assert_allclose(model.predict(case.test.table), network.predict_proba(rows), atol=1e-6)
    else:
        scores = model.target_scaler.transform(model.predict(case.test.table))
        np.testing.assert_allclose(scores, network.predict(rows), atol=1e-6)


def test_adam_goes_on_with_its_moments(case: Case, tmp_path: Path) -> None:
    one: Any = case.create_model(FAMILY)
    one.train_until(5)
    one.save(tmp_path)
    two: Any = case.create_model(FAMILY, checkpoint=tmp_path)
    for model in (one, two):
        model.train_until(9)
    for a, b in zip(
        one.parameters + one.exp_avg + one.exp_avg_sq, two.parameters + two.exp_avg + two.exp_avg_sq, strict=True
    ):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)
    assert one.updates == two.updates and one.early_stopping.losses == two.early_stopping.losses


def test_the_best_epoch_predicts_after_the_network_got_worse() -> None:
    case = make_case("binary", n=300)
    model: Any = case.create_model(FAMILY, {"learning_rate": 0.03, "width": 264, "depth": 3})
    model.train_until(512)
    assert model.finished and model.best_iteration < model.iterations < 512
    best = case.create_model(FAMILY, {"learning_rate": 0.03, "width": 264, "depth": 3})
    best.train_until(model.best_iteration)
    np.testing.assert_array_equal(model.predict(case.test.table), best.predict(case.test.table))


def test_a_network_that_diverges_ends_with_its_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case("binary", n=300)
    model: Any = case.create_model(FAMILY)
    model.train_until(3)
    before = model.predict(case.test.table)
    model._network.coefs_[0][0, 0] = np.inf
    model.train_until(8)
    assert model.finished and model.iterations == 3
    np.testing.assert_array_equal(model.predict(case.test.table), before)

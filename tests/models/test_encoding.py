from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from cases import make_case
from toys import sample

from windvane.models import FAMILIES
from windvane.models.base import DataSplit
from windvane.models.encoding import (
    DENSE,
    balance_class_weights,
    class_weight_space,
    encoder_settings,
    preprocessing_space,
)
from windvane.models.search_space import fill_defaults, validate


def test_the_defaults_are_what_dense_encoding_always_was() -> None:
    default = encoder_settings(fill_defaults({}, preprocessing_space("standard")))
    assert default == replace(DENSE, min_frequency=1e-3)
    assert encoder_settings(fill_defaults({}, preprocessing_space("quantile"))) == replace(default, scale="quantile")


def test_every_choice_reaches_the_encoder() -> None:
    space, rng = preprocessing_space("standard"), np.random.default_rng(0)
    for _ in range(100):
        config = sample(space, rng)
        validate(config, space)
        chosen = asdict(encoder_settings(config))
        assert all(chosen[name] == value for name, value in config.items() if name != "merge_rare")
        assert (chosen["min_frequency"] > 0) == config["merge_rare"]


@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_classes_weigh_the_same(weighted: bool) -> None:
    train = make_case("multiclass").train
    rows = np.flatnonzero((train.target != 0) | (np.arange(len(train.target)) % 9 == 0))
    weight = np.linspace(1, 2, len(rows)) if weighted else None
    part = DataSplit(train.table.take(rows), train.target[rows], weight)
    assert balance_class_weights({"class_weight": "none"}, part) is part and balance_class_weights({}, part) is part
    found = balance_class_weights({"class_weight": "balanced"}, part).weight
    assert found is not None
    totals = np.bincount(part.target, weights=found)
    np.testing.assert_allclose(totals, totals.mean())
    before = np.ones(len(rows)) if weight is None else weight
    np.testing.assert_allclose(found.sum(), before.sum())
    ratio = (found / before)[part.target == 1]
    np.testing.assert_allclose(ratio, ratio[0])


@pytest.mark.parametrize("name", ["linear", "mlp", "network", "sgd", "kernel", "neighbours"])
def test_balanced_classes_are_predicted_more_evenly(name: str) -> None:
    case = make_case("binary", n=1000)
    rare = np.flatnonzero((case.train.target == 0) | (np.arange(len(case.train.target)) % 8 == 0))
    train = case.train.take(rare)
    assert set(class_weight_space(case.context.task)) <= set(FAMILIES[name].search_space(case.context.task))
    shares: list[float] = []
    for choice in ("none", "balanced"):
        model: Any = replace(case, train=train).create_model(FAMILIES[name], {"class_weight": choice})
        model.train_until(64)
        shares.append(float(model.predict(case.test.table)[:, 1].mean()))
    assert shares[0] + 0.05 < shares[1]

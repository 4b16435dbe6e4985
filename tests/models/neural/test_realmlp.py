from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case

from windvane.errors import ModelFileError
from windvane.models import FAMILIES
from windvane.models.base import DataSplit
from windvane.models.early_stopping import EarlyStopping
from windvane.runtime.columns.table import Table
from windvane.runtime.serialization import read_arrays, write_arrays

FAMILY = FAMILIES["network"]


def test_adam_goes_on_with_its_moments(case: Case, tmp_path: Path) -> None:
    one: Any = case.create_model(FAMILY)
    one.train_until(2)
    one.save(tmp_path)
    two: Any = case.create_model(FAMILY, checkpoint=tmp_path)
    for model in (one, two):
        model.train_until(5)
    for name in ("parameters", "exp_avg", "exp_avg_sq"):
        np.testing.assert_array_equal(getattr(one.adam, name), getattr(two.adam, name))
    assert one.adam.updates == two.adam.updates and one.early_stopping.losses == two.early_stopping.losses


def test_embeddings_find_what_is_periodic() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.uniform(-3, 3, (2000, 2))
    part = DataSplit(Table(numbers, 2), np.sin(6 * numbers[:, 0]) + numbers[:, 1])
    case = make_case("regression", n=2000)
    rows = np.arange(2000) % 4
    train, validation, test = (part.take(r) for r in map(np.flatnonzero, (rows > 1, rows == 1, rows == 0)))
    case = replace(case, train=train, validation=validation, test=test)
    losses = []
    for embedding in ("periodic", "none"):
        model: Any = case.create_model(FAMILY, {"embedding": embedding, "sigma": 1.0, "dropout": 0.0})
        model.train_until(15)
        losses.append(case.loss(model.predict(test.table)))
        assert model.spec.embedded == (2 if embedding == "periodic" else 0)
    assert losses[0] < 0.5 * losses[1]


def test_many_or_sparse_columns_are_not_embedded() -> None:
    case = make_case("binary", n=200, sparse=True)
    model: Any = case.create_model(FAMILY)
    assert model.spec.embedded == 0
    wide = Table(np.random.default_rng(0).normal(size=(120, 100)), 100)
    model = replace(
        case, train=DataSplit(wide, case.train.target), validation=DataSplit(wide, case.train.target)
    ).create_model(FAMILY)
    assert model.spec.embedded == 0


def test_a_whole_cycle_without_gain_ends_the_training() -> None:
    case = make_case("binary", n=300)
    model: Any = case.create_model(FAMILY, {"dropout": 0.0, "weight_decay": 1e-4})
    model.train_until(511)
    assert model.finished and model.iterations in FAMILY.checkpoint_iterations({}, case.context.task)[2:-1]
    assert model.best_iteration <= model.iterations // 2
    best = case.create_model(FAMILY, {"dropout": 0.0, "weight_decay": 1e-4})
    best.train_until(model.best_iteration)
    np.testing.assert_array_equal(model.predict(case.test.table), best.predict(case.test.table))


@pytest.mark.parametrize(("gain", "finished"), [(0.004, True), (0.006, False), (-0.1, True)])
def test_a_cycle_that_gains_next_to_nothing_ends_the_training(gain: float, finished: bool) -> None:
    model: Any = make_case("binary", n=60).create_model(FAMILY)
    for epochs, ends in ((7, False), (15, finished)):
        model.early_stopping = EarlyStopping(
            0, [*np.linspace(2.0, 1.0, epochs // 2), *[1.5] * (epochs - epochs // 2 - 1), 1.0 - gain]
        )
        model.iterations = epochs
        assert model._is_finished(1.0 - gain) is ends


def test_a_network_that_diverges_ends_with_its_best_parameters() -> None:
    case = make_case("regression", n=300)
    model: Any = case.create_model(FAMILY)
    model.train_until(3)
    before = model.predict(case.test.table)
    model.adam.parameters[:] = np.inf
    model.train_until(8)
    assert model.finished and model.iterations == 4
    np.testing.assert_array_equal(model.predict(case.test.table), before)


def test_one_that_diverges_at_once_predicts_the_prior() -> None:
    case = make_case("multiclass", n=300)
    model: Any = case.create_model(FAMILY)
    model.adam.parameters[:] = np.nan
    model.train_until(3)
    assert model.finished
    found = model.predict(case.test.table)
    shares = np.bincount(case.train.target, minlength=3) / len(case.train.target)
    np.testing.assert_allclose(found, np.tile(shares, (len(found), 1)), atol=0.01)


def test_numbers_stay_within_what_training_saw() -> None:
    case = make_case("regression", n=300)
    model: Any = case.create_model(FAMILY)
    model.train_until(7)
    far = replace(case.test.table, matrix=case.test.table.matrix * 1e6)
    found = model.predict(far)
    assert found.min() >= case.train.target.min() - 1e-4 and found.max() <= case.train.target.max() + 1e-4


def test_smoothed_labels_make_it_less_sure() -> None:
    case = make_case("binary", n=300)
    sure = []
    for smoothing in (0.0, 0.1):
        model: Any = case.create_model(FAMILY, {"label_smoothing": smoothing, "dropout": 0.0})
        model.train_until(63)
        model.best = model.adam.parameters
        sure.append(np.mean(model.predict(case.test.table).max(axis=1)))
    assert sure[1] < sure[0]


@pytest.mark.parametrize(
    ("file", "name"), [("model.npz", "parameters"), ("model.npz", "input_scale"), ("training.npz", "exp_avg")]
)
def test_arrays_that_do_not_go_together_are_refused(file: str, name: str, tmp_path: Path) -> None:
    case = make_case("binary", n=200)
    model: Any = case.create_model(FAMILY)
    model.train_until(1)
    model.save(tmp_path)
    arrays = read_arrays(tmp_path / file)
    write_arrays(tmp_path / file, {**arrays, name: arrays[name][:-1]})
    with pytest.raises(ModelFileError, match="do not go together"):
        case.create_model(FAMILY, checkpoint=tmp_path)

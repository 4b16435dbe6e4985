"""What every family promises, each on each kind of problem."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case, unseen
from toys import sample

from windvane.data.task import Task
from windvane.errors import ModelFileError
from windvane.models import TABLE_FAMILIES
from windvane.models.base import DataSplit
from windvane.models.search_space import fill_defaults, validate
from windvane.runtime.columns.table import Table

TASK = Task("binary", n_rows=600, n_columns=6, n_classes=2)
SEVERAL = [name for name, family in TABLE_FAMILIES.items() if len(family.checkpoint_iterations({}, TASK)) > 1]
# One row or many: other orders of addition, of float32 for networks, of large terms that cancel for kernels.
TOLERANCE = {"mlp": 1e-5, "network": 1e-5, "kernel": 1e-8, "neighbours": 1e-6}
SLOW = {
    **{name: {"learning_rate": 0.01} for name in ("lightgbm", "catboost", "xgboost", "hist_gradient_boosting")},
    "sgd": {"learning_rate": "constant", "eta0": 1e-6},
}


@pytest.fixture(params=list(TABLE_FAMILIES))
def name(request: pytest.FixtureRequest) -> str:
    if "case" in request.fixturenames:
        case: Case = request.getfixturevalue("case")
        if not TABLE_FAMILIES[request.param].supports(case.context.task, case.train.table):
            pytest.skip(f"{request.param} does not support {case.context.task.kind}")
    return request.param


def few(name: str, case: Case) -> list[int]:
    """Give the totals to grow to in a test: the first steps, and one between them."""
    steps = TABLE_FAMILIES[name].checkpoint_iterations({}, case.context.task)[:2]
    return [steps[0], *([steps[0] + 3, steps[1]] if len(steps) > 1 else [])]


def test_beats_a_constant_and_gives_probabilities(name: str, case: Case) -> None:
    model = case.create_model(TABLE_FAMILIES[name])
    assert (model.iterations, model.finished) == (0, False)
    model.train_until(few(name, case)[-1])
    found = model.predict(case.test.table)
    if case.context.task.is_classification:
        prior = np.tile(np.bincount(case.train.target) / len(case.train.target), (len(found), 1))
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
        assert found.min() >= 0
    else:
        prior = np.full(len(found), case.train.target.mean())
    assert found.shape == prior.shape and found.dtype == np.float64
    assert case.loss(found) < 0.9 * case.loss(prior)


def test_growing_in_steps_is_one_fit(name: str, case: Case) -> None:
    totals = few(name, case)
    one, stepwise = case.create_model(TABLE_FAMILIES[name]), case.create_model(TABLE_FAMILIES[name])
    one.train_until(totals[-1])
    for total in totals:
        # A deadline far away must change nothing either.
        stepwise.train_until(total, deadline=time.monotonic() + 1000)
        stepwise.predict(case.validation.table)
    assert stepwise.iterations == one.iterations and stepwise.best_iteration == one.best_iteration
    np.testing.assert_array_equal(stepwise.predict(case.test.table), one.predict(case.test.table))


def test_a_checkpoint_predicts_the_same_and_resumes_as_if_never_interrupted(
    name: str, case: Case, tmp_path: Path
) -> None:
    family = TABLE_FAMILIES[name]
    first, *_, last = [*few(name, case), few(name, case)[-1]]
    model = case.create_model(family)
    model.train_until(first)
    model.save(tmp_path)
    opened = family.load(tmp_path, case.context)
    np.testing.assert_array_equal(opened.predict(case.test.table), model.predict(case.test.table))
    continued = case.create_model(family, checkpoint=tmp_path)
    assert continued.best_iteration == model.best_iteration
    assert (continued.iterations, continued.finished) == (model.iterations, model.finished)
    for grown in (model, continued):
        grown.train_until(last)
    np.testing.assert_array_equal(continued.predict(case.test.table), model.predict(case.test.table))
    again = tmp_path / "again"
    again.mkdir()
    continued.save(again)
    np.testing.assert_array_equal(
        family.load(again, case.context).predict(case.test.table), model.predict(case.test.table)
    )


def test_a_finished_model_keeps_only_what_predicts(name: str, case: Case, tmp_path: Path) -> None:
    family = TABLE_FAMILIES[name]
    for folder in ("growing", "finished", "again"):
        (tmp_path / folder).mkdir()
    model = case.create_model(family)
    model.train_until(few(name, case)[0])
    model.finished = False  # those of one iteration are
    model.save(tmp_path / "growing")
    growing = {file.name for file in (tmp_path / "growing").iterdir()}
    model.finished = True  # as by patience
    model.save(tmp_path / "finished")
    kept = {file.name for file in (tmp_path / "finished").iterdir()}
    assert kept == {file for file in growing if not file.startswith("training.")} | {"training.json"}
    again = case.create_model(family, checkpoint=tmp_path / "finished")
    again.train_until(10**6)
    assert (again.iterations, again.best_iteration, again.finished) == (model.iterations, model.best_iteration, True)
    again.save(tmp_path / "again")
    for found in (again, family.load(tmp_path / "again", case.context)):
        np.testing.assert_array_equal(found.predict(case.test.table), model.predict(case.test.table))


@pytest.mark.alone
def test_a_deadline_in_the_past_stops_at_once(name: str) -> None:
    case = make_case("binary")
    model = case.create_model(TABLE_FAMILIES[name])
    model.train_until(10**6, deadline=time.monotonic() - 1)
    assert model.iterations == 0 and not model.finished
    model.train_until(few(name, case)[0])
    before = model.predict(case.test.table)
    grown, begin = model.iterations, time.monotonic()
    model.train_until(10**6, deadline=time.monotonic() - 1)
    assert time.monotonic() - begin < 0.5
    assert model.iterations == grown
    np.testing.assert_array_equal(model.predict(case.test.table), before)


@pytest.mark.alone
@pytest.mark.parametrize("name", SEVERAL)
def test_a_deadline_stops_between_iterations(name: str, tmp_path: Path) -> None:
    case = make_case("binary", n=8000)
    slow: dict[str, Any] = SLOW.get(name, {})
    model = case.create_model(TABLE_FAMILIES[name], slow)
    begin = time.monotonic()
    model.train_until(10**6, deadline=begin + 0.1)
    assert time.monotonic() - begin < 5.0
    last = TABLE_FAMILIES[name].checkpoint_iterations({}, case.context.task)[-1]
    assert 0 < model.iterations < last and not model.finished
    model.save(tmp_path)
    continued = case.create_model(TABLE_FAMILIES[name], slow, checkpoint=tmp_path)
    continued.train_until(model.iterations + 2)
    assert continued.iterations == model.iterations + 2


def test_what_training_never_saw_is_predicted(name: str, case: Case) -> None:
    model = case.create_model(TABLE_FAMILIES[name])
    model.train_until(few(name, case)[0])
    found = model.predict(unseen(case.test.table))
    assert np.isfinite(found).all()
    # A code of the vocabulary that is only in the test part, and one row alone.
    rare = case.test.table.matrix.copy()
    rare[:, 5] = 59
    together = model.predict(replace(case.test.table, matrix=rare))
    alone = model.predict(replace(case.test.table, matrix=rare).take(np.array([7])))
    tolerance = TOLERANCE.get(name, 1e-12)
    np.testing.assert_allclose(alone[0], together[7], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("texts", "sparse"), [(True, False), (False, True), (True, True)])
def test_texts_and_sparse_parts(name: str, texts: bool, sparse: bool, tmp_path: Path) -> None:
    case = make_case("multiclass", n=200, texts=texts, sparse=sparse)
    if not TABLE_FAMILIES[name].supports(case.context.task, case.train.table):
        assert sparse
        return
    model = case.create_model(TABLE_FAMILIES[name])
    model.train_until(few(name, case)[0])
    found = model.predict(case.test.table)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    model.save(tmp_path)
    np.testing.assert_array_equal(TABLE_FAMILIES[name].load(tmp_path, case.context).predict(case.test.table), found)


def test_a_weighed_model_is_kept(name: str, case: Case, tmp_path: Path) -> None:
    weighed = replace(case.train, weight=np.linspace(0.5, 2, len(case.train.target)))
    model = replace(case, train=weighed).create_model(TABLE_FAMILIES[name])
    model.train_until(few(name, case)[0])
    model.save(tmp_path)
    found = model.predict(case.test.table)
    np.testing.assert_array_equal(TABLE_FAMILIES[name].load(tmp_path, case.context).predict(case.test.table), found)
    again = replace(case, train=weighed).create_model(TABLE_FAMILIES[name], checkpoint=tmp_path)
    again.train_until(few(name, case)[-1])
    model.train_until(few(name, case)[-1])
    np.testing.assert_allclose(again.predict(case.test.table), model.predict(case.test.table), rtol=1e-6, atol=1e-6)


def test_weights_count(name: str, case: Case) -> None:
    if name == "discriminant":
        pytest.skip("scikit-learn's discriminants take no weights")
    # Rows of weight almost 0 are as good as not there: their wrong targets do no harm.
    wrong = np.arange(len(case.train.target)) % 3 == 0
    target = np.where(wrong, case.train.target[0], case.train.target)
    weight = np.where(wrong, 1e-6, 1.0)
    losses = []
    for given in (weight, None):
        spoilt = replace(case, train=DataSplit(case.train.table, target, given))
        model = spoilt.create_model(TABLE_FAMILIES[name])
        model.train_until(few(name, case)[-1])
        losses.append(case.loss(model.predict(case.test.table)))
    assert losses[0] < losses[1]


def test_a_class_that_the_training_set_lacks(name: str) -> None:
    case = make_case("multiclass")
    present = case.train.take(np.flatnonzero(case.train.target != 1))
    model = replace(case, train=present).create_model(TABLE_FAMILIES[name])
    model.train_until(few(name, case)[0])
    found = model.predict(case.test.table)
    assert found.shape == (len(case.test.target), 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert found[:, 1].max() < 0.2


def test_a_training_set_of_one_class(name: str, tmp_path: Path) -> None:
    case = make_case("multiclass")
    if name in ("lightgbm", "catboost", "mlp"):
        pytest.skip("its library decides what to make of it")
    single = case.train.take(np.flatnonzero(case.train.target == 1))
    model = replace(case, train=single).create_model(TABLE_FAMILIES[name])
    model.train_until(few(name, case)[0])
    found = model.predict(case.test.table)
    assert found[:, 1].min() > 0.9
    model.save(tmp_path)
    np.testing.assert_array_equal(TABLE_FAMILIES[name].load(tmp_path, case.context).predict(case.test.table), found)


def test_every_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    case = make_case("binary", n=200, texts=True)
    model = case.create_model(TABLE_FAMILIES[name])
    model.train_until(few(name, case)[0])
    model.save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        half = len(whole) // 2
        flipped = whole[:half] + bytes(255 - byte for byte in whole[half : half + 40]) + whole[half + 40 :]
        for damaged in (None, b"", whole[:half], flipped):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            with pytest.raises(ModelFileError):
                case.create_model(TABLE_FAMILIES[name], checkpoint=tmp_path)
            if not path.name.startswith("training"):  # which only continuing needs
                with pytest.raises(ModelFileError):
                    TABLE_FAMILIES[name].load(tmp_path, case.context)
            path.write_bytes(whole)
    TABLE_FAMILIES[name].load(tmp_path, case.context)


def test_random_configurations_of_the_space_work(name: str, case: Case) -> None:
    space = TABLE_FAMILIES[name].search_space(case.context.task)
    validate(fill_defaults({}, space), space)
    small = replace(case, train=case.train.take(np.arange(100)))
    for seed in range(3):
        config = sample(space, np.random.default_rng(seed))
        validate(config, space)
        model = small.create_model(TABLE_FAMILIES[name], config)
        model.train_until(2)
        assert np.isfinite(model.predict(case.test.table)).all()


def test_steps_about_double(name: str, case: Case) -> None:
    steps = TABLE_FAMILIES[name].checkpoint_iterations({}, case.context.task)
    assert all(1.5 <= later / earlier <= 2.5 for earlier, later in itertools.pairwise(steps))


@pytest.mark.parametrize("value", [5.0, np.nan])
def test_a_column_that_was_constant_in_training_changes_nothing(name: str, case: Case, value: float) -> None:
    def with_first(table: Table, first: Any) -> Table:
        matrix = table.matrix.copy()
        matrix[:, 0] = first
        return replace(table, matrix=matrix)

    train, valid = (replace(part, table=with_first(part.table, value)) for part in (case.train, case.validation))
    model = replace(case, train=train, validation=valid).create_model(TABLE_FAMILIES[name])
    model.train_until(few(name, case)[0])
    expected = model.predict(with_first(case.test.table, value))
    for other in (5.5, -1e6, 1e6):
        found = model.predict(with_first(case.test.table, other))
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE.get(name, 1e-9))

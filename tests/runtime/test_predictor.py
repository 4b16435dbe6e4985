from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windvane.data.column_types import infer_schema
from windvane.data.task import Task
from windvane.evaluation.metrics import get_metric
from windvane.persistence import Predictor
from windvane.runtime import predictor as module
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.ensemble import Ensemble, Member, apply_temperature
from windvane.runtime.errors import ModelFileError
from windvane.runtime.models.realmlp import PORTION
from windvane.runtime.targets import Targets

BINARY = Task("binary", 100, 2, 2)
NUMBER = Task("regression", 100, 2)
LABELS = np.array(["no", "yes"])


class Fixed:
    """Predicts a fixed function of the rows and counts them."""

    def __init__(self, slope: float, task: Task) -> None:
        self.slope, self.task, self.seen = slope, task, 0

    def predict(self, table: Table) -> Floats:
        self.seen += table.n_rows
        value = self.slope * table.matrix[:, 0]
        if not self.task.is_classification:
            return value
        p = 1 / (1 + np.exp(-value))
        return np.column_stack([1 - p, p])


def make(task: Task, metric: str = "auto", **ensemble: Any) -> Predictor:
    members = (Member(4, "checkpoint_0001", "toy", 0.7), Member(2, "checkpoint_0000", "toy", 0.3))
    models: Any = [[Fixed(1.0, task), Fixed(3.0, task)], [Fixed(-0.5, task)]]
    return Predictor(
        task=task,
        schema=infer_schema(pd.DataFrame({"a": [1.0, 2.0, 3.5]})),
        metric=get_metric(metric, task, None),
        classes=LABELS if task.is_classification else None,
        ensemble=Ensemble(members, loss=0.1, **ensemble),
        models=models,
        folders=[],
    )


def rows(n: int = 40) -> Table:
    return Table(np.random.default_rng(0).normal(0, 2, (n, 2)), 2)


def by_hand(task: Task, table: Table) -> Floats:
    first, second, third = (Fixed(slope, task).predict(table) for slope in (1.0, 3.0, -0.5))
    return 0.35 * first + 0.35 * second + 0.3 * third


@pytest.mark.parametrize("task", [BINARY, NUMBER], ids=["binary", "regression"])
@pytest.mark.parametrize("threads", [1, 3])
def test_members_are_weighted_and_folds_averaged(task: Task, threads: int) -> None:
    predictor = replace(make(task), threads=threads)
    for n in (1, 40, 1000):
        np.testing.assert_allclose(predictor.predict_raw(rows(n)), by_hand(task, rows(n)), rtol=1e-12)


def test_members_are_weighted_for_each_of_several_targets() -> None:
    task = Task("regression", 40, 2, n_targets=2)

    class Pair(Fixed):
        def predict(self, table: Table) -> Floats:
            return self.slope * table.matrix

    members = (Member(4, "c", "toy", 0.6, shares=(0.9, 0.3)), Member(2, "c", "toy", 0.4, shares=(0.1, 0.7)))
    models: Any = [[Pair(1.0, task), Pair(3.0, task)], [Pair(-0.5, task)]]
    targets = Targets(np.array(["a", "b"]), "frame")
    predictor = replace(make(NUMBER), task=task, targets=targets, models=models, ensemble=Ensemble(members, 0.1))
    found = predictor.predict_raw(rows())
    first, second = rows().matrix.T
    np.testing.assert_allclose(found, np.column_stack([(1.8 - 0.05) * first, (0.6 - 0.35) * second]), rtol=1e-12)
    record = predictor.ensemble.to_json()
    assert Ensemble.from_json(record) == predictor.ensemble
    for shares in ((0.9, 0.4), (0.9,), (0.9, -0.3), (0.9, "x")):
        damaged = {**record, "members": [{**record["members"][0], "shares": shares}, record["members"][1]]}
        with pytest.raises(ModelFileError, match="damaged"):
            Ensemble.from_json(damaged)


@pytest.mark.parametrize("n", [501, 1024, 3000])
def test_threads_share_the_rows(n: int) -> None:
    predictor = replace(make(BINARY), threads=3)
    np.testing.assert_array_equal(predictor.predict_raw(rows(n)), make(BINARY).predict_raw(rows(n)))
    sizes = [share.n_rows for share in predictor._shares(rows(n))]
    assert sum(sizes) == n and len(sizes) <= 3
    assert all(size % PORTION == 0 for size in sizes[:-1])


@pytest.mark.parametrize("task", [BINARY, NUMBER], ids=["binary", "regression"])
@pytest.mark.parametrize("n", [6, 7, 8, 40])
def test_pieces_of_a_large_table_change_nothing(task: Task, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(task).predict_raw(rows(n))
    monkeypatch.setattr(module, "CHUNK_ROWS", 7)
    predictor = make(task)
    np.testing.assert_array_equal(predictor.predict_raw(rows(n)), whole)
    seen: list[Any] = [model.seen for folds in predictor.models for model in folds]  # type: ignore[attr-defined]
    assert seen == [n] * 3


@pytest.mark.parametrize("task", [BINARY, NUMBER], ids=["binary", "regression"])
def test_no_rows(task: Task) -> None:
    assert make(task).predict_raw(rows(0)).shape == ((0, 2) if task is BINARY else (0,))


def test_temperature_is_applied_to_the_blend() -> None:
    found = make(BINARY, temperature=2.0).predict_raw(rows())
    np.testing.assert_allclose(found, apply_temperature(by_hand(BINARY, rows()), 2.0), rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_fold_models_are_averaged_by_roots() -> None:
    found = make(BINARY, averages_roots=True).predict_raw(rows())
    one, other, third = (Fixed(slope, BINARY).predict(rows()) for slope in (1.0, 3.0, -0.5))
    first = np.array(
        [[(p**0.5 + q**0.5) ** 2 for p, q in zip(*pair, strict=True)] for pair in zip(one, other, strict=True)]
    )
    np.testing.assert_allclose(found, 0.7 * first / first.sum(axis=1, keepdims=True) + 0.3 * third, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_members_have_a_temperature_that_flattens_no_average(temperature: float) -> None:
    predictor = make(BINARY)
    members = tuple(replace(member, temperature=temperature) for member in predictor.ensemble.members)
    found = replace(predictor, ensemble=replace(predictor.ensemble, members=members)).predict_raw(rows())
    one, other, third = (Fixed(slope, BINARY).predict(rows()) for slope in (1.0, 3.0, -0.5))
    average = (one + other) / 2
    powers = (average ** (1 / min(1, temperature)), third ** (1 / temperature))
    first, second = (power / power.sum(axis=1, keepdims=True) for power in powers)
    np.testing.assert_allclose(found, 0.7 * first + 0.3 * second, rtol=1e-9)


@given(st.integers(1, 6), st.integers(1, 20), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_the_average_by_roots_lies_between_the_means(folds: int, n: int, k: int, seed: int) -> None:
    """Between the arithmetic and the geometric mean; of models that agree it is what they predict."""
    predictions = np.random.default_rng(seed).dirichlet(np.full(k, 0.5), size=(folds, n))  # (folds, n, k)
    ensemble = Ensemble((), 0.0, averages_roots=True)
    found = ensemble.average_folds(list(predictions))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(ensemble.average_folds([predictions[0]] * folds), predictions[0], rtol=1e-9)
    unscaled = found * (np.sqrt(predictions).mean(axis=0) ** 2).sum(axis=1, keepdims=True)
    assert (unscaled <= predictions.mean(axis=0) * (1 + 1e-9)).all()
    assert (unscaled >= np.exp(np.log(np.maximum(predictions, 1e-300)).mean(axis=0)) * (1 - 1e-9)).all()


def test_labels_are_the_largest_after_decision_weights() -> None:
    blend = by_hand(BINARY, rows())
    plain = make(BINARY).predict_table(rows())
    np.testing.assert_array_equal(plain, np.where(blend[:, 1] > 0.5, "yes", "no"))
    leaning = make(BINARY, decision_weights=(0.25, 1.0))
    np.testing.assert_array_equal(leaning.predict_table(rows()), np.where(blend[:, 1] > 0.2, "yes", "no"))
    np.testing.assert_allclose(leaning.predict_raw(rows()), blend)  # probabilities stay what they are


def test_numbers_are_predicted_as_they_are() -> None:
    np.testing.assert_allclose(make(NUMBER).predict_table(rows()), by_hand(NUMBER, rows()))

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse as sp

from windvane.data import generated as module
from windvane.data.generated import fit_generated
from windvane.data.task import Kind, Task
from windvane.errors import ModelFileError
from windvane.models.encoding import NATIVE, fit_encoder
from windvane.runtime.columns.encoder import Encoder
from windvane.runtime.columns.generated_features import GeneratedFeatures
from windvane.runtime.columns.table import Table
from windvane.runtime.serialization import read_arrays, write_arrays

CLASSES: dict[Kind, int] = {"binary": 2, "multiclass": 3, "regression": 0}


def make(kind: Kind, n: int = 240, seed: int = 0) -> tuple[Table, Any, Task]:
    """Make three numbers and three categories with missing values; a ratio and a pair of categories decide."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, 3)) + np.array([0.0, 3.0, 0.0])
    codes = np.column_stack([rng.integers(0, k, n) for k in (4, 8, 3)]).astype(float)
    score = numbers[:, 0] / numbers[:, 1] + (codes[:, 0] == codes[:, 2]) + codes[:, 1] / 4 + rng.normal(size=n) / 5
    numbers[rng.random((n, 3)) < 0.05] = np.nan
    codes[rng.random((n, 3)) < 0.05] = np.nan
    target: Any = score
    if kind != "regression":
        k = CLASSES[kind]
        target = np.searchsorted(np.quantile(score, np.arange(1, k) / k), score).astype(np.int64)
    table = Table(np.hstack([numbers, codes]), 3, (4, 8, 3))
    return table, target, Task(kind, n, 6, CLASSES[kind])


@settings(deadline=None, max_examples=8)
@given(kind=st.sampled_from(list(CLASSES)), seed=st.integers(0, 99), row=st.integers(0, 59))
def test_one_row_equals_its_batch(kind: Kind, seed: int, row: int) -> None:
    generated, _ = fit_generated(*make(kind, seed=seed), seed=0)
    table = make(kind, 60, seed + 1)[0]
    together = generated.transform(table)
    alone = generated.transform(table.take(np.array([row])))
    np.testing.assert_array_equal(alone.matrix[0], together.matrix[row])
    assert alone.n_numbers == together.n_numbers


@pytest.mark.parametrize("kind", CLASSES)
def test_columns_come_behind_the_numbers_and_leave_the_rest(kind: Kind) -> None:
    table, target, task = make(kind)
    generated, extended = fit_generated(table, target, task, seed=0)
    assert generated.arithmetic and generated.crosses and generated.groups
    assert extended.n_numbers > 3 and extended.cardinalities == table.cardinalities
    for one in (extended, generated.transform(table)):
        np.testing.assert_array_equal(one.matrix[:, :3], table.matrix[:, :3])
        np.testing.assert_array_equal(one.matrix[:, one.n_numbers :], table.matrix[:, 3:])


@pytest.mark.parametrize("kind", CLASSES)
def test_unseen_and_missing_categories_have_a_place(kind: Kind) -> None:
    table, target, task = make(kind)
    generated, _ = fit_generated(table, target, task, seed=0)
    unseen, missing = table.matrix[:5].copy(), table.matrix[:5].copy()
    unseen[:, 3:], missing[:, 3:] = table.cardinalities, np.nan
    for matrix in (unseen, missing):
        found = generated.transform(replace(table, matrix=matrix))
        begin = 3 + len(generated.arithmetic)
        for cross in generated.crosses:
            means = found.matrix[:, begin : begin + len(cross.prior)]
            assert np.isfinite(means).all()
            if matrix is unseen:
                np.testing.assert_array_equal(means, np.tile(cross.prior, (5, 1)))
            begin += len(cross.prior)
    beyond = replace(table, matrix=np.where(np.arange(6) >= 3, 99.0, table.matrix[:5]))
    expected = generated.transform(replace(table, matrix=unseen)).matrix
    columns = slice(3, generated.transform(beyond).n_numbers)
    np.testing.assert_array_equal(generated.transform(beyond).matrix[:, columns], expected[:, columns])


def test_means_of_the_training_rows_are_out_of_fold() -> None:
    """A category with a level for each row tells the target of a row only to somebody who saw it."""
    n = 200
    rng = np.random.default_rng(0)
    table = Table(np.column_stack([rng.normal(size=n), np.arange(n, dtype=float)]), 1, (n,))
    target = rng.normal(size=n)
    generated, extended = fit_generated(table, target, Task("regression", n, 2), seed=0)
    place = 1 + len(generated.arithmetic)
    assert [cross.categories for cross in generated.crosses] == [(0,)]
    in_training, later = extended.matrix[:, place], generated.transform(table).matrix[:, place]
    assert abs(np.corrcoef(in_training, target)[0, 1]) < 0.3
    assert np.corrcoef(later, target)[0, 1] > 0.99


def test_what_is_not_finite_is_missing() -> None:
    numbers = np.array([[1.0, 0.0], [1e200, 1e200], [np.nan, 1.0]])
    for operation in (("/", 0, 1), ("*", 0, 1)):
        found = module.combine(numbers, operation)
        assert np.isnan(found[1:]).all() or operation[0] == "/"
        assert not np.isinf(found).any()


@pytest.mark.parametrize("kind", CLASSES)
def test_they_come_back_from_arrays_and_with_their_encoder(kind: Kind, tmp_path: Path) -> None:
    table, target, task = make(kind)
    generated, _ = fit_generated(table, target, task, seed=0)
    again = GeneratedFeatures.from_arrays(generated.to_arrays())
    np.testing.assert_array_equal(again.transform(table).matrix, generated.transform(table).matrix)
    encoder, encoded = fit_encoder(replace(NATIVE, generated=True), table, target, task)
    encoder.save(tmp_path)
    opened = Encoder.load(tmp_path)
    np.testing.assert_array_equal(opened.transform(table), encoder.transform(table))
    assert encoded.shape == encoder.transform(table).shape
    assert opened.n_numbers == encoder.n_numbers == encoded.shape[1] - 3


def shorter(arrays: dict[str, Any], name: str) -> None:
    arrays[f"0_{name}"] = arrays[f"0_{name}"][:-1]


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a cross lacks a mean": lambda arrays: shorter(arrays, "means_0"),
    "a cross lacks its keys": lambda arrays: arrays.pop("0_keys_0"),
    "an operator is none": lambda arrays: arrays["0_operators"].__setitem__(0, ord("%")),
    "an operand is no column": lambda arrays: arrays["0_operands"].__setitem__((0, 1), 3),
    "an operand is negative": lambda arrays: arrays["0_operands"].__setitem__((0, 1), -1),
    "a category is none": lambda arrays: arrays["0_categories_0"].__setitem__(0, 3),
    "a group is of no category": lambda arrays: arrays["0_grouped"].__setitem__((0, 0), 7),
    "a group lacks a level": lambda arrays: shorter(arrays, "group_0"),
    "there are more crosses": lambda arrays: arrays["0_n_crosses"].__setitem__(0, 99),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_arrays_are_refused(damage: str, tmp_path: Path) -> None:
    table, target, task = make("binary")
    encoder, _ = fit_encoder(replace(NATIVE, generated=True), table, target, task)
    encoder.save(tmp_path)
    arrays = read_arrays(tmp_path / "encoder.npz")
    DAMAGES[damage](arrays)
    write_arrays(tmp_path / "encoder.npz", arrays)
    with pytest.raises(ModelFileError):
        Encoder.load(tmp_path)


def test_a_sparse_table_has_nothing_to_combine() -> None:
    matrix = sp.random(50, 8, 0.3, format="csr", random_state=0)
    table = Table(np.empty((50, 0)), n_numbers=0, sparse=matrix)
    generated, extended = fit_generated(table, np.arange(50) % 2, Task("binary", 50, 8, 2), 0)
    assert generated.n_columns == 0
    assert extended.sparse is matrix
    assert GeneratedFeatures.from_arrays(generated.to_arrays()) == generated

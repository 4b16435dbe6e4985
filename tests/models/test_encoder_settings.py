from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encodable import CARDINALITIES, dense, make_table, make_target
from scipy import sparse as sp

from windvane.data.task import Kind, Task
from windvane.errors import ModelFileError
from windvane.models.encoding import DENSE, NATIVE, ORDINAL, EncoderSettings, Scale, fit_encoder
from windvane.runtime.columns.encoder import Encoder, float32
from windvane.runtime.columns.table import Table
from windvane.runtime.serialization import read_json, write_json


@pytest.mark.parametrize("choices", [NATIVE, ORDINAL, DENSE])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_a_saved_encoder_encodes_the_same(choices: EncoderSettings, kind: Kind, tmp_path: Path) -> None:
    table = make_table(80, texts=1, sparse=True)
    target, task = make_target(kind, 80)
    encoder, _ = fit_encoder(choices, table, target, task)
    encoder.save(tmp_path)
    opened = Encoder.load(tmp_path)
    assert opened.cardinalities == CARDINALITIES
    np.testing.assert_array_equal(dense(opened.transform(table)), dense(encoder.transform(table)))


@pytest.mark.parametrize("scale", ["power", "normalise", "quantile", "robust"])
def test_each_rescaling_is_kept(scale: Scale, tmp_path: Path) -> None:
    table = make_table(80)
    target, task = make_target("binary", 80)
    choices = replace(DENSE, scale=scale, robust_low=0.1, quantile_shape="uniform", quantiles=20, native_max=3)
    encoder, _ = fit_encoder(choices, table, target, task)
    encoder.save(tmp_path)
    opened = Encoder.load(tmp_path)
    np.testing.assert_array_equal(dense(opened.transform(table)), dense(encoder.transform(table)))


def test_what_each_rescaling_gives() -> None:
    rng = np.random.default_rng(0)
    table = Table(np.exp(rng.normal(size=(300, 2)) * [1, 2]), 2)
    target, task = make_target("binary", 300)

    def encode(scale: Scale, low: float = 0.25) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        choices = replace(DENSE, scale=scale, quantile_shape="uniform", robust_low=low)
        return np.asarray(fit_encoder(choices, table, target, task)[1])

    np.testing.assert_allclose(np.linalg.norm(encode("normalise"), axis=1), 1)
    powered = encode("power")
    np.testing.assert_allclose([powered.mean(axis=0), powered.std(axis=0)], [[0, 0], [1, 1]], atol=1e-9)
    assert (np.abs((powered**3).mean(axis=0)) < 0.3 * (encode("standard") ** 3).mean(axis=0)).all()  # less skewed
    even = encode("quantile")
    assert even.min() == 0 and even.max() == 1 and abs(np.median(even) - 0.5) < 0.05
    narrow, wide = np.ptp(encode("robust", 0.25), axis=0), np.ptp(encode("robust", 0.01), axis=0)
    assert (narrow > wide).all()  # the larger unit makes smaller numbers


def test_native_categories_stand_behind_the_numbers() -> None:
    table = make_table(80)  # 5 numbers, categories of 0, 3, 9 and 60 levels
    target, task = make_target("binary", 80)
    _, fitted = fit_encoder(replace(NATIVE, native_max=9, large="target"), table, target, task)
    found = dense(fitted)
    np.testing.assert_array_equal(found[:, :8], table.matrix[:, :8])
    assert found.shape == (80, 9) and found[:, 8].min() >= 0 and found[:, 8].max() <= 1  # shares of the second class


def test_native_leaves_the_matrix_alone() -> None:
    table = make_table(30)
    target, task = make_target("binary", 30)
    encoder, fitted = fit_encoder(NATIVE, table, target, task)
    assert fitted is table.matrix
    assert encoder.transform(table) is table.matrix


def test_missing_is_a_level_of_its_own_and_an_unseen_one_is_none_of_them() -> None:
    codes = np.array([0, 1, np.nan, 0, 1, np.nan])[:, None]
    table = Table(matrix=codes, n_numbers=0, cardinalities=(3,))
    encoder, found = fit_encoder(
        replace(DENSE, scale="none"), table, np.array([0, 1, 0, 1, 0, 1]), Task("binary", 6, 1, 2)
    )
    np.testing.assert_array_equal(found[:3], np.eye(3))
    # Code 2 is in the vocabulary, but only other folds have it; code 3 is new to all.
    unseen = encoder.transform(Table(matrix=np.array([[2.0], [3.0]]), n_numbers=0, cardinalities=(3,)))
    np.testing.assert_array_equal(unseen, np.zeros((2, 3)))


def test_rare_levels_are_merged_and_unseen_ones_join_them() -> None:
    codes = np.array([0] * 8 + [1] * 8 + [2, 3])[:, None].astype(float)
    target = np.tile([0, 1], 9)
    encoder, found = fit_encoder(
        replace(DENSE, scale="none", min_frequency=0.2), Table(codes, 0, (5,)), target, Task("binary", 18, 1, 2)
    )
    np.testing.assert_array_equal(found[[0, 8, 16, 17]], np.eye(3)[[0, 1, 2, 2]])
    np.testing.assert_array_equal(encoder.transform(Table(np.array([[4.0], [5.0]]), 0, (5,))), np.eye(3)[[2, 2]])


def test_a_row_of_the_training_set_never_sees_its_own_target() -> None:
    # Each row has another level, so only its own target could reveal anything.
    n = 100
    target, task = make_target("regression", n)
    table = Table(np.arange(n, dtype=float)[:, None], 0, (n,))
    encoder, found = fit_encoder(ORDINAL, table, target, task)
    assert abs(np.corrcoef(found[:, 0], target)[0, 1]) < 0.5
    assert np.corrcoef(encoder.transform(table)[:, 0], target)[0, 1] > 0.99


def test_a_wide_one_hot_stays_sparse() -> None:
    rng = np.random.default_rng(0)
    table = Table(np.hstack([rng.normal(size=(50, 2)), rng.integers(0, 40, (50, 10))]), 2, (40,) * 10)
    target, task = make_target("binary", 50)
    encoder, fitted = fit_encoder(DENSE, table, target, task)
    found = encoder.transform(table)
    assert isinstance(fitted, sp.csr_matrix) and isinstance(found, sp.csr_matrix)
    np.testing.assert_allclose(found.toarray(), fitted.toarray(), atol=1e-12)


def test_only_empty_texts_make_one_constant_column() -> None:
    table = Table(np.empty((4, 0)), 0, (), texts=(np.array(["", "", "", ""], dtype=object),))
    encoder, fitted = fit_encoder(DENSE, table, np.array([0, 1, 0, 1]), Task("binary", 4, 1, 2))
    np.testing.assert_array_equal(fitted, np.zeros((4, 1)))
    other = replace(table, texts=(np.array(["never", "seen", "", "x"], dtype=object),))
    np.testing.assert_array_equal(encoder.transform(other), np.zeros((4, 1)))


def test_texts_that_say_little_make_few_columns() -> None:
    words = np.array(["same words here"] * 20, dtype=object)
    for text, columns in (
        (words, 1),
        (np.array(["  "] * 20, dtype=object), 0),
        (np.where(np.arange(20) > 9, "x", words), 2),
    ):
        table = Table(np.arange(20.0)[:, None], 1, (), texts=(text.astype(object),))
        _, fitted = fit_encoder(NATIVE, table, np.arange(20) % 2, Task("binary", 20, 2, 2))
        assert fitted.shape == (20, 1 + columns)


def test_a_class_of_one_row_is_no_obstacle() -> None:
    table = Table(np.arange(60.0)[:, None] % 50, 0, (50,))
    target = np.array([0] * 30 + [1] * 29 + [2])
    _, fitted = fit_encoder(DENSE, table, target, Task("multiclass", 60, 1, 3))
    assert fitted.shape == (60, 3) and np.isfinite(fitted).all()


def test_float32_cuts_off() -> None:
    np.testing.assert_array_equal(
        float32(np.array([[1e300, -1e300, np.nan, np.inf]])),
        np.array([[1, -1, np.nan, 1]], dtype=np.float32) * np.finfo(np.float32).max,
    )
    assert float32(sp.csr_matrix([[0.0, 1e300]])).max() == np.finfo(np.float32).max


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["steps"].append({"op": "os.system"}),
        lambda content: content["steps"].__setitem__(0, 3),
        lambda content: content.pop("cardinalities"),
        lambda content: content.update(n_numbers=None),
        lambda content: content["steps"].reverse(),
    ],
)
def test_a_file_that_says_something_else_is_refused(change: Callable[[Any], Any], tmp_path: Path) -> None:
    table = make_table(30)
    target, task = make_target("binary", 30)
    encoder, _ = fit_encoder(DENSE, table, target, task)
    encoder.save(tmp_path)
    content = read_json(tmp_path / "encoder.json")
    change(content)
    write_json(tmp_path / "encoder.json", content)
    with pytest.raises(ModelFileError):
        Encoder.load(tmp_path)

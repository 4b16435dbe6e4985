"""Tables on disk and rows taken from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse as sp

from windvane.data.table_io import read_table, write_table
from windvane.runtime.columns.table import FeatureView, ImageColumn, Table


@pytest.fixture
def table() -> Table:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(20, 5))
    matrix[3, 1] = np.nan
    matrix[:, 3:] = rng.integers(0, 4, size=(20, 2))
    words = np.array([f"row {i} \u00e9\n\u4e2d" for i in range(20)], dtype=object)
    return Table(matrix, 3, (4, 4), (words, words[::-1].copy()), sp.random(20, 30, density=0.1, format="csr", rng=rng))


def equal(a: Table, b: Table) -> bool:
    assert a.sparse is not None
    assert b.sparse is not None
    return (
        np.array_equal(a.matrix, b.matrix, equal_nan=True)
        and (a.n_numbers, a.cardinalities) == (b.n_numbers, b.cardinalities)
        and all(np.array_equal(x, y) for x, y in zip(a.texts, b.texts, strict=True))
        and (a.sparse != b.sparse).nnz == 0
    )


def test_what_is_written_is_read(table: Table, tmp_path: Path) -> None:
    write_table(table, tmp_path)
    again = read_table(tmp_path)
    assert equal(table, again)
    assert isinstance(again.matrix, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        again.matrix[0, 0] = 1.0


def test_a_table_of_numbers_needs_no_other_files(tmp_path: Path) -> None:
    write_table(Table(np.eye(3), 3), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["matrix.npy", "shape.npz"]
    again = read_table(tmp_path)
    assert again.texts == ()
    assert again.sparse is None


def test_rows_are_taken_from_every_part_as_copies(table: Table) -> None:
    rows = np.array([7, 0, 7])
    taken = table.take(rows)
    assert taken.n_rows == 3
    np.testing.assert_array_equal(taken.matrix, table.matrix[[7, 0, 7]])
    assert [text[1] for text in taken.texts] == [text[0] for text in table.texts]
    assert taken.sparse is not None
    assert table.sparse is not None
    np.testing.assert_array_equal(taken.sparse.toarray(), table.sparse.toarray()[rows])
    taken.matrix[:] = 0.0
    assert table.matrix[7].any()


def test_columns_of_all_kinds_are_counted(table: Table) -> None:
    assert (table.n_rows, table.n_columns) == (20, 5 + 2 + 30)


@pytest.mark.parametrize("mapped", [False, True])
def test_images_stay_in_one_file(mapped: bool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    if mapped:
        np.save(tmp_path / "made.npy", pixels)
        pixels = np.load(tmp_path / "made.npy", mmap_mode="r")
    images = ImageColumn(pixels, np.array([5, 0, 3]), (FeatureView("network", 64, 0, 2),))
    folder = tmp_path / "data"
    folder.mkdir()
    write_table(Table(np.arange(6.0).reshape(3, 2), 2, images=images), folder)
    taken = read_table(folder).take([2, 0])
    assert taken.images is not None
    np.testing.assert_array_equal(taken.images.pixels[taken.images.rows], pixels[[3, 5]])
    np.testing.assert_array_equal(taken.matrix, [[4, 5], [0, 1]])
    assert taken.images.views == images.views
    assert isinstance(taken.images.pixels, np.memmap)

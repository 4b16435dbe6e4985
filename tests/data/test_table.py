"""Tables on disk and rows taken from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse as sp

from windvane.data.table_io import read_table, write_table
from windvane.runtime.columns.table import Table


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

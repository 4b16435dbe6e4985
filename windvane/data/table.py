"""A typed table: the one form in which every family of models reads data.

Notation: n rows, p numbers (dates and booleans are numbers here), c categories, t texts, s sparse columns.
A `Table` is made once per fit by `windvane.data.schema.Schema.encode`, written to the run directory and
memory-mapped by every worker program; what a configuration changes (imputation, scaling, one-hot encoding) is
learned later, inside the training part of each fold, by `windvane.data.encoders`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """Rows of typed columns.

    Attributes
    ----------
    matrix
        Float64, shape (n, p + c): the numbers, then the category codes. NaN is missing. A category code is the
        position in the vocabulary; a value that training never saw has the code ``len(vocabulary)``.
    n_numbers
        p, how many of the columns of `matrix` are numbers.
    cardinalities
        Size of the vocabulary of each of the c categories.
    texts
        t object arrays of strings, each of shape (n,); the empty string is missing.
    sparse
        CSR matrix of shape (n, s) or None.
    """

    matrix: Floats
    n_numbers: int
    cardinalities: tuple[int, ...] = ()
    texts: tuple[NDArray[np.object_], ...] = ()
    sparse: sp.csr_matrix | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.matrix.shape[0])

    @property
    def n_columns(self) -> int:
        """Number of columns of all kinds."""
        n_sparse = 0 if self.sparse is None else int(self.sparse.shape[1])
        return int(self.matrix.shape[1]) + len(self.texts) + n_sparse

    def take(self, rows: Integers) -> Table:
        """Copy some rows.

        Parameters
        ----------
        rows
            Positions, in the order wanted.

        Returns
        -------
        Table
            Those rows.
        """
        return replace(
            self,
            matrix=np.asarray(self.matrix[rows]),  # (len(rows), p + c)
            texts=tuple(text[rows] for text in self.texts),
            sparse=None if self.sparse is None else self.sparse[rows],
        )


def write_table(table: Table, folder: Path) -> None:
    """Write a table so that `read_table` can map it into memory.

    Parameters
    ----------
    table
        What to write.
    folder
        An existing folder; its files ``matrix.npy``, ``shape.npz``, ``texts.arrow`` and ``sparse.npz`` are made.
    """
    np.save(folder / "matrix.npy", table.matrix)
    np.savez(
        folder / "shape.npz",
        n_numbers=np.int64(table.n_numbers),
        cardinalities=np.asarray(table.cardinalities, dtype=np.int64),
    )
    if table.texts:
        _write_texts(table.texts, folder / "texts.arrow")
    if table.sparse is not None:
        sp.save_npz(folder / "sparse.npz", table.sparse, compressed=False)


def read_table(folder: Path) -> Table:
    """Open what `write_table` wrote; the matrix stays on disk and is mapped into memory.

    Parameters
    ----------
    folder
        Where it was written.

    Returns
    -------
    Table
        The table, read-only.
    """
    with np.load(folder / "shape.npz") as shape:
        n_numbers, cardinalities = int(shape["n_numbers"]), tuple(int(c) for c in shape["cardinalities"])
    texts, sparse = folder / "texts.arrow", folder / "sparse.npz"
    return Table(
        matrix=np.load(folder / "matrix.npy", mmap_mode="r"),
        n_numbers=n_numbers,
        cardinalities=cardinalities,
        texts=_read_texts(texts) if texts.exists() else (),
        sparse=sp.csr_matrix(sp.load_npz(sparse)) if sparse.exists() else None,
    )


def _write_texts(texts: tuple[NDArray[np.object_], ...], path: Path) -> None:
    import pyarrow as pa

    table: Any = pa.table({str(i): pa.array(text, type=pa.string()) for i, text in enumerate(texts)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_texts(path: Path) -> tuple[NDArray[np.object_], ...]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    return tuple(column.to_numpy().astype(object) for column in table.columns)

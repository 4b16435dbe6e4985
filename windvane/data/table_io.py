"""Typed tables in a run directory, mapped into memory by every worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

from windvane.runtime.columns.table import Table


def write_table(table: Table, folder: Path) -> None:
    """Write a table so that `read_table` can map it into memory."""
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
    """Open what `write_table` wrote; the matrix stays on disk and is mapped into memory."""
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

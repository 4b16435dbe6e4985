"""Typed tables in a run directory, mapped into memory by every worker."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

from windvane.runtime.columns.table import FeatureView, ImageColumn, Table


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
    if table.images is not None:
        _write_images(table.images, folder)


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
        images=_read_images(folder) if (folder / "images.json").exists() else None,
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


def _write_images(images: ImageColumn, folder: Path) -> None:
    pixels, path = images.pixels, folder / "pixels.npy"
    np.save(folder / "image_rows.npy", images.rows)
    (folder / "images.json").write_text(json.dumps([asdict(view) for view in images.views]))
    if images.unreadable is not None:
        np.save(folder / "unreadable.npy", images.unreadable)
    if not isinstance(pixels, np.memmap) or pixels.filename is None:
        np.save(path, pixels)
        return
    path.unlink(missing_ok=True)
    try:
        os.link(pixels.filename, path)
    except OSError:  # another file system
        shutil.copyfile(pixels.filename, path)


def _read_images(folder: Path) -> ImageColumn:
    views = tuple(FeatureView(**view) for view in json.loads((folder / "images.json").read_text()))
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    unreadable = folder / "unreadable.npy"
    no_image = np.load(unreadable) if unreadable.exists() else None
    return ImageColumn(pixels, np.load(folder / "image_rows.npy"), views, no_image)

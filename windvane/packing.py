"""A folder as one value of bytes, for copies of an estimator and for machines that share no disk: a zip archive."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path


def pack_folder(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", strict_timestamps=False) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def unpack_folder(content: bytes, folder: Path) -> None:
    """Unpack the result of `pack_folder`; nothing in it can end up outside the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)

"""Small files that models are kept in: JSON and arrays. None is a pickle.

Whatever is wrong with a file becomes one `ModelFileError`; nothing in a file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, ModelFileError

# Whatever numpy, json, zipfile and code that meets wrong shapes or missing keys raise over a damaged file.
_DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error),
)


@contextmanager
def reading(path: Path, *also: type[Exception]) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read and understood into a `ModelFileError`."""
    try:
        yield
    except ModelFileError:
        raise
    except (*_DAMAGE, *also) as error:
        raise ModelFileError(f"{path} is missing, damaged or not trusted: {error!r}.") from error


@contextmanager
def new_folder(path: Path, argument: str) -> Iterator[Path]:
    """Make a folder, whole or not at all."""
    if path.exists() and (path.is_file() or any(path.iterdir())):
        raise InputError(f"{argument}={str(path)!r} exists and is not empty. Allowed: a new or empty folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=path.name + ".", dir=path.parent))
    try:
        yield making
        making.chmod(0o755)  # as a folder made by hand; a temporary one is closed to others
        if path.exists():
            path.rmdir()
        os.replace(making, path)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping of plain values."""
    path.write_text(json.dumps(content), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote."""
    with reading(path):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ModelFileError(f"{path} holds {type(content).__name__}, not a mapping.")
    return content


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as an uncompressed .npz file."""
    # Through an open file, so that numpy adds no suffix; savez takes the names as keywords.
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote."""
    # numpy would not close a file that it opened and could not read.
    with reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def digest(path: Path) -> str:
    """Give the SHA-256 of a file: asked before a library's own parser, written in C, meets the bytes."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(path: Path, expected: object) -> None:
    """Raise ModelFileError for a file that is not the one that was written, before a parser in C meets its bytes."""
    if digest(path) != expected:
        raise ModelFileError(f"{path} is damaged.")

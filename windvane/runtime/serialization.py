"""Files that models are kept in: JSON and arrays. None is a pickle.

Whatever is wrong with a file becomes one `ModelFileError`; nothing in a file is ever executed. What must outlive a
power cut is written under a temporary name, synced, and renamed (`replace_file`, `new_folder`). A sealed file carries
the hash of its content, and lists the hashes of the files beside it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import sys
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DiskError, InputError, ModelFileError

# Whatever numpy, json, zipfile and code that meets wrong shapes or missing keys raise over a damaged file.
DAMAGE: tuple[type[Exception], ...] = (
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
    except (*DAMAGE, *also) as error:
        raise ModelFileError(f"{path} is missing, damaged or not trusted: {error!r}.") from error


@contextmanager
def writing(path: Path, safe: str) -> Iterator[None]:
    """Turn a disk that is full, read-only or gone into one `DiskError`; `safe` says what is not lost."""
    try:
        yield
    except (InputError, DiskError):
        raise
    except Exception as error:  # some libraries have their own exceptions for a full disk
        if not isinstance(error, OSError) and "No space left" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DiskError(f"{str(path)!r} cannot be written: {reason}. {safe}") from error


@contextmanager
def new_folder(path: Path, argument: str) -> Iterator[Path]:
    """Make a folder, whole or not at all, and safe from a power cut."""
    safe = "Nothing was left there, and the model in memory is unchanged: choose another place."
    with writing(path, safe):
        if path.exists() and (path.is_file() or any(path.iterdir())):
            raise InputError(f"{argument}={str(path)!r} exists and is not empty. Allowed: a new or empty folder.")
        path.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=path.name + ".", dir=path.parent))
        try:
            yield making
            making.chmod(0o755)  # as a folder made by hand; a temporary one is closed to others
            sync_folder(making)
            if path.exists():
                path.rmdir()
            os.replace(making, path)
            sync(path.parent)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all, safe from a power cut: under the name that is yielded, then renamed."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold a file's content, or a folder's list of names, before this returns."""
    if path.is_dir() and os.name != "posix":  # other systems open no folders
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the disk hold a folder and all that is in it before this returns.

    Linux does it in one call for the whole file system; syncing 30 files one by one takes ten times as long.
    """
    if sys.platform == "linux":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if hasattr(libc, "syncfs"):
                if libc.syncfs(descriptor) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), str(folder))
                return
        finally:
            os.close(descriptor)
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        sync(path)
    sync(folder)


def temporary_folder(prefix: str = "windvane-") -> Path:
    """Make a folder for temporary files; where the usual places cannot be written, in shared memory or beside us."""
    try:
        return Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        for place in ("/dev/shm", os.path.expanduser("~")):
            with suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        raise DiskError(
            f"No folder for temporary files can be written: {error.strerror or error}. Set TMPDIR to one that can."
        ) from error


def delete_with(owner: object, folder: Path) -> Callable[[], object]:
    """Delete a folder when an object of this process is gone; a fork that ends leaves its parent's folder alone."""
    return weakref.finalize(owner, _delete, folder, os.getpid())


def _delete(folder: Path, process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    with reading(path):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ModelFileError(f"{path} holds {type(content).__name__}, not a mapping.")
    return content


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping with a hash of itself, whole or not at all, safe from a power cut; an earlier one is replaced."""
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(seal(content), indent=1), encoding="utf-8")


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote, without the hash; ModelFileError where one bit of its meaning differs."""
    return unseal(read_json(path), path)


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add a hash of itself to a mapping."""
    return {**content, "sha256": _content_digest(content)}


def unseal(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return a mapping without its hash; ModelFileError naming `path` where the hash is not that of the content."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    if content.get("sha256") != _content_digest(rest):
        raise ModelFileError(f"{str(path)!r} is damaged: its content does not have the hash that it names.")
    return rest


def _content_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_digests(folder: Path, leave_out: Sequence[str] = ()) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder by its path there; `leave_out`: names of files and of top folders."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [(path, path.relative_to(folder)) for path in paths]
    return {
        name.as_posix(): digest(path)
        for path, name in names
        if name.parts[0] not in leave_out and "__pycache__" not in name.parts
    }


def check_files(folder: Path, listed: Any, leave_out: Sequence[str] = ()) -> None:
    """Raise ModelFileError where the files of a folder are not those of a list, by name and hash."""
    found = file_digests(folder, leave_out)
    if not isinstance(listed, dict) or set(found) != set(listed):
        odd = sorted(set(found).symmetric_difference(listed if isinstance(listed, dict) else ()))
        raise ModelFileError(f"{str(folder)!r} is not whole: its manifest and its files differ ({', '.join(odd[:3])}).")
    for name, expected in listed.items():
        if found[name] != expected:
            raise ModelFileError(f"{str(folder / name)!r} is damaged: its hash is not that of the manifest.")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as an uncompressed .npz file."""
    # Through an open file, so that numpy adds no suffix; savez takes the names as keywords.
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    # numpy would not close a file that it opened and could not read.
    with reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(path: Path, expected: object) -> None:
    """Raise ModelFileError for a file that is not the one that was written, before a parser in C meets its bytes."""
    if digest(path) != expected:
        raise ModelFileError(f"{path} is damaged.")

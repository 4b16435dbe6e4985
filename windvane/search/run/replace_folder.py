"""A folder that is written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from windvane.runtime.serialization import writing


@contextmanager
def replace_folder(folder: Path, temporary: str, safe: str) -> Iterator[Path]:
    """Yield a new folder with a temporary name, which takes the place of `folder` at the end.

    Raises DiskError if the disk is full or read-only; `safe` says what is not lost.
    """
    making = folder.with_name(temporary)
    shutil.rmtree(making, ignore_errors=True)  # of a process that was killed
    try:
        with writing(folder, safe):
            making.mkdir(parents=True)
            yield making
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(making, folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)  # leaves room for other files on a full disk
        raise

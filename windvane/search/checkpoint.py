"""The checkpoint of a trial: a folder with its record, its validation predictions and the model of every fold.

A new checkpoint is renamed into place before the earlier one goes, so whatever happens a whole one is on disk.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.models.base import Model
from windvane.persistence import replace_json
from windvane.search.trial import Trial

Predictions = NDArray[np.floating[Any]]


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint in a trial's folder, which need not exist."""
    return max(folder.glob("checkpoint_*"), default=None, key=lambda path: path.name)


def read_checkpoint(folder: Path) -> Trial | None:
    """Return the record of the last checkpoint; None if it is missing or cannot be read."""
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        return None
    try:
        return Trial.from_json(json.loads((checkpoint / "trial.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def next_name(folder: Path) -> str:
    """Return the name of the checkpoint that follows the last one."""
    latest = latest_checkpoint(folder)
    return f"checkpoint_{0 if latest is None else int(latest.name.removeprefix('checkpoint_')) + 1:04d}"


def write_checkpoint(folder: Path, trial: Trial, models: Sequence[Model], predictions: Predictions) -> None:
    """Write a checkpoint whole or not at all, then delete the earlier one.

    `predictions` has the shape (v, n_classes) or (v,), the validation rows of all folds one after the other.
    """
    assert trial.checkpoint is not None
    temporary = _new_temporary(folder)
    temporary.mkdir(parents=True)
    np.save(temporary / "valid.npy", predictions)
    for i, model in enumerate(models):
        (temporary / f"fold_{i}").mkdir()
        model.save(temporary / f"fold_{i}")
    replace_json(temporary / "trial.json", trial.to_json())
    _move_into_place(temporary, folder / trial.checkpoint)


def write_received_checkpoint(folder: Path, name: str, archive: bytes) -> None:
    """Write a checkpoint that another machine packed, whole or not at all, then delete the earlier one."""
    temporary = _new_temporary(folder)
    unpack_folder(archive, temporary)
    _move_into_place(temporary, folder / name)


def _new_temporary(folder: Path) -> Path:
    temporary = folder / "temporary"
    shutil.rmtree(temporary, ignore_errors=True)
    return temporary


def _move_into_place(temporary: Path, checkpoint: Path) -> None:
    earlier = latest_checkpoint(checkpoint.parent)
    os.replace(temporary, checkpoint)
    if earlier is not None and earlier.name != checkpoint.name:
        shutil.rmtree(earlier, ignore_errors=True)


def pack_folder(folder: Path) -> bytes:
    """Return an archive of a folder."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(folder, arcname=".")
    return archive.getvalue()


def unpack_folder(archive: bytes, folder: Path) -> None:
    """Unpack the result of `pack_folder`; nothing in it can end up outside the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")


def pack_checkpoint(folder: Path, name: str) -> bytes | None:
    """Pack a checkpoint; None if the worker, which trains on meanwhile, has replaced it by a later one."""
    try:
        archive = pack_folder(folder / name)
    except FileNotFoundError:
        return None
    latest = latest_checkpoint(folder)  # the later one is there before the earlier one is deleted
    return archive if latest is not None and latest.name == name else None

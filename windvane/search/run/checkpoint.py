"""The checkpoint of a trial: a folder with its record, its validation predictions and the model of every fold.

If a model that learned from all rows predicts in place of the only fold's, it is in the folder `REFITTED`; resuming and
validation use the fold's.

The record holds the hashes of the other files. A new checkpoint is renamed into place, and the earlier one goes only
when the disk is sure to hold the new one (see `history_writer`), so whatever happens a whole one is there.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.errors import ModelFileError
from windvane.models.base import Model
from windvane.packing import pack_folder, unpack_folder
from windvane.runtime.serialization import check_files, file_digests, read_sealed, seal
from windvane.search.run.replace_folder import replace_folder
from windvane.search.trial import Trial

Prediction = NDArray[np.floating[Any]]  # in the precision of checkpoints: float32 of classes, else float64

RECORD = "trial.json"
REFITTED = "all_rows"


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint in a trial's folder, which need not exist."""
    return max(folder.glob("checkpoint_*"), default=None)


def read_checkpoint(folder: Path) -> Trial | None:
    """Return the record of the last checkpoint; None if it is missing or cannot be read."""
    checkpoint = latest_checkpoint(folder)
    return None if checkpoint is None else _read_record(checkpoint)


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is as it was written."""
    try:
        check_files(checkpoint, read_sealed(checkpoint / RECORD).get("files"), [RECORD])
    except ModelFileError:
        return False
    return True


def read_whole_checkpoint(folder: Path, known: str | None) -> Trial | None:
    """Return the record of the last checkpoint that is whole; None if it is the one that is known already."""
    for checkpoint in _newest_first(folder):
        if checkpoint.name == known:
            return None
        trial = _read_record(checkpoint)
        if trial is not None and is_whole(checkpoint):
            return trial
    return None


def drop_damaged(folder: Path, known: str | None) -> None:
    """Delete the checkpoints in a trial's folder that a power cut left incomplete, up to a known or whole one."""
    for torn in folder.glob("temporary*"):
        shutil.rmtree(torn, ignore_errors=True)
    for checkpoint in _newest_first(folder):
        if checkpoint.name == known or is_whole(checkpoint):
            return
        shutil.rmtree(checkpoint, ignore_errors=True)


def drop_earlier(folder: Path, name: str) -> None:
    """Delete the checkpoints before one that the disk is sure to hold."""
    for checkpoint in _newest_first(folder):
        if checkpoint.name < name:
            shutil.rmtree(checkpoint, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint_*"), reverse=True)


def _read_record(checkpoint: Path) -> Trial | None:
    try:
        return Trial.from_json(read_sealed(checkpoint / RECORD)["trial"])
    except (ModelFileError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def next_name(folder: Path) -> str:
    """Return the name of the checkpoint that follows the last one."""
    latest = latest_checkpoint(folder)
    return f"checkpoint_{0 if latest is None else int(latest.name.removeprefix('checkpoint_')) + 1:04d}"


def write_checkpoint(
    folder: Path, trial: Trial, models: Sequence[Model], predictions: Prediction, refitted: Model | None = None
) -> None:
    """Write a checkpoint, whole or not at all; raises DiskError if the disk is full or read-only.

    `predictions` has the shape (v, n_classes) or (v,), the validation rows of all folds one after the other.
    """
    assert trial.checkpoint is not None
    with _new_checkpoint(folder / trial.checkpoint) as temporary:
        np.save(temporary / "valid.npy", predictions)
        for i, model in enumerate(models):
            (temporary / f"fold_{i}").mkdir()
            model.save(temporary / f"fold_{i}")
        if refitted is not None:
            (temporary / REFITTED).mkdir()
            refitted.save(temporary / REFITTED)
        record = {"trial": trial.to_json(), "files": file_digests(temporary)}
        (temporary / RECORD).write_text(json.dumps(seal(record)), encoding="utf-8")


def write_received_checkpoint(folder: Path, name: str, archive: bytes) -> None:
    """Write a checkpoint that another machine packed, whole or not at all."""
    with _new_checkpoint(folder / name) as temporary:
        unpack_folder(archive, temporary)


def _new_checkpoint(checkpoint: Path) -> AbstractContextManager[Path]:
    # The temporary name is of this attempt alone: a frozen machine of a cluster may still train the same trial. A
    # checkpoint that is there already is of another attempt, from the same configuration, rows and seed, or torn.
    temporary = f"temporary-{uuid.uuid4().hex[:8]}"
    return replace_folder(checkpoint, temporary, "Earlier checkpoints and all trials that have ended are safe.")


def pack_checkpoint(folder: Path, name: str) -> bytes | None:
    """Pack a checkpoint; None if the worker, which trains on meanwhile, has replaced it by a later one."""
    try:
        archive = pack_folder(folder / name)
    except FileNotFoundError:
        return None
    latest = latest_checkpoint(folder)  # the later one is there before the earlier one is deleted
    return archive if latest is not None and latest.name == name else None

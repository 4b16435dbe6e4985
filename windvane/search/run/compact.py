"""A finished run in less space: the trials of its ensemble alone, without what continues their training.

What stays predicts, reports and can be resumed: new trials join those of the ensemble. What goes are the models and the
validation predictions of all other trials, whose records stay in the history, and the training state of every model.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from windvane.runtime.ensemble import Ensemble
from windvane.runtime.models.trees import FittedForest
from windvane.runtime.serialization import file_digests, read_json, read_sealed, seal, write_json, writing
from windvane.search.run.checkpoint import RECORD
from windvane.search.run.run_directory import RunDirectory

PROGRESS = "training.json"  # of a model: how far its training is; small, and read with it


def compact_run(directory: RunDirectory, ensemble: Ensemble) -> None:
    """Delete what the ensemble of a locked run does not need; raises DiskError if the disk is full or read-only."""
    kept = {directory.trial(member.number): member.checkpoint for member in ensemble.members}
    read = dict(zip(kept, map(len, directory.model_folders(ensemble)), strict=True))
    with writing(directory.root, "The models of the ensemble are whole."):
        for folder in directory.trials.glob("*"):
            if folder not in kept:
                shutil.rmtree(folder)
                continue
            for other in folder.iterdir():  # earlier checkpoints, and what an ended worker left
                if other.name != kept[folder]:
                    shutil.rmtree(other)
            _replace_checkpoint(folder / kept[folder], n_bagged=read[folder])
        shutil.rmtree(directory.temporary, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder, linked ones once."""
    found = {}
    for file in folder.rglob("*"):
        status = file.lstat()
        if file.is_file():
            found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())


def _replace_checkpoint(checkpoint: Path, n_bagged: int) -> None:
    """Replace a checkpoint by one of models that train no further, of which so many are averaged."""
    state = [
        file
        for progress in checkpoint.glob(f"*/{PROGRESS}")
        if "target_scaler" in read_json(progress)  # as `BaseModel` writes it, which can be told that it has finished
        for file in progress.parent.glob("training.*")
        if file.name != PROGRESS
    ]
    forests = [file.parent.name for file in checkpoint.glob("*/trees_0.npz")]
    if not state and not forests:
        return
    new, old = (checkpoint.with_name(f"temporary-{name}") for name in ("compact", "whole"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(checkpoint, new, copy_function=_link, ignore=shutil.ignore_patterns(RECORD))
    for file in state:
        (new / file.relative_to(checkpoint)).unlink()
    for folder in {file.parent for file in state}:
        progress = new / folder.relative_to(checkpoint) / PROGRESS
        content = {**read_json(folder / PROGRESS), "finished": True}
        progress.unlink()  # a link to the file of the old one
        write_json(progress, content)
    for name in forests:
        FittedForest.drop_unread(new / name, n_bagged)
    record = {**read_sealed(checkpoint / RECORD), "files": file_digests(new)}
    (new / RECORD).write_text(json.dumps(seal(record)), encoding="utf-8")
    os.replace(checkpoint, old)
    os.replace(new, checkpoint)
    shutil.rmtree(old)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)

"""Saved models: a folder with a manifest of versions and hashes, and each model in its library's own format.

No file is a pickle and nothing in one is ever executed. Every file is checked against its hash before it is read.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from windvane.data.metrics import Metric, get_metric
from windvane.data.task import Task
from windvane.errors import ModelFileError
from windvane.models import FAMILIES
from windvane.models.base import Family, Setting
from windvane.predictor import Predictor
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.predictor import check_files, classes_from_json, member_folders
from windvane.runtime.schema import Schema
from windvane.runtime.serialization import digest, new_folder
from windvane.search.run import FORMAT, read_manifest, write_json
from windvane.version import VERSION

_OPENERS = ("lightgbm", "catboost")
_LIBRARIES = ("numpy", "scikit-learn", "lightgbm", "catboost")


def preload() -> None:
    """Load the libraries that saved models are opened with; they take a second the first time."""
    for name in _OPENERS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def facts(estimator: str, predictor: Predictor, own_metric: bool) -> dict[str, Any]:
    """Describe a predictor, all but its members, for a manifest.

    Parameters
    ----------
    estimator
        Name of the estimator's class.
    predictor
        What to describe; its models are not looked at.
    own_metric
        Whether the metric is the user's own function, which no file can hold.

    Returns
    -------
    dict
        JSON values.
    """
    classes = predictor.classes
    return {
        "format": FORMAT,
        "windvane": VERSION,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "estimator": estimator,
        "task": asdict(predictor.task),
        "classes": None if classes is None else {"dtype": classes.dtype.str, "values": classes.tolist()},
        "metric": predictor.metric.name,
        "own_metric": own_metric,
        "schema": predictor.schema.to_json(),
    }


def write_predictor(manifest: Mapping[str, Any], predictor: Predictor, path: Path) -> None:
    """Save a predictor in a new folder, whole or not at all.

    Parameters
    ----------
    manifest
        From `facts`.
    predictor
        Its models are copied from the folders where they are kept.
    path
        Must not exist, or be an empty folder.

    Raises
    ------
    InputError
        Where something is there: nothing is written over.
    """
    with write_model(manifest, predictor, path, "path"):
        pass


@contextlib.contextmanager
def write_model(manifest: Mapping[str, Any], predictor: Predictor, path: Path, argument: str) -> Iterator[Path]:
    """Write what predicts into a new folder, to which the caller may add; it takes its place at the end."""
    with new_folder(path, argument) as making:
        write_members(predictor, making)
        hashes = {
            file.relative_to(making).as_posix(): digest(file) for file in sorted(making.rglob("*")) if file.is_file()
        }
        content = {**manifest, "kind": "model", "ensemble": predictor.ensemble.to_json(), "files": hashes}
        write_json(making / "manifest.json", content)
        yield making


def write_members(predictor: Predictor, folder: Path) -> None:
    """Copy what predicts of the checkpoints of an ensemble; what only resuming reads stays behind."""
    for member, folders in zip(predictor.ensemble.members, predictor.folders, strict=True):
        for one in folders:
            to = folder / "members" / f"{member.number:05d}" / one.name
            shutil.copytree(one, to, ignore=shutil.ignore_patterns("training.*"))


def read_predictor(path: Path, families: Mapping[str, Family], metric: Any = None, threads: int = 1) -> Predictor:
    """Open a saved predictor.

    Parameters
    ----------
    path
        What `write_predictor` wrote.
    families
        Own families of the session, by name; no file can bring code along.
    metric
        The user's own metric, where it had one; without it the saved predictor can predict but not score.
    threads
        Models that predict at once.

    Returns
    -------
    Predictor
        The same predictions as before.

    Raises
    ------
    ModelFileError
        Where a file is missing, damaged or not listed.
    """
    manifest = read_manifest(path / "manifest.json")
    check_files(path, manifest)
    ensemble = Ensemble.from_json(manifest.get("ensemble"))
    folders = member_folders(path, ensemble)
    resolved = resolve_metric(manifest, metric)
    return open_predictor(manifest, ensemble, folders, families=families, metric=resolved, threads=threads)


def open_predictor(
    manifest: Mapping[str, Any],
    ensemble: Ensemble,
    folders: Sequence[Sequence[Path]],
    *,
    families: Mapping[str, Family],
    metric: Metric,
    threads: int = 1,
) -> Predictor:
    """Make a predictor from a manifest and the folders of its models.

    Parameters
    ----------
    manifest
        With what `facts` gives.
    ensemble
        Its members, in the order of `folders`.
    folders
        For each member the folders of its folds.
    metric
        Resolved for the task.
    families, threads
        As in `read_predictor`.

    Returns
    -------
    Predictor
        With every model open.

    Raises
    ------
    ModelFileError
        Where a model is not sound, or its family is not known in this session.
    """
    try:
        task = Task(**manifest["task"])
        classes = classes_from_json(manifest["classes"])
        schema = Schema.from_json(manifest["schema"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"The manifest is damaged: {error!r}") from error
    known = {**FAMILIES, **families}
    models = []
    for member, folds in zip(ensemble.members, folders, strict=True):
        if member.family not in known:
            raise ModelFileError(
                f"The ensemble holds the family {member.family!r}, which is not part of windvane. "
                "Give it to load(..., families=[...])."
            )
        setting = Setting(task, 0, siblings=len(folds))
        models.append([known[member.family].load(folder, setting) for folder in folds])
    return Predictor(
        task=task,
        schema=schema,
        metric=metric,
        classes=classes,
        ensemble=ensemble,
        models=models,
        folders=[list(folds) for folds in folders],
        threads=threads,
    )


def resolve_metric(manifest: Mapping[str, Any], own: Any = None) -> Metric:
    """Find the metric of a manifest.

    Parameters
    ----------
    manifest
        With what `facts` gives.
    own
        The user's own metric, where it had one; without it the task's usual one takes its place.

    Returns
    -------
    Metric
        Resolved for the task.
    """
    name = "auto" if manifest["own_metric"] else manifest["metric"]
    return get_metric(
        own if own is not None else name, Task(**manifest["task"]), classes_from_json(manifest["classes"])
    )


def to_bytes(manifest: Mapping[str, Any], predictor: Predictor) -> bytes:
    """Pack a predictor into one value, for copies and for sending it to another process.

    Parameters
    ----------
    manifest
        From `facts`.
    predictor
        What to pack.

    Returns
    -------
    bytes
        A zip archive of the folder that `write_predictor` makes.
    """
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w") as archive:
        write_predictor(manifest, predictor, Path(folder) / "model")
        for file in sorted(Path(folder, "model").rglob("*")):
            archive.write(file, file.relative_to(Path(folder, "model")).as_posix())
    return buffer.getvalue()


def from_bytes(content: bytes, folder: Path) -> None:
    """Unpack what `to_bytes` packed.

    Parameters
    ----------
    content
        The archive.
    folder
        An empty folder for the files.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)

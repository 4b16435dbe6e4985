"""Saved models: a folder with a manifest of versions and hashes, and each model in its library's own format.

No file is a pickle and nothing in one is ever executed. Every file is checked against its hash before it is read.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.files import to_frame
from windvane.data.task import Task
from windvane.errors import ModelFileError, RunError, VersionError
from windvane.evaluation.metrics import Metric, get_metric
from windvane.models import FAMILIES, LAST_RESORT
from windvane.models.base import Family, TrainingContext
from windvane.models.targets.multi_target import for_task
from windvane.packing import pack_folder
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.conformal import FILE as UNCERTAINTY
from windvane.runtime.conformal import Masks, read_uncertainty, write_uncertainty
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.labels import labels_to_json
from windvane.runtime.models.fitted import Fitted
from windvane.runtime.predictor import UNCHECKED, EnsemblePredictor, check_predictor, classes_from_json, member_folders
from windvane.runtime.serialization import (
    check_files,
    file_digests,
    new_folder,
    temporary_folder,
    unseal,
    write_sealed,
    writing,
)
from windvane.runtime.targets import Targets
from windvane.version import VERSION

if TYPE_CHECKING:
    from windvane.image_reader import ImageReader

FORMAT = 5  # of runs and saved models
FEATURES = "features"  # folder of the networks that make features of images, in runs and saved models

MAX_MANIFEST_BYTES = 2**30

_LIBRARIES = ("numpy", "scikit-learn", "lightgbm", "catboost")


@dataclass(frozen=True, kw_only=True)
class Predictor(EnsemblePredictor):
    """The ensemble of a run with its task, its metric and the folders of its models."""

    task: Task
    metric: Metric
    folders: Sequence[Sequence[Path]]  # for each member those of its folds
    images: ImageReader | None = None  # reads what is to be predicted, if that are images

    def table(self, X: Any, owner: str = "the model") -> Table:
        """Return the table of rows, or of images, as a user has them; raises InputError if they do not fit."""
        if self.images is None:
            return self.schema.transform(to_frame(X), owner=owner)
        return self.images.read(X)

    def predict_images(self, source: Any) -> Floats:
        """Predict images as a user has them, chunk by chunk; a warning names those that cannot be read."""
        assert self.images is not None
        return np.concatenate([self.predict_raw(table) for table in self.images.tables(source)])

    def image_sets(self, source: Any, coverage: Any, by_class: bool, allow_empty: bool) -> Masks:
        """Predict sets of classes of images as a user has them, as `predict_images` does."""
        assert self.images is not None
        sets = [self.table_sets(table, coverage, by_class, allow_empty) for table in self.images.tables(source)]
        return np.concatenate(sets)

    def table_sets(self, table: Table, coverage: Any, by_class: bool, allow_empty: bool) -> Masks:
        """Predict sets of classes; an image that cannot be read may be of any class."""
        sets = super().table_sets(table, coverage, by_class, allow_empty)
        if self.images is not None and table.images is not None and table.images.unreadable is not None:
            sets[table.images.unreadable] = True
        return sets

    def predict_raw(self, table: Table) -> Floats:
        """Blend the members; images that cannot be read have the frequencies of the classes."""
        blend = super().predict_raw(table)
        if self.images is not None and table.images is not None and table.images.unreadable is not None:
            blend[table.images.unreadable] = self.images.prior
        return blend


def preload() -> None:
    """Load the libraries that saved models are opened with; they take a second the first time."""
    for name in ("lightgbm", "catboost"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def build_manifest(
    estimator: str,
    task: Task,
    schema: Schema,
    classes: NDArray[Any] | None,
    metric: Metric,
    own_metric: bool,
    targets: Targets | None = None,
) -> dict[str, Any]:
    """Return the manifest of a run or a saved model without its models; `own_metric`: no file can hold the metric."""
    return {
        "format": FORMAT,
        "windvane": VERSION,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "estimator": estimator,
        "task": task.to_json(),
        "classes": None if classes is None else labels_to_json(classes),
        "metric": metric.name,
        "positive_class": metric.positive,  # its code
        "own_metric": own_metric,
        "schema": schema.to_json(),
        **({} if targets is None else {"targets": targets.to_json()}),
    }


def write_predictor(manifest: Mapping[str, Any], predictor: Predictor, path: Path) -> None:
    """Save a predictor in a new folder, whole or not at all; raises InputError if the folder is not empty."""
    with write_model(manifest, predictor, path, "path"):
        pass


@contextlib.contextmanager
def write_model(manifest: Mapping[str, Any], predictor: Predictor, path: Path, argument: str) -> Iterator[Path]:
    """Save a predictor in a new folder, whole or not at all; the caller may add files to the one that is yielded."""
    with new_folder(path, argument) as making:
        write_members(predictor, making)
        yield making
        content = {**manifest, "kind": "model", "ensemble": predictor.ensemble.to_json()}
        write_sealed(making / "manifest.json", {**content, "files": file_digests(making, UNCHECKED)})


def update_ensemble(path: Path, ensemble: Ensemble, run: Mapping[str, Any]) -> None:
    """Replace the decision and calibration of a saved model, and the record of its run; raises DiskError."""
    manifest = read_manifest(path / "manifest.json")
    with writing(path / "manifest.json", "The model there is unchanged."):
        write_sealed(path / "manifest.json", {**manifest, "ensemble": ensemble.to_json(), "run": dict(run)})


def write_members(predictor: Predictor, folder: Path) -> None:
    """Copy the checkpoints of an ensemble, without the files that only `resume` reads, and what else predicts."""
    for member, folders in zip(predictor.ensemble.members, predictor.folders, strict=True):
        for i, one in enumerate(folders):
            to = folder / "members" / f"{member.number:05d}" / f"fold_{i}"
            if not one.is_dir():
                raise ModelFileError(
                    f"The files of this model are gone: {str(one)!r} was deleted. It still predicts in this process, "
                    "but it cannot be saved, exported or copied to another one."
                )
            shutil.copytree(one, to, ignore=shutil.ignore_patterns("training.*"))
    if predictor.uncertainty is not None:
        write_uncertainty(folder / UNCERTAINTY, predictor.uncertainty, predictor.ensemble)
    if predictor.images is not None:
        shutil.copytree(predictor.images.folder, folder / FEATURES)


def read_predictor(path: Path, families: Mapping[str, Family], metric: Any = None, threads: int = 1) -> Predictor:
    """Open a saved predictor; raises ModelFileError if a file is missing, damaged or not listed.

    `families` are the user's own, by name; no file can hold code. `metric` is the user's own; without it the task's
    default metric scores. `threads` models predict at once.
    """
    manifest = read_manifest(path / "manifest.json")
    check_files(path, manifest.get("files"), UNCHECKED)
    ensemble = Ensemble.from_json(manifest.get("ensemble"))
    folders = member_folders(path, ensemble)
    resolved = resolve_metric(manifest, metric)
    predictor = open_predictor(
        manifest, ensemble, folders, root=path, families=families, metric=resolved, threads=threads
    )
    if predictor.images is None:
        check_predictor(predictor, path / "manifest.json", folders)
    return replace(predictor, uncertainty=read_uncertainty(path / UNCERTAINTY, ensemble, predictor.task.n_classes))


def open_predictor(
    manifest: Mapping[str, Any],
    ensemble: Ensemble,
    folders: Sequence[Sequence[Path]],
    *,
    root: Path,
    families: Mapping[str, Family],
    metric: Metric,
    threads: int = 1,
) -> Predictor:
    """Open the models of an ensemble.

    `folders` holds, for each member, the folders of its fold models; `root` is that of the run or model.
    Raises ModelFileError if a model is damaged or its family is unknown in this session.
    """
    task, classes, targets = _read_task(manifest)
    schema = Schema.from_json(manifest.get("schema"))
    pairs = zip(ensemble.members, folders, strict=True)
    models = [load_fold_models(member.family, folds, task, families) for member, folds in pairs]
    return Predictor(
        task=task,
        schema=schema,
        metric=metric,
        classes=classes,
        ensemble=ensemble,
        models=models,
        folders=[list(folds) for folds in folders],
        threads=threads,
        images=open_reader(manifest, root),
        targets=targets,
    )


def load_fold_models(name: str, folders: Sequence[Path], task: Task, families: Mapping[str, Family]) -> list[Fitted]:
    """Open the models of a family, whose predictions are averaged; see `open_predictor` for the errors."""
    known = {LAST_RESORT.name: LAST_RESORT, **FAMILIES, **families}
    if name not in known:
        raise ModelFileError(
            f"The ensemble holds the family {name!r}, which is not part of windvane. "
            "Give it to load(..., families=[...])."
        )
    context = TrainingContext(task, 0, n_bagged_models=len(folders))
    family = for_task(known[name], task)
    return [family.load(folder, context) for folder in folders]


def read_targets(manifest: Mapping[str, Any]) -> Targets | None:
    """Return the targets of a manifest; None where there is one."""
    with _understanding():
        return Targets.from_json(manifest.get("targets"))


def open_reader(manifest: Mapping[str, Any], root: Path) -> ImageReader | None:
    """Return the image reader of a run or saved model; None for one of tables."""
    if manifest.get("images") is None:
        return None
    from windvane.image_reader import ImageReader

    with _understanding():
        return ImageReader.from_json(manifest["images"], root / FEATURES)


def resolve_metric(manifest: Mapping[str, Any], own: Any = None) -> Metric:
    """Return the metric of a manifest; without the user's own metric, the default metric of the task."""
    task, classes, _ = _read_task(manifest)
    name, is_own = manifest.get("metric"), manifest.get("own_metric")
    if not isinstance(name, str) or not isinstance(is_own, bool):
        raise ModelFileError(f"The manifest is damaged: metric is {name!r}, own_metric is {is_own!r}.")
    positive = manifest.get("positive_class")
    if positive is not None and (task.kind != "binary" or positive not in (0, 1)):
        raise ModelFileError(f"The manifest is damaged: positive_class is {positive!r}.")
    if own is None:
        own = "auto" if is_own else name
    return get_metric(own, task, classes, positive)


def _read_task(manifest: Mapping[str, Any]) -> tuple[Task, NDArray[Any] | None, Targets | None]:
    """Return task, labels of the classes, and targets of a manifest; ModelFileError where they do not go together."""
    targets = read_targets(manifest)
    with _understanding():
        task, classes = Task(**manifest["task"]), classes_from_json(manifest["classes"])
        n_classes = 0 if classes is None else len(classes)
        counts = (task.n_rows, task.n_columns, task.n_classes, task.n_targets)
        kind = "regression" if classes is None else "binary" if n_classes == 2 else "multiclass"
        if targets is not None and targets.are_labels:
            kind = "binary"
        sound = all(type(count) is int and count >= 0 for count in counts) and task.n_classes == n_classes
        sound &= task.n_targets == (1 if targets is None else len(targets)) and (targets is None or classes is None)
        if not sound or task.kind != kind or (manifest["estimator"] == "AutoRegressor") != (kind == "regression"):
            raise ValueError(f"{task} with {n_classes} classes of {manifest['estimator']!r}")
        return task, classes, targets


@contextlib.contextmanager
def _understanding() -> Iterator[None]:
    """Turn what the wrong content of a manifest raises into a `ModelFileError`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError) as error:
        raise ModelFileError(f"The manifest is damaged: {error!r}") from error


def to_bytes(manifest: Mapping[str, Any], predictor: Predictor) -> bytes:
    """Pack a predictor into one value, for copies and other processes."""
    folder = temporary_folder()
    try:
        write_predictor(manifest, predictor, folder / "model")
        return pack_folder(folder / "model")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a ``manifest.json`` and check its hash.

    Raises RunError if it is missing or no JSON, VersionError if it has another format, ModelFileError if its content is
    not that of its hash.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")
        if path.is_file() and path.stat().st_size > MAX_MANIFEST_BYTES:
            raise OSError(f"it has more than {MAX_MANIFEST_BYTES:,} bytes")
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{str(path.parent)!r} holds no run and no saved model (no manifest.json).") from error
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise RunError(f"{str(path)!r} is damaged: {error}") from error
    if not isinstance(manifest, dict):
        manifest = {}
    if manifest.get("format") != FORMAT:
        if manifest.get("kind") == "image_model":
            raise RunError(
                f"{str(path.parent)!r} is a run of a network on images: windvane predict and windvane export open it, "
                "windvane train --resume and finetune --resume continue it, and in Python windvane.vision.load_model."
            )
        theirs = manifest.get("windvane", "unknown")
        later = _numbers(theirs) > _numbers(VERSION)
        advice = "Install that version or a later one." if later else "Call fit again, or install that version."
        raise VersionError(
            f"{str(path.parent)!r} was written by windvane {theirs}, in a format that windvane {VERSION} does not "
            f"read. {advice}"
        )
    return unseal(manifest, path)


def _numbers(version_text: object) -> list[int]:
    """The numbers of a version, so that 0.10 is later than 0.9."""
    return [int(number) for number in re.findall(r"[0-9]{1,9}", str(version_text))]

"""The runs of a folder and their progress, read from their files alone.

Nothing is written or locked, so a fit in another process is not disturbed. Names come from listing the folder, links
are not followed, and a file is read again only when it has changed.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from windvane import persistence
from windvane.data.task import Task
from windvane.errors import WindvaneError
from windvane.evaluation.baseline import ConstantBaseline
from windvane.evaluation.metrics import Metric
from windvane.pages.html_builder import is_page
from windvane.runtime.columns.schema import Schema
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.serialization import DAMAGE, read_json, read_sealed
from windvane.search.run.history import History, PerformanceCurve
from windvane.search.run.record import RunRecord
from windvane.search.run.run_directory import FitBudget, RunDirectory
from windvane.search.run.unseen_rows import read_test_score
from windvane.search.trial import Trial

MANIFEST = "manifest.json"
MAX_PAGES = 20  # of a folder
EVALUATED = (  # columns of metrics.csv that are shown
    *("epoch", "progress", "seconds", "images_per_second"),
    *("train_loss", "train_accuracy", "valid_loss", "valid_accuracy"),
)
MODEL_FILES = (MANIFEST, "ensemble.json", "uncertainty.json")

UNREADABLE: tuple[type[Exception], ...] = (WindvaneError, *DAMAGE)  # what reading a damaged file raises

Status = Literal["running", "finished", "ended early", "saved model", "network", "not readable"]
Signature = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class SearchSummary:
    """A search, running or not, or the model that was saved of one."""

    manifest: Mapping[str, Any]
    task: Task
    metric: Metric
    trials: Sequence[Trial]
    ensemble: Ensemble | None = None  # None until a fit has ended
    curve: PerformanceCurve = field(default_factory=list)
    constant: ConstantBaseline | None = None
    test_score: float | None = None  # higher is better
    budget: FitBudget | None = None

    @property
    def schema(self) -> Schema:
        return Schema.from_json(self.manifest["schema"])

    @property
    def is_of_images(self) -> bool:
        return self.manifest.get("images") is not None

    @property
    def best(self) -> Trial | None:
        """The trial with the lowest validation loss."""
        return min((trial for trial in self.trials if trial.usable), key=lambda trial: trial.loss, default=None)

    @property
    def loss(self) -> float:
        """Validation loss of the ensemble, or of the best trial so far; NaN without one."""
        if self.ensemble is not None:
            return self.ensemble.loss
        return math.nan if self.best is None else self.best.loss

    @property
    def seconds(self) -> float:
        """How long the search has run, earlier fits included."""
        return max([trial.ended for trial in self.trials] + [point[0] for point in self.curve], default=0.0)


@dataclass(frozen=True)
class Network:
    """A network that was trained on images."""

    manifest: Mapping[str, Any]
    evaluations: pd.DataFrame  # one row each, columns as of `windvane.vision.Evaluation`

    @property
    def labels(self) -> list[str]:
        return [str(label) for label in self.manifest["classes"]]


@dataclass(frozen=True)
class Run:
    """One run, as its files describe it."""

    name: str
    folder: Path
    status: Status
    content: SearchSummary | Network | str  # a text says why it cannot be read
    is_alone: bool  # whether it is all that is served, without a page of all runs

    @property
    def takes_images(self) -> bool:
        """Whether its model predicts images, not rows of a table."""
        return not isinstance(self.content, SearchSummary) or self.content.is_of_images

    @property
    def pages(self) -> dict[str, Path]:
        """Name -> file of each page in its folder that windvane wrote."""
        return list_pages(self.folder)

    @property
    def signature(self) -> Signature:
        """Changes with the files from which the model is opened."""
        files = [self.folder / name for name in MODEL_FILES]
        if isinstance(self.content, SearchSummary) and self.content.ensemble is None:
            files.append(self.folder / "history.jsonl")
        return tuple(map(_stat, files))


class RunFolder:
    """A folder of runs, or one run."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._read: dict[tuple[str, Path], tuple[Signature, Any]] = {}  # by its kind and its first file

    @property
    def is_one_run(self) -> bool:
        return (self.root / MANIFEST).is_file()

    def names(self) -> list[str]:
        """Names of the runs; links are left out."""
        return list(self._folders())

    def run(self, name: str) -> Run | None:
        """Read a run; None if no run has this name."""
        folder = self._folders().get(name)
        return None if folder is None else self._read_run(name, folder)

    def runs(self) -> list[Run]:
        return [self._read_run(name, folder) for name, folder in self._folders().items()]

    def pages(self) -> dict[str, Path]:
        """Pages beside the runs, such as those of ``windvane inspect``."""
        return {} if self.is_one_run else list_pages(self.root)

    def _folders(self) -> dict[str, Path]:
        if self.is_one_run:
            return {self.root.name: self.root}
        names = _list_names(self.root, lambda entry: entry.is_dir(follow_symlinks=False))
        return {name: self.root / name for name in names if (self.root / name / MANIFEST).is_file()}

    def _read_run(self, name: str, folder: Path) -> Run:
        status, content = self._read_content(folder)
        return Run(name, folder, status, content, self.is_one_run)

    def _read_content(self, folder: Path) -> tuple[Status, SearchSummary | Network | str]:
        manifest = folder / MANIFEST
        try:
            kind = self._once("kind", [manifest], lambda: read_json(manifest).get("kind"))
            if kind == "image_model":
                return "network", self._read_network(folder)
            if kind == "run":
                return self._read_search(folder)
            return "saved model", self._once("saved", [manifest], lambda: _read_saved(manifest))
        except WindvaneError as error:
            return "not readable", str(error)
        except DAMAGE as error:
            return "not readable", f"It is damaged: {error or type(error).__name__}"

    def _read_search(self, folder: Path) -> tuple[Status, SearchSummary]:
        directory = RunDirectory(folder)
        is_running = directory.is_in_use()
        ensemble_file = folder / "ensemble.json"
        manifest = self._once("manifest", [folder / MANIFEST], directory.manifest)
        trials = self._once("trials", [directory.history], lambda: History(directory.history).trials)
        outcome = self._once("outcome", [ensemble_file], directory.read_outcome)
        ensemble = outcome.ensemble
        score = None
        if ensemble is not None and not manifest["own_metric"]:
            files = [directory.test / "score.json", ensemble_file]
            score = self._once("score", files, lambda: read_test_score(directory.test, ensemble))
        search = SearchSummary(
            manifest,
            Task(**manifest["task"]),
            _metric(manifest),
            trials,
            ensemble,
            # The losses over time are written when a fit ends.
            _best_so_far(trials) if is_running or ensemble is None else outcome.curve,
            outcome.constant,
            score,
            directory.read_budget(),
        )
        return "running" if is_running else "ended early" if ensemble is None else "finished", search

    def _read_network(self, folder: Path) -> Network:
        path = folder / MANIFEST
        manifest = self._once("manifest", [path], lambda: read_sealed(path))
        metrics = folder / "metrics.csv"
        return Network(manifest, self._once("evaluations", [metrics], lambda: _read_evaluations(metrics)))

    def _once(self, what: str, files: Sequence[Path], read: Callable[[], Any]) -> Any:
        """Return what `read` makes of some files; it is called again only when one of them has changed."""
        key, now = (what, files[0]), tuple(map(_stat, files))
        before = self._read.get(key)
        if before is None or before[0] != now:
            self._read[key] = before = (now, read())
        return before[1]


def list_pages(folder: Path) -> dict[str, Path]:
    """Name -> file of each page of windvane in a folder; links are left out."""
    names = _list_names(folder, lambda entry: entry.is_file(follow_symlinks=False))
    pages = [name for name in names if name.lower().endswith((".html", ".htm"))][:MAX_PAGES]
    return {name: folder / name for name in pages if _is_readable_page(folder / name)}


def _list_names(folder: Path, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    """List the names of some entries of a folder, sorted, without those that are not printable."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_wanted(entry) and entry.name.isprintable())
    except OSError:
        return []


def _is_readable_page(path: Path) -> bool:
    try:
        return is_page(path)
    except OSError:
        return False


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read_saved(path: Path) -> SearchSummary:
    manifest = persistence.read_manifest(path)
    record = RunRecord.of_manifest(manifest)
    return SearchSummary(
        manifest,
        Task(**manifest["task"]),
        _metric(manifest),
        record.trials,
        Ensemble.from_json(manifest["ensemble"]),
        record.curve,
        record.constant,
        record.test_score,
    )


def _read_evaluations(path: Path) -> pd.DataFrame:
    """The evaluations so far; none where the file is missing or damaged."""
    try:
        return pd.read_csv(path)[list(EVALUATED)].astype(np.float64)
    except UNREADABLE:
        return pd.DataFrame()


def _metric(manifest: Mapping[str, Any]) -> Metric:
    """The metric of a run; for a user's own, which no file can hold, one whose values are the losses."""
    if manifest.get("own_metric"):
        return Metric(f"loss of {manifest['metric']}", _unknown, greater_is_better=False)
    return persistence.resolve_metric(manifest)


def _unknown(target: Any, prediction: Any) -> float:
    raise NotImplementedError("the user's own metric is not known here")


def _best_so_far(trials: Sequence[Trial]) -> PerformanceCurve:
    """The lowest loss after each usable trial, without an ensemble."""
    usable = sorted((trial for trial in trials if trial.usable), key=lambda trial: trial.ended)
    losses = itertools.accumulate((trial.loss for trial in usable), min)
    return [(trial.ended, loss, math.nan) for trial, loss in zip(usable, losses, strict=True)]

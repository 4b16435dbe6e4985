"""One directory is a run: which file is where, and which process works on it.

::

    run/
      manifest.json     versions, task, metric, policy, families, seed, schema of the columns, fingerprint of the data
      lock              held by the living process that works on the run
      budget.json       when the last fit began and how long it may take, for a live view
      history.jsonl     every trial
      data/             table, target, weights and folds, memory-mapped by the workers; the pixels of images
      image_names.json  names of the images, for reports
      features/         networks whose features of images are the table; a folder for each
      trials/00012/checkpoint_0003/   validation predictions and the model of every fold
      ensemble.json     weights of the members, calibration, decision; losses over time, constant baseline
      uncertainty.json  scores of the validation rows, for prediction intervals and sets
      log.txt           what the libraries print in the workers
      test/             rows that the search did not see, and the score on them
      tmp/              scratch files of the workers; deleted when a fit ends
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from windvane.errors import ModelFileError, RunError, RunLockedError
from windvane.evaluation.baseline import ConstantBaseline
from windvane.evaluation.decisions.thresholds import DecisionTuning
from windvane.persistence import FEATURES, FORMAT, read_manifest
from windvane.runtime.conformal import FILE as UNCERTAINTY
from windvane.runtime.conformal import Uncertainty, read_uncertainty, write_uncertainty
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.serialization import read_sealed, sync, write_sealed, writing
from windvane.search.run.checkpoint import REFITTED, drop_damaged, is_whole, read_whole_checkpoint
from windvane.search.run.history import History, PerformanceCurve


@dataclass(frozen=True)
class FitBudget:
    """What one fit may take."""

    begun: float  # seconds since 1970
    seconds: float
    n_trials: int | None  # of the whole run
    n_workers: int

    @property
    def elapsed(self) -> float:
        return max(0.0, time.time() - self.begun)


@dataclass(frozen=True)
class FitOutcome:
    """What the last fit of a run left in ``ensemble.json``; empty if none came to its end, or the file is damaged."""

    ensemble: Ensemble | None = None  # its checkpoints may be damaged or replaced
    curve: PerformanceCurve = field(default_factory=list)
    constant: ConstantBaseline | None = None
    tuning: DecisionTuning | None = None  # of the threshold


class RunDirectory:
    """The files of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.test = root / "test"
        self.trials = root / "trials"
        self.history = root / "history.jsonl"
        self.log = root / "log.txt"
        self.uncertainty = root / UNCERTAINTY
        self.temporary = root / "tmp"
        self._lock: IO[str] | None = None

    def exists(self) -> bool:
        """Whether a run was started here."""
        return os.path.exists(self.root / "manifest.json")  # False also for names that are too long

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest of a new run; raises RunError if the directory holds something else.

        The manifest comes first, so that a run that ends before it has one leaves nothing that is in the way.
        """
        there = list(self.root.iterdir()) if self.root.exists() else []
        if not all(path.name == "lock" or path.match("manifest.json.*.tmp") for path in there):
            raise RunError(f"run_dir={str(self.root)!r} is not empty and holds no run. Allowed: a new or empty folder.")
        with writing(self.root, "No run was begun there."):
            self.root.mkdir(parents=True, exist_ok=True)
            write_sealed(self.root / "manifest.json", {"format": FORMAT, **manifest})
            self.trials.mkdir()
            sync(self.root.parent)

    def manifest(self) -> dict[str, Any]:
        """Read the manifest; see `read_manifest` for the errors."""
        return read_manifest(self.root / "manifest.json")

    def write_images(self, networks: Path, names: Sequence[str]) -> None:
        """Copy the networks that made features of images, and write the names of the images."""
        with writing(self.root, "The networks of the run do not fit there; no trial was begun."):
            (self.root / "image_names.json").write_text(json.dumps(list(names)), encoding="utf-8")
            shutil.copytree(networks, self.root / FEATURES, dirs_exist_ok=True)

    def read_image_names(self) -> tuple[str, ...]:
        """Read the names of the images, a row of the table each; empty where they were not kept."""
        return read_names(self.root / "image_names.json")

    def trial(self, number: int) -> Path:
        return self.trials / f"{number:05d}"

    def checkpoint(self, number: int, name: str) -> Path:
        return self.trial(number) / name

    def validation_predictions(self, number: int, name: str) -> NDArray[np.floating[Any]] | None:
        """Read those of a checkpoint; None if they are missing or damaged."""
        try:
            array: NDArray[np.floating[Any]] = np.load(self.checkpoint(number, name) / "valid.npy")
        except (OSError, ValueError, EOFError, MemoryError):
            return None
        return array

    def lock(self) -> None:
        """Claim the run for this process until `unlock`; a process that dies holds nothing."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise RunError(
                f"run_dir={str(self.root)!r} cannot be used: {error}. Allowed: a folder to write to."
            ) from error
        try:
            _claim(file)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise RunLockedError(
                f"run_dir={str(self.root)!r} is in use by another process (process id {owner}). "
                "Wait until it ends, or choose another run_dir."
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        self._lock = file

    def unlock(self) -> None:
        if self._lock is not None:
            with suppress(OSError):
                self._lock.truncate(0)  # nobody works on it now
            _release(self._lock)  # closing alone would leave it to a fork that holds the same open file
            self._lock.close()
            self._lock = None

    def is_in_use(self) -> bool:
        """Whether a living process of this machine works on the run, by what the lock file says; it is not locked."""
        try:
            owner = psutil.Process(int((self.root / "lock").read_text(encoding="utf-8")))
            # A later process may have the id of one that died.
            is_owner = owner.create_time() <= (self.root / "lock").stat().st_mtime + 1.0
            return bool(is_owner and owner.status() != psutil.STATUS_ZOMBIE)
        except (OSError, ValueError, OverflowError, psutil.Error):
            return False

    def write_budget(self, budget: FitBudget) -> None:
        """Write what the fit that begins may take; a disk that cannot take it ends nothing."""
        with suppress(OSError):
            (self.root / "budget.json").write_text(json.dumps(asdict(budget)), encoding="utf-8")

    def read_budget(self) -> FitBudget | None:
        """Read what the last fit might take; None where it is not known."""
        try:
            record = json.loads((self.root / "budget.json").read_text(encoding="utf-8"))
            n_trials = None if record["n_trials"] is None else int(record["n_trials"])
            return FitBudget(float(record["begun"]), float(record["seconds"]), n_trials, int(record["n_workers"]))
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def read_history(self) -> History:
        """Read the history, and add the checkpoints of trials that a kill left out of it."""
        history = History(self.history)
        known = {trial.number: trial for trial in history.trials}
        for folder in sorted(self.trials.glob("*")):
            earlier = known.get(int(folder.name)) if folder.name.isdecimal() else None
            trial = read_whole_checkpoint(folder, None if earlier is None else earlier.checkpoint)
            if trial is not None:
                ended = max((t.ended for t in known.values()), default=0.0) if earlier is None else earlier.ended
                history.append(replace(trial, status="stopped", ended=ended))
        return history

    def write_ensemble(
        self,
        ensemble: Ensemble,
        curve: PerformanceCurve,
        constant: ConstantBaseline | None,
        tuning: DecisionTuning | None = None,
    ) -> None:
        """Write the ensemble and what is known beside it; raises DiskError if the disk is full or read-only."""
        beside = {
            "curve": curve,
            "constant": None if constant is None else constant.to_json(),
            "tuning": None if tuning is None else tuning.to_json(),
        }
        with writing(self.root / "ensemble.json", "All trials and their checkpoints are safe."):
            write_sealed(self.root / "ensemble.json", {**ensemble.to_json(), **beside})

    def read_outcome(self) -> FitOutcome:
        try:
            record = read_sealed(self.root / "ensemble.json")
        except ModelFileError:
            return FitOutcome()
        curve = [(float(a), float(b), float(c)) for a, b, c in record.pop("curve")]
        constant = ConstantBaseline.from_json(record.pop("constant"))
        tuning = DecisionTuning.from_json(record.pop("tuning"))
        return FitOutcome(Ensemble.from_json(record), curve, constant, tuning)

    def write_uncertainty(self, uncertainty: Uncertainty, ensemble: Ensemble) -> None:
        """Write what the intervals or sets of an ensemble need; raises DiskError if the disk is full or read-only."""
        with writing(self.uncertainty, "All trials and their checkpoints are safe."):
            write_uncertainty(self.uncertainty, uncertainty, ensemble)

    def read_uncertainty(self, ensemble: Ensemble, n_classes: int) -> Uncertainty | None:
        """Read it (`n_classes` is 0 for a number); None if it is missing, of another ensemble, or damaged."""
        try:
            return read_uncertainty(self.uncertainty, ensemble, n_classes)
        except ModelFileError:
            return None

    def damaged_members(self, ensemble: Ensemble) -> set[int]:
        """Return the numbers of the trials whose checkpoint is not as it was written, every file of it."""
        return {m.number for m in ensemble.members if not is_whole(self.checkpoint(m.number, m.checkpoint))}

    def drop_damaged(self, history: History) -> None:
        """Delete the checkpoints later than those of the history that a power cut left incomplete."""
        known = {self.trial(trial.number): trial.checkpoint for trial in history.trials}
        for folder in self.trials.glob("*"):
            drop_damaged(folder, known.get(folder))

    def model_folders(self, ensemble: Ensemble) -> list[list[Path]]:
        """Return, for each member, the folders of the models that predict: those of folds, or the one of all rows."""
        folders = []
        for member in ensemble.members:
            checkpoint = self.checkpoint(member.number, member.checkpoint)
            if (checkpoint / REFITTED).is_dir():
                folders.append([checkpoint / REFITTED])
                continue
            folds = member.folds or range(len(list(checkpoint.glob("fold_*"))))
            folders.append([checkpoint / f"fold_{fold}" for fold in folds])
        return folders


def read_names(path: Path) -> tuple[str, ...]:
    """Read a file of names of images; empty where it is missing or damaged."""
    try:
        return tuple(map(str, json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        return ()


def _release(file: IO[str]) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def _claim(file: IO[str]) -> None:
    """Lock an open file, or raise OSError; the operating system frees it when the owner ends, however it ends."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(2**20)  # a lock there keeps the owner's id at the start readable
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

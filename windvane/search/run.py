"""One directory is a run: what lies where, who works on it, and the problem that its worker programs read.

::

    run/
      manifest.json     versions, task, metric, policy, families, seed, schema of the columns, fingerprint of the data
      lock              held by the living process that works on the run
      history.jsonl     every trial
      data/             the typed table, target, weights and folds, memory-mapped by the workers
      trials/00012/step_03/   validation predictions and the fitted state of every fold after that step
      ensemble.json     weights of the members, temperature, decision weights
      log.txt           what the libraries print in the workers
      tmp/              scratch files of the workers; gone when a fit has ended
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.splits import Fold
from windvane.data.table_io import read_table, write_table
from windvane.data.task import Task
from windvane.errors import RunError, RunLockedError, VersionError
from windvane.evaluation.metrics import Metric
from windvane.runtime.table import Floats, Integers, Table

FORMAT = 3


@dataclass(frozen=True)
class Problem:
    """What every trial of a run is about.

    Attributes
    ----------
    task
        What is to be learned.
    metric
        What is to be minimised.
    table, target, weight
        All rows: columns, target of shape (n,), weights of shape (n,) or None.
    folds
        Training and validation rows, one pair for each fold.
    seed
        Root of the randomness of row samples.
    """

    task: Task
    metric: Metric
    table: Table
    target: NDArray[Any]
    weight: Floats | None
    folds: tuple[Fold, ...]
    seed: int

    @property
    def valid_rows(self) -> Integers:
        """Validation rows of all folds one after the other, the order of every kept prediction; shape (v,)."""
        return np.concatenate([fold.valid for fold in self.folds])

    def loss(self, prediction: Floats, rows: Integers) -> float:
        """Judge a prediction of some rows.

        Parameters
        ----------
        prediction
            Shape (len(rows), n_classes) or (len(rows),).
        rows
            Which rows were predicted.

        Returns
        -------
        float
            The metric's loss, weighted where there are weights.
        """
        weight = None if self.weight is None else self.weight[rows]
        return self.metric.loss(self.target[rows], prediction, weight)

    def write(self, folder: Path) -> None:
        """Write all but the metric, which travels from the session.

        Parameters
        ----------
        folder
            The run's ``data`` folder; made where it is missing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_table(self.table, folder)
        np.save(folder / "target.npy", self.target)
        if self.weight is not None:
            np.save(folder / "weight.npy", self.weight)
        arrays: dict[str, Any] = {}
        for i, fold in enumerate(self.folds):
            arrays[f"train_{i}"], arrays[f"valid_{i}"] = fold.train, fold.valid
        np.savez(folder / "folds.npz", **arrays)
        task = {"kind": self.task.kind, "n_rows": self.task.n_rows}
        task |= {"n_columns": self.task.n_columns, "n_classes": self.task.n_classes, "seed": self.seed}
        (folder / "task.json").write_text(json.dumps(task))

    @classmethod
    def read(cls, folder: Path, metric: Metric) -> Problem:
        """Open what `write` wrote, the table memory-mapped.

        Parameters
        ----------
        folder
            The run's ``data`` folder.
        metric
            The metric, from the session.

        Returns
        -------
        Problem
            The same problem.

        Raises
        ------
        RunError
            Where the folder is incomplete.
        """
        try:
            facts = json.loads((folder / "task.json").read_text())
            seed = int(facts.pop("seed"))
            weight = folder / "weight.npy"
            with np.load(folder / "folds.npz") as arrays:
                count = len(arrays.files) // 2
                folds = tuple(Fold(arrays[f"train_{i}"], arrays[f"valid_{i}"]) for i in range(count))
            return cls(
                task=Task(**facts),
                metric=metric,
                table=read_table(folder),
                target=np.load(folder / "target.npy"),
                weight=np.load(weight) if weight.exists() else None,
                folds=folds,
                seed=seed,
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise RunError(f"The data of the run in {folder.parent} cannot be read: {error}") from error


class RunDirectory:
    """The files of one run.

    Parameters
    ----------
    root
        The directory; made by `create`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.trials = root / "trials"
        self.history = root / "history.jsonl"
        self.log = root / "log.txt"
        self.temporary = root / "tmp"
        self._lock: IO[str] | None = None

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.root / "manifest.json").exists()

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Begin a run; its manifest comes first, so that a directory that was left half-made can be gone on with.

        Parameters
        ----------
        manifest
            What the run is about.

        Raises
        ------
        RunError
            Where the directory holds something else.
        """
        if not self.exists() and self.root.exists() and any(p.name != "lock" for p in self.root.iterdir()):
            raise RunError(f"run_dir={str(self.root)!r} is not empty and holds no run. Allowed: a new or empty folder.")
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.root / "manifest.json", {"format": FORMAT, **manifest})
        self.trials.mkdir(exist_ok=True)

    def manifest(self) -> dict[str, Any]:
        """Read the manifest.

        Returns
        -------
        dict
            What `create` wrote.

        Raises
        ------
        RunError
            Where there is none, or it is damaged.
        VersionError
            Where another format was written.
        """
        return read_manifest(self.root / "manifest.json")

    def trial(self, number: int) -> Path:
        """Name the folder of a trial."""
        return self.trials / f"{number:05d}"

    def step(self, number: int, step: str) -> Path:
        """Name the folder of a kept step."""
        return self.trial(number) / step

    def lock(self) -> None:
        """Claim the run for this process until `unlock`; a process that dies holds nothing.

        Raises
        ------
        RunLockedError
            Where another living process holds it.
        RunError
            Where the directory cannot be made or written to.
        """
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
        """Let go of the run."""
        if self._lock is not None:
            self._lock.close()  # the system lets go of the lock with the file
            self._lock = None

    def drop(self, folder: Path) -> None:
        """Delete one of its folders."""
        shutil.rmtree(folder, ignore_errors=True)


def _claim(file: IO[str]) -> None:
    """Lock an open file, or raise OSError; the operating system frees it when the owner ends, however it ends."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(2**20)  # a lock there keeps the owner's id at the start readable
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest and check its format.

    Parameters
    ----------
    path
        A ``manifest.json``.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    RunError
        Where there is none, or it is damaged.
    VersionError
        Where another format was written.
    """
    from windvane.version import VERSION

    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{str(path.parent)!r} holds no run and no saved model (no manifest.json).") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{str(path)!r} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        theirs = manifest.get("windvane", "unknown") if isinstance(manifest, dict) else "unknown"
        raise VersionError(f"{str(path.parent)!r} was written by windvane {theirs}; this is windvane {VERSION}.")
    return manifest


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that is there whole or not at all.

    Parameters
    ----------
    path
        Where.
    content
        JSON values.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(temporary, path)


def fingerprint(problem: Problem, terms: object = None) -> str:
    """Digest the data of a run, to tell whether another call brings the same.

    Parameters
    ----------
    problem
        Table, target and weight.
    terms
        What the user calls them: columns, vocabularies, labels; JSON values.

    Returns
    -------
    str
        Hexadecimal digest.
    """
    table, sparse = problem.table, problem.table.sparse
    arrays: list[NDArray[Any]] = [table.matrix, problem.target]
    arrays += [] if problem.weight is None else [problem.weight]
    arrays += [] if sparse is None else [sparse.data, sparse.indices, sparse.indptr]
    texts = [text.tolist() for text in table.texts]
    return digest(arrays, [table.n_numbers, table.cardinalities, problem.weight is None, texts, terms])


def digest(arrays: Iterable[NDArray[Any]], terms: object = None) -> str:
    """Digest arrays, their types and shapes, and JSON values.

    Parameters
    ----------
    arrays
        In an order that counts.
    terms
        JSON values.

    Returns
    -------
    str
        Hexadecimal digest.
    """
    found = hashlib.blake2b(json.dumps(terms).encode(), digest_size=16)
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()

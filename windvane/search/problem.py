"""The problem of a run: what a user passed to `fit`, as every trial needs it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.splits import Fold
from windvane.data.table_io import read_table, write_table
from windvane.data.task import Task
from windvane.errors import MetricError, RunError
from windvane.evaluation.baseline import ConstantBaseline, constant_prediction
from windvane.evaluation.metrics import Metric
from windvane.models.base import DataSplit, Family
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Integers, Table
from windvane.runtime.serialization import DAMAGE
from windvane.runtime.targets import Targets
from windvane.search.run.replace_folder import replace_folder
from windvane.search.strategy.policy import Policy

if TYPE_CHECKING:
    from windvane.image_reader import ImageReader


@dataclass(frozen=True)
class Problem:
    """What every trial of a run is trained and evaluated on."""

    task: Task
    metric: Metric
    table: Table  # all rows
    target: NDArray[Any]  # shape (n,), of several targets (n, t)
    weight: Floats | None  # shape (n,)
    folds: tuple[Fold, ...]
    seed: int  # of the samples of rows
    refits: bool = False  # whether models of a single fold are trained again, on all rows, to predict

    @property
    def validation_rows(self) -> Integers:
        """Validation rows, fold after fold: the order of the predictions in a checkpoint; shape (v,)."""
        return np.concatenate([fold.validation for fold in self.folds])

    def part(self, rows: Integers) -> DataSplit:
        return DataSplit(self.table, self.target, self.weight).take(rows)

    def weight_of(self, rows: Integers) -> Floats | None:
        return None if self.weight is None else self.weight[rows]

    def sample_rows(self, train: Integers, n_rows: int) -> Integers:
        """Draw `n_rows` of the positions `train`, every class among them; a larger draw contains the smaller ones."""
        order = np.random.default_rng(self.seed).permutation(len(train))
        if self.task.is_classification:
            # The first row of each class comes first, so that no sample lacks a class.
            _, first = np.unique(self.target[train[order]], return_index=True)
            order = np.concatenate([order[first], np.delete(order, first)])
            n_rows = max(n_rows, len(first))
        return np.sort(train[order[:n_rows]])

    def initial_sample_size(self, max_cells: float) -> int | None:
        """Return the rows that first models of `max_cells` (rows x columns x outputs) train on; None for all."""
        n_train = min(len(fold.train) for fold in self.folds)
        per_row = max(1, self.task.n_columns) * max(1, self.task.n_outputs)
        n_rows = int(max(max_cells / per_row, 2_000, 20 * max(1, self.task.n_classes)))
        return n_rows if n_rows * 2 < n_train else None

    def loss(self, prediction: Floats, rows: Integers) -> float:
        """Return the loss of a prediction of some rows, weighted if there are weights."""
        return self.metric.loss(self.target[rows], prediction, self.weight_of(rows))

    def constant_baseline(self) -> ConstantBaseline | None:
        """Evaluate a constant on the folds; None if the user's metric cannot be computed of it."""
        n_classes = self.task.n_classes
        parts = []
        for fold in self.folds:
            constant = constant_prediction(self.target[fold.train], n_classes, self.metric, self.weight_of(fold.train))
            parts.append(np.broadcast_to(constant, (len(fold.validation), *constant.shape)))
        try:
            loss = self.loss(np.concatenate(parts), self.validation_rows)
        except MetricError:
            return None
        whole = np.atleast_1d(constant_prediction(self.target, n_classes, self.metric, self.weight))
        return ConstantBaseline(tuple(map(float, whole)), loss)

    def fingerprint(self, terms: object = None) -> str:
        """Return a digest of the data, to tell whether another call passes the same.

        `terms` are JSON values: what the user calls the columns, their categories and the labels.
        """
        table, sparse = self.table, self.table.sparse
        arrays: list[NDArray[Any]] = [table.matrix, self.target]
        arrays += [] if self.weight is None else [self.weight]
        arrays += [] if sparse is None else [sparse.data, sparse.indices, sparse.indptr]
        arrays += [] if table.images is None else [table.images.pixels, table.images.rows]
        texts = [text.tolist() for text in table.texts]
        return array_digest(arrays, [table.n_numbers, table.cardinalities, self.weight is None, texts, terms])

    def write(self, folder: Path) -> None:
        """Write all but the metric, which the session sends, whole or not at all; DiskError if the disk is full."""
        shutil.rmtree(folder, ignore_errors=True)  # there may be no room for both
        arrays: dict[str, Any] = {}
        for i, fold in enumerate(self.folds):
            arrays[f"train_{i}"], arrays[f"valid_{i}"] = fold.train, fold.validation
        task = {**self.task.to_json(), "seed": self.seed, "refits": self.refits}
        safe = "The data of the run do not fit there; no trial was begun."
        with replace_folder(folder, f"{folder.name}.tmp", safe) as temporary:
            write_table(self.table, temporary)
            np.save(temporary / "target.npy", self.target)
            if self.weight is not None:
                np.save(temporary / "weight.npy", self.weight)
            np.savez(temporary / "folds.npz", **arrays)
            (temporary / "task.json").write_text(json.dumps(task))

    @classmethod
    def read(cls, folder: Path, metric: Metric) -> Problem:
        """Read the files of `write`, the table memory-mapped; raises RunError if the folder is incomplete."""
        try:
            record = json.loads((folder / "task.json").read_text())
            seed, refits = int(record.pop("seed")), bool(record.pop("refits"))
            weight = folder / "weight.npy"
            with np.load(folder / "folds.npz") as arrays:
                count = len(arrays.files) // 2
                folds = tuple(Fold(arrays[f"train_{i}"], arrays[f"valid_{i}"]) for i in range(count))
            return cls(
                task=Task(**record),
                metric=metric,
                table=read_table(folder),
                target=np.load(folder / "target.npy"),
                weight=np.load(weight) if weight.exists() else None,
                folds=folds,
                seed=seed,
                refits=refits,
            )
        except DAMAGE as error:
            raise RunError(f"The data of the run in {folder.parent} cannot be read: {error}") from error


@dataclass(frozen=True)
class PreparedProblem:
    """A problem, and what the user calls its columns and classes."""

    problem: Problem
    schema: Schema
    classes: NDArray[Any] | None  # labels in the order of their codes; None for regression
    policy: Policy
    families: Mapping[str, Family]  # by name, those that support the problem
    warnings: tuple[str, ...] = ()  # for the user: what may be a mistake
    notes: tuple[str, ...] = ()  # for the user: how the table was read
    images: ImageSource | None = None  # where the table was made of images
    targets: Targets | None = None  # several of them


@dataclass(frozen=True, eq=False)
class ImageSource:
    """What a run of images keeps beside its table."""

    reader: ImageReader  # reads new images in the same way
    names: tuple[str, ...]  # of the images, for reports
    digest: str  # of the images and labels as they were given
    seconds_per_image: float = 0.0  # that decoding and features took


def array_digest(arrays: Iterable[NDArray[Any]], terms: object = None) -> str:
    """Return a hexadecimal digest of arrays, their types, shapes and order, and of JSON values."""
    digest = hashlib.blake2b(json.dumps(terms).encode(), digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

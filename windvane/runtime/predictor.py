"""The fitted ensemble: a table in, probabilities or numbers out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse as sp

from .columns.schema import Frame, Schema, is_one_row, of_array, with_text_names
from .columns.table import Floats, Table
from .conformal import FILE, ClassSets, Intervals, Masks, Uncertainty, check_coverage, read_uncertainty
from .ensemble import Ensemble
from .errors import InputError, ModelFileError
from .labels import labels_from_json
from .models import load_models
from .models.fitted import Fitted, FittedModel
from .models.multi_target import models_of
from .models.realmlp import PORTION
from .serialization import check_files, read_sealed, reading
from .targets import Targets

# A prediction is cut into pieces of this many rows, so that memory does not grow with the table.
CHUNK_ROWS = 50_000
UNCHECKED = ("manifest.json", "README.txt", "requirements.txt")  # the manifest checks itself; texts are for people
FEW_ROWS = 500  # up to here starting threads costs more than it saves

_NO_SCORES = (
    f"{{method}} needs the scores of the validation rows ({FILE}), which this model does not have: its file was "
    "deleted or damaged, or the model was saved or exported without it. Continue its run for a moment (resume, or "
    "windvane resume RUN --time 1s) and save it again, or call fit."
)


@dataclass(frozen=True)
class EnsemblePredictor:
    """The models of an ensemble with everything that a prediction needs."""

    schema: Schema
    classes: NDArray[Any] | None  # labels in the order of the probabilities; None for numbers and several targets
    ensemble: Ensemble
    models: Sequence[Sequence[Fitted]]  # for each member those of its folds, whose predictions are averaged
    threads: int = 1  # how many models predict at once, on more than a few rows
    uncertainty: Uncertainty | None = None  # of a number its intervals, else sets of classes
    targets: Targets | None = None  # several of them; None for one

    def raw_shape(self, n_rows: int) -> tuple[int, ...]:
        if self.targets is not None:
            return n_rows, len(self.targets)
        return (n_rows,) if self.classes is None else (n_rows, len(self.classes))

    def predict_raw(self, table: Table) -> Floats:
        """Blend the members: probabilities of shape (n, n_classes), numbers (n,), or several targets (n, t)."""
        blend = self.blend(table)
        return blend if self.classes is None else self.ensemble.calibrate(blend)

    def blend(self, table: Table) -> Floats:
        """Average the members, before the calibration; shape as of `predict_raw`."""
        if table.n_rows > CHUNK_ROWS:
            pieces = np.array_split(np.arange(table.n_rows), -(-table.n_rows // CHUNK_ROWS))
            return np.concatenate([self.blend(table.take(rows)) for rows in pieces])
        models = [model for folds in self.models for model in folds]
        if self.threads > 1 and table.n_rows > FEW_ROWS:
            shares = self._shares(table)
            tasks = [(model, share) for share in shares for model in models]
            with ThreadPoolExecutor(self.threads) as pool:  # the libraries release the GIL
                found = pool.map(lambda task: task[0].predict(task[1]), tasks)
                return np.concatenate([self._average(found, share.n_rows) for share in shares])
        return self._average((model.predict(table) for model in models), table.n_rows)

    def _shares(self, table: Table) -> list[Table]:
        """Divide the rows among the threads, so that none waits for the last, slow model of another.

        Networks take rows in portions, and predict the same if a share is made of whole ones.
        """
        if table.images is not None:  # their networks divide them by themselves
            return [table]
        size = PORTION * -(-table.n_rows // (PORTION * self.threads))
        return [table.take(slice(start, start + size)) for start in range(0, table.n_rows, size)]

    def _average(self, predictions: Iterator[Floats], n_rows: int) -> Floats:
        """Average what the models predict, one member after the other: no more than its folds are held at once."""
        blend = np.zeros(self.raw_shape(n_rows))
        for member, folds in zip(self.ensemble.members, self.models, strict=True):
            average = self.ensemble.average_folds(list(islice(predictions, len(folds))))
            blend += member.weigh(member.calibrate(average, len(folds)))
        return blend

    def decide(self, probabilities: Floats) -> NDArray[np.intp]:
        """Return the codes of the predicted classes, shape (n,), by the ensemble's threshold, weights or costs."""
        return np.asarray(self.ensemble.decision_values(probabilities).argmax(axis=1))

    def predict_table(self, table: Table) -> Any:
        """Predict labels or numbers, shape (n,), or several targets in the form that they had in training."""
        raw = self.predict_raw(table)
        if self.targets is not None:
            return self.targets.decide(self.ensemble.decision_values(raw))
        return raw if self.classes is None else np.asarray(self.classes[self.decide(raw)])

    def prediction_columns(self, X: Any) -> pd.DataFrame:
        """Predict a table for a file: the column "prediction", or one for each of several targets."""
        if self.targets is None:
            return pd.DataFrame({"prediction": self.predict(X)})
        return self.targets.columns(self.ensemble.decision_values(self.predict_raw(self._read(X))))

    def probability_columns(self, X: Any) -> pd.DataFrame:
        """Predict a table of probabilities with a column for each class, or for each of several labels."""
        names = self.class_names if self.targets is None else self.targets.titles
        return pd.DataFrame(self.predict_proba(X), columns=names)

    @property
    def class_names(self) -> list[str]:
        """The classes as texts, by code; none for numbers and several targets."""
        return [] if self.classes is None else [str(label) for label in self.classes.tolist()]

    @property
    def has_probabilities(self) -> bool:
        """Whether probabilities of classes or labels are predicted, and not numbers."""
        return self.classes is not None if self.targets is None else self.targets.are_labels

    def _read(self, X: Any) -> Table:
        """Return the typed table of what a user has."""
        return self.schema.transform(as_frame(self.schema.one_row(X)))

    def predict(self, X: Any) -> Any:
        """Predict the rows of a DataFrame, an array or a sparse matrix: labels or numbers."""
        return self.predict_table(self._read(X))

    def predict_proba(self, X: Any) -> Floats:
        """Predict probabilities, columns in the order of `classes`, or of several labels."""
        if not self.has_probabilities:
            raise TypeError("the model predicts a number, which has no probabilities of classes")
        return self.predict_raw(self._read(X))

    def check_one_target(self, method: str) -> None:
        """Raise InputError where a model has several targets."""
        if self.targets is not None:
            raise InputError(
                f"{method} is for one target, but the model has {len(self.targets)}: {', '.join(self.targets.titles)}. "
                "Train a model of one of them."
            )

    def table_intervals(self, table: Table, coverage: Any) -> Floats:
        """Predict lower and upper ends of intervals, shape (n, 2); InputError if this coverage has no scores."""
        self.check_one_target("predict_interval")
        if self.classes is not None:
            raise InputError("predict_interval is for numbers, but the model predicts classes. Allowed: predict_set.")
        if not isinstance(self.uncertainty, Intervals):
            raise ModelFileError(_NO_SCORES.format(method="predict_interval"))
        limit = self.uncertainty.scores.limit(check_coverage(coverage))
        return self.uncertainty.apply(self.predict_raw(table), limit)

    def table_sets(self, table: Table, coverage: Any, by_class: bool, allow_empty: bool) -> Masks:
        """Predict sets of classes, shape (n, n_classes); InputError if this coverage has no scores."""
        self.check_one_target("predict_set")
        if self.classes is None:
            raise InputError("predict_set is for classes, but the model predicts numbers. Allowed: predict_interval.")
        if not isinstance(self.uncertainty, ClassSets):
            raise ModelFileError(_NO_SCORES.format(method="predict_set"))
        limits = self.uncertainty.limits(check_coverage(coverage), self.classes, by_class)
        return self.uncertainty.apply(self.blend(table), limits, allow_empty)

    def predict_interval(self, X: Any, coverage: float = 0.9) -> Floats:
        """Predict the lower and upper ends of intervals, shape (n, 2)."""
        return self.table_intervals(self._read(X), coverage)

    def predict_set(self, X: Any, coverage: float = 0.9, *, by_class: bool = False, allow_empty: bool = False) -> Masks:
        """Predict whether a class is in the set of a row, shape (n, n_classes), columns in the order of `classes`."""
        return self.table_sets(self._read(X), coverage, by_class, allow_empty)


def load_predictor(folder: Path) -> EnsemblePredictor:
    """Open a saved or exported folder; ModelFileError where a file is damaged or of a family that is not windvane's."""
    manifest = read_sealed(folder / "manifest.json")
    check_files(folder, manifest.get("files"), UNCHECKED)
    ensemble = Ensemble.from_json(manifest.get("ensemble"))
    folders = member_folders(folder, ensemble)
    models: list[list[Fitted]] = [[load_models(one, n_bagged=len(folds)) for one in folds] for folds in folders]
    with reading(folder / "manifest.json"):
        schema, classes = Schema.from_json(manifest["schema"]), classes_from_json(manifest["classes"])
        targets = Targets.from_json(manifest.get("targets"))
    uncertainty = read_uncertainty(folder / FILE, ensemble, 0 if classes is None else len(classes))
    predictor = EnsemblePredictor(schema, classes, ensemble, models, uncertainty=uncertainty, targets=targets)
    check_predictor(predictor, folder / "manifest.json", folders)
    return predictor


def check_predictor(predictor: EnsemblePredictor, manifest: Path, folders: Sequence[Sequence[Path]]) -> None:
    """Raise ModelFileError where the columns, classes and models of a folder do not belong together.

    Each model predicts a few rows with missing, usual and unseen values. `folders` are those of the models.
    """
    with reading(manifest):
        table = predictor.schema.example()
        shape = predictor.raw_shape(table.n_rows)
        _check_ensemble(predictor.ensemble, predictor.classes, predictor.targets, shape)
        if not all(folders):
            raise ValueError("a member of the ensemble has no model")
    for models, folds in zip(predictor.models, folders, strict=True):
        for model, folder in zip(models, folds, strict=True):
            _check_model(model, folder, table, shape, manifest.name)


def _check_model(model: Fitted, folder: Path, table: Table, shape: tuple[int, ...], manifest: str) -> None:
    """Raise ModelFileError where a model of windvane's families does not predict a table in this shape."""
    parts = models_of(model, folder)
    if not all(isinstance(part, FittedModel) for part, _ in parts):  # of a family of the user's own
        return
    for part, part_folder in parts:
        assert isinstance(part, FittedModel)
        with reading(part_folder / "encoder.json"):
            part.encoder.check(table)
    try:
        with np.errstate(all="ignore"):
            found = model.predict(table)
        if found.shape != shape or not np.isfinite(found).all():
            raise ValueError(f"predictions of the shape {found.shape}, or not finite, for {shape}")
    except Exception as error:  # the libraries have their own exceptions
        raise ModelFileError(
            f"{folder / 'model.json'} does not belong to {manifest}, or is damaged: {error!r}."
        ) from error


def _check_ensemble(
    ensemble: Ensemble, classes: NDArray[Any] | None, targets: Targets | None, shape: tuple[int, ...]
) -> None:
    """Raise ValueError where an ensemble does not belong to the classes or targets; `shape` is that of predictions."""
    thresholds = ensemble.label_thresholds
    if thresholds is not None and (targets is None or not targets.are_labels or len(thresholds) != len(targets)):
        raise ValueError(f"{len(thresholds)} thresholds are not those of the labels")
    if any(len(member.shares) not in (0, shape[-1]) for member in ensemble.members):
        raise ValueError("shares of a member are not those of the targets")
    if classes is None:
        return
    if classes.ndim != 1 or not pd.Index(classes).is_unique:
        raise ValueError(f"classes {classes.tolist()}")
    calibrated = ensemble.calibrate(np.full(shape, 1 / len(classes)))
    decisive = ensemble.decision_values(calibrated)
    if not calibrated.shape == decisive.shape == shape or not np.isfinite([calibrated, decisive]).all():
        raise ValueError(f"calibration and decisions are not those of {len(classes)} classes")


def member_folders(folder: Path, ensemble: Ensemble) -> list[list[Path]]:
    """Find the folders of the fold models of each member, in the order of the folds."""
    return [
        sorted(
            (folder / "members" / f"{member.number:05d}").glob("fold_*"),
            key=lambda fold: int(fold.name.removeprefix("fold_")),
        )
        for member in ensemble.members
    ]


def classes_from_json(record: Any) -> NDArray[Any] | None:
    """Read the labels of a manifest; None for numbers."""
    return None if record is None else labels_from_json(record)


def as_frame(X: Any) -> Frame:
    """Return a frame of an array or a row; frames get texts as names, and sparse matrices become CSR."""
    if sp.issparse(X):
        matrix: Any = X
        return sp.csr_matrix(matrix, dtype=np.float64)
    X = pd.DataFrame([X]) if is_one_row(X) else X
    frame = with_text_names(X) if isinstance(X, pd.DataFrame) else of_array(X)
    if frame.shape[1] == 0:
        raise InputError(f"X has the shape {frame.shape}. Allowed: rows with at least one column.")
    return frame

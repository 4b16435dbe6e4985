"""Fitted scikit-learn estimators as skops files: no pickles, and only types that the code names are opened.

skops checks which types a file holds, not the numbers in them. Decision trees are descended, and sparse matrices read,
by compiled code that goes to the places in memory that their numbers name, so these are checked here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

from ..columns.encoder import Encoder, float32
from ..columns.table import Floats, Table
from ..errors import InputError, ModelFileError
from ..output import Output
from ..serialization import check_digest, digest, reading
from .fitted import FittedModel, LoadOptions

# Types that skops does not trust by itself and that do nothing but predict.
TRUSTED = (
    "scipy.sparse._csc.csc_matrix",
    "scipy.sparse._csr.csr_matrix",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)


def write_estimator(path: Path, estimator: Any, trusted: Sequence[str], family: str) -> None:
    """Write a fitted estimator; InputError where it holds types that could not be opened again."""
    skops_io = _import_skops_io()
    content = skops_io.dumps(estimator)
    strange = sorted(set(skops_io.get_untrusted_types(data=content)) - {*TRUSTED, *trusted})
    if strange:
        raise InputError(
            f"The family {family!r} cannot be saved: its estimator holds {', '.join(strange)}. "
            f"Give SklearnFamily(..., trusted={strange}) if these types are safe to open."
        )
    path.write_bytes(content)


def read_estimator(path: Path, trusted: Sequence[str] = ()) -> Any:
    """Read what `write_estimator` wrote; ModelFileError where it is damaged or holds a type that is not trusted."""
    skops_io = _import_skops_io()
    exceptions = importlib.import_module("skops.io.exceptions")
    with reading(path, exceptions.UntrustedTypesFoundException):
        estimator = skops_io.loads(path.read_bytes(), trusted=[*TRUSTED, *trusted])
        _check_numbers(estimator, np.inf, set())
    return estimator


def _import_skops_io() -> Any:
    """Import skops without torch, which it would load where that is installed: 0.5 instead of 2 seconds."""
    hidden = "skops.io" not in sys.modules and "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("skops.io")
    finally:
        if hidden:
            del sys.modules["torch"]


def _check_numbers(part: Any, n_features: float, seen: set[int]) -> None:
    """Raise ValueError for trees and sparse matrices that lead outside of themselves or of the features."""
    from sklearn.ensemble._forest import BaseForest
    from sklearn.ensemble._gb import BaseGradientBoosting

    if id(part) in seen or isinstance(part, str | bytes | int | float | type(None)):
        return
    seen.add(id(part))
    if isinstance(part, sp.csr_matrix | sp.csc_matrix):
        part.check_format(full_check=True)
        return
    if isinstance(part, np.ndarray):
        parts = part.ravel().tolist() if part.dtype == object else []
    elif isinstance(part, dict):
        parts = list(part.values())
    elif isinstance(part, list | tuple | set):
        parts = list(part)
    else:
        parts = list(vars(part).values()) if hasattr(part, "__dict__") else []
        if hasattr(part, "tree_"):
            n_features = min(n_features, getattr(part, "n_features_in_", np.inf))
        if isinstance(part, BaseForest | BaseGradientBoosting) or hasattr(part, "_predictors"):
            n_features = part.n_features_in_
        _check_tree(part, n_features)
    for one in parts:
        _check_numbers(one, n_features, seen)


def _check_tree(part: Any, n_features: float) -> None:
    """Raise ValueError for a decision tree that leads outside of itself or of the features."""
    name = f"{type(part).__module__}.{type(part).__qualname__}"
    if name == "sklearn.tree._tree.Tree":
        nodes = part.__getstate__()["nodes"]
        inner = nodes["left_child"] != -1
        _check_children(nodes["left_child"], nodes["right_child"], inner)
        _check_features(nodes["feature"][inner], min(n_features, part.n_features))
    elif name == "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor":
        nodes = part.nodes
        inner = nodes["is_leaf"] == 0
        _check_children(nodes["left"], nodes["right"], inner)
        _check_features(nodes["feature_idx"][inner], n_features)
        sets = nodes["bitset_idx"][inner & (nodes["is_categorical"] != 0)]
        if (sets >= min(len(part.raw_left_cat_bitsets), len(part.binned_left_cat_bitsets))).any():
            raise ValueError("a tree asks for a set of categories that it has not")


def _check_children(left: NDArray[Any], right: NDArray[Any], inner: NDArray[np.bool_]) -> None:
    places = np.flatnonzero(inner)
    for side in (left, right):
        child = side[inner].astype(np.int64)
        if not len(side) or not ((child > places) & (child < len(side))).all():
            raise ValueError("a tree has a child that is not behind its parent")


def _check_features(features: NDArray[Any], n_features: float) -> None:
    if not ((features >= 0) & (features < n_features)).all():
        raise ValueError("a tree asks for a feature that there is not")


class FittedSklearn(FittedModel):
    """An estimator of scikit-learn, in a file of skops."""

    kind = "sklearn"

    def __init__(
        self,
        encoder: Encoder,
        output: Output,
        estimator: Any,
        n_features: int,
        *,
        dense: bool,
        trusted: Sequence[str],
        name: str = "",
    ) -> None:
        super().__init__(encoder, output)
        self.estimator, self.n_features = estimator, n_features
        self.dense = dense  # whether it takes no sparse matrices
        self.trusted, self.name = trusted, name  # for skops, and the family for errors

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> FittedSklearn:
        check_digest(folder / "model.skops", content["sha256"])
        estimator = read_estimator(folder / "model.skops", options.trusted)
        if tuple(map(int, getattr(estimator, "classes_", ()))) != output.classes:
            raise ValueError("estimator and classes do not go together")
        n_features, dense = int(content["n_features"]), bool(content["dense"])
        return cls(encoder, output, estimator, n_features, dense=dense, trusted=options.trusted)

    def predict(self, table: Table) -> Floats:
        features = self.encoder.transform(table)
        if features.shape[1] != self.n_features:
            raise ModelFileError(
                f"The estimator wants {self.n_features} features, the encoder gives {features.shape[1]}."
            )
        return self.predict_encoded(sklearn_features(features, dense=self.dense))

    def predict_encoded(self, features: Any) -> Floats:
        """Predict what `sklearn_features` made."""
        if not self.output.n_classes:
            return self.output.from_values(np.asarray(self.estimator.predict(features), dtype=np.float64).ravel())
        return self.output.from_probabilities(np.asarray(self.estimator.predict_proba(features), dtype=np.float64))

    def save(self, folder: Path) -> None:
        write_estimator(folder / "model.skops", self.estimator, self.trusted, self.name)
        more = {"sha256": digest(folder / "model.skops"), "n_features": self.n_features, "dense": self.dense}
        self._save(folder, more)


def sklearn_features(features: Any, *, dense: bool) -> Any:
    """Return rows as an estimator of scikit-learn takes them: dense where it must be, and rounded to float32.

    Rows that are equal then stay equal however they were encoded, and neighbours at the same distance stay the same.
    """
    if dense and isinstance(features, sp.csr_matrix):
        features = features.toarray()
    return float32(features).astype(np.float64)

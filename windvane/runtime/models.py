"""The fitted models of each family: from the encoded rows to predictions, and their files.

A folder holds ``model.json``, the encoder, and one file in the format of the library or as arrays. Nothing in it is a
pickle. Training code makes these objects, too: what predicts in a search is what predicts later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from scipy.special import softmax

from .encoder import Encoder, float32
from .errors import ModelFileError
from .output import Output
from .realmlp import PORTION, NetworkSpec, Single, find_scores, squash
from .serialization import digest, read_arrays, read_json, reading, write_arrays, write_json
from .sklearn_files import read_estimator, write_estimator
from .table import Floats, Table
from .trees import Descent, TreeArrays

FOREST_SIZE = 128  # trees of a whole forest


class Fitted(Protocol):
    """What the members of an ensemble are: anything that predicts a table."""

    def predict(self, table: Table) -> Floats:
        """Predict probabilities of shape (n, n_classes), or numbers of shape (n,)."""


class FittedModel:
    """The encoder of a model, what its output means, and, in each class below, how it predicts."""

    kind: ClassVar[str]

    def __init__(self, encoder: Encoder, output: Output) -> None:
        self.encoder, self.output = encoder, output

    @property
    def classes(self) -> NDArray[np.intp]:
        """Codes of the classes that the training set held; empty for a number."""
        return np.asarray(self.output.classes, dtype=np.intp)

    def predict(self, table: Table) -> Floats:
        """Predict probabilities of shape (n, n_classes), or numbers of shape (n,)."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder."""
        raise NotImplementedError

    def _save(self, folder: Path, more: Mapping[str, Any]) -> None:
        self.encoder.save(folder)
        write_json(folder / "model.json", {"kind": self.kind, "output": self.output.to_json(), **more})


class LightGBM(FittedModel):
    """LightGBM's booster, in its own text."""

    kind = "lightgbm"

    def __init__(self, encoder: Encoder, output: Output, booster: Any, best_iteration: int, n_threads: int = 1) -> None:
        super().__init__(encoder, output)
        self.booster, self.best_iteration, self._n_threads = booster, best_iteration, n_threads

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> LightGBM:
        import lightgbm as lgb

        check_digest(folder / "model.txt", content["sha256"])
        with reading(folder, lgb.basic.LightGBMError):
            booster = lgb.Booster(model_file=folder / "model.txt")
        return cls(encoder, output, booster, booster.current_iteration(), options.n_threads)

    def predict(self, table: Table) -> Floats:
        features = self.encoder.transform(table)
        found: Floats = self.booster.predict(features, num_iteration=self.best_iteration, num_threads=self._n_threads)
        if not self.output.n_classes:
            return self.output.from_values(found)
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found

    def save(self, folder: Path) -> None:
        self.booster.save_model(folder / "model.txt", num_iteration=self.best_iteration)
        self._save(folder, {"sha256": digest(folder / "model.txt")})


class CatBoost(FittedModel):
    """CatBoost's model, in its own file. It knows categories by the text of their code."""

    kind = "catboost"

    def __init__(self, encoder: Encoder, output: Output, booster: Any, best_iteration: int, n_threads: int = 1) -> None:
        super().__init__(encoder, output)
        self.booster, self.best_iteration, self._n_threads = booster, best_iteration, n_threads
        self._columns = CatBoostColumns(encoder.n_numbers, encoder.cardinalities)

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> CatBoost:
        import catboost

        check_digest(folder / "model.cbm", content["sha256"])
        with reading(folder, catboost.CatBoostError):
            booster = catboost.CatBoost().load_model(str(folder / "model.cbm"))
        return cls(encoder, output, booster, booster.tree_count_, options.n_threads)

    def predict(self, table: Table) -> Floats:
        found: Floats = self.booster.predict(
            self._columns(self.encoder.transform(table)),
            prediction_type="Probability" if self.output.n_classes else "RawFormulaVal",
            ntree_end=self.best_iteration,
            thread_count=self._n_threads,
        )
        return found if self.output.n_classes else self.output.from_values(found)

    def save(self, folder: Path) -> None:
        booster = self.booster
        if self.best_iteration < booster.tree_count_:
            booster = booster.copy()
            booster.shrink(ntree_end=self.best_iteration)
        booster.save_model(str(folder / "model.cbm"))
        self._save(folder, {"sha256": digest(folder / "model.cbm")})


class CatBoostColumns:
    """Numbers and names of categories apart, the form that CatBoost reads fastest."""

    def __init__(self, n_numbers: int, cardinalities: Sequence[int]) -> None:
        self._categories = slice(n_numbers, n_numbers + len(cardinalities))
        # The name of each code; the last is for a missing one.
        names = [str(code).encode() for code in range(max(cardinalities, default=0) + 1)]
        self._names: NDArray[np.object_] = np.array([*names, b"missing"], dtype=object)

    def __call__(self, encoded: Any) -> Any:
        """Return a `catboost.FeaturesData` of n rows."""
        from catboost import FeaturesData

        codes = encoded[:, self._categories]
        numbers = np.delete(encoded, self._categories, axis=1)
        rows = np.where(np.isnan(codes), len(self._names) - 1, codes).astype(np.intp)
        return FeaturesData(
            num_feature_data=float32(numbers) if numbers.shape[1] else None,
            cat_feature_data=self._names[rows] if codes.shape[1] else None,
        )


class Forest(FittedModel):
    """Decision trees as arrays, in the portions in which they grew, so that each is written once."""

    kind = "forest"

    def __init__(
        self,
        encoder: Encoder,
        output: Output,
        parts: Sequence[TreeArrays],
        n_features: int,
        folder: Path | None = None,
    ) -> None:
        super().__init__(encoder, output)
        self.parts, self.n_features = list(parts), n_features
        self.folder = folder  # where some of the parts lie already: their files can be linked
        self._descent: Descent | None = None

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> Forest:
        # The forests of several folds are averaged: together they keep as many trees as one.
        wanted = -(-FOREST_SIZE // options.n_bagged)
        parts: list[TreeArrays] = []
        with reading(folder):
            n_features = int(content["n_features"])
            for i in range(int(content["parts"])):
                if wanted > 0:
                    parts.append(TreeArrays.read(folder / f"trees_{i}.npz", n_features).first(wanted))
                    wanted -= len(parts[-1].sizes)
            width = max(1, len(output.classes))
            if not parts or any(part.values.shape[1] != width for part in parts):
                raise ValueError("trees and classes do not go together")
        return cls(encoder, output, parts, n_features, folder)

    def predict(self, table: Table) -> Floats:
        if self._descent is None:
            self._descent = Descent(self.parts, self.n_features)
        found = self._descent(float32(self.encoder.transform(table)))  # (n, k)
        return self.output.from_probabilities(found) if self.output.n_classes else found[:, 0]

    def save(self, folder: Path) -> None:
        for i, part in enumerate(self.parts):
            target = folder / f"trees_{i}.npz"
            try:
                if self.folder is None:
                    raise FileNotFoundError
                os.link(self.folder / target.name, target)
            except OSError:  # new, moved away, or a file system without links
                part.write(target)
        self.folder = folder
        self._save(folder, {"parts": len(self.parts), "n_features": self.n_features})


class Linear(FittedModel):
    """A linear model."""

    kind = "linear"

    def __init__(self, encoder: Encoder, output: Output, coefficients: Floats, intercept: Floats) -> None:
        super().__init__(encoder, output)
        # Shapes (k, q) and (k,): one row for two classes or a number, else one for each class of the training set.
        self.coefficients, self.intercept = coefficients, intercept

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> Linear:
        arrays = read_arrays(folder / "model.npz")
        with reading(folder):
            coefficients, intercept = (arrays[name].astype(np.float64) for name in ("coefficients", "intercept"))
            k = len(output.classes) if len(output.classes) > 2 else 1
            if coefficients.shape != (k, coefficients.shape[1]) or intercept.shape != (k,):
                raise ValueError("coefficients and classes do not go together")
        return cls(encoder, output, coefficients, intercept)

    def predict(self, table: Table) -> Floats:
        return self.output.from_scores(np.asarray(self.encoder.transform(table) @ self.coefficients.T + self.intercept))

    def save(self, folder: Path) -> None:
        write_arrays(folder / "model.npz", {"coefficients": self.coefficients, "intercept": self.intercept})
        self._save(folder, {})


class MLP(FittedModel):
    """A multilayer perceptron."""

    kind = "mlp"

    def __init__(self, encoder: Encoder, output: Output, arrays: Sequence[Single], activation: str) -> None:
        super().__init__(encoder, output)
        self.arrays, self.activation = list(arrays), activation  # weights, then biases of all layers; "relu" or "tanh"
        # In float64: a row's prediction then depends neither on its neighbours nor on threads beyond 1e-15.
        self._double = [array.astype(np.float64) for array in self.arrays]

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> MLP:
        kept = read_arrays(folder / "model.npz")
        with reading(folder):
            arrays = [kept[str(i)].astype(np.float32, casting="safe") for i in range(2 * int(content["layers"]))]
            if content["activation"] not in ("relu", "tanh"):
                raise ValueError(f"activation {content['activation']!r} is not known")
            return cls(encoder, output, arrays, content["activation"])

    def predict(self, table: Table) -> Floats:
        features = float32(self.encoder.transform(table)).astype(np.float64)
        portions = (features[start : start + PORTION] for start in range(0, max(features.shape[0], 1), PORTION))
        scores = np.vstack([mlp_scores(rows, self._double, self.activation) for rows in portions])  # (n, outputs)
        if not self.output.n_classes:
            return self.output.from_values(scores[:, 0])
        return np.asarray(softmax(logits(scores), axis=1))

    def save(self, folder: Path) -> None:
        write_arrays(folder / "model.npz", {str(i): array for i, array in enumerate(self.arrays)})
        self._save(folder, {"layers": len(self.arrays) // 2, "activation": self.activation})


def mlp_scores(features: Any, arrays: Sequence[Any], activation: str) -> Floats:
    """Run a multilayer perceptron: scores of shape (n, outputs), before the last function."""
    layers = len(arrays) // 2
    hidden = features
    for i, (weights, bias) in enumerate(zip(arrays[:layers], arrays[layers:], strict=True)):
        hidden = hidden @ weights + bias
        if i < layers - 1:
            hidden = np.tanh(hidden) if activation == "tanh" else np.maximum(hidden, 0)
    return np.asarray(hidden, dtype=np.float64)


def logits(scores: Floats) -> Floats:
    """Give two classes a score each, where the network has one for both."""
    return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores


class RealMLP(FittedModel):
    """A network of the RealMLP kind."""

    kind = "realmlp"

    def __init__(
        self,
        encoder: Encoder,
        output: Output,
        spec: NetworkSpec,
        parameters: Single,
        stretch: Single,
        limits: tuple[float, float],
    ) -> None:
        super().__init__(encoder, output)
        self.spec, self.parameters, self.stretch = spec, parameters, stretch  # (spec.size,), (q,)
        self.limits = limits  # of the training target in its units, which predictions never leave
        # Converting them for each row would cost more than the row.
        self._double = spec.views(parameters.astype(np.float64))

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> RealMLP:
        arrays = read_arrays(folder / "model.npz")
        with reading(folder):
            spec = NetworkSpec.from_json(content["spec"])
            parameters, stretch = (
                arrays[name].astype(np.float32, casting="safe") for name in ("parameters", "stretch")
            )
            if parameters.shape != (spec.size,) or stretch.shape != (spec.inputs,):
                raise ValueError("parameters and network do not go together")
            low, high = map(float, content["limits"])
            return cls(encoder, output, spec, parameters, stretch, (low, high))

    def predict(self, table: Table) -> Floats:
        features = squash(float32(self.encoder.transform(table)).astype(np.float64), self.stretch)
        scores = find_scores(self.spec, self._double, features)
        if not self.output.n_classes:
            return self.output.from_values(np.clip(scores[:, 0], *self.limits))
        return np.asarray(softmax(scores, axis=1))

    def save(self, folder: Path) -> None:
        write_arrays(folder / "model.npz", {"parameters": self.parameters, "stretch": self.stretch})
        self._save(folder, {"spec": self.spec.to_json(), "limits": list(self.limits)})


class Sklearn(FittedModel):
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
        name: str = "",
        trusted: Sequence[str] = (),
    ) -> None:
        super().__init__(encoder, output)
        self.estimator, self.n_features = estimator, n_features
        self.dense = dense  # whether it takes no sparse matrices
        self.name, self.trusted = name, trusted  # for errors, and for skops

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> Sklearn:
        check_digest(folder / "model.skops", content["sha256"])
        estimator = read_estimator(folder / "model.skops", options.trusted)
        with reading(folder):
            if tuple(map(int, getattr(estimator, "classes_", ()))) != output.classes:
                raise ValueError("estimator and classes do not go together")
            return cls(encoder, output, estimator, int(content["n_features"]), dense=bool(content["dense"]))

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
    """Make what an estimator of scikit-learn takes: dense where it must be, and rounded to float32.

    Rows that are equal then stay equal however they were encoded, and neighbours at the same distance stay the same.
    """
    if dense and isinstance(features, sp.csr_matrix):
        features = features.toarray()
    return float32(features).astype(np.float64)


class LoadOptions:
    """How models are opened: threads of one prediction, models whose predictions are averaged, types for skops."""

    def __init__(self, n_threads: int = 1, n_bagged: int = 1, trusted: Sequence[str] = ()) -> None:
        self.n_threads, self.n_bagged, self.trusted = n_threads, n_bagged, trusted


LOADERS: Mapping[str, Callable[[Path, Any, Encoder, Output, LoadOptions], FittedModel]] = {
    one.kind: one.load for one in (LightGBM, CatBoost, Forest, Linear, MLP, RealMLP, Sklearn)
}


def load_model(folder: Path, n_threads: int = 1, n_bagged: int = 1, trusted: Sequence[str] = ()) -> FittedModel:
    """Open the model in a folder; ModelFileError where a file is missing, damaged or not trusted."""
    content = read_json(folder / "model.json")
    encoder = Encoder.load(folder)
    with reading(folder / "model.json"):
        output = Output.from_json(content["output"])
        loader = LOADERS[content["kind"]]
    with reading(folder):
        return loader(folder, content, encoder, output, LoadOptions(n_threads, n_bagged, trusted))


def check_digest(path: Path, expected: object) -> None:
    """Raise ModelFileError for a file that is not the one that was written, before a parser in C meets its bytes."""
    if digest(path) != expected:
        raise ModelFileError(f"{path} is damaged.")

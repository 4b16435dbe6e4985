"""Fitted boosters, in the files of their libraries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from ..columns.encoder import Encoded, Encoder, float32
from ..columns.table import Floats, Table
from ..errors import ModelFileError
from ..output import Output
from ..serialization import check_digest, digest, reading
from .fitted import FittedModel, LoadOptions

_FEW_ROWS = 100  # up to here all trees predict at once
# A file of trees of more than _LARGE_BYTES predicts in parts, each of which a processor's cache holds from one row to
# the next.
_CACHED_BYTES, _LARGE_BYTES = 100_000, 400_000


class FittedBooster(FittedModel):
    """A booster of a library, of which the trees up to the best iteration predict."""

    def __init__(self, encoder: Encoder, output: Output, booster: Any, best_iteration: int, n_threads: int) -> None:
        super().__init__(encoder, output)
        self.booster, self.best_iteration, self._n_threads = booster, best_iteration, n_threads


def _read_checked(path: Path, sha256: object, read: Callable[[], Any], error: type[Exception]) -> Any:
    """Read a booster; ModelFileError where the file is not the one with this hash, or its library raises `error`."""
    check_digest(path, sha256)
    with reading(path.parent, error):
        return read()


class FittedLightGBM(FittedBooster):
    """LightGBM's booster, in its own text."""

    kind = "lightgbm"

    def __init__(
        self,
        encoder: Encoder,
        output: Output,
        booster: Any,
        best_iteration: int,
        n_threads: int,
        n_bytes: int = 0,
    ) -> None:
        super().__init__(encoder, output, booster, best_iteration, n_threads)
        parts = n_bytes // _CACHED_BYTES if n_bytes > _LARGE_BYTES and output.n_classes else 1
        self._step = -(-best_iteration // parts)  # iterations that predict at once
        # A booster stores which of its iterations predict, so one thread at a time.
        self._alone: AbstractContextManager[Any] = Lock() if parts > 1 else nullcontext()

    @staticmethod
    def read_booster(path: Path, sha256: object) -> Any:
        import lightgbm as lgb

        return _read_checked(path, sha256, lambda: lgb.Booster(model_file=path), lgb.basic.LightGBMError)

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> FittedLightGBM:
        booster = cls.read_booster(folder / "model.txt", content["sha256"])
        n_bytes = (folder / "model.txt").stat().st_size
        return cls(encoder, output, booster, booster.current_iteration(), options.n_threads, n_bytes)

    def predict(self, table: Table) -> Floats:
        features = self.encoder.transform(table)
        with self._alone:
            in_parts = self._step < self.best_iteration and table.n_rows > _FEW_ROWS
            if in_parts:
                found = self._predict_in_parts(features)
            else:
                found = self.booster.predict(features, 0, self.best_iteration, num_threads=self._n_threads)
        if not self.output.n_classes:
            return self.output.from_values(found)
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found

    def _predict_in_parts(self, features: Encoded) -> Floats:
        """Predict the same to rounding, but all rows by some of the trees before the next ones are read."""
        score = partial(self.booster.predict, features, raw_score=True, num_threads=self._n_threads)
        scores = score(start_iteration=0, num_iteration=self._step)  # (n,) for two classes, else (n, k)
        for start in range(self._step, self.best_iteration, self._step):
            scores += score(start_iteration=start, num_iteration=min(self._step, self.best_iteration - start))
        return np.asarray(expit(scores) if scores.ndim == 1 else softmax(scores, axis=1))

    def save(self, folder: Path) -> None:
        self.booster.save_model(folder / "model.txt", num_iteration=self.best_iteration)
        self._save(folder, {"sha256": digest(folder / "model.txt")})


class FittedCatBoost(FittedBooster):
    """CatBoost's model, in its own file. It knows categories by the text of their code."""

    kind = "catboost"

    def __init__(self, encoder: Encoder, output: Output, booster: Any, best_iteration: int, n_threads: int) -> None:
        super().__init__(encoder, output, booster, best_iteration, n_threads)
        self._columns = CatBoostColumns(encoder)

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> FittedCatBoost:
        import catboost

        path = folder / "model.cbm"
        read = partial(catboost.CatBoost().load_model, str(path))
        booster = _read_checked(path, content["sha256"], read, catboost.CatBoostError)
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

    def __init__(self, encoder: Encoder) -> None:
        self._categories = slice(encoder.n_numbers, encoder.n_numbers + len(encoder.cardinalities))
        # The name of each code; the last is for a missing one.
        names = [str(code).encode() for code in range(max(encoder.cardinalities, default=0) + 1)]
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


class FittedXGBoost(FittedBooster):
    """XGBoost's booster, in its own binary JSON."""

    kind = "xgboost"

    @staticmethod
    def read_booster(path: Path, sha256: object) -> Any:
        try:
            import xgboost
        except ImportError as error:
            advice = "pip install xgboost-cpu (or xgboost)"
            raise ModelFileError(f"{path.parent} holds a model of XGBoost: {advice}.") from error

        return _read_checked(path, sha256, lambda: xgboost.Booster(model_file=path), xgboost.core.XGBoostError)

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> FittedXGBoost:
        booster = cls.read_booster(folder / "model.ubj", content["sha256"])
        booster.set_param({"nthread": options.n_threads})
        return cls(encoder, output, booster, booster.num_boosted_rounds(), options.n_threads)

    def predict(self, table: Table) -> Floats:
        rows = xgboost_rows(self.encoder.transform(table), self.encoder, self._n_threads)
        found = self.booster.predict(rows, iteration_range=(0, self.best_iteration)).astype(np.float64)
        if not self.output.n_classes:
            return self.output.from_values(found)
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found / found.sum(axis=1, keepdims=True)

    def save(self, folder: Path) -> None:
        self.booster[: self.best_iteration].save_model(folder / "model.ubj")
        self._save(folder, {"sha256": digest(folder / "model.ubj")})


def xgboost_rows(
    encoded: Encoded, encoder: Encoder, n_threads: int, target: Any = None, weight: Any = None, max_bin: int = 0
) -> Any:
    """Return encoded rows as XGBoost reads them; those to be trained on in at most `max_bin` bins a column."""
    import xgboost

    types = np.full(encoded.shape[1], "q")
    types[encoder.n_numbers : encoder.n_numbers + len(encoder.cardinalities)] = "c"
    options: dict[str, Any] = {"feature_types": types.tolist(), "enable_categorical": True, "nthread": n_threads}
    if max_bin:
        return xgboost.QuantileDMatrix(float32(encoded), target, weight=weight, max_bin=max_bin, **options)
    return xgboost.DMatrix(float32(encoded), target, weight=weight, **options)

"""The fitted models of each family: from the encoded rows to predictions, and their files.

A folder holds ``model.json``, the encoder, and one file in the format of the library or as arrays. Nothing in it is a
pickle. Training code makes these objects, too: what predicts in a search is what predicts later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..columns.encoder import Encoder
from ..output import Output
from ..serialization import read_json, reading
from .boosters import FittedCatBoost, FittedLightGBM, FittedXGBoost
from .fitted import Fitted, FittedModel, LoadOptions
from .linear import FittedLinear
from .mlp import FittedMLP
from .multi_target import KIND, FittedMultiTarget, target_folder
from .realmlp import FittedRealMLP
from .sklearn_estimator import FittedSklearn
from .trees import FittedForest

_KINDS = (
    *(FittedLightGBM, FittedCatBoost, FittedXGBoost),
    *(FittedForest, FittedLinear, FittedMLP, FittedRealMLP, FittedSklearn),
)
LOADERS: Mapping[str, Callable[[Path, Any, Encoder, Output, LoadOptions], FittedModel]] = {
    one.kind: one.load for one in _KINDS
}


def load_models(folder: Path, n_bagged: int = 1) -> Fitted:
    """Open the model in a folder, or those of several targets."""
    content = read_json(folder / "model.json")
    with reading(folder / "model.json"):
        n_targets = int(content["n_targets"]) if content["kind"] == KIND else None
    if n_targets is None:
        return load_model(folder, n_bagged=n_bagged)
    return FittedMultiTarget([load_model(target_folder(folder, j), n_bagged=n_bagged) for j in range(n_targets)])


def load_model(folder: Path, n_threads: int = 1, n_bagged: int = 1, trusted: Sequence[str] = ()) -> FittedModel:
    """Open the model in a folder; ModelFileError where a file is missing, damaged or not trusted."""
    content = read_json(folder / "model.json")
    encoder = Encoder.load(folder)
    with reading(folder / "model.json"):
        output = Output.from_json(content["output"])
        loader = LOADERS[content["kind"]]
    with reading(folder):  # loaders raise what they meet
        return loader(folder, content, encoder, output, LoadOptions(n_threads, n_bagged, trusted))

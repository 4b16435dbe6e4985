"""Predictions of a model that windvane found. windvane itself is not needed.

from predictor import predict, predict_proba    # of a DataFrame; predict_proba where classes are predicted
python predictor.py table.csv > predictions.csv    # --proba for the probability of each class
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.evaluation.calibration import apply_temperature
from windvane.export.encoding import encode, read
from windvane.export.members import OPENERS, load_arrays

HERE = Path(__file__).resolve().parent


@cache
def described() -> dict[str, Any]:
    """Read what the model is."""
    content: dict[str, Any] = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
    return content


@cache
def opened() -> list[tuple[Mapping[str, Any], Mapping[str, NDArray[Any]], Callable[[Any], NDArray[Any]]]]:
    """Open every model once: what it is, what its encoder learned, how it predicts."""
    members = [(member, HERE / member["folder"]) for member in described()["members"]]
    return [
        (member, load_arrays(folder / "encoder.npz"), OPENERS[member["kind"]](folder, member))
        for member, folder in members
    ]


def blend(X: Any) -> NDArray[np.float64]:
    """Average the models by their weights."""
    typed = read(X, described()["table"])
    blended: Any = sum(
        member["weight"] * model(encode(typed, member["encoder"], arrays)) for member, arrays, model in opened()
    )
    return np.asarray(blended)


def predict_proba(X: Any) -> NDArray[np.float64]:
    """Predict probabilities of shape (n, n_classes), columns in the order of the classes in model.json."""
    if described()["classes"] is None:
        raise TypeError("the model predicts a number, which has no probabilities of classes")
    return apply_temperature(blend(X), described()["temperature"])


def predict(X: Any) -> NDArray[Any]:
    """Predict labels or numbers of shape (n,)."""
    classes = described()["classes"]
    if classes is None:
        return blend(X)
    labels = np.array(classes["values"], dtype=classes["dtype"])
    return np.asarray(labels[(predict_proba(X) * np.array(described()["decision"])).argmax(axis=1)])


def main() -> None:
    """Predict the rows of a CSV file."""
    parser = argparse.ArgumentParser(description="Predict the rows of a table.")
    parser.add_argument("table", help="a CSV file with the columns of training")
    parser.add_argument("--proba", action="store_true", help="a column of probabilities for each class")
    options = parser.parse_args()
    X = pd.read_csv(options.table, index_col=False, low_memory=False)
    if options.proba:
        found = pd.DataFrame(predict_proba(X), columns=[str(label) for label in described()["classes"]["values"]])
    else:
        found = pd.DataFrame({"prediction": predict(X)})
    found.to_csv(sys.stdout, index=False)

"""Predictions of a model that windvane found. windvane itself is not needed.

from predictor import predict, predict_proba    # of a DataFrame; predict_proba where classes are predicted
python predictor.py table.csv > predictions.csv    # --proba for the probability of each class
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runtime.predictor import EnsemblePredictor, load_predictor  # type: ignore[import-not-found]


@cache
def load_model() -> EnsemblePredictor:
    """Open the models once; every file is checked against its hash first."""
    return load_predictor(Path(__file__).resolve().parent)


def predict_proba(X: Any) -> Any:
    """Predict probabilities of shape (n, n_classes), columns in the order of `load_model().classes`."""
    return load_model().predict_proba(X)


def predict(X: Any) -> Any:
    """Predict labels or numbers of shape (n,)."""
    return load_model().predict(X)


def main() -> None:
    """Predict the rows of a CSV file."""
    parser = argparse.ArgumentParser(description="Predict the rows of a table.")
    parser.add_argument("table", help="a CSV file with the columns of training")
    parser.add_argument("--proba", action="store_true", help="a column of probabilities for each class")
    options = parser.parse_args()
    texts = dict.fromkeys(load_model().schema.text_columns, "str")  # 007 is no 7 where training had 007
    X = pd.read_csv(options.table, index_col=False, low_memory=False, dtype=texts)
    if options.proba:
        found = pd.DataFrame(predict_proba(X), columns=[str(label) for label in load_model().classes])
    else:
        found = pd.DataFrame({"prediction": predict(X)})
    found.to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    main()

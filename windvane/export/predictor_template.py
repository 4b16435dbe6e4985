"""Predictions of a model that windvane found. windvane itself is not needed.

from churn import predict, predict_proba    # of a DataFrame, where this folder is called churn and beside your program;
                                            # predict_proba where classes are predicted
python churn/predictor.py table.csv > predictions.csv    # --proba for the probability of each class

Several such folders can be imported in one program.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from windvane.export.import_runtime import HERE, import_runtime


@cache
def load_model() -> Any:
    """Open the models once; every file is checked against its hash first."""
    return import_runtime("predictor").load_predictor(HERE)


def predict_proba(X: Any) -> Any:
    """Predict probabilities of shape (n, n_classes), columns in the order of `load_model().classes`."""
    return load_model().predict_proba(X)


def predict(X: Any) -> Any:
    """Predict labels or numbers of shape (n,)."""
    return load_model().predict(X)


def predict_file(options: argparse.Namespace) -> None:
    """Print the predictions of a CSV file; rows that cannot be predicted have an error instead."""
    rows = import_runtime("rows_to_predict")
    model = load_model()
    if options.proba and model.classes is None:
        raise import_runtime("errors").InputError("--proba is for classes, but a number is predicted.")

    def predict_frame(frame: pd.DataFrame) -> pd.DataFrame:
        if options.proba:
            return pd.DataFrame(predict_proba(frame), columns=[str(label) for label in model.classes])
        return pd.DataFrame({"prediction": predict(frame)})

    X, faults = rows.read_rows(options.table, model.schema.text_columns)
    found = rows.predict_rows(predict_frame, model.schema, X, faults)
    if "error" in found:
        print(f"predictor.py: warning: {rows.describe_errors(found)}", file=sys.stderr)
    found.to_csv(sys.stdout, index=False, lineterminator="\n")


def main() -> None:
    """Predict the rows of a CSV file; an error is one line and exit code 2."""
    program = import_runtime("program")
    parser = program.Parser("Predict the rows of a table.")
    parser.add_argument("table", type=Path, help="a CSV file with the columns of training")
    parser.add_argument("--proba", action="store_true", help="a column of probabilities for each class")
    program.run(predict_file, parser)


if __name__ == "__main__":
    main()

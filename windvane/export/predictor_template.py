"""Predictions of a model that windvane found. windvane itself is not needed.

from churn import predict    # of a DataFrame, where this folder is called churn and beside your program; of numbers
                             # also predict_interval, of classes also predict_proba and predict_set
python churn/predictor.py table.csv > predictions.csv    # --proba, --interval 0.9 or --set 0.9 for more

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


def predict_interval(X: Any, coverage: float = 0.9) -> Any:
    """Predict lower and upper ends of shape (n, 2) that hold the target with the probability `coverage`."""
    return load_model().predict_interval(X, coverage)


def predict_set(X: Any, coverage: float = 0.9, by_class: bool = False, allow_empty: bool = False) -> Any:
    """Predict whether a class is in the set that holds the true one with the probability `coverage`: (n, n_classes)."""
    return load_model().predict_set(X, coverage, by_class=by_class, allow_empty=allow_empty)


def predict_file(options: argparse.Namespace) -> None:
    """Print the predictions of a CSV file; rows that cannot be predicted have an error instead."""
    rows = import_runtime("rows_to_predict")
    model = load_model()
    if options.proba and not model.has_probabilities:
        raise import_runtime("errors").InputError("--proba is for classes, but a number is predicted.")

    def predict_frame(frame: pd.DataFrame) -> Any:
        if options.proba:
            return model.probability_columns(frame)
        found = model.prediction_columns(frame)
        if options.interval is not None:
            found["lower"], found["upper"] = predict_interval(frame, options.interval).T
        if options.set is not None:
            sets = predict_set(frame, options.set)
            found["set"] = import_runtime("conformal").join_labels(sets, model.classes)
        return found

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
    added = parser.add_mutually_exclusive_group()
    added.add_argument("--proba", action="store_true", help="a column of probabilities for each class")
    added.add_argument("--interval", type=float, metavar="COVERAGE", help="columns lower and upper, as in 0.9")
    added.add_argument("--set", type=float, metavar="COVERAGE", help="a column of the classes that may be, as in 0.9")
    program.run(predict_file, parser)


if __name__ == "__main__":
    main()

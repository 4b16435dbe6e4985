"""Predictions of a model that windvane found. windvane itself is not needed.

from churn import predict    # of a DataFrame, where this folder is called churn and beside your program; of numbers
                             # also predict_interval, of classes also predict_proba and predict_set
python churn/predictor.py table.csv > predictions.csv    # --proba, --interval 0.9 or --set 0.9 for more

Several such folders can be imported in one program.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).resolve().parent


def import_runtime(name: str) -> Any:
    """Import a module of the folder `runtime`, under a name of its own: other exported folders have one, too."""
    package = f"runtime_{hashlib.sha256(str(HERE).encode()).hexdigest()[:16]}"
    if package not in sys.modules:
        places = [str(HERE / "runtime")]
        spec = importlib.util.spec_from_file_location(
            package, HERE / "runtime" / "__init__.py", submodule_search_locations=places
        )
        assert spec is not None and spec.loader is not None
        sys.modules[package] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])
    return importlib.import_module(f"{package}.{name}")


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


def main() -> None:
    """Predict the rows of a CSV file; an error is one line and exit code 2."""
    parser = argparse.ArgumentParser(description="Predict the rows of a table.")
    parser.add_argument("table", type=Path, help="a CSV file with the columns of training")
    added = parser.add_mutually_exclusive_group()
    added.add_argument("--proba", action="store_true", help="a column of probabilities for each class")
    added.add_argument("--interval", type=float, metavar="COVERAGE", help="columns lower and upper, as in 0.9")
    added.add_argument("--set", type=float, metavar="COVERAGE", help="a column of the classes that may be, as in 0.9")
    parser.add_argument("--traceback", action="store_true", help="where an error comes from")
    options = parser.parse_args()
    errors = (import_runtime("errors").WindvaneError, OSError, MemoryError, ValueError, TypeError)
    try:
        X = import_runtime("delimited").read_delimited(options.table, load_model().schema.text_columns)
        if options.proba:
            found = pd.DataFrame(predict_proba(X), columns=[str(label) for label in load_model().classes])
        else:
            found = pd.DataFrame({"prediction": predict(X)})
        if options.interval is not None:
            found["lower"], found["upper"] = predict_interval(X, options.interval).T
        if options.set is not None:
            sets = predict_set(X, options.set)
            found["set"] = import_runtime("conformal").join_labels(sets, load_model().classes)
        names = [name for name in load_model().schema.id_columns if name in X.columns]
        pd.concat([X[names], found], axis=1).to_csv(sys.stdout, index=False)
        sys.stdout.flush()
    except errors as error:
        if options.traceback:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"predictor.py: {text}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

"""Predictions of a model that windvane found. windvane itself is not needed.

from churn import predict, predict_proba    # of a DataFrame, where this folder is called churn and beside your program;
                                            # predict_proba where classes are predicted
python churn/predictor.py table.csv > predictions.csv    # --proba for the probability of each class

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


def main() -> None:
    """Predict the rows of a CSV file; an error is one line and exit code 2."""
    parser = argparse.ArgumentParser(description="Predict the rows of a table.")
    parser.add_argument("table", type=Path, help="a CSV file with the columns of training")
    parser.add_argument("--proba", action="store_true", help="a column of probabilities for each class")
    parser.add_argument("--traceback", action="store_true", help="where an error comes from")
    options = parser.parse_args()
    errors = (import_runtime("errors").WindvaneError, OSError, MemoryError, ValueError, TypeError)
    try:
        X = import_runtime("delimited").read_delimited(options.table, load_model().schema.text_columns)
        if options.proba:
            found = pd.DataFrame(predict_proba(X), columns=[str(label) for label in load_model().classes])
        else:
            found = pd.DataFrame({"prediction": predict(X)})
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

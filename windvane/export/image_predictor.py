"""Classify images with a network that windvane trained; windvane itself is not needed.

from birds import predict, predict_proba    # of a list of image files, where this folder is called birds
python birds/predictor.py images/ > predictions.csv    # --proba for the probability of each class

Several such folders can be imported in one program.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import json
import math
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
BATCH_SIZE = 32


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
def read_settings() -> dict[str, Any]:
    """Read classes and image size once."""
    content: dict[str, Any] = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
    return content


@cache
def open_session() -> Any:
    """Load the network once."""
    import onnxruntime

    return onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])


def predict_proba(files: Sequence[str | Path]) -> NDArray[np.float32]:
    """Return probabilities (n, n_classes) of n files, in the order of the classes in model.json."""
    size, found, images = read_settings()["image_size"], [], import_runtime("images")
    to_square, least = images.resize_square, size
    if read_settings()["crop"] == "center":
        to_square, least = images.crop_center, math.ceil(size / images.CENTER_SHARE)
    for start in range(0, len(files), BATCH_SIZE):
        squares = [
            to_square(images.decode_image(Path(file), least), size) for file in files[start : start + BATCH_SIZE]
        ]
        pixels = np.stack(squares).transpose(0, 3, 1, 2)  # (b, 3, s, s)
        found.append(open_session().run(None, {"images": pixels})[0])
    return np.concatenate(found)


def predict(files: Sequence[str | Path]) -> NDArray[Any]:
    """Return the class of each file."""
    return np.asarray(np.array(read_settings()["classes"])[decision_values(predict_proba(files)).argmax(axis=1)])


def decision_values(probabilities: NDArray[np.float32]) -> NDArray[Any]:
    """Return the values whose largest in each row is the predicted class: by costs, or by a weight of each class."""
    costs, weights = (read_settings().get(name) for name in ("costs", "decision_weights"))
    if costs is not None:
        return np.asarray(-(probabilities @ np.asarray(costs)))
    return probabilities if weights is None else np.asarray(probabilities * np.asarray(weights))


def main() -> None:
    """Print a table of predictions; files that cannot be read are left out and named on the error stream."""
    parser = argparse.ArgumentParser(description="Classify images.")
    parser.add_argument("images", type=Path, help="an image, or a folder of them")
    parser.add_argument("--proba", action="store_true", help="a column of probabilities for each class")
    given = parser.parse_args()
    folder = given.images.is_dir()
    files = sorted(file for file in given.images.rglob("*") if file.is_file()) if folder else [given.images]
    table, classes = csv.writer(sys.stdout, lineterminator="\n"), read_settings()["classes"]
    table.writerow(["name", *(classes if given.proba else ["prediction", "probability"])])
    for file in files:
        try:
            shares = predict_proba([file])[0]
        except ValueError as error:
            print(f"{file} is left out: {error}", file=sys.stderr)
            continue
        best = int(decision_values(shares[None])[0].argmax())
        said = shares.tolist() if given.proba else [classes[best], float(shares[best])]
        table.writerow([file.relative_to(given.images).as_posix() if folder else file.name, *said])


if __name__ == "__main__":
    main()

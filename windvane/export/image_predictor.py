"""Classify images with a network that windvane trained; windvane itself is not needed.

from birds import predict, predict_proba    # of a list of image files, where this folder is called birds
python birds/predictor.py images/ > predictions.csv    # --proba for the probability of each class

Several such folders can be imported in one program.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.export.import_runtime import HERE, import_runtime

BATCH_SIZE = 32


@cache
def read_settings() -> dict[str, Any]:
    """Read classes and image size once."""
    try:
        content: dict[str, Any] = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
        if not {"classes", "image_size", "crop"} <= set(content):
            raise ValueError("it lacks classes, image_size or crop")
        return content
    except (OSError, ValueError, TypeError) as error:
        raise _damaged("model.json", error) from error


@cache
def open_session() -> Any:
    """Load the network once."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own exceptions
        raise _damaged("model.onnx", error) from error


def _damaged(name: str, error: Exception) -> Exception:
    failure: Exception = import_runtime("errors").ModelFileError(f"{HERE / name} is missing or damaged: {error!r}")
    return failure


def predict_proba(files: Sequence[str | Path]) -> NDArray[np.float32]:
    """Return probabilities (n, n_classes) of n files, in the order of the classes in model.json."""
    size, found, images = read_settings()["image_size"], [], import_runtime("images")
    to_square, least = images.resize_square, size
    if read_settings()["crop"] == "center":
        to_square, least = images.crop_center, math.ceil(size / images.CENTER_SHARE)
    for start in range(0, len(files), BATCH_SIZE):
        squares = [to_square(_decode(Path(file), least), size) for file in files[start : start + BATCH_SIZE]]
        pixels = np.stack(squares).transpose(0, 3, 1, 2)  # (b, 3, s, s)
        found.append(open_session().run(None, {"images": pixels})[0])
    return np.concatenate(found)


def _decode(file: Path, at_least: int) -> NDArray[np.uint8]:
    try:
        pixels: NDArray[np.uint8] = import_runtime("images").decode_image(file, at_least)
    except ValueError as error:
        raise import_runtime("errors").InputError(f"{file} cannot be read: {error}") from error
    return pixels


def predict(files: Sequence[str | Path]) -> NDArray[Any]:
    """Return the class of each file."""
    return np.asarray(np.array(read_settings()["classes"])[decision_values(predict_proba(files)).argmax(axis=1)])


def decision_values(probabilities: NDArray[np.float32]) -> NDArray[Any]:
    """Return the values whose largest in each row is the predicted class: by costs, or by a weight of each class."""
    costs, weights = (read_settings().get(name) for name in ("costs", "decision_weights"))
    if costs is not None:
        return np.asarray(-(probabilities @ np.asarray(costs)))
    return probabilities if weights is None else np.asarray(probabilities * np.asarray(weights))


def predict_images(options: argparse.Namespace) -> None:
    """Print a table of predictions; images that cannot be read have an error instead."""
    input_error = import_runtime("errors").InputError
    if not options.images.exists():
        raise input_error(f"{options.images} does not exist.")
    folder = options.images.is_dir()
    files = sorted(file for file in options.images.rglob("*") if file.is_file()) if folder else [options.images]
    classes = read_settings()["classes"]
    of_classes = [f"{name} (class)" if name in ("name", "error") else name for name in classes]
    header = ["name", *(of_classes if options.proba else ["prediction", "probability"]), "error"]
    rows: list[list[Any]] = []
    for file in files:
        name = file.relative_to(options.images).as_posix() if folder else file.name
        try:
            probabilities = predict_proba([file])  # (1, n_classes)
        except input_error as error:
            rows.append([name, *[""] * (len(header) - 2), str(error)])
            continue
        shares, best = probabilities[0].tolist(), int(decision_values(probabilities)[0].argmax())
        rows.append([name, *(shares if options.proba else [classes[best], shares[best]]), ""])
    bad = [row[-1] for row in rows if row[-1]]
    if len(bad) == len(files):
        first = f" The first: {bad[0]}" if bad else ""
        raise input_error(f"{options.images} has no image that can be read.{first}")
    if bad:
        print(
            f"predictor.py: warning: {len(bad)} of {len(files)} images cannot be read; the column error says why. "
            f"The first: {bad[0]}",
            file=sys.stderr,
        )
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerows(row if bad else row[:-1] for row in [header, *rows])


def main() -> None:
    """Predict an image, or a folder of them; an error is one line and exit code 2."""
    program = import_runtime("program")
    parser = program.Parser("Classify images.")
    parser.add_argument("images", type=Path, help="an image, or a folder of them")
    parser.add_argument("--proba", action="store_true", help="a column of probabilities for each class")
    program.run(predict_images, parser)


if __name__ == "__main__":
    main()

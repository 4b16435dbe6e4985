"""Export an image network, or the ensemble of a search over images, as files that need no windvane.

That is ONNX, a torch.export program, and a Python program that predicts files with the former.

::

    model.onnx        pixels -> probabilities; onnxruntime and others run it
    model.pt2         the same for torch.export.load, without timm
    model.json        classes, image size, the names of input and output
    predictor.py      predict, predict_proba, and a command; needs numpy, pillow and onnxruntime
    runtime/          a copy of what windvane reads images with
    README.txt, requirements.txt
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from windvane.errors import InputError, WindvaneError, warn_user
from windvane.export.folder import write_program, write_texts
from windvane.runtime.serialization import new_folder, write_json
from windvane.version import VERSION

if TYPE_CHECKING:
    from torch import nn

    from windvane.export.selection import SelectAgain
    from windvane.persistence import Predictor
    from windvane.runtime.ensemble import Member
    from windvane.vision.networks.ensemble import ImageEnsemble
    from windvane.vision.saved_model import TrainedModel

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_PACKAGES = ("numpy", "onnxruntime", "pillow")  # that the program imports
_RUNTIME = ("__init__.py", "errors.py", "images.py", "program.py")
_TOLERANCE = 0.01  # of a probability: images are resized to bytes, and trees decide by thresholds
_COMPARED = 8  # images
_README = """{name}, trained by windvane {version}, which it does not need any more.

    pip install -r requirements.txt
    python predictor.py images/ > predictions.csv    # with --proba a column for each class

or, in Python, where this folder is called birds and is beside your program:

    from birds import predict, predict_proba
    predict(["photo.jpg"])

It distinguishes {n} classes; model.json lists them in the order of the probabilities.

model.onnx maps `images`, bytes of shape (n, 3, {size}, {size}) with red, green and blue from 0 to 255, to
`probabilities` of shape (n, {n}). The normalization of pixels is inside. Of an image of another shape it is given
{part}. model.pt2 is the same for PyTorch: torch.export.load("model.pt2").module(). Both were compared with the network
when they were written. predictor.py reads images as windvane does: upright, on white where transparent.
"""


def export_image_model(model: TrainedModel, folder: str | Path) -> Path:
    """Export a model to a folder that predicts without windvane, timm and torch; it appears whole or not at all."""
    _check_packages()
    from windvane.vision.export import pixel_network

    recipe = model.recipe
    return _write(
        Path(folder),
        pixel_network(model),
        image_size=recipe.image_size,
        crop="center" if recipe.crops_center else "squeeze",
        classes=model.classes,
        name=recipe.model,
        extra={"recipe": recipe.to_json()},
    )


def export_image_ensemble(predictor: Predictor, select_again: SelectAgain, folder: str | Path) -> Path:
    """Export the ensemble of a search over images in the same form."""
    _check_packages()
    network, predictor = image_ensemble(predictor, select_again)
    members = ", ".join(dict.fromkeys(member.family for member in predictor.ensemble.members))
    assert predictor.classes is not None
    return _write(
        Path(folder),
        network,
        image_size=network.image_size,
        crop="squeeze",
        classes=predictor.classes.tolist(),
        name=f"An ensemble ({members})",
        extra={"decision_weights": predictor.ensemble.decision_weights, "costs": predictor.ensemble.costs},
    )


def image_ensemble(predictor: Predictor, select_again: SelectAgain) -> tuple[ImageEnsemble, Predictor]:
    """Return the network of an ensemble, or of another one where a member cannot be a network, and its predictor."""
    from windvane.vision.networks.ensemble import ImageEnsemble

    found = _expressible(predictor, select_again)
    assert found.classes is not None and found.images is not None
    network = ImageEnsemble(found.ensemble, found.models, found.classes, found.images).eval()
    if found is not predictor:
        left_out = {m.family for m in predictor.ensemble.members} - {m.family for m in found.ensemble.members}
        warn_user(
            f"torch has no network for some members ({', '.join(sorted(left_out)) or 'of some configurations'}). A "
            f"second ensemble without them was selected on the validation images: loss {found.ensemble.loss:.5g} "
            f"there, {predictor.ensemble.loss:.5g} for the whole ensemble.",
        )
    difference = _difference(network, found)
    if not difference <= _TOLERANCE:
        raise WindvaneError(f"The network computes something else: a probability differs by {difference:.2g}.")
    return network, found


def _expressible(predictor: Predictor, select_again: SelectAgain) -> Predictor:
    """Return the predictor, or that of another ensemble where a member cannot be a network."""
    from windvane.vision.networks.ensemble import is_expressible

    numbers: set[int] = set()
    found: Predictor | None = predictor
    odd: list[Member] = []
    while found is not None:
        pairs = zip(found.ensemble.members, found.models, strict=True)
        odd = [member for member, models in pairs if not all(map(is_expressible, models))]
        if not odd:
            return found
        numbers |= {member.number for member in odd}
        found = select_again((), numbers)
    names = ", ".join(dict.fromkeys(member.family for member in odd))
    raise InputError(
        f"torch has no network for these models of the ensemble: {names}. Allowed: linear, network, kernel (rbf and "
        "polynomial), random_forest, extra_trees, finetune and from_scratch, with the scales standard, robust, minmax, "
        "normalise and none. save and load keep every model."
    )


def _difference(network: ImageEnsemble, predictor: Predictor) -> float:
    """Return the largest difference of a probability, on noise of several scales."""
    import torch

    assert predictor.images is not None
    rng, size = np.random.default_rng(0), network.image_size
    coarse = rng.integers(0, 256, (_COMPARED, -(-size // 8), -(-size // 8), 3), dtype=np.uint8)
    pixels = np.ascontiguousarray(coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :size, :size])
    pixels[::2] = rng.integers(0, 256, pixels[::2].shape, dtype=np.uint8)
    expected = predictor.predict_raw(predictor.images.table(pixels, np.zeros(_COMPARED, dtype=np.bool_)))
    with torch.inference_mode():
        found = network(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()).numpy()
    return float(np.abs(found - expected).max())


def _check_packages() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX files are written and checked by {', '.join(missing)}: pip install {' '.join(missing)}")


def _write(
    folder: Path,
    network: nn.Module,
    *,
    image_size: int,
    crop: str,
    classes: Sequence[Any],
    name: str,
    extra: Mapping[str, Any],
) -> Path:
    """Write the folder of a network that maps bytes (n, 3, image_size, image_size) to probabilities.

    `crop` says how an image becomes a square: "center" or "squeeze"; `extra` are more values of model.json.
    """
    from windvane.vision.export import write_onnx, write_torch

    with new_folder(folder, "folder") as making:
        write_onnx(network, image_size, making / "model.onnx")
        write_torch(network, image_size, making / "model.pt2")
        settings = {"windvane": VERSION, "classes": list(classes), "image_size": image_size, "crop": crop}
        write_json(making / "model.json", {**settings, "input": "images", "output": "probabilities", **extra})
        write_image_program(making)
        part = {"center": "the central square", "squeeze": "all, stretched to the square"}[crop]
        readme = _README.format(name=name, version=VERSION, n=len(classes), size=image_size, part=part)
        write_texts(making, _PACKAGES, readme)
    return folder


def write_image_program(folder: Path) -> None:
    """Write the program that predicts image files, with the part of the runtime that it needs."""
    write_program(folder, "image_predictor.py", ("predict", "predict_proba"))
    (folder / "runtime").mkdir()
    for name in _RUNTIME:
        shutil.copyfile(Path(str(files("windvane"))) / "runtime" / name, folder / "runtime" / name)

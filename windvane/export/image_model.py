"""Export an image network: ONNX, a torch.export program, and a Python program that predicts files with the former.

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
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from windvane.errors import InputError
from windvane.export.folder import INIT, program_text
from windvane.runtime.serialization import new_folder, write_json
from windvane.version import VERSION

if TYPE_CHECKING:
    from windvane.vision.saved_model import TrainedModel

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_PACKAGES = ("numpy", "onnxruntime", "pillow")  # that the program imports
_RUNTIME = ("__init__.py", "errors.py", "images.py", "program.py")
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
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX files are written and checked by {', '.join(missing)}: pip install {' '.join(missing)}")
    from windvane.vision.export import export_onnx, export_torch

    with new_folder(Path(folder), "folder") as making:
        export_onnx(model, making / "model.onnx")
        export_torch(model, making / "model.pt2")
        size = model.recipe.image_size
        crop = "center" if model.recipe.crops_center else "squeeze"
        facts = {
            "image_size": size,
            "crop": crop,
            "input": "images",
            "output": "probabilities",
            "recipe": model.recipe.to_json(),
        }
        write_json(making / "model.json", {"windvane": VERSION, "classes": list(model.classes), **facts})
        write_program(making)
        lines = [f"{name}=={version(name)}\n" for name in _PACKAGES]
        (making / "requirements.txt").write_text("".join(lines), encoding="utf-8")
        part = {"center": "the central square", "squeeze": "all, stretched to the square"}[crop]
        text = _README.format(name=model.recipe.model, version=VERSION, n=len(model.classes), size=size, part=part)
        (making / "README.txt").write_text(text, encoding="utf-8")
    return Path(folder)


def write_program(folder: Path) -> None:
    """Write the program that predicts image files, with the part of the runtime that it needs."""
    package = Path(str(files("windvane")))
    (folder / "predictor.py").write_text(program_text("image_predictor.py"), encoding="utf-8")
    (folder / "__init__.py").write_text(INIT, encoding="utf-8")
    (folder / "runtime").mkdir()
    for name in _RUNTIME:
        shutil.copyfile(package / "runtime" / name, folder / "runtime" / name)

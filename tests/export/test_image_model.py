"""What is exported predicts like the network, in a Python that knows neither windvane, timm nor torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from pictures import noise, tiny_recipe  # noqa: E402
from PIL import Image  # noqa: E402

from windvane.data.images.read import read_unlabelled  # noqa: E402
from windvane.errors import InputError  # noqa: E402
from windvane.export import image_model as module  # noqa: E402
from windvane.export.image_model import export_image_model  # noqa: E402
from windvane.vision.networks.create import create_model  # noqa: E402
from windvane.vision.predict import prediction_table  # noqa: E402
from windvane.vision.saved_model import TrainedModel  # noqa: E402

BLOCKED = """
import runpy, sys
for name in ("windvane", "timm", "torch", "pandas"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    recipe = tiny_recipe(mean=(0.4, 0.5, 0.6), image_size=16, eval_crop="center")
    return TrainedModel(create_model(recipe, 3).eval(), recipe, ("a", "b, c", "d"))


@pytest.fixture(scope="module")
def exported(model: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_image_model(model, tmp_path_factory.mktemp("exported") / "folder")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several kinds: large JPEG, grey, palette, transparent, 16 bits, turned; and a file without an image."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.asarray(Image.fromarray(noise(1, 8).items[0]).resize((70, 50)))
    picture = Image.fromarray(pixels)
    picture.resize((700, 500)).save(folder / "large.jpg")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("P").save(folder / "palette.gif")
    clear = picture.convert("RGBA")
    clear.putalpha(128)
    clear.save(folder / "clear.png")
    Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # held sideways
    picture.save(folder / "turned.jpg", exif=exif)
    (folder / "text.txt").write_text("no image")
    return folder


@pytest.mark.parametrize("proba", [False, True])
def test_the_program_predicts_like_the_network(model: TrainedModel, exported: Path, photos: Path, proba: bool) -> None:
    words = [sys.executable, "-c", BLOCKED, str(exported / "predictor.py"), str(photos), *["--proba"] * proba]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (photos.parent / "found.csv").write_text(done.stdout)
    found = pd.read_csv(photos.parent / "found.csv").set_index("name")
    with pytest.warns(UserWarning, match=r"text\.txt"):
        images = read_unlabelled(photos)
    wanted = prediction_table(model, images, proba=proba).set_index("name")
    same = found.loc[wanted.index].drop(columns="error")
    pd.testing.assert_frame_equal(same, wanted, check_dtype=False, atol=1e-5)
    assert len(found) == len(wanted) + 1 == 7
    unread = found.loc["text.txt"]
    assert unread.drop("error").isna().all() and "it is no image" in unread["error"]
    assert "1 of 7 images cannot be read" in done.stderr


def test_classes_may_be_called_as_other_columns(exported: Path, photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "exported")
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, "classes": ["name", "error", "cat"]}))
    words = [sys.executable, str(folder / "predictor.py"), str(photos), "--proba"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "name,name (class),error (class),cat,error"


def test_the_folder_says_what_it_is(model: TrainedModel, exported: Path) -> None:
    facts = json.loads((exported / "model.json").read_text())
    assert (facts["classes"], facts["image_size"]) == (list(model.classes), 16)
    assert {line.partition("==")[0] for line in (exported / "requirements.txt").read_text().split()} == {
        *("numpy", "onnxruntime", "pillow"),
    }
    assert "(n, 3, 16, 16)" in (exported / "README.txt").read_text()
    images = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    assert torch.export.load(exported / "model.pt2").module()(images).shape == (3, 3)


def test_nothing_is_written_over_and_what_is_missing_is_named(
    model: TrainedModel, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="exists and is not empty"):
        export_image_model(model, exported)
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(InputError, match="by onnxscript: pip install onnxscript"):
        export_image_model(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()

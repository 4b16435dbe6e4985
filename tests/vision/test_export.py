from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import noise, tiny_recipe

from windvane.errors import InputError, WindvaneError
from windvane.vision import export
from windvane.vision.export import export_onnx, export_torch
from windvane.vision.networks.create import create_model
from windvane.vision.predict import predict_proba
from windvane.vision.recipe import Recipe
from windvane.vision.saved_model import TrainedModel

RECIPES = {
    "transformer": tiny_recipe(mean=(0.4, 0.5, 0.6)),
    "convolutions": Recipe("resnet10t", image_size=32, steps=1, crop="none", mean=(0.4, 0.5, 0.6)),
    "all blocks": Recipe("resnet10t", image_size=32, steps=1, crop="none", block_components=5),
}


def model(kind: str) -> TrainedModel:
    recipe = RECIPES[kind]
    network = create_model(recipe, 3).eval()
    for name, buffer in network.named_buffers():
        if name.endswith(".matrix"):
            buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(0)))
    return TrainedModel(network, recipe, ("a", "b", "c"))


@pytest.mark.parametrize("kind", RECIPES)
def test_onnxruntime_computes_the_same(kind: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = model(kind)
    session = onnxruntime.InferenceSession(str(export_onnx(network, tmp_path / "model.onnx")))
    images = noise(7, network.recipe.image_size)
    pixels = np.stack(images.items).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(session.run(None, {"images": pixels})[0], predict_proba(network, images), atol=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("kind", ["transformer", "all blocks"])
def test_torch_export_computes_the_same(kind: str, tmp_path: Path) -> None:
    network = model(kind)
    program = torch.export.load(export_torch(network, tmp_path / "model.pt2")).module()
    images = noise(4, network.recipe.image_size)
    pixels = torch.from_numpy(np.stack(images.items)).permute(0, 3, 1, 2)
    np.testing.assert_allclose(program(pixels).detach(), predict_proba(network, images), atol=1e-5)


def test_only_new_files_with_the_right_ending(tmp_path: Path) -> None:
    (tmp_path / "there.onnx").touch()
    for path in (tmp_path / "there.onnx", tmp_path / "model.txt", tmp_path / "nowhere" / "model.onnx"):
        with pytest.raises(InputError, match=r"ending in \.onnx"):
            export_onnx(model("transformer"), path)
    with pytest.raises(InputError, match=r"ending in \.pt2"):
        export_torch(model("transformer"), tmp_path / "model.onnx")


def test_what_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_TOLERANCE", -1.0)
    with pytest.raises(WindvaneError, match="computes something else"):
        export_torch(model("transformer"), tmp_path / "model.pt2")

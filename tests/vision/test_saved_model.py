from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pictures import tiny_recipe

from windvane.errors import InputError, ModelFileError
from windvane.vision.networks.create import create_model
from windvane.vision.saved_model import is_image_model, library_versions, load_model, save_model

CLASSES = ("cat", "dog", "ünïcode")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recipe = tiny_recipe(weights="efficientnet_lite0")  # where training began does not matter afterwards
    save_model(tmp_path, create_model(recipe, 3).state_dict(), recipe, CLASSES, {"best": 1})
    return tmp_path


def test_what_was_written_is_opened(folder: Path) -> None:
    model = load_model(folder)
    assert model.classes == CLASSES
    assert model.recipe == tiny_recipe(weights="efficientnet_lite0")
    assert not model.network.training
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model.network(x), create_model(model.recipe, 3).eval()(x))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["versions"] == library_versions()
    assert manifest["best"] == 1
    assert sorted(file.name for file in folder.iterdir()) == ["manifest.json", "model.safetensors"]


def test_other_folders_are_no_networks(tmp_path: Path) -> None:
    assert not is_image_model(tmp_path)
    for content in ("{", "[]", '{"kind": "model"}'):
        (tmp_path / "manifest.json").write_text(content)
        assert not is_image_model(tmp_path)
        with pytest.raises(InputError, match="holds no trained network"):
            load_model(tmp_path)


@pytest.mark.parametrize("change", ["weights", "missing", "format", "recipe", "classes"])
def test_damage_is_refused(change: str, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    weights = folder / "model.safetensors"
    if change == "weights":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif change == "missing":
        weights.unlink()
    else:
        manifest[change] = {"format": 99, "recipe": {"model": 3}, "classes": 7}[change]
        (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFileError):
        load_model(folder)

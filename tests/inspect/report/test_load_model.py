"""Networks and images as the command line names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from windvane.errors import InputError, ModelFileError
from windvane.inspect.report.load_model import find_images, load_model_and_images
from windvane.runtime.images import decode_image
from windvane.vision.networks.create import create_model
from windvane.vision.recipe import Recipe
from windvane.vision.saved_model import save_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(6):
        path = tmp_path / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (20, 30, 3), np.uint8)).save(path)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_find_images(folder: Path) -> None:
    assert [path.name for path in find_images(folder, 10)] == ["0.png", "2.png", "4.png", "1.png", "3.png", "5.png"]
    assert len(find_images(folder, 4)) == 4
    assert find_images(folder, 4) == find_images(folder, 4)
    assert find_images(folder, 4) == sorted(find_images(folder, 4))


def test_network_with_weights_of_a_file(folder: Path) -> None:
    model = timm.create_model("resnet10t", num_classes=3)
    torch.save(model.state_dict(), folder / "weights.pth")
    found = load_model_and_images(f"resnet10t={folder / 'weights.pth'}", find_images(folder, 4))
    assert torch.equal(found.model.conv1[0].weight, model.conv1[0].weight)
    assert found.model.fc.weight.shape[0] == 3
    assert found.images.shape == (4, 3, 176, 176)
    assert not found.model.training


def test_weights_of_a_network_with_two_classifiers(folder: Path) -> None:
    name = "deit_tiny_distilled_patch16_224"
    torch.save(timm.create_model(name, num_classes=3).state_dict(), folder / "weights.pth")
    found = load_model_and_images(f"{name}={folder / 'weights.pth'}", find_images(folder, 1))
    assert len(found.model.head.weight) == len(found.model.head_dist.weight) == 3


def test_network_of_a_run(folder: Path) -> None:
    recipe = Recipe("resnet10t", image_size=32, steps=1)
    network = create_model(recipe, 2).eval()
    run = folder / "run"
    run.mkdir()
    save_model(run, network.state_dict(), recipe, ["a", "b"], {})
    found = load_model_and_images(str(run), find_images(folder, 4))
    assert found.name == "run" and found.images.shape == (4, 3, 32, 32)
    torch.testing.assert_close(found.model(found.images), network(found.images))
    (folder / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"images: .*broken.png cannot be decoded: it is no image"):
        load_model_and_images(str(run), [folder / "broken.png"])
    with pytest.raises(InputError, match="holds no network on images"):
        load_model_and_images(str(folder), [])


def test_mistakes(folder: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'resnet18'"):
        load_model_and_images("resnet1818", [])
    with pytest.raises(InputError, match="is not a folder"):
        find_images(folder / "none", 4)
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="has no images"):
        find_images(folder / "empty", 4)
    with pytest.raises(InputError, match="is not a file"):
        load_model_and_images("resnet10t=none.pth", [])
    torch.save({"other": torch.zeros(1)}, folder / "other.pth")
    with pytest.raises(ModelFileError, match="does not hold the weights of resnet10t"):
        load_model_and_images(f"resnet10t={folder / 'other.pth'}", [])
    (folder / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"images: .*broken.png cannot be decoded: it is no image"):
        load_model_and_images("resnet10t", [folder / "broken.png"], pretrained=False)


def test_images_are_read_as_by_the_rest_of_windvane(tmp_path: Path) -> None:
    """16 bits a pixel, transparency and an EXIF orientation; hidden files and dead links are ignored."""
    levels = np.linspace(0, 65535, 32 * 40).astype(np.uint16).reshape(32, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(levels).save(tmp_path / "a_wide.png")
    Image.new("RGBA", (32, 40), (200, 0, 0, 0)).save(tmp_path / "b_transparent.png")
    Image.fromarray((levels // 257).astype(np.uint8)).convert("RGB").save(tmp_path / "c_turned.png", exif=exif)
    (tmp_path / "._c_turned.png").write_bytes(b"no image")
    (tmp_path / "dead.png").symlink_to(tmp_path / "nothing.png")
    files = find_images(tmp_path, 10)
    assert [file.name[0] for file in files] == ["a", "b", "c"]
    read = load_model_and_images("resnet10t", files, pretrained=False).images
    for file in files:
        Image.fromarray(decode_image(file)).save(tmp_path / f"{file.stem}_plain.bmp")
    plain = load_model_and_images("resnet10t", sorted(tmp_path.glob("*.bmp")), pretrained=False).images
    torch.testing.assert_close(read, plain)
    assert read[1].min() > 2  # white behind what is transparent

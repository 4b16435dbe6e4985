"""Every analysis of one or two networks, and reasons for those that do not apply."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from networks import TinyResNet, images, seeded
from PIL import Image
from shell import shell
from torch import nn

from windvane.inspect.report.inspection import (
    InspectionSettings,
    folder_classes,
    list_analyses,
    run_analyses,
    with_distinct_names,
)
from windvane.inspect.report.inspection_page import write_analyses
from windvane.inspect.report.load_model import LoadedModel


def test_two_networks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2)
    resnet = timm.create_model("resnet10t", num_classes=3)
    both = [LoadedModel("vit", vit, images(8, 32)), LoadedModel("resnet", resnet, images(8, 32))]
    results, left_out = run_analyses(list_analyses(both, InspectionSettings(batch_size=8)))
    titles = [analysis.title for analysis, _ in results]
    assert titles[:4] == [
        "vit beside resnet",
        "vit: local and global heads beside resnet",
        "vit: its layers beside each other",
        "vit: the same without training",
    ]
    assert "vit: how far attention looks" in titles
    assert titles.index("vit: where branches point") == titles.index("vit: what skip connections carry") + 1
    assert any(
        one.startswith("resnet: how far attention looks: model: ResNet has no self-attention") for one in left_out
    )
    analysis, result = results[0]
    assert "That of untrained networks is" in analysis.describe(result)[-1]
    assert any(one.startswith("vit: what can be read off each layer: there are no classes") for one in left_out)
    assert write_analyses(tmp_path / "page.html", "Inside", "", results).stat().st_size > 10_000


def test_probes_where_there_are_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2)
    x, classes = images(12, 32), [f"class{i % 2}" for i in range(12)]
    x[1::2] += 2.0
    settings = InspectionSettings(layers=["block", "head"])
    results, left_out = run_analyses(list_analyses([LoadedModel("vit", model, x)], settings, classes))
    (found,) = [result for analysis, result in results if analysis.title == "vit: what can be read off each layer"]
    assert not left_out
    assert found.to_frame()["accuracy"].mean() > 0.9
    assert found.to_frame()["shots"].drop_duplicates().fillna(0).tolist() == [1, 0]
    (itself,) = [result for analysis, result in results if analysis.title == "vit: its layers beside each other"]
    assert set(itself.to_frame()["first"]) == {"blocks.0", "blocks.1", "head"}


def test_repeats_draw_half_of_the_images_that_are_there() -> None:
    settings = InspectionSettings(n_images=256, layers="residual", repeats=3)
    analysis, *_ = list_analyses([LoadedModel("net", seeded(TinyResNet), images(12))], settings)
    assert analysis.run().n_images == 3 * 6


def test_classes_are_the_folders_of_the_root() -> None:
    root = Path("set")
    assert folder_classes([root / "cat" / "a.png", root / "dog" / "deep" / "b.png"], root) == ["cat", "dog"]
    assert folder_classes([root / "cat" / "a.png", root / "b.png"], root) is None


def test_command_line(tmp_path: Path) -> None:
    for i in range(6):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / f"{i}.png")
    page = tmp_path / "page.html"
    done = shell("inspect", "test_vit", tmp_path, "--untrained", "--out", page)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(page)
    assert "Inside test_vit" in page.read_text(encoding="utf-8")
    settings = ["--untrained", "--layers", "block", "--batch-size", "6", "--repeats", "2", "--n-images", "6"]
    done = shell("inspect", "test_vit", "test_vit", tmp_path, *settings, "--out", page)
    assert done.exit_code == 0, done.output
    assert "test_vit (second) has moved away from test_vit (first)" in page.read_text(encoding="utf-8")
    for option, words in (
        (["--device", "moon"], "device='moon'"),
        (["--batch-size", "2"], "batch_size=2"),
        (["--layers", "blook.*"], "blook"),
    ):
        done = shell("inspect", "test_vit", tmp_path, "--untrained", *option, "--out", page)
        assert done.exit_code == 2
        assert words in done.stderr
    done = shell("inspect", "a", "b", "c", tmp_path)
    assert done.exit_code == 2
    assert "3 networks were named" in done.stderr


def test_two_states_of_one_architecture_get_distinct_names() -> None:
    one = LoadedModel("resnet18", nn.Identity(), torch.zeros(1))
    assert [other.name for other in with_distinct_names([one, one])] == ["resnet18 (first)", "resnet18 (second)"]
    assert [other.name for other in with_distinct_names([one])] == ["resnet18"]

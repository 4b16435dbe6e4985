"""Activations of networks of several libraries, compared with running their modules by hand."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
import timm
import torch
from networks import Odd, Sequence, TinyResNet, images, seeded
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from windvane.errors import InputError
from windvane.inspect.activations import Activations, batch_too_large, check_fits, collect_activations, iter_activations
from windvane.inspect.hooks import LayerOutput
from windvane.inspect.layer_selection import Layer


def test_activations_equal_those_of_the_modules() -> None:
    model, x = seeded(TinyResNet), images(10)
    found = collect_activations(model, x, batch_size=4)
    with torch.no_grad():
        stem = model.eval().stem(x)
        normed = model.blocks[0].norm(model.blocks[0].conv(stem))
        whole = model(x)
    assert found["stem"].shape == (10, 8, 8, 8)
    torch.testing.assert_close(found["stem"], stem)
    torch.testing.assert_close(found["blocks.0.norm"], normed)
    torch.testing.assert_close(found["blocks.0.add"], torch.relu(normed) + stem)
    torch.testing.assert_close(found["head"], whole)


def test_residual_sums_of_a_transformer() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=2, num_heads=2).eval()
    x = torch.rand(6, 3, 32, 32)
    found = collect_activations(model, x, ["residual", "blocks.*.attn", "blocks.*.mlp", "norm_pre"])
    with torch.no_grad():
        before = model.norm_pre(model._pos_embed(model.patch_embed(x)))
        block = model.blocks[0]
        middle = before + block.attn(block.norm1(before))
        torch.testing.assert_close(found["blocks.0.add"], middle)
        torch.testing.assert_close(found["blocks.0.add#2"], middle + block.mlp(block.norm2(middle)))


@pytest.mark.parametrize("batch_size", [1, 3, 10, "auto"])
def test_batches_do_not_matter(batch_size: int) -> None:
    model, x = seeded(TinyResNet), images(10)
    once, again = collect_activations(model, x, batch_size=10), collect_activations(model, x, batch_size=batch_size)
    assert list(once) == list(again)
    for name in once:
        torch.testing.assert_close(once[name], again[name])


def test_positions_first_and_wrappers() -> None:
    model, x = seeded(Sequence), torch.rand(5, 7, 8)
    found = collect_activations(nn.DataParallel(model), DataLoader(TensorDataset(x), 2), "add")
    with torch.no_grad():
        tokens = x.transpose(0, 1)
        torch.testing.assert_close(found["add"], (tokens + model.attention(tokens, tokens, tokens)[0]).transpose(0, 1))


def test_reduce_keeps_less() -> None:
    found = collect_activations(seeded(TinyResNet), images(6), "stem", reduce=lambda layer: layer.mean((2, 3)))
    assert found["stem"].shape == (6, 8)


def test_sums_that_reduce_computes_are_no_layers() -> None:
    model, x = seeded(TinyResNet), images(4)
    layers = ["blocks.0", "blocks.1.add", "output"]  # the first and the last are sums or heads that were seen before
    found = collect_activations(model, x, layers, reduce=lambda layer: layer + layer.flip(1))
    for name, plain in collect_activations(model, x, layers).items():
        torch.testing.assert_close(found[name], plain + plain.flip(1))


def test_table_of_shapes() -> None:
    frame = collect_activations(seeded(TinyResNet), images(6), ["stem", "head"]).to_frame()
    assert frame.index.tolist() == ["stem", "head"]
    assert frame.loc["stem", "shape"] == (8, 8, 8)
    assert frame.loc["stem", "megabytes"] == pytest.approx(6 * 512 * 4 / 1e6)
    assert "stem" in repr(Activations({"stem": torch.zeros(1, 2)}))


def test_two_networks_see_the_same_batch() -> None:
    loader = DataLoader(TensorDataset(images(12)), 4, shuffle=True)
    for left, right in iter_activations([nn.Sequential(nn.Identity()), nn.Sequential(nn.Identity())], loader, "0"):
        assert torch.equal(left["0"], right["0"])


def test_a_network_that_comes_twice_runs_once() -> None:
    runs = []

    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            runs.append(len(x))
            return x * 2

    model = Counted()
    for left, right in iter_activations([model, model], images(6), batch_size=3):
        assert left is right
    assert runs == [3, 3, 3, 3]  # a look at the layers for each, then two batches
    runs.clear()
    list(iter_activations([model, model], (images(6), images(6, seed=1)), batch_size=3))
    assert runs == [3, 3, 3, 3, 3, 3]


def test_other_layers_and_other_images_for_each() -> None:
    first, second = seeded(TinyResNet), nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 4))
    for left, right in iter_activations([first, second], (images(4), images(4, 4)), ("head", "1")):
        assert (left["head"].shape, right["1"].shape) == ((4, 5), (4, 4))


def test_an_abandoned_iterator_leaves_nothing_behind() -> None:
    model = seeded(TinyResNet).train()
    running = iter_activations([model], images(8), batch_size=4)
    next(running)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(module.training for module in model.modules())


class Hungry(nn.Module):
    """Has memory for so many images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.layer = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.layer(x)


def test_batches_are_halved_until_they_fit() -> None:
    x = images(70, 4)
    seen = [left["layer"] for left, _ in iter_activations([Hungry(9), Hungry(70)], x, batch_size="auto")]
    assert [len(one) for one in seen] == [8] * 8 + [6]
    torch.testing.assert_close(torch.cat(seen), x.flatten(1))


def test_halved_batches_of_one_network_stay_one() -> None:
    model = Hungry(9)
    assert all(left is right for left, right in iter_activations([model, model], images(16, 4), batch_size="auto"))


def test_batch_that_is_too_large() -> None:
    with pytest.raises(InputError, match=r"a batch of 32 images does not fit.*layer \(.*Allowed: about 16 images"):
        list(iter_activations([Hungry(9)], images(40, 4), batch_size=32))
    with pytest.raises(InputError, match="a batch of 1 images does not fit"):
        list(iter_activations([Hungry(0)], images(40, 4), batch_size="auto"))


def test_collecting_too_much_raises_at_the_first_batch() -> None:
    def endless() -> Iterator[Tensor]:
        yield images(4)
        raise AssertionError("a second batch was taken")

    with pytest.raises(InputError, match=r"need .* GB"):
        collect_activations(seeded(TinyResNet), endless(), n_images=10**12)


def test_unsuited_images() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    with pytest.raises(
        InputError, match=r"VisionTransformer fails on a batch of shape \(4, 3, 32, 32\).*\(3, 224, 224\)"
    ):
        collect_activations(model, torch.rand(4, 3, 32, 32))
    with pytest.raises(InputError, match=r"TinyResNet fails on a batch of shape \(4, 7\)"):
        collect_activations(seeded(TinyResNet), torch.rand(4, 7))


def test_other_mistakes() -> None:
    with pytest.raises(InputError, match="model is of type str"):
        collect_activations("resnet18", images(4))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="1 item for 2 networks"):
        list(iter_activations([seeded(TinyResNet), seeded(TinyResNet)], images(4), ("stem",)))
    with pytest.raises(InputError, match="n_images=9, but data has 8"):
        collect_activations(seeded(TinyResNet), images(8), n_images=9)


def test_layers_that_do_not_always_run() -> None:
    class Sometimes(Odd):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return super().forward(x) if x.sum() > 0 else {"left": self.idle(x)}

    with pytest.raises(InputError, match=r"pair\[0\] did not run for every batch"):
        collect_activations(Sometimes(), torch.cat([torch.ones(4, 6), -torch.ones(4, 6)]), "pair[0]", batch_size=4)


def test_largest_layers_and_a_batch_that_fits() -> None:
    free = psutil.virtual_memory().available
    layers = [
        Layer(LayerOutput(name, name, False, None), 0, size, (1, size))
        for name, size in (("a", 8), ("b", free // 100), ("c", 80))
    ]
    message = str(batch_too_large(layers, 10**6, torch.device("cpu")))
    assert "a batch of 1000000 images does not fit" in message
    assert message.index("b (") < message.index("c (") < message.index("a (")
    fits = int(message.split("about ")[1].split()[0])
    assert 50 <= fits <= 200


def test_check_fits() -> None:
    layers = {"small": torch.zeros(2, 3), "large": torch.zeros(2, 1000)}
    check_fits(layers, 1000)
    with pytest.raises(
        InputError, match=r"2 of 1000000000000 images need .* GB.*The largest are large \(.*n_images up to"
    ):
        check_fits(layers, 10**12)

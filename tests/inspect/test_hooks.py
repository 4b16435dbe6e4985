"""An observed pass reports what runs, and leaves the network as it was."""

from __future__ import annotations

import pytest
import torch
from networks import Odd, TinyResNet, images, seeded
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.batches import batch_length, slice_batch
from windvane.inspect.hooks import LayerOutput, is_out_of_memory, observe, tensors_in
from windvane.torch_utils import unwrap_model


def watch(model: nn.Module, inputs: Tensor) -> dict[str, tuple[LayerOutput, Tensor]]:
    seen: dict[str, tuple[LayerOutput, Tensor]] = {}
    observe(model, inputs, lambda output, tensor: seen.update({output.name: (output, tensor.clone())}))
    return seen


def test_sums_are_seen_with_their_values() -> None:
    model, x = seeded(TinyResNet), images(4)
    seen = watch(model, x)
    assert list(seen) == [
        *("stem", "blocks.0.conv", "blocks.0.norm", "blocks.0.act", "blocks.0.add", "blocks.0"),
        *("blocks.1.conv", "blocks.1.norm", "blocks.1.act", "blocks.1.add", "blocks.1", "blocks", "head", "output"),
    ]
    with torch.no_grad():
        stem = model.eval().stem(x)
        normed = model.blocks[0].norm(model.blocks[0].conv(stem))
    torch.testing.assert_close(seen["blocks.0.norm"][1], normed)  # not what the activation wrote over it
    torch.testing.assert_close(seen["blocks.0.add"][1], torch.relu(normed) + stem)
    assert seen["blocks.0"][0].alias_of == "blocks.0.add"
    assert seen["blocks"][0].alias_of == "blocks.1.add"
    assert seen["blocks.0.act"][0].alias_of is None  # written in place: same tensor, other values
    assert [name for name, (output, _) in seen.items() if output.is_sum] == ["blocks.0.add", "blocks.1.add"]


def test_reuse_tuples_mappings_and_identities() -> None:
    seen = watch(seeded(Odd), torch.randn(4, 6))
    assert list(seen) == ["shared", "idle", "shared#2", "pair[0]", "pair[1]", "table", "output[left]", "output[right]"]
    assert seen["idle"][0].alias_of == "shared"
    assert seen["shared#2"][0].module == "shared"
    assert not any(output.is_sum for output, _ in seen.values())  # neither rotary products nor positions are skips


def test_network_is_left_as_it_was() -> None:
    model = seeded(TinyResNet).train()
    model.blocks[0].norm.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    watch(model, images(4))
    with pytest.raises(InputError, match=r"TinyResNet fails on a batch of shape \(4, 1, 8, 8\): RuntimeError"):
        watch(model, torch.rand(4, 1, 8, 8))
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


def test_no_gradients_and_evaluation_mode() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.9))
    seen = watch(model, torch.ones(4, 3))
    assert not any(tensor.requires_grad for _, tensor in seen.values())
    assert torch.equal(seen["1"][1], seen["0"][1])


def test_wrappers_are_unwrapped() -> None:
    model = seeded(TinyResNet)
    wrapped = nn.DataParallel(torch.compile(model))
    assert unwrap_model(wrapped) is model
    assert list(watch(wrapped, images(2))) == list(watch(model, images(2)))


def test_module_compiled_in_place_runs_eagerly() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model.compile(backend="eager")
    assert list(watch(model, torch.ones(4, 3))) == ["0", "1", "output"]


def test_fused_encoder_layers_run_unfused() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    seen = watch(layer, torch.randn(4, 5, 8))
    assert [name for name, (output, _) in seen.items() if output.is_sum] == ["add", "add#2"]
    assert "self_attn" in seen


def test_inference_tensors_are_accepted() -> None:
    with torch.inference_mode():
        x = torch.ones(4, 3)
    assert list(watch(nn.Sequential(nn.Identity()), x)) == ["0", "output"]


def test_batch_length_and_slices() -> None:
    batch = {"pixel_values": torch.arange(5), "return_dict": True}
    assert batch_length(batch) == 5
    assert slice_batch(batch, 1, 3)["pixel_values"].tolist() == [1, 2]
    assert slice_batch(batch, 1, 3)["return_dict"] is True


def test_keys_of_tensors() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    assert [part for part, _ in tensors_in(a)] == [""]
    assert [part for part, _ in tensors_in((a, None))] == [""]
    assert [part for part, _ in tensors_in({"x": (a, b), "y": [b]})] == ["[x][0]", "[x][1]", "[y]"]
    assert list(tensors_in("text")) == []


def test_out_of_memory_is_recognized() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_real_out_of_memory_is_recognized() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_out_of_memory_in_a_network_or_a_callback(error: Exception) -> None:
    class Hungry(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise error

    def on_output(output: LayerOutput, tensor: Tensor) -> None:
        raise error

    for model, see in ((Hungry(), lambda output, tensor: None), (nn.Identity(), on_output)):
        with pytest.raises(InputError, match="a batch of 4 images does not fit") as caught:
            observe(model, torch.ones(4, 3), see)
        assert caught.value.__cause__ is error


def test_an_error_of_a_callback_is_not_one_of_the_network() -> None:
    def on_output(output: LayerOutput, tensor: Tensor) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        observe(nn.Identity(), torch.ones(4, 3), on_output)


def test_inference_mode_around_it_does_no_harm() -> None:
    with torch.inference_mode():
        seen = watch(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.ones(4, 3))
    assert "1" in seen

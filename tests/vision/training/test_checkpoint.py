from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pictures import tiny_recipe
from torch import nn

from windvane.errors import ModelFileError
from windvane.vision.training.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from windvane.vision.training.optimizer import make_optimizer


def make(kind: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    network = network.to(memory_format=torch.channels_last)
    return network, make_optimizer(network, tiny_recipe(optimizer=kind))


def steps(network: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(number))
        network(x.contiguous(memory_format=torch.channels_last)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_kept_state_goes_on_bit_by_bit(kind: str, tmp_path: Path) -> None:
    network, optimizer = make(kind)
    steps(network, optimizer, range(3))
    save_checkpoint(tmp_path / "state", {"network": network}, optimizer, {"step": 3, "learning_rate": 0.1 + 0.2})
    steps(network, optimizer, range(3, 6))
    again, other = make(kind)
    assert load_checkpoint(tmp_path / "state", {"network": again}, other) == {"step": 3, "learning_rate": 0.1 + 0.2}
    steps(again, other, range(3, 6))
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_several_modules_are_kept_apart(tmp_path: Path) -> None:
    first, optimizer = make("sgd")
    second, _ = make("sgd")
    save_checkpoint(tmp_path / "state", {"network": first, "average": second}, optimizer, {})
    third, other = make("sgd")
    fourth, _ = make("sgd")
    load_checkpoint(tmp_path / "state", {"network": third, "average": fourth}, other)
    assert torch.equal(third[0].weight, first[0].weight)
    assert torch.equal(fourth[0].weight, second[0].weight)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    network, optimizer = make("sgd")
    path = tmp_path / "state"
    with pytest.raises(ModelFileError, match="missing"):
        load_checkpoint(path, {"network": network}, optimizer)
    save_checkpoint(path, {"network": network}, optimizer, {})
    whole = path.read_bytes()
    for content in (b"", whole[:-10], whole[:20], b"no state at all", whole.replace(b"numbers", b"members")):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="damaged"):
            load_checkpoint(path, {"network": network}, optimizer)
    write_tensors(path, {"network:other": torch.zeros(1)}, {"numbers": "{}"})
    with pytest.raises(ModelFileError, match="damaged"):
        load_checkpoint(path, {"network": network}, optimizer)

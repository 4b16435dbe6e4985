from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pictures import tiny_recipe
from torch import nn

from windvane.errors import ModelFileError
from windvane.nn.checkpoint import read_state, write_state, write_tensors
from windvane.nn.optimise import make_optimiser


def make(kind: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    network = network.to(memory_format=torch.channels_last)
    return network, make_optimiser(network, tiny_recipe(optimiser=kind))


def steps(network: nn.Module, optimiser: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(number))
        network(x.contiguous(memory_format=torch.channels_last)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_kept_state_goes_on_bit_by_bit(kind: str, tmp_path: Path) -> None:
    network, optimiser = make(kind)
    steps(network, optimiser, range(3))
    write_state(tmp_path / "state", {"network": network}, optimiser, {"step": 3, "rate": 0.1 + 0.2})
    steps(network, optimiser, range(3, 6))
    again, other = make(kind)
    assert read_state(tmp_path / "state", {"network": again}, other) == {"step": 3, "rate": 0.1 + 0.2}
    steps(again, other, range(3, 6))
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_several_modules_are_kept_apart(tmp_path: Path) -> None:
    first, optimiser = make("sgd")
    second, _ = make("sgd")
    write_state(tmp_path / "state", {"network": first, "average": second}, optimiser, {})
    third, other = make("sgd")
    fourth, _ = make("sgd")
    read_state(tmp_path / "state", {"network": third, "average": fourth}, other)
    assert torch.equal(third[0].weight, first[0].weight)
    assert torch.equal(fourth[0].weight, second[0].weight)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    network, optimiser = make("sgd")
    path = tmp_path / "state"
    with pytest.raises(ModelFileError, match="missing"):
        read_state(path, {"network": network}, optimiser)
    write_state(path, {"network": network}, optimiser, {})
    whole = path.read_bytes()
    for content in (b"", whole[:-10], whole[:20], b"no state at all", whole.replace(b"numbers", b"members")):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="damaged"):
            read_state(path, {"network": network}, optimiser)
    write_tensors(path, {"network:other": torch.zeros(1)}, {"numbers": "{}"})
    with pytest.raises(ModelFileError, match="damaged"):
        read_state(path, {"network": network}, optimiser)

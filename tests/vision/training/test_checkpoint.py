from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from pictures import tiny_recipe
from torch import nn

from windvane.errors import ModelFileError
from windvane.vision.training.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from windvane.vision.training.optimizer import load_optimizer_state, make_optimizer


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
def test_training_continues_bit_by_bit(kind: str, tmp_path: Path) -> None:
    network, optimizer = make(kind)
    steps(network, optimizer, range(3))
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()["state"]}
    save_checkpoint(tmp_path / "state", {**state, "step": 3, "learning_rate": 0.1 + 0.2})
    steps(network, optimizer, range(3, 6))
    again, other = make(kind)
    loaded = load_checkpoint(tmp_path / "state")
    assert (loaded["step"], loaded["learning_rate"]) == (3, 0.1 + 0.2)
    again.load_state_dict(loaded["network"])
    load_optimizer_state(other, loaded["optimizer"])
    steps(again, other, range(3, 6))
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_the_nesting_comes_back(tmp_path: Path) -> None:
    state = {
        "a.b": {"c": torch.arange(3), "": torch.zeros(0), 7: {"d": None, "e": [1, torch.ones(2), math.inf]}},
        "a": {"b.c": torch.arange(4, dtype=torch.uint8)},
        "empty": {},
    }
    save_checkpoint(tmp_path / "state", state)
    found = load_checkpoint(tmp_path / "state")
    assert torch.equal(found["a.b"]["c"], torch.arange(3)) and torch.equal(found["a"]["b.c"], state["a"]["b.c"])
    assert found["a.b"][7]["e"][0] == 1 and torch.equal(found["a.b"][7]["e"][1], torch.ones(2))
    assert found["a.b"][7]["e"][2] == math.inf and found["empty"] == {}
    outline = load_checkpoint(tmp_path / "state", with_tensors=False)
    assert outline["a.b"] == {"c": None, "": None, 7: {"d": None, "e": [1, None, math.inf]}}


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    network, _ = make("sgd")
    path = tmp_path / "state"
    with pytest.raises(ModelFileError, match="missing"):
        load_checkpoint(path)
    save_checkpoint(path, {"network": network.state_dict()})
    whole = path.read_bytes()
    for content in (b"", whole[:-10], whole[:20], b"no state at all", whole.replace(b"mapping", b"parting")):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="damaged"):
            load_checkpoint(path)
    write_tensors(path, {"network.other": torch.zeros(1)}, {"numbers": "{}"})
    with pytest.raises(ModelFileError, match="damaged"):
        load_checkpoint(path)

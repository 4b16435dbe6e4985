from __future__ import annotations

import pytest
import torch
from pictures import tiny_recipe
from torch import Tensor, nn

from windvane.vision.networks.create import create_model
from windvane.vision.training.nonfinite import NonFiniteCheck, find_nonfinite_tensor
from windvane.vision.training.optimizer import make_optimizer


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_step_is_taken_from_the_first_bad_one_on(optimizer: str, bad: float) -> None:
    recipe = tiny_recipe(optimizer=optimizer)
    network = create_model(recipe, 3)
    steps = make_optimizer(network, recipe)
    check = NonFiniteCheck(steps, torch.device("cpu"))
    good = torch.tensor(1.0)
    kept = None
    for number in range(5):
        value = network(torch.randn(2, 3, 8, 8)).square().sum()
        value.backward()
        loss = good * bad if number == 2 else good
        check.update(loss, good)
        assert check.first_bad_step() == (None if number < 2 else 2)
        before = [p.clone() for p in network.parameters()]
        steps.step()
        changed = any(not torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
        assert changed == (number < 2)
        if number == 2:
            kept = before
    assert kept is not None
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), kept, strict=True))


class Two(nn.Module):
    """Two layers, with a place for something bad in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.second = nn.Linear(2, 2), nn.Identity(), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.middle(self.first(x)))  # type: ignore[no-any-return]


class Divide(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 0.0


class RootOfZero(nn.Module):
    """Finite, but its gradient is not."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (0.0 * x).sqrt()


def test_the_first_bad_tensor_has_a_name() -> None:
    network = Two()
    x = torch.ones(3, 2)

    def backward(scale: float = 1.0) -> Tensor:
        network.zero_grad()
        loss = scale * network(x).sum()
        loss.backward()
        return loss

    assert find_nonfinite_tensor(network, lambda: backward(float("inf"))) == "the loss"
    assert find_nonfinite_tensor(network, backward) == "the norm of the gradient"
    network.middle = RootOfZero()
    assert find_nonfinite_tensor(network, backward) == "the gradient of first.weight"
    network.middle = Divide()
    assert find_nonfinite_tensor(network, backward) == "the output of middle"
    with torch.no_grad():
        network.second.bias.fill_(float("nan"))
    assert find_nonfinite_tensor(network, backward) == "the parameter second.bias"
    assert not any(module._forward_hooks for module in network.modules())

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_networks import network
from torch.nn import functional

from windvane.curvature import memorization
from windvane.errors import InputError


def test_groups_are_measured_apart() -> None:
    one = network("mlp", 12)
    noisy = torch.arange(12) % 4 == 0
    found = memorization(one.model, one.model(one.x), one.y, noisy, 7)
    assert found.step == 7
    for group, chosen in ((found.clean, ~noisy), (found.noisy, noisy)):
        logits = one.model(one.x[chosen])
        loss = functional.cross_entropy(logits, one.y[chosen])
        one.model.zero_grad()
        functional.cross_entropy(logits[:3], one.y[chosen][:3]).backward()  # as many as there are noisy ones
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in one.model.parameters() if p.grad is not None))
        assert group.n == int(chosen.sum())
        assert group.loss == pytest.approx(loss.item())
        assert group.accuracy == (logits.argmax(dim=1) == one.y[chosen]).double().mean().item()
        assert group.gradient_norm == pytest.approx(norm)


def test_noisy_labels_are_learned_last() -> None:
    one = network("mlp", 60, trained_steps=0)
    clean = (one.x[:, 0] > 0).long()  # a rule that can be learned
    noisy = torch.arange(60) < 12
    labels = torch.where(noisy, (clean + 1) % 3, clean)
    optimizer = torch.optim.Adam(one.model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(one.model(one.x), labels).backward()
        optimizer.step()
    found = memorization(one.model, one.model(one.x), labels, noisy.tolist())
    assert found.clean.accuracy > 0.9
    assert found.noisy.accuracy < 0.5
    assert found.noisy.gradient_norm > 2 * found.clean.gradient_norm


def test_nothing_changes_and_the_graph_stays() -> None:
    one = network("cnn")
    logits = one.model(one.x)
    before = [b.clone() for b in one.model.buffers()]
    memorization(one.model, logits, one.y, torch.zeros(8, dtype=torch.bool))
    assert all(map(torch.equal, before, one.model.buffers()))
    assert all(p.grad is None for p in one.model.parameters())
    logits.sum().backward()


def test_with_a_forward_pass_of_its_own() -> None:
    one = network("mlp", 12)
    noisy = torch.arange(12) % 4 == 0
    found = memorization(one.model, None, one.y, noisy, forward=lambda: one.model(one.x))
    assert found == memorization(one.model, one.model(one.x), one.y, noisy)


def test_a_group_may_be_empty() -> None:
    one = network("mlp")
    found = memorization(one.model, one.model(one.x), one.y, [False] * 8)
    assert found.clean.n == 8
    assert found.noisy.n == 0
    assert math.isnan(found.noisy.loss)


def test_sizes_that_differ() -> None:
    one = network("mlp")
    with pytest.raises(InputError, match="8, 8 and 7 examples"):
        memorization(one.model, one.model(one.x), one.y, [False] * 7)
    with pytest.raises(InputError, match="True or False"):
        memorization(one.model, one.model(one.x), one.y, list(range(8)))  # type: ignore[arg-type]


@pytest.mark.parametrize("odd", [0.5, -1, None])
def test_what_is_no_step(odd: Any) -> None:
    one = network("mlp")
    with pytest.raises(InputError, match=f"step={odd!r} is not usable"):
        memorization(one.model, one.model(one.x), one.y, [False] * 8, odd)


def test_targets_that_are_no_class() -> None:
    one = network("mlp")
    logits = one.model(one.x)
    for odd, words in ((-100, "-100"), (3, "3")):
        targets = one.y.clone()
        targets[0] = odd
        with pytest.raises(InputError, match=f"targets has classes .*{words}.*Allowed: 0 to 2"):
            memorization(one.model, logits, targets, [False] * 8)
    with pytest.raises(InputError, match=r"targets is of type torch.float64. Allowed: whole numbers"):
        memorization(one.model, logits, one.y.double(), [False] * 8)
    with pytest.raises(InputError, match="targets is of type list"):
        memorization(one.model, logits, one.y.tolist(), [False] * 8)  # type: ignore[arg-type]
    plain = memorization(one.model, logits, one.y, [False] * 8)
    assert memorization(one.model, logits, one.y.to(torch.int8), [False] * 8).clean == plain.clean


def test_forward_that_is_no_function() -> None:
    one = network("mlp")
    with pytest.raises(InputError, match=r"forward is of type Tensor.*lambda: model"):
        memorization(one.model, None, one.y, [False] * 8, forward=one.model(one.x))  # type: ignore[arg-type]

from __future__ import annotations

import math
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import MAKERS, Network, added, cnn, cosine, flat, mlp, network, with_noise
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from windvane.curvature import FisherPenalty, exact_fisher_trace, input_gradient_penalty
from windvane.errors import InputError


def gradient_of(one: Network, penalty: FisherPenalty) -> torch.Tensor:
    return added(one.model, lambda: penalty(lambda: one.model(one.x), one.y))


def slow_gradient(one: Network, alpha: float) -> torch.Tensor:
    """Gradient of alpha n / 128 ||mean gradient||^2 with true labels, one number at a time."""
    parameters = list(one.model.parameters())

    def squared() -> float:
        found = torch.autograd.grad(one.loss(), parameters)
        return sum(g.square().sum().item() for g in found)

    slopes = []
    for parameter in parameters:
        for value in parameter.data.view(-1):
            kept = value.item()
            value.fill_(kept + 1e-5)
            ahead = squared()
            value.fill_(kept - 1e-5)
            slopes.append((ahead - squared()) / 2e-5)
            value.fill_(kept)
    return alpha * len(one.x) / 128 * torch.tensor(slopes, dtype=torch.float64)


@pytest.mark.parametrize("name", MAKERS)
def test_double_backward_equals_slopes_one_at_a_time(name: str) -> None:
    one = network(name)
    with sdpa_kernel(SDPBackend.MATH):
        found = gradient_of(one, FisherPenalty(one.model, 0.3, mode="double_backward", labels="true"))
    torch.testing.assert_close(found, slow_gradient(one, 0.3), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("labels", ["sampled", "true", "uniform"])
def test_finite_differences_of_a_small_step_equal_double_backward(name: str, labels: Any) -> None:
    one = network(name, 64)
    differences = gradient_of(one, FisherPenalty(one.model, 0.1, labels=labels, radius=1e-5))
    with sdpa_kernel(SDPBackend.MATH):
        exact = gradient_of(one, FisherPenalty(one.model, 0.1, labels=labels, mode="double_backward"))
    assert cosine(differences, exact) > 0.9999
    assert differences.norm().item() == pytest.approx(exact.norm().item(), rel=1e-3)


def smooth(one: Network) -> Network:
    """Without the kinks of ReLU, which differences see and double backward passes over."""
    if isinstance(one.model, nn.Sequential) and isinstance(one.model[2], nn.ReLU):
        one.model[2], one.model[3] = nn.GELU(), nn.AvgPool2d(2)
    return one


@pytest.mark.parametrize("radius", [0.01, None])
@pytest.mark.parametrize("name", MAKERS)
def test_finite_differences_agree_in_float32(name: str, radius: float | None) -> None:
    one = smooth(network(name, 64, dtype=torch.float32))
    penalty = FisherPenalty(one.model, 0.1, every=1, radius=radius, labels="true")
    for _ in range(5):  # the radius finds its length
        differences = gradient_of(one, penalty)
    with sdpa_kernel(SDPBackend.MATH):
        exact = gradient_of(one, FisherPenalty(one.model, 0.1, labels="true", mode="double_backward"))
    assert cosine(differences, exact) > 0.99
    assert differences.norm().item() == pytest.approx(exact.norm().item(), rel=0.1)
    assert (penalty.radius_ == 0.01) == (radius == 0.01)


@pytest.mark.parametrize("name", MAKERS)
def test_the_radius_finds_a_change_of_a_tenth(name: str) -> None:
    one = network(name, 64)
    parameters = list(one.model.parameters())
    penalty = FisherPenalty(one.model, 0.1, every=1, labels="true")
    for _ in range(8):
        gradient_of(one, penalty)
    first = torch.autograd.grad(one.loss(), parameters)
    for parameter, g in zip(parameters, first, strict=True):
        parameter.data += penalty.radius_ * g / flat(list(first)).norm()
    change = flat(list(torch.autograd.grad(one.loss(), parameters))) - flat(list(first))
    assert (change.norm() / flat(list(first)).norm()).item() == pytest.approx(0.1, rel=0.3)


def test_dropout_masks_are_the_same_in_both_passes() -> None:
    one = network("mlp", 64)
    noisy = Network(with_noise(one.model), one.x, one.y)
    found = [
        gradient_of(noisy, FisherPenalty(noisy.model, 0.1, radius=1e-5, mode=mode))
        for mode in ("finite_difference", "double_backward")
    ]
    assert cosine(*found) > 0.9999


@settings(max_examples=10, deadline=None)
@given(n=st.integers(2, 40), alpha=st.floats(1e-3, 10), seed=st.integers(0, 5))
def test_one_alpha_means_the_same_at_every_batch_size(n: int, alpha: float, seed: int) -> None:
    """What is penalised is alpha n / 128 ||g||^2, and n ||g||^2 the estimate of the trace."""
    torch.manual_seed(seed)
    one = Network(mlp().double(), torch.randn(n, 6, dtype=torch.float64), torch.randint(3, (n,)))
    penalty = FisherPenalty(one.model, alpha, labels="true", mode="double_backward")
    found = gradient_of(one, penalty)
    parameters = list(one.model.parameters())
    mean = torch.autograd.grad(one.loss(), parameters, create_graph=True)
    squared = torch.stack([g.square().sum() for g in mean]).sum()
    expected = flat(list(torch.autograd.grad(alpha * n / 128 * squared, parameters)))
    torch.testing.assert_close(found, expected)
    assert penalty.squared_norm_ == pytest.approx(squared.item())
    assert penalty.trace_ == pytest.approx(n * squared.item())


def test_its_trace_is_an_estimate_of_the_fisher_trace() -> None:
    one = network("mlp")
    penalty = FisherPenalty(one.model, 0.1, every=1)
    found = []
    for _ in range(300):
        gradient_of(one, penalty)
        found.append(penalty.trace_)
    values = torch.tensor(found, dtype=torch.float64)
    exact = exact_fisher_trace(one.model, one.model(one.x)).trace
    assert abs(values.mean().item() - exact) < 4 * values.std().item() / math.sqrt(300)


def test_recomputed_every_so_many_steps_and_added_again_between() -> None:
    one = network("mlp")
    penalty = FisherPenalty(one.model, 0.1, every=4, start_step=2, stop_step=9)
    seen = [gradient_of(one, penalty) for _ in range(11)]
    same = [torch.equal(a, b) for a, b in pairwise(seen)]
    assert same == [True, False, True, True, True, False, True, True, False, True]
    assert all((step in range(2, 9)) == bool(g.any()) for step, g in enumerate(seen))


def test_adds_to_what_is_there() -> None:
    one = network("mlp")
    one.loss().backward()
    before = flat([p.grad.clone() for p in one.model.parameters() if p.grad is not None])
    FisherPenalty(one.model, 0.1)(lambda: one.model(one.x))
    after = flat([p.grad.clone() for p in one.model.parameters() if p.grad is not None])
    alone = gradient_of(one, FisherPenalty(one.model, 0.1))
    torch.testing.assert_close(after, before + alone)


def test_gradients_that_are_still_scaled() -> None:
    one = network("mlp")
    plain = gradient_of(one, FisherPenalty(one.model, 0.1))
    penalty = FisherPenalty(one.model, 0.1)
    scaled = added(one.model, lambda: penalty(lambda: one.model(one.x), scale=8.0))
    torch.testing.assert_close(scaled, 8 * plain)


def test_parameters_without_a_gradient_stay_without() -> None:
    one = network("mlp")
    one.loss().backward()
    one.model[0].bias.grad = None  # type: ignore[index,union-attr]
    FisherPenalty(one.model, 0.1)(lambda: one.model(one.x))
    assert one.model[0].bias.grad is None  # type: ignore[index,union-attr]


@pytest.mark.parametrize("mode", ["finite_difference", "double_backward"])
def test_leaves_parameters_buffers_modes_and_random_state_as_they_were(mode: Any) -> None:
    model = with_noise(cnn())
    x = torch.randn(16, 2, 4, 4)
    model(x).sum().backward()
    parameters, buffers = deepcopy(list(model.parameters())), deepcopy(list(model.buffers()))
    state, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    FisherPenalty(model, 0.1, mode=mode)(lambda: model(x))
    assert all(map(torch.equal, model.parameters(), parameters))
    assert all(map(torch.equal, model.buffers(), buffers))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes


def test_parameters_come_back_when_forward_fails() -> None:
    one = network("mlp")
    one.loss().backward()
    before = deepcopy(list(one.model.parameters()))
    calls = []

    def forward() -> torch.Tensor:
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return one.model(one.x)

    penalty = FisherPenalty(one.model, 0.1)
    with pytest.raises(KeyboardInterrupt):
        penalty(forward)
    assert all(map(torch.equal, one.model.parameters(), before))
    assert penalty.step_ == 0


def train(one: Network, penalty: FisherPenalty | None, steps: int, parts: int = 1, clip: float | None = None) -> None:
    optimizer = torch.optim.SGD(one.model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        for x, y in zip(one.x.chunk(parts), one.y.chunk(parts), strict=True):
            (functional.cross_entropy(one.model(x), y) / parts).backward()
        if penalty is not None:
            penalty(lambda: one.model(x), y)  # noqa: B023
        if clip is not None:
            nn.utils.clip_grad_norm_(one.model.parameters(), clip)
        optimizer.step()


@pytest.mark.parametrize("name", MAKERS)
def test_it_lowers_the_trace(name: str) -> None:
    traces = []
    for alpha in (0.0, 2.0):
        one = network(name, 32, trained_steps=0)
        train(one, FisherPenalty(one.model, alpha), 60)
        traces.append(exact_fisher_trace(one.model, one.model(one.x)).trace)
    assert traces[1] < 0.95 * traces[0]


def test_alpha_zero_changes_nothing() -> None:
    found = []
    for alpha in (None, 0.0):
        one = network("cnn", 32, trained_steps=0)
        train(one, None if alpha is None else FisherPenalty(one.model, alpha), 20)
        found.append(flat([p.detach() for p in one.model.parameters()]))
    assert torch.equal(*found)


def test_accumulated_and_clipped() -> None:
    """With parts, the penalty is that of the last part, once a step; clipping sees the sum."""
    one = network("mlp", 32)
    other = deepcopy(one)
    train(one, FisherPenalty(one.model, 5.0), 1, parts=4, clip=0.01)
    last = Network(other.model, other.x.chunk(4)[-1], other.y.chunk(4)[-1])
    extra = gradient_of(last, FisherPenalty(other.model, 5.0))
    other.model.zero_grad()
    other.loss().backward()
    whole = flat([p.grad for p in other.model.parameters() if p.grad is not None]) + extra
    before, after = (flat([p.detach() for p in n.model.parameters()]) for n in (other, one))
    torch.testing.assert_close(before - after, 0.1 * whole * (0.01 / whole.norm()), rtol=1e-4, atol=1e-9)


def test_goes_on_exactly_from_its_state() -> None:
    whole, stopped = network("mlp", 32), network("mlp", 32)
    train(whole, FisherPenalty(whole.model, 1.0), 17)
    first, second = (FisherPenalty(stopped.model, 1.0) for _ in range(2))
    train(stopped, first, 8)
    second.load_state_dict(deepcopy(first.state_dict()))
    train(stopped, second, 9)
    assert all(map(torch.equal, whole.model.parameters(), stopped.model.parameters()))


def test_bfloat16_autocast() -> None:
    one = network("mlp", 64, dtype=torch.float32)
    exact = gradient_of(one, FisherPenalty(one.model, 0.1, mode="double_backward", labels="true"))

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return one.model(one.x)

    for mode in ("finite_difference", "double_backward"):
        penalty = FisherPenalty(one.model, 0.1, mode=mode, every=1, labels="true")
        for _ in range(4):
            found = added(one.model, lambda: penalty(forward, one.y))  # noqa: B023
        assert cosine(found, exact) > 0.95


def test_called_under_autocast() -> None:
    """Autocast keeps parameters that it has cast; the moved ones must be cast again, and the old ones afterwards."""
    one = network("mlp", 64, dtype=torch.float32)
    exact = gradient_of(one, FisherPenalty(one.model, 0.1, mode="double_backward", labels="true"))
    penalty = FisherPenalty(one.model, 0.1, every=1, labels="true")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = one.model(one.x)
        for _ in range(4):
            found = added(one.model, lambda: penalty(lambda: one.model(one.x), one.y))
        assert torch.equal(one.model(one.x), before)
    assert cosine(found, exact) > 0.95


def test_bfloat16_parameters() -> None:
    one = network("mlp", 64, dtype=torch.float32)
    exact = gradient_of(one, FisherPenalty(one.model, 0.1, mode="double_backward"))
    half = Network(deepcopy(one.model).bfloat16(), one.x.bfloat16(), one.y)
    with pytest.raises(InputError, match=r"mode='double_backward'"):
        gradient_of(half, FisherPenalty(half.model, 0.1))
    found = gradient_of(half, FisherPenalty(half.model, 0.1, mode="double_backward"))
    assert found.dtype == torch.bfloat16
    assert cosine(found, exact) > 0.95


def test_fused_attention() -> None:
    one = network("transformer", dtype=torch.float32)
    with sdpa_kernel(SDPBackend.MATH):
        exact = gradient_of(one, FisherPenalty(one.model, 0.1, mode="double_backward"))
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        found = gradient_of(one, FisherPenalty(one.model, 0.1))
        with pytest.raises(InputError, match=r"mode='finite_difference'"):
            gradient_of(one, FisherPenalty(one.model, 0.1, mode="double_backward"))
    assert cosine(found, exact) > 0.99


def test_with_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)  # one is shared by the whole program
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2, mixed_precision="bf16")
    one = network("cnn", 16, dtype=torch.float32)
    model, optimizer = accelerator.prepare(one.model, torch.optim.SGD(one.model.parameters(), 0.1))
    penalty = FisherPenalty(model, 0.1, every=2)
    before = flat([p.detach().clone() for p in one.model.parameters()])
    for _ in range(6):
        with accelerator.accumulate(model):
            logits = model(one.x)
            accelerator.backward(functional.cross_entropy(logits, one.y))
            if accelerator.sync_gradients:
                penalty(lambda: model(one.x))
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    assert penalty.step_ == 3
    assert math.isfinite(penalty.trace_)
    assert not torch.equal(flat([p.detach() for p in one.model.parameters()]), before)


def test_nothing_is_added_where_a_pass_overflows() -> None:
    one = network("mlp")
    penalty = FisherPenalty(one.model, 0.1)
    found = added(one.model, lambda: penalty(lambda: one.model(one.x) * torch.inf))
    assert not found.any()
    assert not math.isfinite(penalty.squared_norm_)


def test_a_gradient_of_zero() -> None:
    one = network("mlp")
    found = added(one.model, lambda: FisherPenalty(one.model, 0.1)(lambda: one.model(one.x) * 0))
    assert not found.any()


def test_called_before_backward_says_where_to_put_it() -> None:
    one = network("mlp")
    with pytest.raises(InputError, match=r"between loss.backward\(\) and optimizer.step\(\)"):
        FisherPenalty(one.model, 0.1)(lambda: one.model(one.x))


def test_forward_that_does_not_recompute() -> None:
    one = network("mlp")
    logits = one.model(one.x)
    with pytest.raises(InputError, match="recomputes"):
        added(one.model, lambda: FisherPenalty(one.model, 0.1)(lambda: logits))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alpha": -1.0}, "alpha=-1.0"),
        ({"alpha": math.nan}, "alpha=nan"),
        ({"alpha": "a"}, "alpha='a'"),
        ({"start_step": -1}, "start_step=-1"),
        ({"every": 0}, "every=0"),
        ({"mode": "double"}, "'double_backward'?"),
        ({"labels": "random"}, "labels='random'"),
        ({"output": "probit"}, "output='probit'"),
        ({"radius": 0.0}, "radius=0.0"),
        ({"radius": "a"}, "radius='a'"),
        ({"start_step": 5, "stop_step": 5}, "stop_step=5"),
        ({"stop_step": 7.5}, "stop_step=7.5"),
        ({"stop_step": True}, "stop_step=True"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        FisherPenalty(mlp(), **{"alpha": 0.1, **settings})
    assert words in str(caught.value)


def test_missing_targets() -> None:
    one = network("mlp")
    with pytest.raises(InputError, match="targets is missing"):
        added(one.model, lambda: FisherPenalty(one.model, 0.1, labels="true")(lambda: one.model(one.x)))


@pytest.mark.parametrize("odd", [-100, 3])
def test_targets_that_are_no_class(odd: int) -> None:
    one = network("mlp")
    targets = one.y.clone()
    targets[0] = odd
    with pytest.raises(InputError, match=f"targets has classes from .*{odd}.*padding"):
        added(one.model, lambda: FisherPenalty(one.model, 0.1, labels="true")(lambda: one.model(one.x), targets))


def test_logits_of_a_copy() -> None:
    one = network("mlp")
    copy = deepcopy(one.model)
    with pytest.raises(InputError, match="not of a copy"):
        added(one.model, lambda: FisherPenalty(one.model, 0.1)(lambda: copy(one.x)))


def test_input_penalty_is_the_squared_gradient_by_the_input() -> None:
    one = network("cnn")
    buffers = deepcopy(list(one.model.buffers()))
    found = input_gradient_penalty(one.model, one.x, one.y)
    x = one.x.clone()
    slopes = []
    for value in x.view(-1):
        kept = value.item()
        value.fill_(kept + 1e-5)
        ahead = functional.cross_entropy(one.model(x), one.y).item()
        value.fill_(kept - 1e-5)
        slopes.append((ahead - functional.cross_entropy(one.model(x), one.y).item()) / 2e-5)
        value.fill_(kept)
    assert found.item() == pytest.approx(sum(s**2 for s in slopes), rel=1e-5)
    one = network("cnn")
    found = input_gradient_penalty(one.model, one.x, one.y)
    assert all(map(torch.equal, one.model.buffers(), buffers))
    found.backward()
    assert all(p.grad is not None for p in one.model.parameters())


def test_an_input_gradient_penalty_needs_a_network() -> None:
    one = network("mlp")
    with pytest.raises(InputError, match=r"model is of type function. Allowed: a torch.nn.Module."):
        input_gradient_penalty(lambda x: x, one.x, one.y)  # type: ignore[arg-type]


def test_forward_that_is_no_function() -> None:
    one = network("mlp")
    with pytest.raises(InputError, match=r"forward is of type Tensor.*lambda: model"):
        added(one.model, lambda: FisherPenalty(one.model, 0.1)(one.model(one.x)))  # type: ignore[arg-type]


def test_true_targets_of_other_types() -> None:
    one = network("mlp")

    def penalize(targets: Any) -> torch.Tensor:
        penalty = FisherPenalty(one.model, 0.1, labels="true")
        return added(one.model, lambda: penalty(lambda: one.model(one.x), targets))

    assert torch.equal(penalize(one.y.to(torch.uint8)), penalize(one.y))
    with pytest.raises(InputError, match=r"shape \(8,\) and type torch.float64.*classes as whole numbers"):
        penalize(one.y.double())
    with pytest.raises(InputError, match="targets is of type list"):
        penalize(one.y.tolist())


@pytest.mark.parametrize("odd", [torch.zeros(8, 6, dtype=torch.uint8), [[0.0] * 6] * 8])
def test_inputs_that_are_no_floats(odd: Any) -> None:
    one = network("mlp")
    with pytest.raises(InputError, match=r"inputs is of type (torch.uint8|list). Allowed: a tensor of floats"):
        input_gradient_penalty(one.model, odd, one.y)

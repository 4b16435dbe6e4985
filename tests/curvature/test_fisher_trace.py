from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import MAKERS, Transformer, cnn, flat, network, slow_trace, with_noise
from torch import nn

from windvane.curvature import FisherRecord, FisherTracker, exact_fisher_trace
from windvane.curvature.likelihood import Output
from windvane.errors import InputError


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("training", [True, False])
def test_unbiased(name: str, training: bool) -> None:
    """The mean of many draws is the exact trace, and of each layer its part, within four standard errors."""
    one = network(name)
    one.model.train(training)
    exact = exact_fisher_trace(one.model, one.model(one.x))
    record = FisherTracker(one.model, draws=600).update(one.model(one.x), 0)
    assert record is not None
    assert record.error_source == "draws"
    assert record.standard_error < 0.1 * exact.trace
    assert abs(record.trace - exact.trace) < 4 * record.standard_error
    assert record.per_layer.keys() == exact.per_layer.keys()
    for layer, part in exact.per_layer.items():
        assert abs(record.per_layer[layer] - part) < 4 * max(record.standard_error, 0.05 * part)
    assert sum(record.per_layer.values()) == pytest.approx(record.trace)


@pytest.mark.parametrize("output", ["sigmoid", "gaussian"])
def test_unbiased_for_other_outputs(output: Output) -> None:
    one = network("mlp")
    exact = exact_fisher_trace(one.model, one.model(one.x), output)
    record = FisherTracker(one.model, draws=600, output=output).update(one.model(one.x), 0)
    assert record is not None
    assert abs(record.trace - exact.trace) < 4 * record.standard_error < 0.4 * exact.trace


def test_each_token_is_an_example() -> None:
    model, x = Transformer(tokens=True), torch.randn(3, 5, 4)
    exact = exact_fisher_trace(model, model(x))
    record = FisherTracker(model, draws=800).update(model(x), 0)
    assert record is not None
    assert record.n_examples == 15
    assert abs(record.trace - exact.trace) < 4 * record.standard_error
    chosen = FisherTracker(model).update(model(x)[torch.eye(3, 5, dtype=torch.bool)], 0)
    assert chosen is not None
    assert chosen.n_examples == 3


def test_agrees_with_the_monte_carlo_fisher_matrix_of_nngeometry() -> None:
    metrics = pytest.importorskip("nngeometry.metrics", reason="the oracle nngeometry is not installed")
    from nngeometry.object import PMatDiag
    from torch.utils.data import DataLoader, TensorDataset

    one = network("mlp")
    loader = DataLoader(TensorDataset(one.x, one.y), batch_size=8)
    theirs = metrics.FIM_MonteCarlo(one.model, loader, PMatDiag, variant="classif_logits", trials=100).trace().item()
    record = FisherTracker(one.model, draws=600).update(one.model(one.x), 0)
    assert record is not None
    assert record.trace == pytest.approx(theirs, rel=0.15)


def snapshot(model: nn.Module) -> dict[str, Any]:
    return {
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "parameters": flat([p.detach().clone() for p in model.parameters()]),
        "buffers": [b.clone() for b in model.buffers()],
        "modes": [m.training for m in model.modules()],
        "random": torch.get_rng_state(),
        "needs": [p.requires_grad for p in model.parameters()],
    }


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("part", ["gradients", "parameters", "buffers", "modes", "random", "needs"])
def test_leaves_everything_as_it_was(part: str, again: bool) -> None:
    model = with_noise(cnn())
    model[1].eval()  # type: ignore[index]
    x = torch.randn(8, 2, 4, 4)
    model(x).sum().backward()
    model[0].bias.grad = None  # type: ignore[index,union-attr]
    logits = model(x)
    before = snapshot(model)
    tracker = FisherTracker(model, draws=2)
    assert tracker.update(logits, 0, forward=(lambda: model(x)) if again else None) is not None
    torch.testing.assert_close(snapshot(model)[part], before[part], rtol=0, atol=0)
    logits.sum().backward()  # the graph is still there


def test_training_is_the_same_with_it() -> None:
    results = []
    for every in (1, 10**9):
        torch.manual_seed(5)
        model = with_noise(cnn())
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        tracker = FisherTracker(model, every=every)
        x, y = torch.randn(8, 2, 4, 4), torch.arange(8) % 3
        for step in range(1, 8):
            logits = model(x)
            tracker.update(logits, step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, y).backward()
            optimizer.step()
        assert len(tracker.records_) == (7 if every == 1 else 0)
        results.append(flat([*(p.detach() for p in model.parameters()), *(b.double() for b in model.buffers())]))
    assert torch.equal(*results)


def test_when_it_measures() -> None:
    one = network("mlp")
    tracker = FisherTracker(one.model, every=10, per_layer=False)
    found = [tracker.update(one.model(one.x), step) for step in (0, 1, 9, 10, 10, 20)]  # 10: two parts of one batch
    assert [record is None for record in found] == [False, True, True, False, True, False]
    assert [record.step for record in tracker.records_] == [0, 10, 20]
    assert tracker.records_[0].per_layer == {}


def test_records_with_missing_values_are_equal() -> None:
    def make(trace: float = 2.0, layer: str = "nan") -> FisherRecord:
        return FisherRecord(3, trace, float("nan"), "nothing", {"head": float(layer)}, 8, 1, entropy=float("nan"))

    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != make(trace=2.5)
    assert make() != make(layer="0.5")
    assert make() != "a record"


def test_error_of_single_draws_comes_from_recent_records() -> None:
    """It finds the spread of one draw, though the trace drifts."""
    one = network("mlp")
    tracker = FisherTracker(one.model, every=1)
    errors = [tracker.update(one.model(one.x), step) for step in range(60)]
    assert [record.error_source for record in errors if record][:2] == ["nothing", "records"]
    assert errors[0] is not None
    assert math.isnan(errors[0].standard_error)
    assert "fisher/standard_error" not in errors[0].scalars()
    many = FisherTracker(one.model, draws=500).update(one.model(one.x), 0)
    assert many is not None
    spread = many.standard_error * math.sqrt(500)
    found = [record.standard_error for record in errors[10:] if record]
    assert sum(found) / len(found) == pytest.approx(spread, rel=0.35)


def test_scalars_for_a_logger() -> None:
    one = network("mlp")
    record = FisherTracker(one.model, draws=2).update(one.model(one.x), 0)
    assert record is not None
    assert list(record.scalars("f/")) == ["f/trace", "f/standard_error", "f/layer/0", "f/layer/3"]


def test_records_say_how_certain_the_network_is() -> None:
    one = network("mlp")
    torch.nn.init.zeros_(one.model[-1].weight)
    torch.nn.init.zeros_(one.model[-1].bias)
    logits = one.model(one.x)
    record = FisherTracker(one.model).update(logits, 0)
    assert record is not None
    assert record.entropy == pytest.approx(math.log(logits.shape[1]))


def test_reproducible_and_resumable() -> None:
    one = network("mlp")
    whole, first, second = (FisherTracker(one.model, every=1, random_state=4) for _ in range(3))
    for step in range(4):
        whole.update(one.model(one.x), step)
        first.update(one.model(one.x), step) if step < 2 else None
    second.load_state_dict(deepcopy(first.state_dict()))
    for step in (2, 3):
        second.update(one.model(one.x), step)
    assert [r.trace for r in second.records_] == [r.trace for r in whole.records_]
    other = FisherTracker(one.model, random_state=5).update(one.model(one.x), 0)
    assert other is not None
    assert other.trace != whole.records_[0].trace


def test_forward_gives_the_same_as_logits() -> None:
    one = network("cnn")
    first = FisherTracker(one.model, draws=3).update(one.model(one.x), 0)
    second = FisherTracker(one.model, draws=3).update(None, 0, forward=lambda: one.model(one.x))
    assert first is not None
    assert second is not None
    assert first.trace == pytest.approx(second.trace)


def test_called_too_late_says_where_to_put_it() -> None:
    one = network("mlp")
    logits = one.model(one.x)
    logits.square().sum().backward()
    with pytest.raises(InputError, match=r"between the forward pass and backward\(\)"):
        FisherTracker(one.model).update(logits, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    one = network("mlp", 64, dtype=torch.float32)
    exact = exact_fisher_trace(one.model, one.model(one.x)).trace
    with torch.autocast("cpu", dtype=dtype):
        logits = one.model(one.x)
        record = FisherTracker(one.model, draws=400).update(logits, 0)
    assert logits.dtype == dtype
    assert record is not None
    assert record.trace == pytest.approx(exact, abs=4 * record.standard_error + 0.02 * exact)


def test_fused_attention_and_accumulation() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    one = network("transformer", dtype=torch.float32)
    traces = []
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        with sdpa_kernel(backend):
            record = FisherTracker(one.model, draws=4).update(one.model(one.x), 0)
        assert record is not None
        traces.append(record.trace)
    assert traces[0] == pytest.approx(traces[1], rel=1e-4)


def test_diverged_network() -> None:
    one = network("mlp")
    with torch.no_grad():
        one.model[0].weight.fill_(torch.nan)  # type: ignore[index,union-attr,operator]
    record = FisherTracker(one.model).update(one.model(one.x), 0)
    assert record is not None
    assert math.isnan(record.trace)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"every": 0}, "every=0"),
        ({"every": 2.5}, "every=2.5"),
        ({"draws": 0}, "draws=0"),
        ({"output": "soft"}, "output='soft'"),
        ({"random_state": "a"}, "random_state='a'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        FisherTracker(cnn(), **settings)


def test_bad_logits() -> None:
    one = network("mlp")
    with torch.no_grad():
        logits = one.model(one.x)
    with pytest.raises(InputError, match="no graph"):
        FisherTracker(one.model).update(logits, 0)
    with pytest.raises(InputError, match="does not depend on any trained parameter"):
        FisherTracker(one.model).update(deepcopy(one.model)(one.x), 0)
    with pytest.raises(InputError, match="type NoneType"):
        FisherTracker(one.model).update(None, 0)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_definition(name: str, training: bool) -> None:
    one = network(name)
    one.model.train(training)
    logits = one.model(one.x)
    found = exact_fisher_trace(one.model, logits)
    assert found.trace == pytest.approx(slow_trace(one.model, one.x), rel=1e-10)
    assert sum(found.per_layer.values()) == pytest.approx(found.trace)
    logits.sum().backward()  # the graph stays usable


def test_gaussian_is_the_jacobian_and_sigmoid_its_weighted_rows() -> None:
    one = network("mlp", 5)
    logits = one.model(one.x)
    jacobian = 0.0, 0.0
    for row in logits:
        for value in row:
            found = torch.autograd.grad(value, list(one.model.parameters()), retain_graph=True)
            size, p = sum(g.square().sum().item() for g in found), value.sigmoid().item()
            jacobian = jacobian[0] + size / 5, jacobian[1] + p * (1 - p) * size / 5
    assert exact_fisher_trace(one.model, logits, "gaussian").trace == pytest.approx(jacobian[0])
    assert exact_fisher_trace(one.model, logits, "sigmoid").trace == pytest.approx(jacobian[1])


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch's own forward-mode derivatives
@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_equals_the_generalised_gauss_newton_matrix_of_curvlinops(name: str) -> None:
    linops = pytest.importorskip("curvlinops", reason="the oracle curvlinops is not installed")
    one = network(name)
    model = one.model.eval()
    parameters = list(model.parameters())
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):  # forward-mode derivatives do not exist for fused attention
        operator = linops.GGNLinearOperator(model, nn.CrossEntropyLoss(), parameters, [(one.x, one.y)])
        size = sum(p.numel() for p in parameters)
        dense = operator @ torch.eye(size, dtype=torch.float64)
    assert exact_fisher_trace(model, model(one.x)).trace == pytest.approx(dense.trace().item(), rel=1e-6)


def test_equals_the_fisher_matrix_of_nngeometry() -> None:
    metrics = pytest.importorskip("nngeometry.metrics", reason="the oracle nngeometry is not installed")
    from nngeometry.object import PMatDense
    from torch.utils.data import DataLoader, TensorDataset

    one = network("mlp", dtype=torch.float32)
    model = one.model.eval()
    loader = DataLoader(TensorDataset(one.x, one.y), batch_size=4)
    found = metrics.FIM(model, loader, PMatDense, variant="classif_logits").trace().item()
    assert exact_fisher_trace(model, model(one.x)).trace == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("odd", [0.5, -1, True, None, "0"])
def test_what_is_no_step(odd: Any) -> None:
    one = network("mlp")
    with pytest.raises(InputError, match=f"step={odd!r} is not usable. Allowed: a whole number of at least 0"):
        FisherTracker(one.model).update(one.model(one.x), odd)


def test_records_of_numpy_integers_can_be_written_as_json() -> None:
    one = network("mlp")
    tracker = FisherTracker(one.model, np.int64(1), np.int64(2))
    record = tracker.update(one.model(one.x), np.int64(3))
    assert record is not None
    assert json.loads(json.dumps(asdict(record)))["step"] == 3


def test_forward_that_is_no_function() -> None:
    one = network("mlp")
    with pytest.raises(InputError, match=r"forward is of type Tensor.*lambda: model"):
        FisherTracker(one.model).update(None, 0, forward=one.model(one.x))  # type: ignore[arg-type]

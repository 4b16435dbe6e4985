"""Networks under torch.compile: their graph can be walked once only, and not twice differentiated."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from small_networks import added, cosine, network
from torch import nn
from torch.nn import functional

from windvane.curvature import FisherPenalty, FisherTracker, hessian_trace
from windvane.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the compiler


def check(one: Any, compiled: Any) -> None:
    plain_record = FisherTracker(one.model, draws=2).update(one.model(one.x), 0)
    plain = FisherPenalty(one.model, 0.1)
    expected = added(one.model, lambda: plain(lambda: one.model(one.x)))
    tracker = FisherTracker(compiled, draws=2)
    record = tracker.update(None, 0, forward=lambda: compiled(one.x))
    assert record is not None
    assert plain_record is not None
    assert record.per_layer == pytest.approx(plain_record.per_layer, rel=1e-3)
    penalty = FisherPenalty(compiled, 0.1)
    buffers = [b.clone() for b in one.model.buffers()]
    found = added(one.model, lambda: penalty(lambda: compiled(one.x)))
    assert cosine(found, expected) > 0.99
    assert all(map(torch.equal, buffers, one.model.buffers()))
    functional.cross_entropy(compiled(one.x), one.y).backward()  # training goes on


def test_same_as_without() -> None:
    one = network("transformer", dtype=torch.float32)
    check(one, torch.compile(one.model, backend="aot_eager"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler of torch needs g++, which is not here")
def test_same_as_without_by_the_default_compiler() -> None:
    one = network("cnn", dtype=torch.float32)
    one.model[2] = nn.GELU()  # type: ignore[index]
    check(one, torch.compile(one.model))


def test_ways_out_are_named() -> None:
    one = network("transformer", dtype=torch.float32)
    compiled = torch.compile(one.model, backend="aot_eager")
    logits = compiled(one.x)
    with pytest.raises(InputError, match="forward="):
        FisherTracker(compiled).update(logits, 0)
    functional.cross_entropy(logits, one.y).backward()  # it has not been used up
    penalty = FisherPenalty(compiled, 0.1, mode="double_backward")
    with pytest.raises(InputError, match="mode='finite_difference'"):
        penalty(lambda: compiled(one.x))
    with pytest.raises(InputError, match="mode='finite_difference'"):
        hessian_trace(compiled, lambda: functional.cross_entropy(compiled(one.x), one.y), probes=1)

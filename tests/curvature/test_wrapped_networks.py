"""Networks that torch wraps: for two processes, or compiled (whose graph is walked once, and not derived twice)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import added, cosine, network
from torch import nn
from torch.nn import functional

from windvane.curvature import FisherPenalty, FisherTracker, hessian_trace
from windvane.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the compiler

PROGRAM = """
import os, sys
from datetime import timedelta
import torch
from torch import distributed, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from windvane.curvature import FisherPenalty, FisherTracker

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
store = distributed.FileStore(f"{folder}/store", 2)
distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
torch.manual_seed(0)
model = DistributedDataParallel(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
penalty, tracker = FisherPenalty(model, 1.0, every=3, random_state=rank), FisherTracker(model, every=2)
generator = torch.Generator().manual_seed(rank)
for step in range(7):
    x, y = torch.randn(16, 6, generator=generator), torch.randint(3, (16,), generator=generator)
    logits = model(x)
    tracker.update(logits, step)
    optimizer.zero_grad()
    cross_entropy(logits, y).backward()
    penalty(lambda: model(x))
    optimizer.step()
assert list(tracker.records_[0].per_layer) == ["0", "1", "3"]
torch.save([p.detach() for p in model.parameters()], f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_all_processes_keep_the_same_parameters(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(tmp_path)],
            cwd=Path(__file__).resolve().parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(map(torch.equal, first, second))


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
    functional.cross_entropy(compiled(one.x), one.y).backward()  # training continues


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

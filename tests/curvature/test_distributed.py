"""The penalty where two processes train one network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

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

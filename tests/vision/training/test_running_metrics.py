from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from windvane.vision.device import DeviceContext
from windvane.vision.training.metrics import RunningMetrics


def test_means_are_over_images() -> None:
    tally = RunningMetrics(DeviceContext(torch.device("cpu"), bfloat16=False))
    tally.restart(10.0)
    targets = torch.tensor([[1.0, 0.0], [0.4, 0.6], [0.0, 1.0]])
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    tally.add(torch.tensor(2.0), logits, targets)
    tally.add(torch.tensor(5.0), logits[:1], targets[:1])
    assert tally.read(12.0) == pytest.approx((2.0, (3 * 2.0 + 5.0) / 4, 3 / 4))
    again = RunningMetrics(DeviceContext(torch.device("cpu"), bfloat16=False))
    again.resume(json.loads(json.dumps(tally.to_json())))
    assert again.read(12.0) == tally.read(12.0)
    tally.restart(12.0)
    assert np.isnan(tally.read(13.0)).all()


def test_several_processes_are_faster() -> None:
    tally = RunningMetrics(DeviceContext(torch.device("cpu"), bfloat16=False, world=4))
    tally.add(torch.tensor(1.0), torch.eye(2), torch.eye(2))
    assert tally.read(1.0) == (8.0, 1.0, 1.0)

from __future__ import annotations

import numpy as np
import pytest
import torch

from windvane.vision.device import DeviceContext
from windvane.vision.training.metrics import RunningMetrics


def test_means_are_over_images() -> None:
    running = RunningMetrics(DeviceContext(torch.device("cpu"), bfloat16=False))
    running.reset(10.0)
    targets = torch.tensor([[1.0, 0.0], [0.4, 0.6], [0.0, 1.0]])
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    running.update(torch.tensor(2.0), logits, targets)
    running.update(torch.tensor(5.0), logits[:1], targets[:1])
    assert running.compute(12.0) == pytest.approx((2.0, (3 * 2.0 + 5.0) / 4, 3 / 4))
    again = RunningMetrics(DeviceContext(torch.device("cpu"), bfloat16=False))
    again.load_state_dict(running.state_dict())
    assert again.compute(12.0) == running.compute(12.0)
    running.reset(12.0)
    assert np.isnan(running.compute(13.0)).all()


def test_several_processes_are_faster() -> None:
    running = RunningMetrics(DeviceContext(torch.device("cpu"), bfloat16=False, world_size=4))
    running.update(torch.tensor(1.0), torch.eye(2), torch.eye(2))
    assert running.compute(1.0) == (8.0, 1.0, 1.0)

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from windvane.curvature import FisherPenalty, FisherTracker
from windvane.curvature.integrations import FisherParts
from windvane.errors import InputError


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def test_one_process_changes_nothing() -> None:
    model = network()
    penalty = FisherPenalty(model[0], 0.1)  # type: ignore[index]
    FisherParts(penalty, None, None).follow_wrapper(model)
    assert FisherParts(None, None, None).state_dict() == {}
    assert penalty.model is model[0]  # type: ignore[index]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_several_processes(one_process: None) -> None:
    model = network()
    wrapper = DistributedDataParallel(model)
    penalty, tracker = FisherPenalty(model, 0.1), FisherTracker(model)
    for _ in range(2):
        FisherParts(penalty, tracker, None).follow_wrapper(wrapper)
        assert penalty.model is wrapper and tracker.model is wrapper
    with pytest.raises(InputError, match=r"FisherPenalty was made for another network.*the whole Sequential"):
        FisherParts(FisherPenalty(model[0], 0.1), None, None).follow_wrapper(wrapper)  # type: ignore[index]

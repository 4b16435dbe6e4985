from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from windvane.curvature import FisherPenalty, FisherTracker
from windvane.curvature.integrations import follow_wrapper, given_parts
from windvane.errors import InputError


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def test_one_process_changes_nothing() -> None:
    model = network()
    penalty = FisherPenalty(model[0], 0.1)  # type: ignore[index]
    follow_wrapper(penalty, model)
    assert given_parts(None, None) == {}
    assert penalty.model is model[0]  # type: ignore[index]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_several_processes(one_process: None) -> None:
    model = network()
    wrapper = DistributedDataParallel(model)
    for part in (FisherPenalty(model, 0.1), FisherTracker(model)):
        follow_wrapper(part, wrapper)
        follow_wrapper(part, wrapper)
        assert part.model is wrapper
    with pytest.raises(InputError, match=r"FisherPenalty was made for another network.*the whole Sequential"):
        follow_wrapper(FisherPenalty(model[0], 0.1), wrapper)  # type: ignore[index]

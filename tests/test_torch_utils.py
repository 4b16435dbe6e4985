from __future__ import annotations

import torch
from torch import nn

from windvane.torch_utils import find_ddp, to_device, unwrap_model


def test_wrappers_of_one_process() -> None:
    model = nn.Linear(2, 2)
    wrapped = torch.compile(nn.DataParallel(model), backend="eager")
    assert unwrap_model(wrapped) is model
    assert unwrap_model(model) is model
    assert find_ddp(wrapped) is None


def test_batches_move_to_a_device() -> None:
    image, label = torch.zeros(2, 3), ["a", "b"]
    assert to_device(image, "meta").device.type == "meta"
    moved = to_device({"pixel_values": image, "labels": label}, "meta")
    assert moved["pixel_values"].device.type == "meta"
    assert moved["labels"] is label

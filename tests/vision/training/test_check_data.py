from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import digits, image_set, noise, parts, tiny_recipe

from windvane.errors import InputError
from windvane.vision.device import DeviceContext
from windvane.vision.networks.create import create_model
from windvane.vision.training.run import check_images, prepare

CPU = DeviceContext(torch.device("cpu"), bfloat16=False)


def test_network_and_images_are_those_of_the_recipe() -> None:
    recipe, data = tiny_recipe(image_size=16), digits(30, 10)
    prepared = prepare(recipe, data, CPU)
    wanted = create_model(recipe, 10).state_dict()
    found = prepared.network.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    images, labels = next(iter(prepared.train.stream([(0, torch.arange(3))])))
    assert images.shape == (3, 3, 16, 16)
    assert data.train.labels is not None and labels.tolist() == data.train.labels[:3].tolist()
    assert prepared.valid is not None and prepared.valid.n == 10
    assert prepare(recipe, digits(30, 0), CPU).valid is None


def test_labels_are_checked() -> None:
    data = digits(5, 0)
    assert check_images(data) is data.train.labels
    with pytest.raises(InputError, match="no labelled images"):
        check_images(parts(noise(0)))
    with pytest.raises(InputError, match="no labelled images"):
        check_images(parts(image_set(np.zeros((3, 8, 8, 3), np.uint8), None, 3)))

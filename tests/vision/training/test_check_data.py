from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import digits, image_set, noise, parts, tiny_recipe

from windvane.errors import InputError
from windvane.vision.device import DeviceContext
from windvane.vision.networks.create import create_model
from windvane.vision.training.run import create_network, make_loaders, training_labels

CPU = DeviceContext(torch.device("cpu"), bfloat16=False)


def test_network_and_images_are_those_of_the_recipe() -> None:
    recipe, data = tiny_recipe(image_size=16), digits(30, 10)
    wanted = create_model(recipe, 10).state_dict()
    found = create_network(recipe, 10, CPU).state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    train_loader, valid_loader = make_loaders(recipe, data, CPU)
    images, labels = next(train_loader.eval_batches(3))
    assert images.shape == (3, 3, 16, 16)
    assert data.train.labels is not None and labels.tolist() == data.train.labels[:3].tolist()
    assert valid_loader is not None and valid_loader.n == 10
    assert make_loaders(recipe, digits(30, 0), CPU)[1] is None


def test_labels_are_checked() -> None:
    data = digits(5, 0)
    assert training_labels(data) is data.train.labels
    with pytest.raises(InputError, match="no labelled images"):
        training_labels(parts(noise(0)))
    with pytest.raises(InputError, match="no labelled images"):
        training_labels(parts(image_set(np.zeros((3, 8, 8, 3), np.uint8), None, 3)))

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import digits, image_set, noise, parts, tiny_recipe

from windvane.errors import InputError
from windvane.vision.networks.create import create_model
from windvane.vision.training.device import DeviceContext
from windvane.vision.training.optimizer import classification_loss
from windvane.vision.training.run import TrainingRun, create_network, make_loaders, training_labels
from windvane.vision.training.train import run_training

CPU = DeviceContext(torch.device("cpu"), bfloat16=False)


def make(**fields: object) -> TrainingRun:
    return TrainingRun(tiny_recipe(**fields), digits(130, 40), CPU)


def test_epochs_are_counted_in_whole_batches() -> None:
    for epochs, steps in ((1, 2), (0.1, 1), (2.5, 5)):
        run = make(epochs=epochs)
        while not run.schedule.finished:
            run.schedule.advance()
        assert run.schedule.step == steps


def test_the_same_step_has_the_same_loss() -> None:
    with torch.random.fork_rng():
        run = make(augreg="medium2", dropout=0.1, drop_path=0.1)
        images, labels = next(run.train_loader.train_batches(run.sampler, 0))
        losses = []
        for step in (3, 3, 4):
            pixels, targets = run.augment(images, labels, step)
            losses.append(classification_loss(run.forward(run.network, pixels), targets, run.recipe).item())
    assert losses[0] == losses[1] != losses[2]


def test_the_moving_average_is_what_is_evaluated() -> None:
    run = make(ema_decay=0.5)
    assert run.ema is not None
    with torch.no_grad():
        for parameter in run.network.parameters():
            parameter.fill_(float("nan"))
    run.evaluate()
    assert run.history[0].valid_loss == run.history[0].valid_loss
    assert all(bool(p.isfinite().all()) for p in run.result().model.network.parameters())


def test_a_run_without_a_folder_trains_in_parts() -> None:
    """As the search drives it: epoch by epoch, until a deadline, without files and messages."""
    whole, parts = make(epochs=4), make(epochs=4)
    run_training(whole)
    for epoch in (1, 2.5, 4):
        run_training(parts, until_epoch=epoch)
        assert parts.epoch >= epoch
    run_training(parts, deadline=0.0)
    assert parts.schedule.finished
    assert [one.valid_loss for one in parts.history] == [one.valid_loss for one in whole.history]
    late = make(epochs=4)
    run_training(late, deadline=0.0)
    assert late.schedule.step == 0


def test_a_state_goes_from_run_to_run() -> None:
    first, second = make(epochs=4, ema_decay=0.9), make(epochs=4, ema_decay=0.9)
    run_training(first, until_epoch=2)
    second.load_state_dict(first.state_dict())
    for run in (first, second):
        run_training(run)
    wanted, found = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


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

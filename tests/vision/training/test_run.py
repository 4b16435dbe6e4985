from __future__ import annotations

import torch
from pictures import digits, tiny_recipe

from windvane.vision.device import DeviceContext
from windvane.vision.training.metrics import ProgressLogger
from windvane.vision.training.optimizer import classification_loss
from windvane.vision.training.run import TrainingRun

CPU = DeviceContext(torch.device("cpu"), bfloat16=False)


def make(**fields: object) -> TrainingRun:
    return TrainingRun(tiny_recipe(**fields), digits(130, 40), CPU, ProgressLogger(quiet=True), began=0.0)


def test_epochs_are_counted_in_whole_batches() -> None:
    for epochs, steps in ((1, 2), (0.1, 1), (2.5, 5)):
        run = make(epochs=epochs)
        while not run.plan.finished:
            run.plan.advance()
        assert run.plan.step == steps


def test_the_same_step_has_the_same_loss() -> None:
    with torch.random.fork_rng():
        run = make(augreg="medium2", dropout=0.1, drop_path=0.1)
        (images, labels), *_ = run.batches.stream([(0, run.order.rows(0))])
        losses = []
        for step in (3, 3, 4):
            pixels, targets = run.vary(images, labels, step)
            losses.append(classification_loss(run.forward(run.network, pixels), targets, run.recipe).item())
    assert losses[0] == losses[1] != losses[2]


def test_the_moving_average_is_what_is_judged() -> None:
    run = make(ema_decay=0.5)
    assert run.average is not None
    with torch.no_grad():
        for parameter in run.network.parameters():
            parameter.fill_(float("nan"))
    run.judge()
    assert run.history[0].valid_loss == run.history[0].valid_loss
    assert all(bool(p.isfinite().all()) for p in run.result().model.network.parameters())

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from windvane.curvature import ExplosionAlarm, ExplosionWarning, FisherPenalty, FisherTracker
from windvane.curvature.integrations import FisherParts
from windvane.curvature.integrations.training_hooks import FisherHooks
from windvane.errors import InputError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, n: int, extra: Any = None) -> None:
    x, y = torch.randn(16, 6, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 3
    for step in range(n):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        if extra is not None:
            extra(step, lambda: model(x))
        optimizer.step()
        model.eval()(x)  # validation must not be what is repeated
        model.train()


def test_the_same_as_by_hand() -> None:
    hooked, plain = network(), network()
    first, second = (torch.optim.SGD(m.parameters(), 0.1) for m in (hooked, plain))
    trackers = [FisherTracker(m, every=2) for m in (hooked, plain)]
    alarm = ExplosionAlarm(window=1, patience=1, warn=1.0001, strong=1e9)
    hooks = FisherHooks(hooked, first, penalty=FisherPenalty(hooked, 1.0), tracker=trackers[0], alarm=alarm)
    with pytest.warns(ExplosionWarning, match="times its value"):
        steps(hooked, first, 7)
    penalty = FisherPenalty(plain, 1.0)

    def by_hand(step: int, forward: Any) -> None:
        trackers[1].update(None, step, forward=forward)
        penalty(forward)

    steps(plain, second, 7, by_hand)
    assert all(map(torch.equal, hooked.state_dict().values(), plain.state_dict().values()))
    assert [r.trace for r in trackers[0].records_] == [r.trace for r in trackers[1].records_]
    assert len(trackers[0].records_) == 4
    assert len(alarm.alarms_) == 1
    hooks.remove()
    steps(hooked, first, 3)
    assert hooks.step_ == 7


def test_a_state_goes_on_exactly() -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer, FisherHooks]:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        parts = {"penalty": FisherPenalty(model, 1.0), "tracker": FisherTracker(model, every=2)}
        return model, optimizer, FisherHooks(model, optimizer, **parts)  # type: ignore[arg-type]

    model, optimizer, hooks = made()
    steps(model, optimizer, 13)
    first, first_optimizer, first_hooks = made()
    steps(first, first_optimizer, 6)
    second, second_optimizer, second_hooks = made()
    second.load_state_dict(first.state_dict())
    second_hooks.load_state_dict(first_hooks.state_dict())
    steps(second, second_optimizer, 7)
    assert second_hooks.step_ == hooks.step_ == 13
    assert all(map(torch.equal, second.state_dict().values(), model.state_dict().values()))
    assert second_hooks.tracker is not None and hooks.tracker is not None
    assert [r.trace for r in second_hooks.tracker.records_] == [r.trace for r in hooks.tracker.records_]


def test_timm_model_optimiser_and_scaler() -> None:
    """What timm's training script calls at each step."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    from timm.optim import create_optimizer_v2
    from timm.utils import NativeScaler

    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=16, depth=1, embed_dim=24, num_classes=3)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3)
    tracker = FisherTracker(model, every=1)
    FisherHooks(model, optimizer, penalty=FisherPenalty(model, 0.1), tracker=tracker)
    scaler = NativeScaler(device="cpu")
    types: list[torch.dtype] = []
    model.head.register_forward_hook(lambda _, __, logits: types.append(logits.dtype))
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4) % 3)
        scaler(loss, optimizer, clip_grad=1.0, parameters=model.parameters())
    assert [record.step for record in tracker.records_] == [0, 1]
    assert types == [torch.bfloat16] * 6  # step 0: the loop, the tracker, two of the penalty; step 1: the first two


def test_a_fused_optimiser_that_unscales_by_itself() -> None:
    found = []
    for fused in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=fused)
        FisherHooks(model, optimizer, penalty=FisherPenalty(model, 1.0))
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(functional.cross_entropy(model(x), torch.arange(16) % 3)).backward()
            scaler.step(optimizer)
            scaler.update()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*found)


def test_true_labels_are_refused() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(InputError, match="labels='true'"):
        FisherHooks(model, optimizer, penalty=FisherPenalty(model, 0.1, labels="true"))


def test_an_alarm_needs_a_tracker() -> None:
    with pytest.raises(InputError, match="alarm has no tracker"):
        FisherParts(None, None, ExplosionAlarm())
    model = network()
    with pytest.raises(InputError, match="alarm has no tracker"):
        FisherHooks(model, torch.optim.SGD(model.parameters(), 0.1), alarm=ExplosionAlarm())


def test_a_network_that_is_trained_in_evaluation_mode() -> None:
    model = network().eval()
    optimizer, tracker = torch.optim.SGD(model.parameters(), 0.1), FisherTracker(model)
    FisherHooks(model, optimizer, tracker=tracker)
    x = torch.randn(8, 6)
    functional.cross_entropy(model(x), torch.arange(8) % 3).backward()
    with torch.no_grad():
        model(torch.randn(5, 6))
    optimizer.step()
    assert [record.n_examples for record in tracker.records_] == [8]


def test_a_step_without_a_forward_pass() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    FisherHooks(model, optimizer, tracker=FisherTracker(model))
    with pytest.raises(InputError, match="before a forward pass"):
        optimizer.step()

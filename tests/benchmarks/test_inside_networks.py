"""The training behind benchmarks/inspect/inside_networks.py: resumable and repeatable."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.inspect import inside_networks, inside_training
from benchmarks.inspect.inside_training import (
    SIZES,
    Labelled,
    Spec,
    draw_batch,
    make_resnet,
    make_vit,
    make_without_skip,
    train,
)


def digits(n: int = 40) -> Labelled:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=draw)
    return Labelled(images, torch.arange(n) % 10)


def spec(steps: int = 5, until: float | None = None) -> Spec:
    return Spec("vit", lambda: make_vit(SIZES["toy"]), digits(), 8, steps, until)


def test_interrupted_training_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(spec(), digits(), tmp_path / "whole")
    monkeypatch.setattr(inside_training, "CHECKPOINT_EVERY", 2)
    real = draw_batch

    def interrupted(one: Spec, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step == 3:
            raise KeyboardInterrupt
        return real(one, step)

    monkeypatch.setattr(inside_training, "draw_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(spec(), digits(), tmp_path / "parts")
    monkeypatch.setattr(inside_training, "draw_batch", real)
    resumed = train(spec(), digits(), tmp_path / "parts")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["vit.pt"]


def test_stops_at_an_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(inside_training, "CHECK_EVERY", 2)
    monkeypatch.setattr(inside_training, "draw_batch", lambda one, step: steps.append(step) or draw_batch(one, step))
    train(spec(until=0.0), digits(), tmp_path)
    assert steps == [0, 1]


def test_batches_depend_on_the_step_alone() -> None:
    first, again, other = (draw_batch(spec(), step)[0] for step in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (8, 3, 32, 32)


def test_networks() -> None:
    x = torch.zeros(2, 3, 32, 32)
    size = SIZES["toy"]
    for model in (make_vit(size), make_vit(size, pool="avg"), make_resnet(size), make_without_skip(size)):
        assert model(x).shape == (2, 10)


def test_table() -> None:
    finding = {"finding": "||a||", "paper": "high", "ours": "0.5", "agrees": False, "picture": "a.png"}
    rows = [{"size": "toy", "kind": "finding", **finding}, {"size": "cpu", "kind": "finding", **finding}]
    rows.append({"size": "toy", "kind": "network", "network": "vit", "accuracy": 0.5})
    assert inside_networks.table(rows, "toy").splitlines()[2:] == [
        "| [‖a‖](inside_networks/a.png) | high | 0.5 | no |",
        "",
        "Test accuracy, each on its data set: vit 0.500.",
    ]

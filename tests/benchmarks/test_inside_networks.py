"""The training behind benchmarks/inspect/inside_networks.py: resumable and repeatable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.inspect import inside_networks, inside_training
from benchmarks.inspect.inside_findings import Finding, Trained
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


def spec(steps: int = 5) -> Spec:
    return Spec("vit", lambda: make_vit(SIZES["toy"]), digits(), 8, steps)


def test_interrupted_training_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(spec(), tmp_path / "whole")
    monkeypatch.setattr(inside_training, "CHECKPOINT_EVERY", 2)
    real = draw_batch

    def interrupted(one: Spec, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step == 3:
            raise KeyboardInterrupt
        return real(one, step)

    monkeypatch.setattr(inside_training, "draw_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(spec(), tmp_path / "parts")
    monkeypatch.setattr(inside_training, "draw_batch", real)
    resumed = train(spec(), tmp_path / "parts")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["vit.pt"]


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
    finding = {
        "kind": "finding",
        "name": "ends",
        "finding": "||a||",
        "paper": "high",
        "ours": "0.5",
        "picture": "a.png",
    }
    rows = [{"size": size, "seed": 0, "effect": 0.04, **finding} for size in ("toy", "cpu")]
    rows.append({"size": "toy", "seed": 0, "kind": "network", "name": "vit", "accuracy": 0.5})
    head, last = "| [‖a‖](inside_networks/a.png) | high | 0.5", "6 steps of 128 images, 3 for fine-tuning; "
    assert inside_networks.table(rows, "toy").splitlines()[2:] == [
        f"{head} | +0.04 similarity | no effect visible at this size |",
        "",
        f"{last}1 seed. Test accuracy, each on its data set: vit 0.500.",
    ]
    rows += [{**row, "seed": 1, "effect": 0.05, "accuracy": 0.25} for row in rows if row["size"] == "toy"]
    assert inside_networks.table(rows, "toy").splitlines()[2:] == [
        f"{head} (seed 0) | +0.04 (-0.02 to +0.11) similarity | no effect visible at this size |",
        "",
        f"{last}2 seeds. Test accuracy, each on its data set: vit 0.375 (0.250 to 0.500).",
    ]


def test_seeds_draw_other_batches() -> None:
    first, other = (draw_batch(replace(spec(), seed=seed), 1)[0] for seed in (0, 1))
    assert not torch.equal(first, other)


def test_analyses_of_trained_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only analyses whose networks are trained, and accurate enough, have results."""
    monkeypatch.setattr(inside_networks, "CACHE", tmp_path)
    monkeypatch.setattr(inside_networks, "PARTS", {lambda has: [FOUND]: ("vit", "resnet"), _refused: ("vit_average",)})
    monkeypatch.setattr(inside_networks.training, "read_images", lambda *_: digits())
    makers = inside_networks.Makers("toy", 0, tmp_path, tmp_path)
    for name in ("vit", "resnet"):
        makers.trained(name)
    inside_networks.run(makers, "toy", finished=True)
    rows = inside_networks.table_of("toy").rows()
    assert [(row["kind"], row["name"]) for row in rows] == [
        ("finding", "ends"),
        ("network", "resnet"),
        ("network", "vit"),
    ]
    assert all(row["seconds"] >= 0 for row in rows if row["kind"] == "network")
    monkeypatch.setitem(SIZES, "toy", replace(SIZES["toy"], least_accuracy=1.1))
    again = inside_networks.Makers("toy", 0, tmp_path, tmp_path)
    inside_networks.table_of("toy").path.unlink()
    inside_networks.run(again, "toy", finished=True)
    assert {row["kind"] for row in inside_networks.table_of("toy").rows()} == {"network"}


FOUND = Finding("ends", "what", "high", "0.5", 0.1)


def _refused(has: Trained) -> list[Finding]:
    raise AssertionError("its network is not trained")

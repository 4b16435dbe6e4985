"""Trace and penalty in training: placed right, started right, kept exactly."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pictures import digits, tiny_recipe

import windvane.vision.training.run
from windvane.curvature import FisherRecord
from windvane.errors import InputError, ModelFileError
from windvane.vision.networks.create import create_model
from windvane.vision.training.fisher import FisherMonitor, check_explosion, is_measurement_step, load_fisher_trace
from windvane.vision.training.train import train
from windvane.vision.training.training_log import Evaluation

BOTH = {"fisher_penalty": 0.1, "track_fisher": True}


class Stopped(Exception):
    """What a test stops a run with."""


@pytest.mark.parametrize(("optimizer", "loss"), [("adamw", "cross_entropy"), ("sgd", "binary_cross_entropy")])
def test_a_stopped_run_continues_bit_by_bit(
    optimizer: str, loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(steps=75, optimizer=optimizer, loss=loss, dropout=0.1, drop_path=0.1, batch_size=16, **BOTH)
    whole = train(recipe, digits(200, 50), quiet=True)
    write = windvane.vision.training.run.save_checkpoint

    def write_and_stop(path: Path, state: dict[str, dict[str, Any]]) -> None:
        write(path, state)
        if state["schedule"]["step"] > 40:
            assert state["fisher"]["penalty"]["step"] % 10 != 0  # the last gradient is needed again
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(windvane.vision.training.run, "save_checkpoint", write_and_stop)
        with pytest.raises(Stopped):
            train(recipe, digits(200, 50), out=tmp_path / "run", quiet=True)
    again = train(recipe, digits(200, 50), out=tmp_path / "run", resume=True, quiet=True)
    wanted, found = whole.model.network.state_dict(), again.model.network.state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert [record.trace for record in again.fisher] == [record.trace for record in whole.fisher]
    assert [record.step for record in again.fisher] == [step for step in range(75) if is_measurement_step(step)]
    timeless = [replace(one, seconds=0.0, images_per_second=0.0) for one in whole.history]
    assert [replace(one, seconds=0.0, images_per_second=0.0) for one in again.history] == timeless
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert table["fisher_trace"].tolist() == [one.fisher_trace for one in whole.history]
    assert set(table["fisher_trace"]) <= {record.trace for record in whole.fisher}


def test_tracking_changes_nothing_and_the_penalty_does() -> None:
    plain, tracked, punished = (
        train(tiny_recipe(dropout=0.1, drop_path=0.1, **fields), digits(128, 0), quiet=True)
        for fields in ({}, {"track_fisher": True}, {"fisher_penalty": 0.1})
    )
    same, other, third = (one.model.network.state_dict() for one in (plain, tracked, punished))
    assert all(torch.equal(same[name], other[name]) for name in same)
    assert not all(torch.equal(same[name], third[name]) for name in same)
    assert (len(plain.fisher), len(punished.fisher)) == (0, 0)
    assert [one.step for one in tracked.fisher] == [
        step for step in range(tracked.history[-1].step) if is_measurement_step(step)
    ]


@pytest.mark.parametrize(("optimizer", "first"), [("adamw", 0.3), ("sgd", 0.0)])
def test_the_penalty_starts_by_the_optimizer(optimizer: str, first: float) -> None:
    recipe = tiny_recipe(optimizer=optimizer, warmup_fraction=0.3, fisher_penalty=0.1)
    torch.manual_seed(0)
    network = create_model(recipe, 3)
    fisher = FisherMonitor(network, recipe, 0)
    pixels = torch.randn(4, 3, 8, 8)
    torch.nn.init.normal_(network.get_classifier().weight)
    for progress in (0.0, 0.2, 0.3):
        network.zero_grad()
        network(pixels).sum().backward()
        before = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
        fisher.add_penalty(progress, lambda: network(pixels))
        after = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        changed = not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert changed == (progress >= first)


def test_measurements_at_an_interval() -> None:
    result = train(tiny_recipe(track_fisher=True, fisher_interval=3), digits(128, 0), quiet=True)
    steps = [one.step for one in result.fisher]
    assert steps == list(range(0, result.history[-1].step, 3)) and len(steps) > 1


def test_measurements_are_dense_at_first_and_then_every_50_steps() -> None:
    steps = [step for step in range(3000) if is_measurement_step(step)]
    assert steps[:8] == [0, 1, 2, 3, 4, 5, 6, 8]
    gaps = [b - a for a, b in pairwise(steps)]
    assert all(gap <= min(50, 1 + step // 4) for step, gap in zip(steps, gaps, strict=False))
    assert [step for step in steps if step >= 250] == list(range(250, 3000, 50))
    assert len([step for step in steps if step < 250]) < 30  # what they cost


def test_a_compiled_network_is_measured_by_a_pass_of_its_own() -> None:
    recipe = tiny_recipe(track_fisher=True, compile=True)
    network = create_model(recipe, 3)
    fisher, calls = FisherMonitor(network, recipe, 0), []
    pixels = torch.randn(4, 3, 8, 8)

    def forward() -> torch.Tensor:
        calls.append(1)
        return network(pixels)

    fisher.measure(0, network(pixels).detach(), forward)
    assert len(calls) == len(fisher.records) == 1


def test_an_explosion_is_reported_in_the_end() -> None:
    """The first epoch and the warmup, each 100 steps of 1,000 here, are passed over."""
    last = Evaluation(1000, 10.0, 1.0, 60.0, 0.0, 100.0, 0.5, 0.8)
    steps = range(0, 1000, 10)
    burst = [FisherRecord(s, 9.0 if 300 < s < 500 else 1.0, math.nan, "nothing", {}, 64, 1) for s in steps]
    good = [replace(one, trace=1.0) for one in burst]
    message = check_explosion(burst, last, 0.1, good)
    assert message is not None
    assert "9.0 times that of the reference run" in message
    assert "1. raise the learning rate" in message
    assert check_explosion(burst, last, 0.1, ()) is None  # a trace rises in good runs too
    early = [replace(one, trace=9.0 if one.step < 100 else 1.0) for one in burst]
    assert check_explosion(early, replace(last, epoch=1000.0), 0.1, good) is None
    assert check_explosion(early, last, 0.0, good) is None
    assert check_explosion(early, replace(last, epoch=1000.0), 0.0, good) is not None
    assert check_explosion((), last, 0.1, good) is None
    assert check_explosion((), replace(last, step=0, epoch=0.0, progress=0.0), 0.1, good) is None  # a probe alone


def test_a_run_is_compared_to_an_earlier_one(tmp_path: Path) -> None:
    same = {"steps": 75, "batch_size": 16}
    good = train(tiny_recipe(**same, track_fisher=True), digits(200, 50), out=tmp_path / "good", quiet=True)
    other = train(
        tiny_recipe(**same, learning_rate=1e-5, fisher_reference=str(tmp_path / "good")), digits(200, 50), quiet=True
    )
    known = [(one.step, one.trace) for one in good.fisher]
    assert [(one.step, one.trace) for one in other.reference] == known
    assert [(one.step, one.trace) for one in load_fisher_trace(tmp_path / "good")] == known
    assert good.reference == ()
    last, low = other.history[-1], [replace(one, trace=one.trace / 100) for one in other.fisher]
    assert check_explosion(other.fisher, last, 0.0, other.fisher) is None
    message = check_explosion(other.fisher, last, 0.0, low)
    assert message is not None
    found = re.search(r"is ([\d.]+) times that of the reference run where both are equally certain", message)
    assert found is not None
    assert float(found[1]) == pytest.approx(100, rel=0.5)  # not exactly: the place of equal certainty is a near one


def test_what_cannot_be_compared_to(tmp_path: Path) -> None:
    train(tiny_recipe(), digits(128, 0), out=tmp_path / "plain", quiet=True)
    (tmp_path / "empty").mkdir()
    said = {"plain": "has no Fisher trace", "missing": "is no folder", "empty": "is a folder without checkpoint"}
    for name, words in said.items():
        with pytest.raises(InputError, match=f"{name}' {words}"):
            train(tiny_recipe(fisher_reference=str(tmp_path / name)), digits(128, 0), quiet=True)
    (tmp_path / "plain" / "checkpoint.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelFileError):
        load_fisher_trace(tmp_path / "plain")


def test_a_trace_of_another_network_is_no_reference(tmp_path: Path) -> None:
    train(tiny_recipe(track_fisher=True), digits(128, 0), out=tmp_path / "good", quiet=True)
    other = tiny_recipe(loss="binary_cross_entropy", fisher_reference=str(tmp_path / "good"))
    with pytest.raises(InputError, match="of another network: loss 'cross_entropy', here 'binary_cross_entropy'"):
        train(other, digits(128, 0), quiet=True)


def test_a_penalty_of_zero_is_none() -> None:
    plain, zero = (train(tiny_recipe(fisher_penalty=alpha), digits(128, 0), quiet=True) for alpha in (None, 0.0))
    for one, other in zip(plain.model.network.parameters(), zero.model.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_run_warns_once_that_the_trace_explodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_recipe(track_fisher=True), digits(128, 0), out=tmp_path / "good", quiet=True)
    rising = tuple(FisherRecord(s, 1e9 * (1.0 + s), math.nan, "nothing", {}, 16, 1) for s in range(40))
    monkeypatch.setattr(FisherMonitor, "records", rising)
    train(tiny_recipe(steps=75, batch_size=16, fisher_reference=str(tmp_path / "good")), digits(200, 50))
    said = capsys.readouterr().err
    assert said.count("times that of the reference run") == 1
    assert said.index("times that of") < said.rindex("epoch")

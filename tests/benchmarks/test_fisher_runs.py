"""The training runs of the Fisher replication, and the groups that choose as their results come."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from benchmarks.fisher import replication
from benchmarks.fisher.nets import simple_cnn
from benchmarks.fisher.replication import EXACT_GROUPS, RESULTS, STAGES, Choice, planned
from benchmarks.fisher.runs import SHIFT, InputPenalty, Run, moved
from windvane.curvature import input_gradient_penalty


def test_moved_images_are_flipped_and_shifted() -> None:
    x = torch.rand(40, 3, 32, 32) + 1
    found = moved(x, torch.Generator().manual_seed(0))
    assert found.shape == x.shape
    for before, after in zip(x, found, strict=True):
        padded = [functional.pad(one, (SHIFT,) * 4) for one in (before, before.flip(2))]
        places = [(top, left) for top in range(2 * SHIFT + 1) for left in range(2 * SHIFT + 1)]
        matches = [
            torch.equal(one[:, top : top + 32, left : left + 32], after) for one in padded for top, left in places
        ]
        assert sum(matches) == 1


def test_input_penalty_adds_the_last_gradient_between() -> None:
    torch.manual_seed(0)
    model, run = simple_cnn(), Run("input", "GP_x", alpha=100.0, every=2, precision="float32")
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(100 * input_gradient_penalty(model, x, y), parameters, allow_unused=True)
    penalty = InputPenalty(model, run)
    for images in (x, torch.zeros_like(x)):  # the second call computes nothing
        for p in parameters:
            p.grad = torch.ones_like(p)
        penalty(images, y)
        for p, extra in zip(parameters, expected, strict=True):
            assert p.grad is not None
            torch.testing.assert_close(p.grad, 1 + (torch.zeros_like(p) if extra is None else extra))


@pytest.mark.parametrize("group", EXACT_GROUPS)
def test_groups_choose_as_results_come(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last rate and the first alpha are the best, so that one more alpha is tried; then two seeds follow."""
    monkeypatch.setenv("WINDVANE_RESULTS", str(tmp_path))
    base, chosen = Run("", images=1000), Choice(0.01, {"FP": 0.01})
    guessed = len(list(planned(group, base, chosen, 3, guess=True)))
    done: list[Run] = []
    while missing := [run for run in planned(group, base, chosen, 3) if not replication.is_done(run)]:
        run = missing[0]
        done.append(run)
        RESULTS.put({"run": asdict(run), "valid": run.rate - run.alpha / 1e6})
    assert len(set(done)) == len(done)
    assert all(run.precision == "float32" and run.group == group for run in done)
    if group == "hessian":
        assert len(done) == guessed == 6
        return
    assert len(done) == guessed + (2 if group == "input" else 1)  # one more alpha of each penalty
    top = done[-1]
    assert top.alpha == pytest.approx(STAGES[group].alphas[0] / 3.162, rel=0.05)
    assert [replace(top, seed=seed) in done for seed in range(4)] == [True, True, True, False]
    if rates := STAGES[group].rates:
        assert top.rate == (0.0316 if max(rates) == 1 else 0.1)

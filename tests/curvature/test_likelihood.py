from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_networks import flat
from torch.distributions import Bernoulli, Categorical, Normal

from windvane.curvature.likelihood import (
    LabelSampler,
    Output,
    flatten_logits,
    mean_entropy,
    negative_log_likelihood,
    score_covariance_factor,
)
from windvane.errors import InputError


@pytest.mark.parametrize(
    ("logits", "output", "rows"),
    [
        (torch.zeros(4, 3), "softmax", (4, 3)),
        (torch.zeros(4, 5, 3), "softmax", (20, 3)),
        (torch.zeros(4), "sigmoid", (4, 1)),
        (torch.zeros(4, 1), "gaussian", (4, 1)),
        (torch.zeros(4, 3, dtype=torch.bfloat16), "softmax", (4, 3)),
    ],
)
def test_rows(logits: torch.Tensor, output: Output, rows: tuple[int, int]) -> None:
    found = flatten_logits(logits.requires_grad_(), output)
    assert found.shape == rows
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("logits", "output", "words"),
    [
        ([1.0], "softmax", "type list"),
        (torch.zeros(4, 3, 2, 2, requires_grad=True), "softmax", "movedim"),
        (torch.zeros(4, requires_grad=True), "softmax", "(n, k)"),
        (torch.zeros(4, 1, requires_grad=True), "softmax", "output='sigmoid'"),
        (torch.zeros(0, 3, requires_grad=True), "softmax", "at least one example"),
        (torch.zeros(4, 3, dtype=torch.int64), "softmax", "int64"),
        (torch.zeros(4, 3), "softmax", "no graph"),
    ],
)
def test_bad_logits(logits: Any, output: Output, words: str) -> None:
    with pytest.raises(InputError) as caught:
        flatten_logits(logits, output)
    assert words in str(caught.value)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_entropy_of_the_predictions(output: Output) -> None:
    rows = 3 * torch.randn(7, 4, dtype=torch.float64)
    each = Categorical(logits=rows) if output == "softmax" else Bernoulli(logits=rows)
    assert mean_entropy(rows, output) == pytest.approx(each.entropy().sum().item() / 7)
    assert math.isnan(mean_entropy(rows, "gaussian"))


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "gaussian"])
def test_loss_is_the_likelihood(output: Output) -> None:
    rows = torch.randn(7, 3, dtype=torch.float64)
    labels = LabelSampler(output, "sampled", 0)(rows)
    distribution = {
        "softmax": Categorical(logits=rows),
        "sigmoid": Bernoulli(logits=rows),
        "gaussian": Normal(rows, torch.ones_like(rows)),
    }[output]
    expected = -distribution.log_prob(labels).sum()
    if output == "gaussian":
        expected -= rows.numel() * torch.tensor(2 * torch.pi, dtype=torch.float64).log() / 2
    torch.testing.assert_close(negative_log_likelihood(rows, labels, output), expected)


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "gaussian"])
def test_scores_of_samples_have_mean_zero_and_the_covariance_of_the_factors(output: Output) -> None:
    """The score of a sampled label has mean zero and covariance sum v v^T; both within five standard errors."""
    row = torch.tensor([[0.5, -1.0, 1.5]], dtype=torch.float64)
    many = row.expand(40_000, 3).clone().requires_grad_()
    negative_log_likelihood(many, LabelSampler(output, "sampled", 1)(many), output).backward()
    assert many.grad is not None
    scores = many.grad  # (draws, 3)
    assert (scores.mean(dim=0).abs() < 5 * scores.std(dim=0) / 200).all()
    factors = score_covariance_factor(row, output)[0]  # (3, 3): vectors in rows
    products = scores.unsqueeze(2) * scores.unsqueeze(1)  # (draws, 3, 3)
    error = (products.mean(dim=0) - factors.T @ factors).abs()
    assert (error < 5 * products.std(dim=0) / 200 + 1e-12).all()


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_uniform_labels(output: Output) -> None:
    rows = torch.tensor([[9.0, -9.0, 0.0]]).expand(3000, 3)
    labels = LabelSampler(output, "uniform", 0)(rows)
    shares = labels.bincount() / 3000 if output == "softmax" else labels.mean(dim=0)
    expected = 1 / 3 if output == "softmax" else 1 / 2
    assert ((shares - expected).abs() < 0.05).all()


def test_stream_goes_on_from_its_state() -> None:
    rows = torch.randn(50, 4)
    first = LabelSampler("softmax", "sampled", 7)
    first(rows)
    second = LabelSampler("softmax", "sampled", 0)
    second.load_state_dict(first.state_dict())
    kept = second.state_dict()  # before anything is drawn
    assert torch.equal(first(rows), second(rows))
    third = LabelSampler("softmax", "sampled", 0)
    third.load_state_dict(kept)
    assert torch.equal(LabelSampler("softmax", "sampled", 0)(rows), LabelSampler("softmax", "sampled", 0)(rows))
    assert not torch.equal(third(rows), LabelSampler("softmax", "sampled", 7)(rows))


def test_labels_of_logits_that_are_not_finite() -> None:
    labels = LabelSampler("softmax", "sampled", 0)(torch.full((5, 3), torch.nan))
    assert labels.shape == (5,)
    assert ((labels >= 0) & (labels < 3)).all()


@pytest.mark.parametrize(
    ("output", "targets"),
    [("softmax", torch.zeros(2, 2).long()), ("softmax", torch.zeros(4, 3)), ("gaussian", torch.zeros(12))],
)
def test_true_labels_that_fit(output: Output, targets: torch.Tensor) -> None:
    rows = torch.zeros(4, 3, requires_grad=True)
    negative_log_likelihood(rows, LabelSampler(output, "true", 0)(rows, targets), output).backward()
    assert rows.grad is not None
    assert flat([rows.grad]).isfinite().all()


@pytest.mark.parametrize(
    ("labels", "output", "words"),
    [("sampeld", "softmax", "'sampled'?"), ("sampled", "softmx", "'softmax'?"), ("uniform", "gaussian", "no meaning")],
)
def test_bad_settings(labels: Any, output: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        LabelSampler(output, labels, 0)
    assert words in str(caught.value)


@pytest.mark.parametrize(("targets", "words"), [(None, "missing"), (torch.zeros(3).long(), "does not fit 4 examples")])
def test_bad_targets(targets: torch.Tensor | None, words: str) -> None:
    with pytest.raises(InputError) as caught:
        LabelSampler("softmax", "true", 0)(torch.zeros(4, 3), targets)
    assert words in str(caught.value)

"""The exact trace of the Fisher matrix of a small network, to hold the estimates against."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from windvane.curvature.outputs import Output, as_rows, score_factors
from windvane.curvature.passes import by_layer, gradient, squared_norms, trained, undisturbed


@dataclass(frozen=True)
class ExactTrace:
    """Tr(F) of a batch.

    Attributes
    ----------
    trace
        Per example, as in `FisherRecord`.
    per_layer
        Its part by name of the layer.
    """

    trace: float
    per_layer: dict[str, float]


def exact_trace(model: nn.Module, logits: Tensor, output: Output = "softmax") -> ExactTrace:
    """Compute Tr(F) without drawing labels.

    With J_i the derivative of the outputs of example i by the parameters and S_i the covariance of their score,
    Tr(F) = mean_i tr(S_i J_i J_i^T): one backward pass for each example and output, so for small ones only. In
    training mode J_i runs through the statistics of the batch too, which is what `FisherTracker` estimates there.

    Parameters
    ----------
    model
        The network.
    logits
        Its output for a batch, with its graph: shape (n, k) or (n, t, k).
    output
        What it means.

    Returns
    -------
    ExactTrace
        The trace and its layers; the graph stays usable.
    """
    named = trained(model)
    rows = as_rows(logits, output)
    factors = score_factors(rows, output)  # (n, k, k)
    squares: list[list[float]] = []
    with undisturbed(model):
        for i, vectors in enumerate(factors):
            for vector in vectors:
                found = gradient(torch.dot(rows[i], vector), list(named.values()), keep_graph=True)
                squares.append(squared_norms(found))
    sums = [math.fsum(values) / len(rows) for values in zip(*squares, strict=True)]
    return ExactTrace(math.fsum(sums), by_layer(dict(zip(named, sums, strict=True))))

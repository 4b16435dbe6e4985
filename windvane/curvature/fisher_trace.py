"""The trace of the Fisher matrix while a network trains, from one extra backward pass.

Tr(F) = E_x E_{y ~ p(y|x)} ||g(x, y)||^2, where g is the gradient of the log-likelihood by the parameters
(Jastrzebski et al., "Catastrophic Fisher Explosion", arXiv 2012.14193, section 3). Labels drawn from the model itself
have independent gradients of mean zero, so for a batch of n examples

    E_y || mean_i g_i ||^2 = Tr(F) / n

exactly: n times the squared norm of one mean gradient is an unbiased estimate. This also holds with batch statistics
(batch norm in training mode) and with any module or attention kernel, since no gradients per example are needed. It
does not hold for the labels of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor, nn

from windvane.curvature.autograd import (
    grad,
    mean_and_error,
    preserve_state,
    squared_norms,
    sum_by_layer,
    trainable_parameters,
)
from windvane.curvature.likelihood import (
    LabelSampler,
    Output,
    compute_rows,
    flatten_logits,
    mean_entropy,
    negative_log_likelihood,
    score_covariance_factor,
)
from windvane.errors import InputError, check_integer

N_RECENT = 10  # records whose spread estimates the error of a single draw


@dataclass(frozen=True, eq=False)
class StepRecord:
    """A record of a step of a training; missing values are nan, and equal where both records miss them."""

    step: int  # steps of the optimizer so far

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _equal_values(asdict(self), asdict(other))

    def __hash__(self) -> int:
        return hash(self.step)


def _equal_values(one: Any, other: Any) -> bool:
    """Whether two values, or two dictionaries of values, are equal; what is nan in both is, which `==` denies."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal_values(value, other[name]) for name, value in one.items())
    return bool(one == other) or (one != one and other != other)


def check_records(argument: str, records: object, kind: type, allowed: str) -> None:
    """Raise `InputError` unless an argument is a sequence of records of one kind; `allowed` describes them."""
    is_sequence = isinstance(records, Sequence) and not isinstance(records, str)
    types = {type(one) for one in records} if is_sequence else {type(records)}  # type: ignore[attr-defined]
    if not is_sequence or not all(issubclass(one, kind) for one in types):
        came = "has items" if is_sequence else "is"
        names = ", ".join(sorted(one.__name__ for one in types))
        raise InputError(f"{argument} {came} of type {names}. Allowed: {allowed}.")


@dataclass(frozen=True, eq=False)
class FisherRecord(StepRecord):
    """One measurement of Tr(F).

    The trace depends on the parametrization: compare it within a run, or between runs of one network.
    """

    trace: float  # mean over examples of the expected squared gradient norm, in nats^2 per unit of the parameters^2
    standard_error: float  # of the trace; nan where error_source is "nothing"
    # "draws": spread over the draws of this record. "records": differences of successive records among the last ten,
    # which include changes of the trace itself. "nothing": too few of both.
    error_source: Literal["draws", "records", "nothing"]
    per_layer: dict[str, float]  # share of each layer; they add up to the trace. Empty with per_layer=False
    n_examples: int  # in the batch
    draws: int  # label draws, each with one backward pass
    labels: Literal["sampled"] = "sampled"  # how labels were drawn
    output: Output = "softmax"  # what the outputs mean
    entropy: float = math.nan  # mean entropy of the predictions in nats: the progress of the run; nan for "gaussian"

    def scalars(self, prefix: str = "fisher/") -> dict[str, float]:
        """Return trace, standard error and layers under flat names, for a logger."""
        found = {f"{prefix}trace": self.trace}
        if self.error_source != "nothing":
            found[f"{prefix}standard_error"] = self.standard_error
        return found | {f"{prefix}layer/{name}": value for name, value in self.per_layer.items()}


class FisherTracker:
    """Measure Tr(F) every few steps while a network trains.

    Call ``tracker.update(logits, step)`` between the forward pass and ``loss.backward()``. Gradients, modes, buffers
    and the random state stay as they were.

    Parameters
    ----------
    model
        The network that is trained.
    every
        Steps from one measurement to the next.
    draws
        Label draws per measurement, each with one backward pass.
    per_layer
        Whether records contain the share of each layer.
    output
        What the outputs mean: "softmax", "sigmoid" (independent binary outputs) or "gaussian" (unit variance).
    random_state
        Seed of the label draws.

    Attributes
    ----------
    records_
        All measurements so far.

    Examples
    --------
    >>> import torch
    >>> from windvane.curvature import FisherTracker
    >>> model = torch.nn.Linear(4, 3)
    >>> tracker = FisherTracker(model, every=10)
    >>> record = tracker.update(model(torch.randn(8, 4)), step=0)
    >>> record.n_examples, list(record.per_layer)
    (8, ['weight', 'bias'])
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 50,
        draws: int = 1,
        *,
        per_layer: bool = True,
        output: Output = "softmax",
        random_state: int = 0,
    ) -> None:
        trainable_parameters(model)
        every, draws = check_integer("every", every), check_integer("draws", draws)
        self.model, self.every, self.draws, self.per_layer, self.output = model, every, draws, per_layer, output
        self._sampler = LabelSampler(output, "sampled", random_state)
        self.records_: list[FisherRecord] = []

    def update(
        self, logits: Tensor | None, step: int, forward: Callable[[], Tensor] | None = None
    ) -> FisherRecord | None:
        """Measure the trace if this step is due.

        Parameters
        ----------
        logits
            Output for this batch, with its graph: shape (n, k) or (n, t, k). Ignored if `forward` is given.
        step
            Steps of the optimizer so far. Only the first batch of a step is measured (gradient accumulation).
        forward
            Recomputes the logits of this batch: for compiled networks, whose graph can be used only once, and for
            calls after backward().

        Returns
        -------
        FisherRecord or None
            None if no measurement is due.
        """
        step = check_integer("step", step, 0)
        if step % self.every or (self.records_ and self.records_[-1].step == step):
            return None
        named = trainable_parameters(self.model)
        squares: list[list[float]] = []  # (draws, parameters), of the gradients of sums
        with preserve_state(self.model):
            for _ in range(self.draws):
                rows = compute_rows(logits, forward, self.output)
                loss = negative_log_likelihood(rows, self._sampler(rows), self.output)
                squares.append(squared_norms(grad(loss, list(named.values()), keep_graph=forward is None)))
        record = self._record(step, list(named), squares, rows)
        self.records_.append(record)
        return record

    def _record(self, step: int, names: list[str], squares: list[list[float]], rows: Tensor) -> FisherRecord:
        """Average the draws; the squared norm of a sum over n examples is n times the trace."""
        n = len(rows)
        parts = [fmean(values) / n for values in zip(*squares, strict=True)]  # of each parameter
        layers = sum_by_layer(dict(zip(names, parts, strict=True)))
        trace, error = mean_and_error([math.fsum(values) / n for values in squares])
        source: Literal["draws", "records", "nothing"] = "draws" if self.draws > 1 else "nothing"
        if self.draws == 1 and self.records_:
            recent = [record.trace for record in self.records_[1 - N_RECENT :]] + [trace]
            # Half the squared difference of neighbours: a slow change of the trace hardly counts.
            error = math.sqrt(fmean((b - a) ** 2 / 2 for a, b in pairwise(recent)))
            source = "records"
        return FisherRecord(
            step,
            trace,
            error,
            source,
            layers if self.per_layer else {},
            n,
            self.draws,
            output=self.output,
            entropy=mean_entropy(rows, self.output),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the records and the state of the label draws: plain values and one tensor."""
        return {"records": [asdict(record) for record in self.records_], **self._sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.records_ = [FisherRecord(**record) for record in state["records"]]
        self._sampler.load_state_dict(state)


@dataclass(frozen=True)
class ExactTrace:
    """Exact Tr(F) of a batch."""

    trace: float  # mean over examples, as in FisherRecord
    per_layer: dict[str, float]  # share of each layer; they add up to the trace


def exact_fisher_trace(model: nn.Module, logits: Tensor, output: Output = "softmax") -> ExactTrace:
    """Compute Tr(F) of a small network without drawing labels.

    With J_i the derivative of the outputs of example i by the parameters and S_i the covariance of their score,
    Tr(F) = mean_i tr(S_i J_i J_i^T). This takes one backward pass per example and output. In training mode J_i
    includes the batch statistics, which is what `FisherTracker` estimates there.

    Parameters
    ----------
    model
        The network.
    logits
        Its output for a batch, with its graph: shape (n, k) or (n, t, k). The graph stays usable.
    output
        What the outputs mean, as for `FisherTracker`.

    Returns
    -------
    ExactTrace
        The trace and its share per layer.

    Examples
    --------
    >>> import torch
    >>> from windvane.curvature import exact_fisher_trace
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> exact_fisher_trace(model, model(torch.tensor([[3.0, 4.0]])), output="gaussian").trace
    25.0
    """
    named = trainable_parameters(model)
    rows = flatten_logits(logits, output)
    factors = score_covariance_factor(rows, output)  # (n, k, k)
    squares: list[list[float]] = []
    with preserve_state(model):
        for i, vectors in enumerate(factors):
            for vector in vectors:
                gradient = grad(torch.dot(rows[i], vector), list(named.values()), keep_graph=True)
                squares.append(squared_norms(gradient))
    sums = [math.fsum(values) / len(rows) for values in zip(*squares, strict=True)]
    return ExactTrace(math.fsum(sums), sum_by_layer(dict(zip(named, sums, strict=True))))

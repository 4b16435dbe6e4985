"""The trace of the Fisher matrix while a network trains, from one extra backward pass.

Tr(F) = E_x E_{y ~ p(y|x)} ||g(x, y)||^2, where g is the gradient of the log-likelihood by the parameters
(Jastrzebski et al., "Catastrophic Fisher Explosion", arXiv 2012.14193, section 3). Labels drawn from the model itself
have gradients of mean zero, independent of each other, so that for a batch of n examples

    E_y || mean_i g_i ||^2 = Tr(F) / n,

exactly: n times the squared norm of one mean gradient is an unbiased estimate. It holds with the statistics of a
batch (batch norm in training mode) and with any module or attention kernel, since no gradient of a single example is
needed. Labels of the data have no such property.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor, nn

from windvane.curvature.outputs import Output, Sampler, as_rows, mean_entropy, total_loss
from windvane.curvature.passes import by_layer, gradient, squared_norms, trained, undisturbed
from windvane.errors import check_whole

Source = Literal["draws", "records", "nothing"]

N_RECENT = 10  # records whose spread tells the error of single draws


@dataclass(frozen=True)
class FisherRecord:
    """One measurement of Tr(F).

    Attributes
    ----------
    step
        When.
    trace
        Tr(F) per example of this batch: the mean over examples of the expected squared gradient norm, in nats
        squared per unit of the parameters squared. It depends on how the network is parametrised: compare it
        within a run, or between runs of one network.
    standard_error
        Of the trace; nan where `error_from` is "nothing".
    error_from
        "draws": the spread over the draws of this record. "records": the differences between successive ones of
        the last ten records, so what the trace itself changed counts too. "nothing": too few.
    per_layer
        Its part by name of the layer; they add up to the trace. Empty where they were not asked for.
    n_examples
        In the batch.
    draws
        Of labels, each with a backward pass.
    labels
        How they were drawn.
    output
        What the network's outputs mean.
    entropy
        Mean entropy of the predictions for this batch, in nats: how far the run is, for comparisons at equal progress
        rather than at equal steps. nan for "gaussian".
    """

    step: int
    trace: float
    standard_error: float
    error_from: Source
    per_layer: dict[str, float]
    n_examples: int
    draws: int
    labels: Literal["sampled"] = "sampled"
    output: Output = "softmax"
    entropy: float = math.nan

    def scalars(self, prefix: str = "fisher/") -> dict[str, float]:
        """Flatten it for a logger.

        Parameters
        ----------
        prefix
            Of every name.

        Returns
        -------
        dict[str, float]
            The trace, its error where it has one, and the layers.
        """
        found = {f"{prefix}trace": self.trace}
        if self.error_from != "nothing":
            found[f"{prefix}standard_error"] = self.standard_error
        return found | {f"{prefix}layer/{name}": value for name, value in self.per_layer.items()}


class FisherTracker:
    """Measure Tr(F) now and then while a network trains.

    ``tracker.update(logits, step)`` stands between the forward pass and ``loss.backward()``. Gradients, modes,
    buffers and the random state stay as they were.

    Parameters
    ----------
    model
        The network that is trained.
    every
        Steps from one measurement to the next.
    draws
        Labels drawn for each example, each with a backward pass.
    per_layer
        Whether to keep the parts of the layers.
    output
        What the outputs mean: "softmax", "sigmoid" (each its own yes or no) or "gaussian" (of unit variance).
    random_state
        Where the stream of labels starts.

    Attributes
    ----------
    records_
        All measurements so far.
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
        trained(model)
        for name, value in (("every", every), ("draws", draws)):
            check_whole(name, value)
        self.model, self.every, self.draws, self.per_layer, self.output = model, every, draws, per_layer, output
        self._sampler = Sampler(output, "sampled", random_state)
        self.records_: list[FisherRecord] = []

    def update(
        self, logits: Tensor | None, step: int, forward: Callable[[], Tensor] | None = None
    ) -> FisherRecord | None:
        """Measure, where the step is one of every so many.

        Parameters
        ----------
        logits
            The network's output for this batch, with its graph: shape (n, k) or (n, t, k). Not looked at where
            `forward` is given.
        step
            Steps of the optimiser so far. Further batches of the same step (accumulation) are passed over.
        forward
            Computes the logits of this batch anew. For compiled networks, whose graph can be walked once only,
            and for calls after backward().

        Returns
        -------
        FisherRecord or None
            None between measurements.

        Raises
        ------
        InputError
            Where the logits cannot be used, or their graph is gone.
        """
        if step % self.every or (self.records_ and self.records_[-1].step == step):
            return None
        named = trained(self.model)
        squares: list[list[float]] = []  # (draws, parameters), of the gradients of sums
        with undisturbed(self.model):
            for _ in range(self.draws):
                rows = as_rows(logits if forward is None else forward(), self.output)
                loss = total_loss(rows, self._sampler(rows), self.output)
                squares.append(squared_norms(gradient(loss, list(named.values()), keep_graph=forward is None)))
        record = self._record(step, dict(zip(named, zip(*squares, strict=True), strict=True)), rows)
        self.records_.append(record)
        return record

    def _record(self, step: int, squares: Mapping[str, tuple[float, ...]], rows: Tensor) -> FisherRecord:
        """Average the draws; a squared norm of a sum over n is n times the trace."""
        n = len(rows)
        layers = by_layer({name: math.fsum(values) / self.draws / n for name, values in squares.items()})
        traces = [math.fsum(draw) / n for draw in zip(*squares.values(), strict=True)]
        trace = math.fsum(traces) / self.draws
        source: Source
        error, source = math.nan, "nothing"
        if self.draws > 1:
            spread = math.fsum((t - trace) ** 2 for t in traces) / (self.draws - 1)
            error, source = math.sqrt(spread / self.draws), "draws"
        elif self.records_:
            recent = [record.trace for record in self.records_[1 - N_RECENT :]] + [trace]
            # Half the squared difference of neighbours: a slow change of the trace hardly counts.
            changes = [(b - a) ** 2 / 2 for a, b in pairwise(recent)]
            error, source = math.sqrt(math.fsum(changes) / len(changes)), "records"
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
        """Give what a run needs to go on: the records and the stream of labels.

        Returns
        -------
        dict[str, Any]
            Of plain values and one tensor.
        """
        return {"records": [asdict(record) for record in self.records_], **self._sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Parameters
        ----------
        state
            From `state_dict`.
        """
        self.records_ = [FisherRecord(**record) for record in state["records"]]
        self._sampler.load_state_dict(state)

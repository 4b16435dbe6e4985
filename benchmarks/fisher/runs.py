"""One training run of `replication.py`: SimpleCNN on CIFAR-10, on one thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.fisher.nets import cifar, simple_cnn
from windvane.curvature import FisherPenalty, FisherTracker, hessian_trace, input_gradient_penalty, memorization
from windvane.curvature.autograd import Mode, grad

METHODS = {"FP": "sampled", "GP_r": "uniform", "GP": "true"}
STANDARD = {"epochs": 40, "images": 10_000}
GRID = (0.000316, 0.001, 0.00316, 0.01, 0.0316, 0.1, 0.3162, 1.0)  # of rates
VALID = 2000  # validation images, which choose rates and alphas
FALLS = (0.8, 0.9)  # of the run, where the rate falls to a tenth; the paper's 300 epochs leave low rates time enough
EARLY_LOSS = 1.2  # the early trace is that of the epoch whose mean loss first falls to this (the paper's value)
EVALUATE_EVERY = 5  # epochs; with wrong labels every epoch is evaluated
HESSIAN_IMAGES, HESSIAN_PROBES = 256, 10
TRACK_EVERY = 20  # steps from one Tr(F) to the next; an epoch of large batches, where that is shorter
PENALIZED = 128  # examples of a batch that a penalty sees at most, as in the paper for large batches
MAX_WHOLE = 512  # examples of a batch that pass through the network at once; larger ones leave the cache
SHIFT = 4  # pixels by which augmentation moves an image at most
GNP_RADIUS = 0.1  # how far the penalty on the gradient norm looks ahead


Precision = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class Run:
    """One training run.

    `method` is plain, FP, GP_r, GP, GP_x, Mixup, SAM or GNP; `alpha` the weight of the penalty (GNP: its share, SAM:
    its radius); `mode` how a penalty is differentiated; `first` and `last` the epochs in which it acts; `every` the
    steps from one computation of its gradient to the next; `seconds` a limit of processor time instead of epochs;
    `augmented` whether images are flipped and shifted; `hessian_every` the epochs from one Tr(H) to the next, 0 for
    none; `precision` that of the products in passes through the network.
    """

    group: str
    method: str = "plain"
    rate: float = 0.1
    alpha: float = 0.0
    seed: int = 0
    batch: int = 128
    noise: float = 0.0
    first: int = 0
    last: int | None = None
    epochs: int = STANDARD["epochs"]
    images: int = STANDARD["images"]
    seconds: float | None = None
    mode: Mode = "finite_difference"
    every: int = 10
    augmented: bool = False
    hessian_every: int = 0
    precision: Precision = "bfloat16"

    @property
    def name(self) -> str:
        """Name of its lock file, and in messages."""
        return "-".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in asdict(self).items())


@cache
def data(images: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the training, the validation and the test set; nothing is trained on or chosen by the test set."""
    x, y = cifar("train", images + VALID)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    x, y = x[order].contiguous(memory_format=torch.channels_last), y[order]
    return (x[:images], y[:images]), (x[images:], y[images:]), cifar("test")


def lower(rate: float, by: int) -> float:
    """Return the rate `by` steps down the grid: one step is a third of the rate, two are a tenth."""
    return GRID[GRID.index(rate) - by]


def logits_of(model: nn.Module, x: Tensor, precision: Precision) -> Tensor:
    """Compute logits in float32, with products in bfloat16 or in float32."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        logits: Tensor = model(x)
        return logits.float()


def accuracy(model: nn.Module, part: tuple[Tensor, Tensor], precision: Precision) -> float:
    """Return the accuracy on a data set."""
    with torch.no_grad():
        batches = zip(part[0].split(500), part[1].split(500), strict=True)
        right = [(logits_of(model, x, precision).argmax(1) == y).sum().item() for x, y in batches]
    return float(sum(right)) / len(part[1])


def wrong_labels(y: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Replace a share of the labels by random other classes; return the labels, and which are wrong."""
    generator = torch.Generator().manual_seed(seed + 1000)
    noisy = torch.rand(len(y), generator=generator) < share
    return torch.where(noisy, (y + torch.randint(1, 10, y.shape, generator=generator)) % 10, y), noisy


def ascent(model: nn.Module, loss: Callable[[], Tensor], share: float, radius: float) -> float:
    """Set gradients to (1 - share) g(here) + share g(here + radius g / ||g||): SAM with share 1, else GNP."""
    parameters: list[Tensor] = list(model.parameters())
    value = loss()
    here = torch.autograd.grad(value, parameters)
    length = radius / torch.stack([g.norm() for g in here]).norm().item()
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        torch._foreach_add_(parameters, here, alpha=length)
    ahead = torch.autograd.grad(loss(), parameters)
    with torch.no_grad():
        torch._foreach_copy_(parameters, kept)
    for p, a, b in zip(parameters, here, ahead, strict=True):
        p.grad = (1 - share) * a + share * b
    return value.item()


def mixed(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup with Beta(1, 1)."""
    share = torch.rand((), generator=generator)
    other = torch.randperm(len(x), generator=generator)
    one_hot = functional.one_hot(y, 10).float()
    return share * x + (1 - share) * x[other], share * one_hot + (1 - share) * one_hot[other]


def moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the images from left to right, and shift each by up to `SHIFT` pixels, with zeros around it."""
    n, size = len(x), x.shape[-1]
    flipped = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    x = functional.pad(torch.where(flipped, x.flip(3), x), (SHIFT,) * 4)
    top, left = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=generator) + torch.arange(size)
    images = x[torch.arange(n)[:, None, None], :, top[:, :, None], left[:, None, :]]  # channels come last
    return images.permute(0, 3, 1, 2)


class InputPenalty:
    """GP_x: its gradient is computed every few steps and added at each, as that of `FisherPenalty`."""

    def __init__(self, model: nn.Module, run: Run) -> None:
        self.model, self.run, self.step = model, run, 0
        self.gradient: list[Tensor] = []

    def __call__(self, x: Tensor, y: Tensor) -> None:
        """Add the penalty's gradient to the gradients of the parameters."""
        parameters = list(self.model.parameters())
        if self.step % self.run.every == 0:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.run.precision == "bfloat16"):
                penalty = self.run.alpha * input_gradient_penalty(self.model, x, y)
            self.gradient = grad(penalty, parameters, constant=True)
        torch._foreach_add_([p.grad for p in parameters if p.grad is not None], self.gradient)
        self.step += 1


class Trainer:
    """One run from its start to its record."""

    def __init__(self, run: Run) -> None:
        self.run = run
        torch.set_num_threads(1)
        torch.manual_seed(run.seed)
        self.train, self.valid, self.test = data(run.images)
        self.labels, self.noisy = wrong_labels(self.train[1], run.noise, run.seed)
        self.model = simple_cnn().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), run.rate, momentum=0.9)
        self.generator = torch.Generator().manual_seed(run.seed)
        self.per_epoch = math.ceil(run.images / run.batch)
        self.tracker = FisherTracker(self.model, every=min(TRACK_EVERY, self.per_epoch), random_state=run.seed)
        self.penalty = self._penalty()
        self.history: list[dict[str, Any]] = []
        self.memory: list[dict[str, Any]] = []
        self.step, self.best_valid, self.best_test = 0, -1.0, math.nan

    def _penalty(self) -> FisherPenalty | InputPenalty | None:
        if self.run.method == "GP_x":
            return InputPenalty(self.model, self.run)
        if self.run.method not in METHODS:
            return None
        return FisherPenalty(
            self.model,
            self.run.alpha,
            every=self.run.every,
            mode=self.run.mode,
            labels=METHODS[self.run.method],  # type: ignore[arg-type]
            start_step=self.run.first * self.per_epoch,
            stop_step=None if self.run.last is None else self.run.last * self.per_epoch,
            random_state=self.run.seed,
        )

    def _logits(self, x: Tensor) -> Tensor:
        return logits_of(self.model, x, self.run.precision)

    def _accuracy(self, part: tuple[Tensor, Tensor]) -> float:
        return accuracy(self.model, part, self.run.precision)

    def one_step(self, rows: Tensor) -> float:
        """Train on a batch and return its loss."""
        x, y = self.train[0][rows], self.labels[rows]
        if self.run.augmented:
            x = moved(x, self.generator)
        if self.run.method in ("SAM", "GNP"):
            if self.step % self.tracker.every == 0:
                self.tracker.update(self._logits(x), self.step)
            share, radius = (1.0, self.run.alpha) if self.run.method == "SAM" else (self.run.alpha, GNP_RADIUS)
            loss = ascent(self.model, lambda: functional.cross_entropy(self._logits(x), y), share, radius)
            self.optimizer.step()
            return loss
        targets: Tensor = y
        if self.run.method == "Mixup":
            x, targets = mixed(x, y, self.generator)
        self.optimizer.zero_grad()
        loss, size = 0.0, len(x) if len(x) <= MAX_WHOLE else PENALIZED
        for part, part_targets in zip(x.split(size), targets.split(size), strict=True):
            logits = self._logits(part)
            self.tracker.update(logits, self.step)  # of the first part
            if self.run.noise and self.step % 100 == 0 and self.run.method != "Mixup":
                self.memory.append(asdict(memorization(self.model, logits, y, self.noisy[rows], self.step)))
            value = functional.cross_entropy(logits, part_targets) * (len(part) / len(x))
            value.backward()
            loss += value.item()
        if isinstance(self.penalty, FisherPenalty):
            self.penalty(lambda: self._logits(x[:PENALIZED]), y[:PENALIZED])
        elif self.penalty is not None:
            self.penalty(x[:PENALIZED], y[:PENALIZED])
        self.optimizer.step()
        return loss

    def __call__(self) -> dict[str, Any]:
        """Train to the end and return the record of the run."""
        spent, epoch = 0.0, 0
        while epoch < self.run.epochs and (self.run.seconds is None or spent < self.run.seconds):
            begin = time.process_time()
            done = epoch / self.run.epochs if self.run.seconds is None else spent / self.run.seconds
            for group in self.optimizer.param_groups:
                group["lr"] = self.run.rate * 0.1 ** sum(done >= part for part in FALLS)
            losses = []
            for rows in torch.randperm(self.run.images, generator=self.generator).split(self.run.batch):
                losses.append(self.one_step(rows))
                self.step += 1
            spent += time.process_time() - begin
            epoch += 1
            self.history.append({"epoch": epoch, "loss": float(np.mean(losses)), "seconds": spent})
            self._evaluate(epoch)
            self._measure_curvature(epoch)
            if not math.isfinite(losses[-1]):
                break  # it diverged
        return self._record()

    def _evaluate(self, epoch: int) -> None:
        """Evaluate on the validation set; with wrong labels keep the test accuracy of the epoch that is best there."""
        if not self.run.noise and epoch % EVALUATE_EVERY:
            return
        self.history[-1]["valid"] = valid = self._accuracy(self.valid)
        if self.run.noise and valid > self.best_valid:
            self.best_valid, self.best_test = valid, self._accuracy(self.test)

    def _measure_curvature(self, epoch: int) -> None:
        """Add Tr(H) and Tr(F) of the same training images, each with its error, to the history."""
        if not self.run.hessian_every or epoch % self.run.hessian_every:
            return
        tracker = FisherTracker(self.model, every=1, draws=HESSIAN_PROBES, per_layer=False, random_state=epoch)
        record = tracker.update(self._logits(self.train[0][:HESSIAN_IMAGES]), 0)
        assert record is not None
        self.history[-1] |= {"hessian": self._hessian(), "fisher": [record.trace, record.standard_error]}

    def _record(self) -> dict[str, Any]:
        fit = {"clean": self._accuracy((self.train[0][~self.noisy], self.labels[~self.noisy]))}
        if self.run.noise:
            fit["noisy"] = self._accuracy((self.train[0][self.noisy], self.labels[self.noisy]))
        traces = [(r.step / self.per_epoch, r.trace) for r in self.tracker.records_]
        late = [trace for epoch, trace in traces if epoch >= 1]
        peaks = [float(np.mean(late[i : i + 5])) for i in range(max(1, len(late) - 4))] if late else [math.nan]
        fits = next((h["epoch"] for h in self.history if h["loss"] <= EARLY_LOSS), math.nan)
        early = [trace for epoch, trace in traces if fits - 1 <= epoch < fits]
        return {
            "run": asdict(self.run),
            "test": self._accuracy(self.test),
            "valid": self._accuracy(self.valid),
            "best_epoch_test": self.best_test if self.run.noise else None,
            "peak_trace": max(peaks),
            "early_trace": float(np.mean(early)) if early else math.nan,
            "hessian": self._flatness(),
            "train_fit": fit,
            "seconds": self.history[-1]["seconds"],
            "history": self.history,
            "records": [[r.step, round(r.trace, 5)] for r in self.tracker.records_],
            "layers": [{name: round(v, 5) for name, v in r.per_layer.items()} for r in self.tracker.records_[::10]],
            "memorisation": self.memory,
        }

    def _flatness(self) -> list[float] | None:
        """Return Tr(H) at the end, for the groups whose tables have it."""
        return None if self.run.group in ("noise", "when", "equal_time", "alarm") else self._hessian()

    def _hessian(self) -> list[float]:
        """Return Tr(H) of some training images and its error, in float32."""
        x, y = self.train[0][:HESSIAN_IMAGES], self.labels[:HESSIAN_IMAGES]
        flat = hessian_trace(self.model, lambda: functional.cross_entropy(self.model(x), y), probes=HESSIAN_PROBES)
        return [flat.trace, flat.standard_error]

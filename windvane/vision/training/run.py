"""The state of one training run: what is trained, how far it is, and what it reached."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from windvane.curvature.fisher_trace import FisherRecord
from windvane.data.images import ImageSplits
from windvane.errors import InputError, NotFiniteError, RunMismatchError
from windvane.runtime.serialization import reading
from windvane.vision.augment.batch import augment_batch
from windvane.vision.networks.profiling import choose_precision
from windvane.vision.networks.weights import load_pretrained_model, read_state_dict, with_pretrained_normalization
from windvane.vision.predict import evaluate
from windvane.vision.recipe import Recipe, recipe_from_json
from windvane.vision.saved_model import WEIGHTS, TrainedModel, library_versions, save_model
from windvane.vision.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from windvane.vision.training.device import DeviceContext, derive_seed
from windvane.vision.training.fisher import FisherMonitor, check_explosion, load_reference
from windvane.vision.training.loader import EpochSampler, Loader, make_loader
from windvane.vision.training.nonfinite import find_nonfinite_tensor
from windvane.vision.training.optimizer import (
    classification_loss,
    freeze_layers,
    load_optimizer_state,
    make_optimizer,
    set_train_mode,
)
from windvane.vision.training.schedule import Schedule
from windvane.vision.training.training_log import Evaluation, RunningMetrics

REPORT_SECONDS = 1.5  # that `write_report` takes beside its predictions


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training run."""

    model: TrainedModel  # the network at its best validation accuracy, or at the end without validation images
    history: tuple[Evaluation, ...]  # all evaluations
    # The evaluation of `model`; the last of equally good ones. Its validation score chose the model, so it is slightly
    # too good.
    best: Evaluation
    seconds: float  # wall-clock time of the whole run
    versions: dict[str, str]  # versions of the libraries
    folder: Path | None  # folder of the run; None if nothing was written
    fisher: tuple[FisherRecord, ...] = ()  # measurements of the Fisher trace, if the recipe asks for them
    reference: tuple[FisherRecord, ...] = ()  # measurements of the run that they are compared to
    notes: tuple[str, ...] = ()  # what was chosen during the run, and why


class TrainingRun:
    """Network, optimizer, schedule, loaders and metrics of one run; `run_training` takes its steps."""

    # `network` and `loaders` (training, and validation or None) are made from the recipe if they are not given;
    # `started` is the start of the run on the monotonic clock; `reported` says that the time budget includes
    # `write_report`, which predicts the validation and test images.

    def __init__(
        self,
        recipe: Recipe,
        data: ImageSplits,
        device: DeviceContext,
        *,
        network: nn.Module | None = None,
        loaders: tuple[Loader, Loader | None] | None = None,
        notes: Sequence[str] = (),
        started: float | None = None,
        reported: bool = False,
    ) -> None:
        recipe = with_pretrained_normalization(recipe)
        labels = training_labels(data)
        self.classes = tuple(map(str, data.train.classes))
        self.reference = load_reference(recipe, len(self.classes))
        if recipe.time_budget is not None and device.world_size > 1:
            raise InputError(
                f"time_budget={recipe.time_budget!r} is for one process. Allowed for several: epochs or steps."
            )
        if recipe.batch_size % device.world_size:
            raise InputError(
                f"batch_size={recipe.batch_size} is not usable. Allowed for {device.world_size} processes: a multiple "
                "of it."
            )
        self.train_loader, self.valid_loader = loaders or make_loaders(recipe, data, device)
        self.network = create_network(recipe, len(self.classes), device) if network is None else network
        device = choose_precision(device, self.network, recipe)
        self.recipe, self.device, self.notes = recipe, device, tuple(notes)
        self.augmentation = replace(recipe, crop="none") if self.train_loader.crops else recipe
        self.identity: dict[str, Any] = {
            "recipe": recipe.to_json(),
            "images": len(data.train),
            "classes": list(self.classes),
            "labels": hashlib.sha256(labels.tobytes()).hexdigest(),
        }
        n = self.train_loader.n
        self.sampler = EpochSampler(n, recipe.batch_size, recipe.seed, device.rank, device.world_size)
        freeze_layers(self.network, recipe.freeze_fraction)
        self.optimizer = make_optimizer(self.network, recipe)
        self.fisher = FisherMonitor(self.network, recipe, derive_seed(recipe.seed, device.rank))
        self.ema = None if recipe.ema_decay is None else ModelEmaV3(self.network, recipe.ema_decay, use_warmup=True)
        steps = recipe.steps
        if recipe.epochs is not None:
            steps = max(1, round(recipe.epochs * self.sampler.steps_per_epoch))
        n_valid = 0 if self.valid_loader is None else self.valid_loader.n
        n_reported = count_reported(data) if reported else 0
        self.schedule = Schedule(
            steps=steps,
            time_budget=recipe.time_budget,
            evaluation_steps=n_valid / (3 * self.sampler.batch_size),
            evaluations_after=n_reported / n_valid if n_valid else 0.0,
            seconds_after=REPORT_SECONDS if reported else 0.0,
            started=time.monotonic() if started is None else started,
        )
        self.metrics = RunningMetrics(device)
        self.history: list[Evaluation] = []
        self.best: Evaluation | None = None
        self.best_weights: dict[str, Tensor] = {}
        self._best_is_saved = False
        self._explosion_reported = False

    @property
    def epoch(self) -> float:
        """Passes over the training images so far."""
        return self.schedule.step / self.sampler.steps_per_epoch

    def augment(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return pixels (b, 3, s, s) and targets (b, k) of a step, and seed its dropout, by its number only."""
        generator = self.device.seed(self.recipe.seed, step)
        return augment_batch(images, labels, len(self.classes), self.augmentation, generator)

    def forward(self, module: nn.Module, pixels: Tensor) -> Tensor:
        """Compute logits (b, k) of pixels (b, 3, s, s) by the network or what wraps it, in the precision of the run."""
        with self.device.autocast():
            logits: Tensor = module(pixels)
        return logits

    def micro_batch_losses(
        self, module: nn.Module, pixels: Tensor, targets: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield pixels, logits and loss of each micro-batch; the losses add up to the mean over the batch."""
        size = self.recipe.micro_batch_size or len(pixels)
        for part, wanted in zip(pixels.split(size), targets.split(size), strict=True):
            logits = self.forward(module, part)
            yield part, logits, classification_loss(logits, wanted, self.recipe) * (len(part) / len(pixels))

    def set_train_mode(self) -> None:
        """Set the network to training mode."""
        set_train_mode(self.network, from_weights=self.recipe.weights is not None)

    def evaluate(self) -> Evaluation:
        """Evaluate the network, or its average, and remember it if it is the best so far."""
        schedule = self.schedule
        network = self.network if self.ema is None else self.ema.module
        images_per_second, train_loss, train_accuracy = self.metrics.compute(schedule.elapsed)
        evaluation = Evaluation(
            step=schedule.step,
            epoch=self.epoch,
            progress=schedule.progress,
            seconds=schedule.elapsed,
            learning_rate=self.optimizer.param_groups[0]["lr"] if schedule.step else 0.0,
            images_per_second=images_per_second,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
        )
        if self.fisher.records:
            evaluation = replace(evaluation, fisher_trace=self.fisher.records[-1].trace)
        if self.valid_loader is not None:
            loss, accuracy = evaluate(network, self.valid_loader, self.recipe, self.device)
            evaluation = replace(evaluation, valid_loss=loss, valid_accuracy=accuracy)
        self.history.append(evaluation)
        # Of equally good networks the last is kept: it learned at the lowest rate.
        if self.best is None or self.valid_loader is None or evaluation.valid_accuracy >= self.best.valid_accuracy:
            self.best, self._best_is_saved = evaluation, False
            self.best_weights = {name: value.cpu().clone() for name, value in network.state_dict().items()}
        schedule.start_evaluation()
        self.metrics.reset(schedule.elapsed)
        self.set_train_mode()
        return evaluation

    def new_explosion_message(self) -> str | None:
        """Return the message of the explosion alarm, the first time that there is one."""
        if self._explosion_reported:
            return None
        message = check_explosion(self.fisher.records, self.history[-1], self.recipe.warmup_fraction, self.reference)
        self._explosion_reported = message is not None
        return message

    def raise_nonfinite(self, step: int) -> None:
        """Raise `NotFiniteError` for a step: repeat it tensor by tensor, with the weights as they were before it."""
        images, labels = next(self.train_loader.train_batches(self.sampler, step))
        self.optimizer.zero_grad()

        def backward() -> Tensor:
            losses = []
            for _, _, loss in self.micro_batch_losses(self.network, *self.augment(images, labels, step)):
                loss.backward()
                losses.append(loss.detach())
            return torch.stack(losses).sum()

        name = find_nonfinite_tensor(self.network, backward)
        raise NotFiniteError(
            f"Training stopped at step {step}: {name} is not finite. A lower learning rate "
            f"({self.recipe.learning_rate} now), a lower grad_clip, a longer warmup, or precision='float32' may help."
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything from which the run resumes exactly, except for the best weights."""
        return {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "schedule": self.schedule.state_dict(),
            "metrics": self.metrics.state_dict(),
            "fisher": self.fisher.state_dict(),
            "history": [asdict(one) for one in self.history],
            "best": None if self.best is None else asdict(self.best),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of the same recipe and data."""
        self.network.load_state_dict(state["network"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.schedule.load_state_dict(state["schedule"])
        self.metrics.load_state_dict(state["metrics"])
        self.fisher.load_state_dict(state["fisher"])
        self.history = [Evaluation(**one) for one in state["history"]]
        self.best = None if state["best"] is None else Evaluation(**state["best"])

    def save(self, folder: Path) -> None:
        """Write the best model, if it is new, then the checkpoint, so that a kill in between repeats an evaluation."""
        if self.best is not None and not self._best_is_saved:
            best = {name: value for name, value in asdict(self.best).items() if not math.isnan(value)}
            save_model(folder, self.best_weights, self.recipe, self.classes, {"best": best})
            self._best_is_saved = True
        save_checkpoint(folder / CHECKPOINT, self.state_dict())

    def load(self, folder: Path) -> None:
        """Continue from a folder; raises `RunMismatchError` if it is of another recipe or other data."""
        state = load_checkpoint(folder / CHECKPOINT)
        mine, theirs = _flat(self.identity), _flat(state["identity"])
        different = [name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)]
        if different:
            raise RunMismatchError(f"{str(folder)!r} holds a run that differs in {', '.join(sorted(different))}.")
        with reading(folder / CHECKPOINT, Exception):
            self.load_state_dict(state)
        if self.best is not None:
            self.best_weights, self._best_is_saved = read_state_dict(folder / WEIGHTS), True

    def result(self, folder: Path | None = None) -> TrainingResult:
        """Return the result, after at least one evaluation; the network then has its best weights."""
        assert self.best is not None
        self.network.load_state_dict(self.best_weights)
        return TrainingResult(
            model=TrainedModel(self.network.requires_grad_(True).eval(), self.recipe, self.classes),
            history=tuple(self.history),
            best=self.best,
            seconds=self.schedule.elapsed,
            versions=library_versions(),
            folder=folder,
            fisher=self.fisher.records,
            reference=self.reference,
            notes=self.notes,
        )


def training_labels(data: ImageSplits) -> NDArray[np.int64]:
    """Return the labels of the training images (n,); raises without labels, or with several for an image."""
    if data.train.labels is None or len(data.train) == 0:
        raise InputError("data has no labelled images to train on.")
    if data.train.labels.ndim > 1:
        raise InputError("data has several labels an image. Allowed: one label for each.")
    return data.train.labels


def make_loaders(recipe: Recipe, data: ImageSplits, device: DeviceContext) -> tuple[Loader, Loader | None]:
    """Return the loaders of the training images and of the validation images, if there are any."""
    train = make_loader(data.train, recipe, device, for_training=True)
    return train, make_loader(data.valid, recipe, device) if data.valid is not None and len(data.valid) else None


def count_reported(data: ImageSplits) -> int:
    """Return the number of images that a report predicts."""
    return sum(len(split) for split in (data.valid, data.test) if split is not None)


def create_network(recipe: Recipe, n_classes: int, device: DeviceContext) -> nn.Module:
    """Create the network of a recipe with its weights, on the device and channels last in memory."""
    network = load_pretrained_model(recipe, n_classes).to(device.device)
    return network.to(memory_format=torch.channels_last)


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    recipe = recipe_from_json(identity["recipe"]).to_json()
    return {**recipe, **{name: value for name, value in identity.items() if name != "recipe"}}

"""The state of one training run: what is trained, how far it is, what it found; kept in its folder and read back."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from windvane.curvature.fisher_trace import FisherRecord
from windvane.data.images.dataset import ImageSplits
from windvane.errors import InputError, NotFiniteError, RunMismatchError
from windvane.vision.augment.batch import augment_batch
from windvane.vision.device import DeviceContext, derive_seed, with_cpu_bfloat16
from windvane.vision.networks.profiling import count_macs, has_grouped
from windvane.vision.networks.weights import load_pretrained_model, read_state_dict
from windvane.vision.predict import evaluate
from windvane.vision.recipe import Recipe, recipe_from_json
from windvane.vision.saved_model import WEIGHTS, TrainedModel, save_model, versions
from windvane.vision.training.checkpoint import NAME, Stateful, load_checkpoint, save_checkpoint
from windvane.vision.training.fisher import FisherMonitor, check_explosion, read_reference
from windvane.vision.training.loader import Batches, EpochSampler, make_loader
from windvane.vision.training.metrics import (
    Evaluation,
    ProgressLogger,
    RunningMetrics,
    evaluation_from_json,
    write_metrics,
    write_tensorboard,
)
from windvane.vision.training.nonfinite import find_nonfinite_tensor
from windvane.vision.training.optimizer import classification_loss, freeze_layers, make_optimizer, set_train_mode
from windvane.vision.training.schedule import Schedule


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training run.

    Attributes
    ----------
    model
        The network as it was at its best validation accuracy, or in the end where there are no validation images.
    history
        Every evaluation.
    best
        The one of `model`, the last of equally good ones. Its validation score chose the model, so it is a little too
        good.
    seconds
        Wall-clock time of the whole run.
    versions
        Of the libraries, by name.
    folder
        Of the run; None where nothing was kept.
    fisher
        Measurements of the Fisher trace, where the recipe asked for them.
    reference
        Those of the run that they are compared to.
    notes
        What was chosen in the course of it, and why.
    """

    model: TrainedModel
    history: tuple[Evaluation, ...]
    best: Evaluation
    seconds: float
    versions: dict[str, str]
    folder: Path | None
    fisher: tuple[FisherRecord, ...] = ()
    reference: tuple[FisherRecord, ...] = ()
    notes: tuple[str, ...] = ()


class TrainingRun:
    """All that a run consists of, at its beginning.

    Parameters
    ----------
    recipe
        How to train.
    data
        Training images, and validation images or None.
    place
        Where.
    teller
        What tells of it.
    began
        When, on the monotonic clock.
    prepared
        Network and images; None to make them by the recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: ImageSplits,
        place: DeviceContext,
        teller: ProgressLogger,
        began: float,
        prepared: Prepared | None = None,
    ) -> None:
        labels = check_images(data)
        self.reference = read_reference(recipe, len(data.train.classes))
        if recipe.time_budget is not None and place.world > 1:
            raise InputError(
                f"time_budget={recipe.time_budget!r} is for one process. Allowed for several: epochs or steps."
            )
        if recipe.batch_size % place.world:
            raise InputError(
                f"batch={recipe.batch_size} is not usable. Allowed for {place.world} processes: a multiple of it."
            )
        prepared = prepare(recipe, data, place) if prepared is None else prepared
        if recipe.precision == "auto" and place.device.type == "cpu" and not has_grouped(prepared.network):
            place = with_cpu_bfloat16(place, count_macs(prepared.network, recipe.image_size))
        self.recipe, self.place, self.teller = recipe, place, teller
        self.classes = tuple(map(str, data.train.classes))
        self.identity: dict[str, Any] = {
            "recipe": recipe.to_json(),
            "images": len(data.train),
            "classes": list(self.classes),
            "labels": hashlib.sha256(labels.tobytes()).hexdigest(),
        }
        self.network, self.batches, self.valid = prepared.network, prepared.train, prepared.valid
        self.varied = replace(recipe, crop="none") if self.batches.crops else recipe
        self.order = EpochSampler(self.batches.n, recipe.batch_size, recipe.seed, place.rank, place.world)
        freeze_layers(self.network, recipe.freeze_fraction)
        self.optimizer = make_optimizer(self.network, recipe)
        self.fisher = FisherMonitor(self.network, recipe, derive_seed(recipe.seed, place.rank))
        self.average = None if recipe.ema_decay is None else ModelEmaV3(self.network, recipe.ema_decay, use_warmup=True)
        self.plan = Schedule(
            steps=self._steps,
            seconds=recipe.time_budget,
            evaluation_steps=0.0 if self.valid is None else self.valid.n / (3 * self.order.batch_size),
            began=began,
        )
        self.tally = RunningMetrics(place)
        self.history: list[Evaluation] = []
        self.best: Evaluation | None = None
        self.folder: Path | None = None
        self.notes: tuple[str, ...] = ()
        self._best_weights: dict[str, Tensor] = {}
        self._warned = False

    def vary(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Vary the images of one step; everything random in it, dropout too, comes from the step's number.

        Parameters
        ----------
        images, labels
            uint8 of shape (b, 3, s, s), shape (b,).
        step
            Its number.

        Returns
        -------
        pixels, targets
            Shapes (b, 3, s, s) and (b, k).
        """
        generator = self.place.seed(self.recipe.seed, step)
        return augment_batch(images, labels, len(self.classes), self.varied, generator)

    def forward(self, module: nn.Module, pixels: Tensor) -> Tensor:
        """Compute logits.

        Parameters
        ----------
        module
            The network, or what wraps it.
        pixels
            Shape (b, 3, s, s).

        Returns
        -------
        Tensor
            Shape (b, k).
        """
        with self.place.autocast():
            logits: Tensor = module(pixels)  # (b, k)
        return logits

    def judge(self) -> None:
        """Evaluate the network, tell and keep what came out."""
        began = time.monotonic()
        plan, judged = self.plan, self.network if self.average is None else self.average.module
        speed, train_loss, train_accuracy = self.tally.read(plan.elapsed)
        found = Evaluation(
            step=plan.step,
            epoch=plan.step / self.order.steps_per_epoch,
            progress=plan.progress,
            seconds=plan.elapsed,
            learning_rate=self.optimizer.param_groups[0]["lr"] if plan.step else 0.0,
            images_per_second=speed,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
        )
        if self.fisher.records:
            found = replace(found, fisher_trace=self.fisher.records[-1].trace)
        if self.valid is not None:
            score = evaluate(judged, self.valid, self.recipe, self.place)
            found = replace(found, valid_loss=score.loss, valid_accuracy=score.accuracy)
        self.history.append(found)
        better = self._is_best(found)
        if better:
            self.best = found
            self._best_weights = {name: value.cpu().clone() for name, value in judged.state_dict().items()}
        self.teller.evaluation(found)
        self._warn(found)
        plan.evaluated()
        self.tally.restart(plan.elapsed)
        if self.folder is not None and self.place.is_main:
            self._keep(self.folder, better)
        set_train_mode(self.network, from_weights=self.recipe.weights is not None)
        plan.judging_took(time.monotonic() - began)
        self.tally.restart(plan.elapsed)

    def _warn(self, last: Evaluation) -> None:
        """Say once that the Fisher trace explodes, while there is time to do something about it."""
        if self._warned or not last.step:
            return
        said = check_explosion(self.fisher.records, last, self.recipe.warmup_fraction, self.reference)
        if said is not None:
            self._warned = True
            self.teller.line(f"windvane: {said}")

    def complain(self, step: int) -> None:
        """Stop at a step that was not finite: repeat it tensor by tensor.

        Parameters
        ----------
        step
            Its number; the weights are still those before it.

        Raises
        ------
        NotFiniteError
            Always.
        """
        images, labels = next(iter(self.batches.stream([(step, self.order.rows(step))])))
        self.optimizer.zero_grad()

        def backward() -> Tensor:
            pixels, targets = self.vary(images, labels, step)
            loss = classification_loss(self.forward(self.network, pixels), targets, self.recipe)
            loss.backward()
            return loss

        name = find_nonfinite_tensor(self.network, backward)
        raise NotFiniteError(
            f"Training stopped at step {step}: {name} is not finite. A lower learning rate "
            f"({self.recipe.learning_rate} now), a lower grad_clip, a longer warmup, or precision='float32' may help."
        )

    def leave(self) -> NoReturn:
        """End before the end: keep the state as it is, between two steps.

        Raises
        ------
        KeyboardInterrupt
            Always; says how to go on.
        """
        plan, kept = self.plan, "nothing was kept, as the run has no folder"
        if self.folder is not None and self.place.is_main:
            self._keep_state(self.folder)
            kept = f"it goes on from {str(self.folder)!r} with resume=True, in a shell the same command with --resume"
        raise KeyboardInterrupt(f"stopped after step {plan.step}, {plan.progress:.0%} of the run: {kept}")

    def read(self, folder: Path) -> None:
        """Go on from the state in a folder.

        Parameters
        ----------
        folder
            Of the same recipe on the same data.

        Raises
        ------
        RunMismatchError
            Where it is of others.
        ModelFileError
            Where a file is damaged.
        """
        kept = load_checkpoint(folder / NAME, self._modules, self.optimizer)
        mine, theirs = _flat(self.identity), _flat(kept["identity"])
        theirs = {**recipe_from_json(kept["identity"]["recipe"]).to_json(), **theirs}  # of before a field was added
        odd = [name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)]
        if odd:
            raise RunMismatchError(f"{str(folder)!r} holds a run that differs in {', '.join(sorted(odd))}.")
        self.history = [evaluation_from_json(row) for row in kept["history"]]
        if kept["best"] is not None:
            self.best = evaluation_from_json(kept["best"])
            self._best_weights = read_state_dict(folder / WEIGHTS)
        self.plan.resume(kept["plan"])
        self.fisher.resume(kept.get("fisher", {}))
        self.tally.resume(kept.get("tally", (0.0, 0.0, 0.0, self.plan.elapsed)))

    def result(self) -> TrainingResult:
        """Give what came of it, after at least one evaluation."""
        if self.best is None:
            raise RuntimeError("the run has not been evaluated")
        self.network.load_state_dict(self._best_weights)
        return TrainingResult(
            model=TrainedModel(self.network.requires_grad_(True).eval(), self.recipe, self.classes),
            history=tuple(self.history),
            best=self.best,
            seconds=self.plan.elapsed,
            versions=versions(),
            folder=self.folder,
            fisher=self.fisher.records,
            reference=self.reference,
            notes=self.notes,
        )

    @property
    def _steps(self) -> int | None:
        if self.recipe.epochs is None:
            return self.recipe.steps
        return max(1, round(self.recipe.epochs * self.order.steps_per_epoch))

    @property
    def _modules(self) -> dict[str, Stateful]:
        modules: dict[str, Stateful] = {"network": self.network, "fisher": self.fisher}
        return modules if self.average is None else {**modules, "average": self.average.module}

    def _is_best(self, found: Evaluation) -> bool:
        """Whether this is the one to keep: of equally good ones the last, which learned at the lowest rate."""
        if self.valid is None or self.best is None:
            return True
        return found.valid_accuracy >= self.best.valid_accuracy

    def _keep(self, folder: Path, better: bool) -> None:
        """Write what is new; the state comes last, so that a kill before it repeats the evaluation."""
        if better and self.best is not None:
            save_model(folder, self._best_weights, self.recipe, self.classes, {"best": self.best.to_json()})
        write_metrics(folder, self.history)
        write_tensorboard(folder, self.history[-1])
        self._keep_state(folder)

    def _keep_state(self, folder: Path) -> None:
        numbers = {
            "identity": self.identity,
            "plan": self.plan.to_json(),
            "fisher": self.fisher.to_json(),
            "tally": self.tally.to_json(),
            "history": [row.to_json() for row in self.history],
            "best": None if self.best is None else self.best.to_json(),
        }
        save_checkpoint(folder / NAME, self._modules, self.optimizer, numbers)


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    return {**identity.get("recipe", {}), **{name: value for name, value in identity.items() if name != "recipe"}}


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a run begins with, where somebody has made it already.

    Attributes
    ----------
    network
        On the device; what it is before the first step.
    train, valid
        The images of both parts, at the recipe's size; None where there is no validation part.
    """

    network: nn.Module
    train: Batches
    valid: Batches | None


def check_images(data: ImageSplits) -> NDArray[np.int64]:
    """Refuse what cannot be trained on; give the labels of the rest.

    Parameters
    ----------
    data
        Of a user.

    Returns
    -------
    ndarray
        One label for each training image, shape (n,).

    Raises
    ------
    InputError
        Where there are no labelled images, or several labels an image.
    """
    if data.train is None or data.train.labels is None or len(data.train) == 0:
        raise InputError("data has no labelled images to train on.")
    if data.train.labels.ndim > 1:
        raise InputError("data has several labels an image. Allowed: one label for each.")
    return data.train.labels


def prepare(recipe: Recipe, data: ImageSplits, place: DeviceContext) -> Prepared:
    """Make the network of a recipe, and bring the images to its size.

    Parameters
    ----------
    recipe
        How to train.
    data
        Images that `check_images` let pass.
    place
        Where.

    Returns
    -------
    Prepared
        On the place's device.
    """
    train = make_loader(data.train, recipe, place)
    valid = make_loader(data.valid, recipe, place) if data.valid is not None and len(data.valid) else None
    network = load_pretrained_model(recipe, len(data.train.classes)).to(place.device)
    return Prepared(network.to(memory_format=torch.channels_last), train, valid)

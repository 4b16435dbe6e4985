"""Networks of the RealMLP kind, in numpy: robustly scaled and squashed inputs, periodic embeddings, cycles of learning.

The learning rate falls to zero after 1, 3, 7, 15 ... epochs. A checkpoint there is a finished training, from which the
next one continues. Source: Holzmueller, Grinsztajn and Steinwart, "Better by default" (2024);
`windvane.models.neural.gradients` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

from windvane.data.task import Task
from windvane.models.base import Config, DataSplit, Param
from windvane.models.base_model import BaseFamily, BaseModel
from windvane.models.early_stopping import score_loss
from windvane.models.encoding import class_weight_space, preprocessing_space
from windvane.models.neural.adam import CYCLE_ENDS, Adam, ParamGroup, coslog_schedule
from windvane.models.neural.gradients import (
    backward,
    cross_entropy_gradient,
    fit_input_scale,
    initial_parameters,
    squared_error_gradient,
)
from windvane.models.search_space import choice, fill_defaults, real, whole
from windvane.runtime.columns.encoder import Encoded, float32
from windvane.runtime.models.fitted import FittedModel
from windvane.runtime.models.realmlp import FittedRealMLP, NetworkSpec, Single, find_scores, forward, smooth_clip
from windvane.runtime.serialization import read_arrays, write_arrays

# Training ends after a cycle that lowers the validation loss by less than this share, though not before so many epochs.
# On 75 networks a half per cent saves a quarter of the time and costs 0.02 % of the loss.
_MIN_GAIN, _MIN_EPOCHS = 0.005, 15
_MOST_EMBEDDED = 64  # numbers; their embeddings cost more than the rest of the network beyond
# Rows of the training set up to which a batch has so many.
_BATCH_SIZES = ((2048, 64), (8192, 128), (100_000, 256), (np.inf, 512))
_SCALE_RATE, _BIAS_RATE, _EMBEDDING_RATE = 6.0, 0.1, 0.1  # RealMLP's, as multiples of the learning rate


class RealMLPModel(BaseModel):
    spec: NetworkSpec
    best: Single  # the parameters of the best cycle's end, shape (spec.size,)
    adam: Adam  # parameters of the last epoch with their moments
    input_scale: Single  # of the encoded columns, shape (q,)
    limits = (0.0, 0.0)  # of the scaled training target, which predictions never leave; not used for classes

    def _resume_training(self, folder: Path, state: Mapping[str, Any], fitted: Any) -> None:
        arrays = read_arrays(folder / "training.npz")
        self.spec, self.best, self.input_scale = fitted.spec, fitted.parameters, fitted.input_scale
        self.limits = fitted.limits
        saved = {name: array.astype(np.float32, casting="safe") for name, array in arrays.items()}
        self.adam = Adam(saved["parameters"], saved["exp_avg"], saved["exp_avg_sq"], int(state["updates"]))
        if {len(array) for array in saved.values()} != {self.spec.size}:
            raise ValueError("parameters and moments do not go together")

    def prepare(self, config: Config, features: Encoded, train: DataSplit, validation: DataSplit) -> None:
        """Encode the validation set; without a checkpoint, draw the first parameters."""
        task, rows = self.context.task, len(train.target)
        self._dropout, self._learning_rate = float(config["dropout"]), float(config["learning_rate"])
        self._smoothing = float(config.get("label_smoothing", 0.0))
        batch_size = next(size for most, size in _BATCH_SIZES if rows <= most)
        self._n_batches = max(1, round(rows / batch_size))
        target = self.target_scaler.transform(train.target)
        self._target = target if task.is_classification else target.astype(np.float32)
        self._weight = None if train.weight is None else (train.weight / train.weight.mean()).astype(np.float32)
        features = float32(features)
        if not self.iterations:
            self.input_scale = fit_input_scale(features)
            self._draw(config, smooth_clip(features, self.input_scale))
        self._features = smooth_clip(features, self.input_scale)
        self._valid_features = smooth_clip(float32(self.encoder.transform(validation.table)), self.input_scale)
        self._valid = validation
        self._param_groups = list(_param_groups(self.spec, float(config["weight_decay"])))

    def _draw(self, config: Config, features: Any) -> None:
        task = self.context.task
        embedded = self.encoder.n_numbers if config["embedding"] == "periodic" else 0
        if embedded > _MOST_EMBEDDED or isinstance(features, sp.csr_matrix):
            embedded = 0
        self.spec = NetworkSpec(
            inputs=features.shape[1],
            embedded=embedded,
            hidden=(int(config["width"]),) * int(config["depth"]),
            outputs=task.n_outputs,
            activation=config["activation"],  # type: ignore[arg-type]
        )
        rng = np.random.default_rng(self.context.seed)
        if task.is_classification:
            counts = np.bincount(self._target, weights=self._weight, minlength=task.n_classes)
            last = np.log((counts + 1) / (counts + 1).sum())
        else:
            last, self.limits = np.zeros(1), (float(self._target.min()), float(self._target.max()))
        self.adam = Adam(initial_parameters(self.spec, features, float(config.get("sigma", 0.0)), last, rng))
        self.best = self.adam.parameters.copy()

    def _train_iterations(self, goal: int, deadline: float) -> None:
        rng = np.random.default_rng([self.context.seed, self.iterations])
        parts, gradient = self.spec.views(self.adam.parameters), np.zeros_like(self.adam.parameters)
        into = self.spec.views(gradient)
        rows = rng.permutation(len(self._target))
        # A learning rate that is too high gives numbers that are not finite; the best epoch remains.
        with np.errstate(over="ignore", invalid="ignore"):
            for i, batch in enumerate(np.array_split(rows, self._n_batches)):
                trail = forward(self.spec, parts, self._features[batch], self._masks(len(batch), rng))
                backward(self.spec, parts, trail, self._score_gradient(trail.scores, batch), into)
                learning_rate = self._learning_rate * coslog_schedule(self.iterations + (i + 0.5) / self._n_batches)
                self.adam.step(gradient, learning_rate, self._param_groups)
            loss = self._loss()
        self.early_stopping.update(loss)
        self.iterations = len(self.early_stopping.losses)
        # Only ends of cycles are chosen from, where the learning rate is zero: the best of all epochs looks better on
        # the validation rows than it is, and the ensemble would trust it too much.
        if self.iterations in CYCLE_ENDS and np.isfinite(loss):
            ends = [end for end in CYCLE_ENDS if end <= self.iterations]
            if loss <= min(self.early_stopping.losses[end - 1] for end in ends):
                self.best, self.best_iteration = self.adam.parameters.copy(), self.iterations
        self.finished = self._is_finished(loss)

    def _is_finished(self, loss: float) -> bool:
        """Whether the parameters are ruined, or the last whole cycle has brought next to nothing."""
        if not np.isfinite(loss) or self.iterations >= self.max_iterations:
            return True
        if self.iterations not in CYCLE_ENDS or self.iterations < _MIN_EPOCHS:
            return False
        earlier = min(self.early_stopping.losses[end - 1] for end in CYCLE_ENDS if end < self.iterations)
        return loss > (1 - _MIN_GAIN) * earlier

    def _masks(self, rows: int, rng: np.random.Generator) -> Iterator[Any]:
        for width in self.spec.hidden:
            if self._dropout == 0:
                yield None
            else:
                keep = rng.random((rows, width), np.float32) >= self._dropout
                yield keep.astype(np.float32) / np.float32(1 - self._dropout)

    def _score_gradient(self, scores: Any, rows: NDArray[np.intp]) -> Any:
        weight = None if self._weight is None else self._weight[rows]
        if self.context.task.is_classification:
            return cross_entropy_gradient(scores, self._target[rows], weight, self._smoothing)
        return squared_error_gradient(scores, self._target[rows], weight)

    def _loss(self) -> float:
        scores = find_scores(self.spec, self.spec.views(self.adam.parameters), self._valid_features).astype(np.float64)
        if not self.context.task.is_classification:
            scores = np.clip(scores, *self.limits)
        return score_loss(scores, self._valid, self.context.task, self.target_scaler)

    def fitted(self) -> FittedModel:
        return FittedRealMLP(self.encoder, self.output(), self.spec, self.best, self.input_scale, self.limits)

    def _save_training(self, folder: Path) -> Mapping[str, Any]:
        """Write the parameters of the last epoch and Adam's moments."""
        arrays = {"parameters": self.adam.parameters, "exp_avg": self.adam.exp_avg, "exp_avg_sq": self.adam.exp_avg_sq}
        write_arrays(folder / "training.npz", arrays)
        return {"updates": self.adam.updates}


class RealMLP(BaseFamily):
    """Fully connected networks with embeddings."""

    name = "network"
    kind = "realmlp"
    model_type = RealMLPModel
    steps = CYCLE_ENDS[1:]

    def search_space(self, task: Task) -> dict[str, Param]:
        """Ranges of TabArena's RealMLP, narrower for the sake of the clock."""
        classes = task.is_classification
        smoothing = {"label_smoothing": real(0.0, 0.1, 0.0)} if classes else {}
        return {
            "depth": whole(1, 4, 3),
            "width": whole(32, 512, 128, log=True),
            "activation": choice(["selu", "relu"], "selu"),
            "learning_rate": real(3e-3, 0.3, 0.04 if classes else 0.1, log=True),
            "weight_decay": real(1e-4, 0.3, 0.02, log=True),
            "dropout": real(0.0, 0.5, 0.15 if classes else 0.0),
            **smoothing,
            "embedding": choice(["periodic", "none"], "periodic"),
            "sigma": real(0.02, 5.0, 0.1, log=True, when={"embedding": ("periodic",)}),
            **preprocessing_space("robust"),
            **class_weight_space(task),
        }

    def prediction_cost(self, config: Config, iterations: float, task: Task) -> float:
        """Activations and products of matrices, layer by layer."""
        filled = fill_defaults(config, self.search_space(task))
        return 10.0 + 0.08 * int(filled["depth"]) * int(filled["width"])


def _param_groups(spec: NetworkSpec, weight_decay: float) -> Iterator[ParamGroup]:
    """Yield the groups: the more inputs a layer has, the slower its weights learn, as with RealMLP's "NTK"."""
    shapes = spec.shapes
    for name, place in spec.places.items():
        if name.startswith("weights"):
            yield ParamGroup(place, 1 / np.sqrt(shapes[name][0]), weight_decay)
        elif name == "scale":
            yield ParamGroup(place, _SCALE_RATE)
        elif name.startswith("bias"):
            yield ParamGroup(place, _BIAS_RATE)
        else:
            yield ParamGroup(place, _EMBEDDING_RATE)

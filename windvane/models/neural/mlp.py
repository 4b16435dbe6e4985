"""Multilayer perceptrons of scikit-learn, trained epoch by epoch with Adam.

Early stopping is windvane's: on the validation set, with the best weights kept. Each epoch has its own seed, so that a
training in parts, or from a checkpoint, equals one without a break.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from windvane.data.task import Task
from windvane.models.base import Config, DataSplit, Param
from windvane.models.base_model import BaseFamily, BaseModel
from windvane.models.early_stopping import score_loss
from windvane.models.encoding import class_weight_space, preprocessing_space
from windvane.models.search_space import choice, real, whole
from windvane.runtime.columns.encoder import Encoded, float32
from windvane.runtime.models.fitted import FittedModel
from windvane.runtime.models.mlp import FittedMLP, logits, mlp_scores
from windvane.runtime.models.realmlp import Single
from windvane.runtime.serialization import read_arrays, write_arrays

# Rows of the training set up to which a batch has so many; pytabkit's rule.
_BATCH_SIZES = ((1024, 64), (8192, 128), (30_000, 256), (100_000, 512), (np.inf, 1024))


class MLPModel(BaseModel):
    """One network being trained; each list of arrays has the weights of all layers, then their biases."""

    patience = 32  # Auto-Sklearn 2.0's

    activation: str
    best: list[Single]  # parameters of the best epoch
    parameters: list[Single]  # of the last epoch, as are Adam's moments and number of updates
    exp_avg: list[Single]
    exp_avg_sq: list[Single]
    updates: int

    def _resume_training(self, folder: Path, state: Mapping[str, Any], fitted: Any) -> None:
        arrays = read_arrays(folder / "training.npz")
        self.best, self.activation = fitted.arrays, fitted.activation
        self.updates = int(state["updates"])
        for name in ("parameters", "exp_avg", "exp_avg_sq"):
            saved = [arrays[f"{name}_{i}"].astype(np.float32, casting="safe") for i in range(len(self.best))]
            if [array.shape for array in saved] != [array.shape for array in self.best]:
                raise ValueError("weights and moments do not go together")
            setattr(self, name, saved)

    def prepare(self, config: Config, features: Encoded, train: DataSplit, validation: DataSplit) -> None:
        """Encode the validation set; put weights and moments that were kept into the network."""
        network = _network(config, len(train.target), self.context.task)
        self._network, self._features, self._train = network, float32(features), train
        target = self.target_scaler.transform(train.target)
        # Float32 like the features, or scikit-learn would compute in float64.
        self._target = target if self.context.task.is_classification else target.astype(np.float32)
        self._valid_features = float32(self.encoder.transform(validation.table))
        self._valid = validation
        self.activation = network.activation
        if not self.iterations:
            return
        self._learn(slice(0, network.batch_size))  # allocates the arrays, which are overwritten
        for arrays, saved in zip(self._state(), (self.parameters, self.exp_avg, self.exp_avg_sq), strict=True):
            for array, values in zip(arrays, saved, strict=True):
                np.copyto(array, values)
        network._optimizer.t = self.updates

    def _train_iterations(self, goal: int, deadline: float) -> None:
        self._network.random_state = int(self._draw_seeds()[0])
        try:
            self._learn(slice(None))
        except ValueError:
            # scikit-learn refuses weights that are not finite: the learning rate is too high, the best ones remain.
            diverged = not all(np.isfinite(array).all() for array in self._state()[0])
            if self.iterations == 0 or not diverged:
                raise
            self.finished = True
            return
        self.parameters, self.exp_avg, self.exp_avg_sq = self._state()
        self.updates = int(self._network._optimizer.t)
        if self.early_stopping.update(self._loss()):
            self.best = [array.copy() for array in self.parameters]
        self._after_evaluation()

    def _learn(self, rows: slice) -> None:
        # Float32 as well: scikit-learn would make the network float64.
        weight = None if self._train.weight is None else self._train.weight[rows].astype(np.float32)
        task = self.context.task
        classes = {"classes": np.arange(task.n_classes)} if task.is_classification else {}
        with np.errstate(over="ignore", invalid="ignore"):
            self._network.partial_fit(self._features[rows], self._target[rows], sample_weight=weight, **classes)

    def _state(self) -> tuple[list[Single], list[Single], list[Single]]:
        """Return the parameters that scikit-learn holds, and the moments of their gradients."""
        network, optimizer = self._network, self._network._optimizer
        return [*network.coefs_, *network.intercepts_], optimizer.ms, optimizer.vs

    def _loss(self) -> float:
        scores = mlp_scores(self._valid_features, self.parameters, self.activation)
        if self.context.task.is_classification:
            scores = logits(scores)
        return score_loss(scores, self._valid, self.context.task, self.target_scaler)

    def fitted(self) -> FittedModel:
        return FittedMLP(self.encoder, self.output(), self.best, self.activation)

    def _save_training(self, folder: Path) -> Mapping[str, Any]:
        """Write the weights of the last epoch and Adam's moments."""
        groups = {"parameters": self.parameters, "exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}
        arrays = {f"{name}_{i}": array for name, group in groups.items() for i, array in enumerate(group)}
        write_arrays(folder / "training.npz", arrays)
        return {"updates": self.updates}


class MLP(BaseFamily):
    """Fully connected networks."""

    name = kind = "mlp"
    model_type = MLPModel
    steps = (4, 8, 16, 32, 64, 128, 256, 512)

    def search_space(self, task: Task) -> dict[str, Param]:
        """Ranges of Auto-Sklearn 2.0; wider by default, with a learning rate that cannot diverge so easily."""
        return {
            "depth": whole(1, 3, 2),
            "width": whole(16, 264, 128, log=True),
            "activation": choice(["relu", "tanh"], "relu"),
            "learning_rate": real(1e-4, 3e-2, 1e-3, log=True),
            "alpha": real(1e-7, 1e-1, 1e-4, log=True),
            **preprocessing_space("quantile"),
            **class_weight_space(task),
        }


def _network(config: Config, n_rows: int, task: Task) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    batch_size = next(size for most, size in _BATCH_SIZES if n_rows <= most)
    kind = MLPClassifier if task.is_classification else MLPRegressor
    return kind(
        hidden_layer_sizes=(config["width"],) * int(config["depth"]),
        activation=config["activation"],
        alpha=config["alpha"],
        learning_rate_init=config["learning_rate"],
        batch_size=min(batch_size, n_rows),
    )

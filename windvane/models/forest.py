"""Random forests and extremely randomised trees, grown by scikit-learn, kept as arrays.

Each checkpoint adds only the trees that are new, in a separate file; the files before it are hard-linked.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

from windvane.data.task import Task
from windvane.models.base import BaseModel, Config, DataSplit, Param, TrainingContext, open_model
from windvane.models.encoding import ORDINAL, fit_encoder
from windvane.models.search_space import fill_defaults
from windvane.models.target_scaler import TargetScaler
from windvane.runtime.columns.encoder import Encoded, Encoder, float32
from windvane.runtime.columns.table import Table
from windvane.runtime.models.fitted import Fitted, FittedModel
from windvane.runtime.models.trees import FittedForest, TreeArrays

# Averaging the forests of five folds makes more trees than Auto-Sklearn 2.0's 512 of them; each costs time to grow and,
# more than those of any other family, to predict.
_STEPS = (8, 16, 32, 64, 128)
# Leaves of one tree: more would cost memory and time out of proportion on large noisy data.
_MOST_LEAVES = 20_000
# Seconds between looks at the clock, where there is a deadline.
_PULSE = 0.2


class Forest:
    """One of the two kinds of forest.

    Parameters
    ----------
    name
        "random_forest" (best splits, bootstrap samples by default) or "extra_trees" (random splits, all rows).
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def supports(self, task: Task, table: Table) -> bool:
        """Every task and table."""
        return True

    def search_space(self, task: Task) -> dict[str, Param]:
        """Ranges of Auto-Sklearn 2.0, with ``max_samples`` of TabArena, and how large categories are encoded."""
        from optuna.distributions import CategoricalDistribution as Choice
        from optuna.distributions import FloatDistribution as Float
        from optuna.distributions import IntDistribution as Int

        bagged = self.name == "random_forest"
        criterion = {"criterion": Param(Choice(["gini", "entropy"]), "gini")} if task.is_classification else {}
        # Splits look at (features ** exponent) features. For numbers, more than the square root is usual.
        exponent = 0.5 if task.is_classification else 0.75 if bagged else 1.0
        return {
            **criterion,
            "max_features": Param(Float(0.0, 1.0), exponent),
            "min_samples_split": Param(Int(2, 20), 2),
            "min_samples_leaf": Param(Int(1, 20, log=True), 1),
            "bootstrap": Param(Choice([True, False]), bagged),
            "max_samples": Param(Float(0.5, 1.0), 1.0, when={"bootstrap": (True,)}),
            "large_categories": Param(Choice(["target", "codes"]), "target"),
        }

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        """8 to 128 trees."""
        return _STEPS

    def create_model(
        self,
        config: Config,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None = None,
    ) -> ForestModel:
        """Encode the training set; the validation set is not needed."""
        config = fill_defaults(config, self.search_space(context.task))
        choices = ORDINAL if config["large_categories"] == "target" else replace(ORDINAL, large="codes")
        if train.table.sparse is not None:
            choices = replace(
                choices, impute="median"
            )  # scikit-learn's trees take missing values in dense features only
        encoder, features = fit_encoder(choices, train.table, train.target, context.task)
        features = float32(features)
        model = ForestModel(encoder, features.shape[1], context)
        if checkpoint is not None:
            model.resume(checkpoint)
        model.prepare(self._estimator(config, features, context), features, train)
        return model

    def load(self, folder: Path, context: TrainingContext) -> Fitted:
        """Open a checkpoint for prediction."""
        model: Fitted = open_model(folder, context, "forest")
        return model

    def _estimator(self, config: Config, features: Encoded, context: TrainingContext) -> Any:
        from sklearn import ensemble

        kinds = {"random_forest": "RandomForest", "extra_trees": "ExtraTrees"}
        suffix = "Classifier" if context.task.is_classification else "Regressor"
        n_rows, n_features = features.shape
        samples = float(config.get("max_samples", 1.0))
        criterion = {"criterion": config["criterion"]} if context.task.is_classification else {}
        return getattr(ensemble, kinds[self.name] + suffix)(
            **criterion,
            max_features=max(1, round(n_features ** float(config["max_features"]))),
            min_samples_split=config["min_samples_split"],
            min_samples_leaf=max(int(config["min_samples_leaf"]), math.ceil(n_rows / _MOST_LEAVES)),
            bootstrap=config["bootstrap"],
            max_samples=samples if config["bootstrap"] and samples < 1 else None,
            warm_start=True,
            random_state=context.seed,
            n_jobs=context.threads,
        )


class ForestModel(BaseModel):
    """One forest being grown; see `windvane.models.base.Model`.

    Attributes
    ----------
    parts
        The trees, in the portions in which they are saved.
    classes
        Codes of the classes that the training set holds; empty for regression.
    """

    def __init__(self, encoder: Encoder, n_features: int, context: TrainingContext) -> None:
        super().__init__(encoder, TargetScaler(), context)
        self.parts: list[TreeArrays] = []
        self.classes: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._n_features = n_features
        self._new: list[Any] = []
        self._fitted: FittedForest | None = None
        self._folder: Path | None = None  # of the last checkpoint, whose files can be linked

    def resume(self, folder: Path) -> None:
        """Take over the trees of a checkpoint."""
        self.restore(folder)
        fitted = open_model(folder, self.context, "forest")
        self.encoder, self.parts, self.classes, self._folder = fitted.encoder, fitted.parts, fitted.classes, folder
        self.iterations = self.best_iteration = sum(len(part.sizes) for part in self.parts)

    def prepare(self, estimator: Any, features: Encoded, train: DataSplit) -> None:
        """Take what is needed to grow."""
        self._estimator, self._train = estimator, train
        self._features = features.tocsc() if isinstance(features, sp.csr_matrix) else features

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        """Add trees; with a deadline in small groups, which changes nothing in the trees."""
        goal, seconds_a_tree = min(iterations, _STEPS[-1]), math.inf
        while self.iterations < goal and time.monotonic() < deadline:
            left, begin = goal - self.iterations, time.monotonic()
            few = max(self.context.threads, int(_PULSE / seconds_a_tree))
            count = left if deadline == math.inf else min(left, few)
            self._add(count)
            seconds_a_tree = max((time.monotonic() - begin) / count, 1e-9)
        self.finished = self.iterations >= _STEPS[-1]

    def _add(self, count: int) -> None:
        forest, before = self._estimator, self.iterations
        # A warm start asks of the trees before only how many they are.
        forest.estimators_ = [None] * before
        forest.set_params(n_estimators=before + count).fit(self._features, self._train.target, self._train.weight)
        self._new += [tree.tree_ for tree in forest.estimators_[before:]]
        self.classes = np.asarray(getattr(forest, "classes_", []), dtype=np.intp)
        self.iterations = self.best_iteration = before + count
        self._fitted = None

    def fitted(self) -> FittedModel:
        """Return all trees so far."""
        if self._new:
            self.parts.append(TreeArrays.of(self._new))
            self._new = []
        if self._fitted is None:
            output = self.output(self.classes)
            self._fitted = FittedForest(self.encoder, output, self.parts, self._n_features, self._folder)
        return self._fitted

    def save(self, folder: Path) -> None:
        """Write a checkpoint: the new trees; earlier files are linked where that is possible."""
        super().save(folder)
        self._folder = folder

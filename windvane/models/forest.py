"""Random forests and extremely randomised trees, grown by scikit-learn, kept as arrays.

Each checkpoint adds only the trees that are new, in a separate file; the files before it are hard-linked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

from windvane.data.task import Task
from windvane.models.base import Config, DataSplit, Param, TrainingContext
from windvane.models.base_model import BaseFamily, BaseModel
from windvane.models.encoding import ORDINAL, EncoderSettings, Impute, Large
from windvane.models.search_space import choice, real, whole
from windvane.models.targets.target_scaler import TargetScaler
from windvane.runtime.columns.encoder import Encoded, Encoder, float32
from windvane.runtime.columns.table import Table
from windvane.runtime.models.fitted import FittedModel
from windvane.runtime.models.trees import FOREST_SIZE, FittedForest, TreeArrays

# Leaves of one tree: more would cost memory and time out of proportion on large noisy data.
_MOST_LEAVES = 20_000
# Seconds between looks at the clock, where there is a deadline.
_PULSE = 0.2


class ForestModel(BaseModel):
    family: Forest

    def __init__(self, family: Forest, encoder: Encoder, target_scaler: TargetScaler, context: TrainingContext) -> None:
        super().__init__(family, encoder, target_scaler, context)
        self.parts: list[TreeArrays] = []  # the trees, in the portions in which they are saved
        self.classes: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._seconds_per_tree = math.inf
        self._new: list[Any] = []
        self._fitted: FittedForest | None = None
        self._folder: Path | None = None  # of the last checkpoint, whose files can be linked

    def _resume_training(self, folder: Path, state: Mapping[str, Any], fitted: Any) -> None:
        self.parts, self.classes, self._folder = fitted.parts, fitted.classes, folder
        self.iterations = self.best_iteration = sum(len(part.sizes) for part in self.parts)

    def prepare(self, config: Config, features: Encoded, train: DataSplit, validation: DataSplit) -> None:
        features = float32(features)
        self._estimator, self._train = self.family.create_estimator(config, features, self.context), train
        self._n_features = features.shape[1]
        self._features = features.tocsc() if isinstance(features, sp.csr_matrix) else features

    def _train_iterations(self, goal: int, deadline: float) -> None:
        """Add trees; with a deadline in small groups, which changes nothing in the trees."""
        begin, left = time.monotonic(), goal - self.iterations
        few = max(self.context.threads, int(_PULSE / self._seconds_per_tree))
        count = left if deadline == math.inf else min(left, few)
        self._add(count)
        self._seconds_per_tree = max((time.monotonic() - begin) / count, 1e-9)
        self.finished = self.iterations >= self.max_iterations

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


class Forest(BaseFamily):
    """Random forest (best splits, bootstrap samples by default) or extra trees (random splits, all rows)."""

    kind = "forest"
    model_type = ForestModel
    # The forests of five folds together have more trees than Auto-Sklearn 2.0's 512. Each costs time to grow and, more
    # than those of any other family, to predict.
    steps = (8, 16, 32, 64, FOREST_SIZE)
    scales_target = False
    usual_cost = 70.0  # of half the trees: the models of several folds share them

    def __init__(self, name: str) -> None:
        self.name = name

    def search_space(self, task: Task) -> dict[str, Param]:
        """Ranges of Auto-Sklearn 2.0, with ``max_samples`` of TabArena, and how large categories are encoded."""
        bagged = self.name == "random_forest"
        criterion = {"criterion": choice(["gini", "entropy"], "gini")} if task.is_classification else {}
        # Splits look at (features ** exponent) features. For numbers, more than the square root is usual.
        exponent = 0.5 if task.is_classification else 0.75 if bagged else 1.0
        return {
            **criterion,
            "max_features": real(0.0, 1.0, exponent),
            "min_samples_split": whole(2, 20, 2),
            "min_samples_leaf": whole(1, 20, 1, log=True),
            "bootstrap": choice([True, False], bagged),
            "max_samples": real(0.5, 1.0, 1.0, when={"bootstrap": (True,)}),
            "large_categories": choice(["target", "codes"], "target"),
        }

    def encoding(self, config: Config, table: Table) -> EncoderSettings:
        """Small categories one-hot, large ones as the configuration wants."""
        # scikit-learn's trees take missing values in dense features only.
        impute: Impute = "none" if table.sparse is None else "median"
        large: Large = "target" if config["large_categories"] == "target" else "codes"
        return replace(ORDINAL, large=large, impute=impute)

    def create_estimator(self, config: Config, features: Encoded, context: TrainingContext) -> Any:
        """Make scikit-learn's forest, which trees are added to."""
        n_rows, n_features = features.shape
        samples = float(config.get("max_samples", 1.0))
        criterion = {"criterion": config["criterion"]} if context.task.is_classification else {}
        return forest_type(self.name, context.task)(
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


def forest_type(name: str, task: Task) -> Any:
    """Return scikit-learn's class of a forest."""
    from sklearn import ensemble

    kind = {"random_forest": "RandomForest", "extra_trees": "ExtraTrees"}[name]
    return getattr(ensemble, kind + ("Classifier" if task.is_classification else "Regressor"))

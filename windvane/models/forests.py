"""Random forests and extremely randomised trees, grown by scikit-learn, kept as arrays.

Each kept state adds only the trees that are new, in a file of their own; the files before it are hard-linked.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

from windvane.data.compiled import Encoded
from windvane.data.encoders import ORDINAL, Encoder, float32
from windvane.data.store import read_json, reading, write_json
from windvane.data.table import Floats, Table
from windvane.data.task import Task
from windvane.models.base import Config, Param, Part, Setting
from windvane.models.params import complete
from windvane.models.trees import Descent, Trees

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

    def space(self, task: Task) -> dict[str, Param]:
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

    def steps(self, config: Config, task: Task) -> tuple[int, ...]:
        """8 to 128 trees."""
        return _STEPS

    def start(
        self, config: Config, train: Part, valid: Part, setting: Setting, kept: Path | None = None
    ) -> ForestModel:
        """Encode the training part; the validation part is not needed."""
        config = complete(config, self.space(setting.task))
        choices = ORDINAL if config["large_categories"] == "target" else replace(ORDINAL, large="codes")
        if train.table.sparse is not None:
            choices = replace(
                choices, impute="median"
            )  # scikit-learn's trees take missing values in dense features only
        encoder = Encoder(choices)
        features = float32(encoder.fit_transform(train.table, train.target, setting.task))
        model = ForestModel(encoder, features.shape[1], setting) if kept is None else self.load(kept, setting)
        model.prepare(self._estimator(config, features, setting), features, train)
        return model

    def load(self, folder: Path, setting: Setting) -> ForestModel:
        """Open a kept state; continuing needs `start`."""
        state = read_json(folder / "state.json")
        encoder = Encoder.load(folder)
        with reading(folder):
            n_features, names = int(state["n_features"]), range(int(state["parts"]))
            model = ForestModel(encoder, n_features, setting)
            wanted = math.ceil(_STEPS[-1] / setting.siblings)  # together as many as validation has judged
            for i in names:
                if model.iterations < wanted:
                    part = Trees.read(folder / f"trees_{i}.npz", n_features).first(wanted - model.iterations)
                    model.parts.append(part)
                    model.iterations += len(part.sizes)
            model.best_iteration = model.iterations
            model.classes = np.asarray(state["classes"], dtype=np.intp)
            model.finished, model.folder = bool(state["finished"]), folder
            width = max(1, len(model.classes))
            if any(part.values.shape[1] != width for part in model.parts) or not _within(model.classes, setting.task):
                raise ValueError("trees and classes do not go together")
        return model

    def _estimator(self, config: Config, features: Encoded, setting: Setting) -> Any:
        from sklearn import ensemble

        kinds = {"random_forest": "RandomForest", "extra_trees": "ExtraTrees"}
        suffix = "Classifier" if setting.task.is_classification else "Regressor"
        n_rows, n_features = features.shape
        samples = float(config.get("max_samples", 1.0))
        criterion = {"criterion": config["criterion"]} if setting.task.is_classification else {}
        return getattr(ensemble, kinds[self.name] + suffix)(
            **criterion,
            max_features=max(1, round(n_features ** float(config["max_features"]))),
            min_samples_split=config["min_samples_split"],
            min_samples_leaf=max(int(config["min_samples_leaf"]), math.ceil(n_rows / _MOST_LEAVES)),
            bootstrap=config["bootstrap"],
            max_samples=samples if config["bootstrap"] and samples < 1 else None,
            warm_start=True,
            random_state=setting.seed,
            n_jobs=setting.threads,
        )


class ForestModel:
    """One forest being grown; see `windvane.models.base.Model`.

    Attributes
    ----------
    parts
        The trees, in the portions in which they are kept.
    classes
        Codes of the classes that the training part holds; empty for regression.
    folder
        Where the state was last kept: the files in it can be linked.
    """

    def __init__(self, encoder: Encoder, n_features: int, setting: Setting) -> None:
        self.iterations = self.best_iteration = 0
        self.finished = False
        self.parts: list[Trees] = []
        self.classes: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.folder: Path | None = None
        self._encoder, self._n_features, self._setting = encoder, n_features, setting
        self._new: list[Any] = []
        self._descent: Descent | None = None

    def prepare(self, estimator: Any, features: Encoded, train: Part) -> None:
        """Take what is needed to grow."""
        self._estimator, self._train = estimator, train
        self._features = features.tocsc() if isinstance(features, sp.csr_matrix) else features

    def grow(self, iterations: int, until: float = np.inf) -> None:
        """Add trees; with a deadline in small groups, which changes nothing in the trees."""
        goal, seconds_a_tree = min(iterations, _STEPS[-1]), math.inf
        while self.iterations < goal and time.monotonic() < until:
            left, begin = goal - self.iterations, time.monotonic()
            few = max(self._setting.threads, int(_PULSE / seconds_a_tree))
            count = left if until == math.inf else min(left, few)
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
        self._descent = None

    def predict(self, table: Table) -> Floats:
        """Average the trees."""
        self._collect()
        if self._descent is None:
            self._descent = Descent(self.parts, self._n_features)
        found = self._descent(float32(self._encoder.transform(table)))  # (n, k)
        if not self._setting.task.is_classification:
            return found[:, 0]
        if len(self.classes) == self._setting.task.n_classes:
            return found
        every = np.zeros((len(found), self._setting.task.n_classes))
        every[:, self.classes] = found
        return every

    def save(self, folder: Path) -> None:
        """Write the encoder, ``state.json`` and the new trees; earlier files are linked where that is possible."""
        self._collect()
        self._encoder.save(folder)
        for i, part in enumerate(self.parts):
            target = folder / f"trees_{i}.npz"
            try:
                if self.folder is None:
                    raise FileNotFoundError
                os.link(self.folder / target.name, target)
            except OSError:  # new, moved away, or a file system without links
                part.write(target)
        self.folder = folder
        state = {"finished": self.finished, "parts": len(self.parts), "n_features": self._n_features}
        write_json(folder / "state.json", {**state, "classes": self.classes.tolist()})

    def _collect(self) -> None:
        if self._new:
            self.parts.append(Trees.of(self._new))
            self._new = []


def _within(classes: NDArray[np.intp], task: Task) -> bool:
    return bool(((classes >= 0) & (classes < task.n_classes)).all())

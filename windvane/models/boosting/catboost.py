"""Gradient boosting with CatBoost.

CatBoost's own snapshot holds everything that its training needs to continue, random streams included. Each call raises
the number of iterations and continues from the snapshot, which gives exactly the model of one uninterrupted fit (some
10 % slower). The snapshot is kept beside the model, so that any worker can continue.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from windvane.data.task import Task
from windvane.models.base import Config, DataSplit, Param, TrainingContext
from windvane.models.boosting.boosting_family import WIDE, BoostingFamily, BoostingModel
from windvane.models.search_space import choice, real, whole
from windvane.models.targets.target_scaler import TargetScaler
from windvane.runtime.columns.encoder import Encoded, Encoder
from windvane.runtime.models.boosters import CatBoostColumns, FittedCatBoost
from windvane.runtime.serialization import check_digest, delete_with, digest, temporary_folder

_MOST_COLUMNS = 500
_LOSSES = {"binary": "Logloss", "multiclass": "MultiClass", "regression": "RMSE"}


class CatBoostModel(BoostingModel):
    fitted_type = FittedCatBoost
    patience = 50  # as for LightGBM

    def __init__(
        self, family: BoostingFamily, encoder: Encoder, target_scaler: TargetScaler, context: TrainingContext
    ) -> None:
        super().__init__(family, encoder, target_scaler, context)
        self._columns = CatBoostColumns(encoder)
        folder = temporary_folder("windvane-catboost-")
        delete_with(self, folder)
        self._snapshot = folder / "snapshot"

    def prepare(self, config: Config, features: Encoded, train: DataSplit, validation: DataSplit) -> None:
        from catboost import Pool

        self._parameters = _parameters(config, self.context) | {
            "train_dir": str(self._snapshot.parent),
            "snapshot_file": str(self._snapshot),
        }
        if self.context.task.kind == "binary" and (train.target == train.target[0]).all():
            self._parameters["class_names"] = [0, 1]  # else it would not know the other class
        known = self.encoder.transform(validation.table)
        self._train = Pool(self._columns(features), self.target_scaler.transform(train.target), weight=train.weight)
        self._valid = Pool(
            self._columns(known), self.target_scaler.transform(validation.target), weight=validation.weight
        )

    def _train_iterations(self, goal: int, deadline: float) -> None:
        """Raise the number of trees; a callback looks at patience and the clock after each."""
        from catboost import CatBoost

        def has_time(info: Any) -> bool:
            self.early_stopping.update(info.metrics["validation"][self._parameters["loss_function"]][-1])
            return not self.early_stopping.should_stop and time.monotonic() < deadline

        callback = SimpleNamespace(after_iteration=has_time)
        self.booster = CatBoost({**self._parameters, "iterations": goal})
        self.booster.fit(self._train, eval_set=self._valid, callbacks=[callback])
        self._after_evaluation()

    def _save_training(self, folder: Path) -> Mapping[str, Any]:
        """Copy CatBoost's own snapshot, from which it resumes."""
        shutil.copyfile(self._snapshot, folder / "training.snapshot")
        return {"sha256": digest(folder / "training.snapshot")}

    def _resume_training(self, folder: Path, state: Mapping[str, Any], fitted: Any) -> None:
        self.booster = fitted.booster
        if self.iterations:
            check_digest(folder / "training.snapshot", state["sha256"])
            shutil.copyfile(folder / "training.snapshot", self._snapshot)


class CatBoost(BoostingFamily):
    """Symmetric boosted trees; categories by ordered target statistics, missing values native."""

    name = kind = "catboost"
    model_type = CatBoostModel
    steps = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    takes_sparse = False  # CatBoost takes no categories beside a sparse part

    def search_space(self, task: Task) -> dict[str, Param]:
        """Ranges of TabArena; the default is the one tuned in "Better by default", arXiv 2407.04491, table CatBoost-TD.

        Two changes for speed: depth 7 for regression too (there 9), and combinations of two categories at most.
        """
        classify = task.is_classification
        return {
            "learning_rate": real(5e-3, 0.2, 0.08 if classify else 0.09, log=True),
            "depth": whole(3, 8, 7),
            "l2_leaf_reg": real(1e-5, 10.0, 1e-5, log=True),
            "subsample": real(0.6, 1.0, 0.9),
            "rsm": real(0.6, 1.0, 1.0),
            "random_strength": real(0.0, 2.0, 0.8 if classify else 0.0),
            "leaf_estimation_iterations": whole(1, 10, 1, log=True),
            "one_hot_max_size": whole(2, 100, 15 if classify else 20, log=True),
            "max_ctr_complexity": whole(1, 4, 2),
            "model_size_reg": real(0.1, 1.5, 0.5, log=True),
            "features": choice(["raw", "generated"], "raw"),
        }

    def prediction_cost(self, config: Config, iterations: float, task: Task) -> float:
        """Symmetric trees of all classes at once, many rows at a time; and the names of the categories."""
        return 5.0 + 0.5 * task.n_columns + (0.02 + 0.003 * task.n_outputs) * iterations


def _parameters(config: Config, context: TrainingContext) -> dict[str, Any]:
    """Make the parameters, all that depend on the number of iterations by default being explicit."""
    task = context.task
    return {
        **{name: value for name, value in config.items() if name != "features"},
        # So many columns at most for each split; AutoGluon has a similar rule, 1000, for many classes.
        "rsm": min(float(config["rsm"]), _MOST_COLUMNS / task.n_columns),
        "border_count": 64 if task.n_columns > WIDE else 254,
        "loss_function": _LOSSES[task.kind] if task.quantile is None else f"Quantile:alpha={task.quantile}",
        **({"classes_count": task.n_classes} if task.kind == "multiclass" else {}),
        "boosting_type": "Plain",
        "bootstrap_type": "Bernoulli",
        "use_best_model": False,
        "allow_const_label": True,
        "random_seed": context.seed,
        "thread_count": context.threads,
        "logging_level": "Silent",
        "save_snapshot": True,
        # Seconds between snapshots: none is written before the end of a call.
        "snapshot_interval": 100_000,
    }

"""What LightGBM, CatBoost and XGBoost share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from windvane.data.task import Task
from windvane.models.base import Config, Param
from windvane.models.base_model import BaseFamily, BaseModel
from windvane.models.encoding import NATIVE, EncoderSettings
from windvane.models.search_space import choice
from windvane.models.targets.target_scaler import TargetScaler
from windvane.runtime.columns.table import Table
from windvane.runtime.models.boosters import FittedBooster, FittedLightGBM, FittedXGBoost
from windvane.runtime.models.fitted import FittedModel
from windvane.runtime.serialization import digest

# Columns above which boosters sort numbers into a quarter of the bins: measured on 617 columns with 26 classes, a
# round then takes half as long with LightGBM and a third with CatBoost.
WIDE = 300
# Columns times classes above which one round takes about a second, so that the first checkpoint comes earlier.
_SLOW = 3000
LOG_LINKS = ("poisson", "tweedie")  # objectives whose trees add up to the logarithm of a mean


class BoostingFamily(BaseFamily):
    """Boosted trees that take numbers, missing values and category codes as they are."""

    predicts_quantiles = True

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        """4 (16 where rounds are quick) to all rounds; one is a tree, for each class where there are more than two."""
        slow = task.n_columns * max(1, task.n_classes) > _SLOW
        return self.steps if slow else self.steps[2:]

    def encoding(self, config: Config, table: Table) -> EncoderSettings:
        """Numbers and codes as they are; generated features where the configuration wants them."""
        return replace(NATIVE, generated=config["features"] == "generated")


class BoostingModel(BaseModel):
    """One booster being trained."""

    fitted_type: ClassVar[type[FittedBooster]]  # of what predicts
    booster: Any = None  # of the library, once it was trained

    def fitted(self) -> FittedModel:
        return self.fitted_type(self.encoder, self.output(), self.booster, self.best_iteration, self.context.threads)


class SegmentedModel(BoostingModel):
    """A booster that is trained in segments, each with separate seeds, because no file holds its random streams."""

    fitted_type: ClassVar[type[FittedLightGBM | FittedXGBoost]]
    training_file: ClassVar[str]  # of all trees, where some came after the best iteration
    _live = False  # whether the booster can be updated: it was not read from a file

    def _save_training(self, folder: Path) -> Mapping[str, Any]:
        if self.best_iteration == self.iterations:
            return {"sha256": None}
        path = folder / self.training_file
        self.booster.save_model(path)
        return {"sha256": digest(path)}

    def _resume_training(self, folder: Path, state: Mapping[str, Any], fitted: Any) -> None:
        self.booster = fitted.booster
        if state["sha256"] is not None:
            self.booster = self.fitted_type.read_booster(folder / self.training_file, state["sha256"])


def objective_space(task: Task) -> dict[str, Param]:
    """Return the choice of an objective with a log link, for targets that allow it."""
    return {"objective": choice(["regression", *LOG_LINKS], "regression")} if task.log_link else {}


def descent_cost(iterations: float, depth: float, task: Task) -> float:
    """Return the cost of prediction where rows descend one tree after the other: a round has a tree for each class."""
    n_trees = iterations * (task.n_classes if task.kind == "multiclass" else 1)
    return 2.0 + 0.06 * n_trees * depth


def with_log_link(config: Config, target_scaler: TargetScaler) -> tuple[Config, TargetScaler]:
    """Return what trains with the objective of a configuration: with a log link the target keeps its zero."""
    if config.get("objective") not in LOG_LINKS:
        return config, target_scaler
    if target_scaler.scale > 0:  # a mean of 0 has no logarithm
        return config, replace(target_scaler, mean=0.0)
    return {**config, "objective": "regression"}, target_scaler  # a constant target, of which nothing is to be learned

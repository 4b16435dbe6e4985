"""What LightGBM, CatBoost and XGBoost share."""

from __future__ import annotations

from dataclasses import replace

from windvane.data.task import Task
from windvane.models.base import Config
from windvane.models.base_model import BaseFamily
from windvane.models.encoding import NATIVE, EncoderSettings
from windvane.models.targets.target_scaler import TargetScaler
from windvane.runtime.columns.table import Table

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


def with_log_link(config: Config, target_scaler: TargetScaler) -> tuple[Config, TargetScaler]:
    """Return what trains with the objective of a configuration: with a log link the target keeps its zero."""
    if config.get("objective") not in LOG_LINKS:
        return config, target_scaler
    if target_scaler.scale > 0:  # a mean of 0 has no logarithm
        return config, replace(target_scaler, mean=0.0)
    return {**config, "objective": "regression"}, target_scaler  # a constant target, of which nothing is to be learned

"""What LightGBM and CatBoost share."""

from __future__ import annotations

from dataclasses import replace

from windvane.data.task import Task
from windvane.models.base import Config
from windvane.models.base_model import BaseFamily
from windvane.models.encoding import NATIVE, EncoderSettings
from windvane.runtime.columns.table import Table

# Columns above which boosters sort numbers into a quarter of the bins: measured on 617 columns with 26 classes, a
# round then takes half as long with LightGBM and a third with CatBoost.
WIDE = 300
# Columns times classes above which one round takes about a second, so that the first checkpoint comes earlier.
_SLOW = 3000


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

"""Gradient boosting with LightGBM.

A model is trained in segments that end after 4, 8, 16 ... rounds. Each segment has its own random seeds and starts
from the trees before it, so a model that is continued from a checkpoint is bit for bit the model that was never
interrupted, however its training was divided. (Within a segment, a model from a file would begin LightGBM's random
streams, which no file holds, again.) The price is one more pass of the training rows through each tree, about a tenth.
"""

from __future__ import annotations

import math
from typing import Any

from windvane.data.task import Task
from windvane.models.base import Config, DataSplit, Param, TrainingContext
from windvane.models.boosting.boosting_family import (
    WIDE,
    BoostingFamily,
    SegmentedModel,
    descent_cost,
    objective_space,
    with_log_link,
)
from windvane.models.search_space import choice, fill_defaults, real, whole
from windvane.runtime.columns.encoder import Encoded
from windvane.runtime.models.boosters import FittedLightGBM

_SEEDS = ("bagging_seed", "feature_fraction_seed", "extra_seed", "objective_seed")


class LightGBMModel(SegmentedModel):
    fitted_type = FittedLightGBM
    training_file = "training.txt"
    # AutoGluon allows 300 rounds on up to 10,000 rows, within hours. On the log loss and on squared errors, which are
    # watched here, little patience loses little ("Better by default", arXiv 2407.04491: "robust to low patience", for
    # regression 10 to 20 rounds are near best), and a short budget has better uses for the rounds.
    patience = 50

    def prepare(self, config: Config, features: Encoded, train: DataSplit, validation: DataSplit) -> None:
        import lightgbm as lgb

        p, c = self.encoder.n_numbers, len(train.table.cardinalities)
        config, self.target_scaler = with_log_link(config, self.target_scaler)
        self._parameters = _parameters(config, train, self.context)
        # The raw features stay: the trees of earlier segments are run over them where a segment begins.
        self._train = lgb.Dataset(
            features,
            self.target_scaler.transform(train.target),
            weight=train.weight,
            categorical_feature=list(range(p, p + c)),
            params=self._parameters,
            free_raw_data=False,
        ).construct()
        self._valid = self._train.create_valid(
            self.encoder.transform(validation.table),
            self.target_scaler.transform(validation.target),
            weight=validation.weight,
        )

    def _train_iterations(self, goal: int, deadline: float) -> None:
        import lightgbm as lgb

        if self._live and self.iterations not in self.family.steps:
            self.booster.update()
        else:  # a segment begins
            seeds = self._draw_seeds(len(_SEEDS)) >> 1  # LightGBM's integers are signed
            self.booster = lgb.train(
                self._parameters | dict(zip(_SEEDS, seeds.tolist(), strict=True)),
                self._train,
                num_boost_round=1,
                valid_sets=[self._valid],
                init_model=self.booster,
                keep_training_booster=True,
            )
            self._live = True
        if self.booster.current_iteration() == self.iterations:
            self.finished = True  # no split is left, and LightGBM dropped the tree
            return
        self.early_stopping.update(self.booster.eval_valid()[0][2])
        self._after_evaluation()


class LightGBM(BoostingFamily):
    """Leaf-wise boosted trees; categories and missing values are native."""

    name = kind = "lightgbm"
    model_type = LightGBMModel
    steps = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)

    def search_space(self, task: Task) -> dict[str, Param]:
        """Ranges of TabArena; the default is the one tuned in "Better by default", arXiv 2407.04491, table LGBM-TD."""
        classify = task.is_classification
        return {
            "learning_rate": real(5e-3, 0.2, 0.04 if classify else 0.05, log=True),
            "num_leaves": whole(2, 256, 50 if classify else 100, log=True),
            "min_data_in_leaf": whole(1, 100, 40 if classify else 3, log=True),
            "feature_fraction": real(0.3, 1.0, 1.0),
            "bagging_fraction": real(0.5, 1.0, 0.75 if classify else 0.7),
            "extra_trees": choice([False, True], False),
            "lambda_l1": real(1e-4, 1.0, 1e-4),
            "lambda_l2": real(1e-4, 2.0, 1e-4),
            "cat_smooth": real(1e-3, 100.0, 10.0, log=True),
            "cat_l2": real(5e-3, 20.0, 10.0, log=True),
            "max_cat_to_onehot": whole(4, 100, 4, log=True),
            "min_data_per_group": whole(2, 200, 100, log=True),
            "features": choice(["raw", "generated"], "raw"),
            **objective_space(task),
        }

    def prediction_cost(self, config: Config, iterations: float, task: Task) -> float:
        """Trees of so many leaves are about as deep as balanced ones."""
        leaves = int(fill_defaults(config, self.search_space(task))["num_leaves"])
        return descent_cost(iterations, math.log2(leaves), task)


def _parameters(config: Config, train: DataSplit, context: TrainingContext) -> dict[str, Any]:
    task = context.task
    n_rows = len(train.target)
    objective = {"binary": "binary", "multiclass": "multiclass"}.get(task.kind) or config.get("objective", "regression")
    metric = {"binary": "binary_logloss", "multiclass": "multi_logloss", "regression": "l2"}[task.kind]
    quantile: dict[str, Any] = {}
    if task.quantile is not None:
        objective = metric = "quantile"
        quantile = {"alpha": task.quantile}
    return {
        **{name: value for name, value in config.items() if name != "features"},
        "objective": objective,
        "metric": metric,
        **quantile,
        "num_class": task.n_classes if task.kind == "multiclass" else 1,
        # A leaf of more than a tenth of the rows would forbid nearly every split on small data.
        "min_data_in_leaf": min(int(config["min_data_in_leaf"]), max(1, n_rows // 10)),
        "min_sum_hessian_in_leaf": 1e-7,
        "bagging_freq": 1,
        "max_bin": 63 if task.n_columns > WIDE else 255,
        "feature_pre_filter": False,
        "verbosity": -1,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": context.threads,
        "data_random_seed": 0,
    }

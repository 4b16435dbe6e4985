"""Gradient boosting with XGBoost, which is installed on request: ``pip install 'windvane[xgboost]'``.

A model is trained in segments, as with LightGBM: each begins with a booster read from the trees before it and with
separate seeds, because no file holds the state of XGBoost's random streams. A model that is continued from a
checkpoint is then bit for bit the model that was never interrupted.
"""

from __future__ import annotations

from typing import Any, ClassVar

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
from windvane.runtime.models.boosters import FittedXGBoost, xgboost_rows

_OBJECTIVES = {
    "binary": ("binary:logistic", "logloss"),
    "multiclass": ("multi:softprob", "mlogloss"),
    "regression": ("reg:squarederror", "rmse"),
    "poisson": ("count:poisson", "rmse"),
    "tweedie": ("reg:tweedie", "rmse"),
    "quantile": ("reg:quantileerror", "quantile"),
}


class XGBoostModel(SegmentedModel):
    fitted_type = FittedXGBoost
    training_file = "training.ubj"
    patience = 50  # as for LightGBM

    def prepare(self, config: Config, features: Encoded, train: DataSplit, validation: DataSplit) -> None:
        config, self.target_scaler = with_log_link(config, self.target_scaler)
        self._parameters = _parameters(config, self.context)
        target, threads = self.target_scaler.transform(train.target), self.context.threads
        max_bin = self._parameters["max_bin"]
        self._train = xgboost_rows(features, self.encoder, threads, target, train.weight, max_bin)
        target, known = self.target_scaler.transform(validation.target), self.encoder.transform(validation.table)
        self._valid = xgboost_rows(known, self.encoder, threads, target, validation.weight)

    def _train_iterations(self, goal: int, deadline: float) -> None:
        import xgboost as xgb

        if not self._live or self.iterations in self.family.steps:  # a segment begins, of the trees so far
            parameters = self._parameters | {"seed": int(self._draw_seeds()[0] >> 1)}  # XGBoost's integers are signed
            booster = xgb.Booster(parameters, [self._train, self._valid])
            if self.booster is not None:
                booster.load_model(self.booster.save_raw("ubj"))
                booster.set_param(parameters)  # reading forgets them
            self.booster, self._live = booster, True
        self.booster.update(self._train, self.iterations)
        found = self.booster.eval_set([(self._valid, "validation")], self.iterations)
        self.early_stopping.update(float(found.rpartition(":")[2]))
        self._after_evaluation()


class XGBoost(BoostingFamily):
    """Boosted trees, by depth or by leaf; categories and missing values are native."""

    name = kind = "xgboost"
    model_type = XGBoostModel
    package: ClassVar[str] = "xgboost"
    steps = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    takes_sparse = False  # XGBoost takes its zeros for missing values

    def search_space(self, task: Task) -> dict[str, Param]:
        """Ranges like LightGBM's; the default is tuned in "Better by default", arXiv 2407.04491, table XGB-TD."""
        classify = task.is_classification
        return {
            "learning_rate": real(5e-3, 0.2, 0.08 if classify else 0.05, log=True),
            "grow_policy": choice(["depthwise", "lossguide"], "depthwise"),
            "max_depth": whole(3, 10, 6 if classify else 9),
            "min_child_weight": real(1e-6, 10.0, 5e-6 if classify else 2.0, log=True),
            "subsample": real(0.5, 1.0, 0.65 if classify else 0.7),
            "colsample_bylevel": real(0.3, 1.0, 0.9 if classify else 1.0),
            "reg_alpha": real(1e-4, 5.0, 1e-4, log=True),
            "reg_lambda": real(1e-4, 5.0, 1e-4, log=True),
            "max_cat_to_onehot": whole(4, 100, 4, log=True),
            "features": choice(["raw", "generated"], "raw"),
            **objective_space(task),
        }

    def prediction_cost(self, config: Config, iterations: float, task: Task) -> float:
        """Trees are as deep as they may be."""
        depth = int(fill_defaults(config, self.search_space(task))["max_depth"])
        return descent_cost(iterations, depth, task)


def _parameters(config: Config, context: TrainingContext) -> dict[str, Any]:
    task = context.task
    name = "quantile" if task.quantile is not None else str(config.get("objective", task.kind))
    objective, metric = _OBJECTIVES[name]
    return {
        **{name: value for name, value in config.items() if name != "features"},
        "objective": objective,
        "eval_metric": metric,
        **({"num_class": task.n_classes} if task.kind == "multiclass" else {}),
        **({} if task.quantile is None else {"quantile_alpha": task.quantile}),
        "max_leaves": 0,
        "tree_method": "hist",
        "max_bin": 64 if task.n_columns > WIDE else 256,
        "seed_per_iteration": True,  # the random stream is one for all models of a process
        "nthread": context.threads,
        "verbosity": 0,
    }

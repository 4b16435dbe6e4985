"""Gradient boosting with LightGBM.

A model grows through segments that end after 4, 8, 16 ... rounds. Each segment has its own random seeds and starts
from the trees before it, so a model that is continued from a checkpoint is bit for bit the model that was never
interrupted, however its growth was divided. (Going on from a file within a segment would begin LightGBM's random
streams, which no file holds, again.) One more pass of the training rows through each tree is the price, about a tenth.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from windvane.data.task import Task
from windvane.models.base import BaseModel, Config, DataSplit, Param, TrainingContext, open_model
from windvane.models.boosting.cost import WIDE, is_slow
from windvane.models.early_stopping import EarlyStopping
from windvane.models.encoding import NATIVE, fit_encoder
from windvane.models.search_space import fill_defaults
from windvane.models.target_scaler import TargetScaler
from windvane.runtime.columns.encoder import Encoded, Encoder
from windvane.runtime.columns.table import Table
from windvane.runtime.models.boosters import FittedLightGBM
from windvane.runtime.models.fitted import Fitted, FittedModel
from windvane.runtime.serialization import check_digest, digest, reading

_STEPS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
# Rounds without improvement that are always allowed. AutoGluon allows 300 on up to 10,000 rows, within hours; on the
# log loss and on squared errors, which are watched here, little patience loses little ("Better by default",
# arXiv 2407.04491: "robust to low patience", for regression 10 to 20 rounds are near best), and a short budget has
# better uses for the rounds.
_PATIENCE = 50


class LightGBM:
    """Leaf-wise boosted trees; categories and missing values are native."""

    name = "lightgbm"

    def supports(self, task: Task, table: Table) -> bool:
        """Every task and table."""
        return True

    def search_space(self, task: Task) -> dict[str, Param]:
        """Ranges of TabArena; the default is the one tuned in "Better by default", arXiv 2407.04491, table LGBM-TD."""
        from optuna.distributions import CategoricalDistribution as Choice
        from optuna.distributions import FloatDistribution as Float
        from optuna.distributions import IntDistribution as Int

        classify = task.is_classification
        return {
            "learning_rate": Param(Float(5e-3, 0.2, log=True), 0.04 if classify else 0.05),
            "num_leaves": Param(Int(2, 256, log=True), 50 if classify else 100),
            "min_data_in_leaf": Param(Int(1, 100, log=True), 40 if classify else 3),
            "feature_fraction": Param(Float(0.3, 1.0), 1.0),
            "bagging_fraction": Param(Float(0.5, 1.0), 0.75 if classify else 0.7),
            "extra_trees": Param(Choice([False, True]), False),
            "lambda_l1": Param(Float(1e-4, 1.0), 1e-4),
            "lambda_l2": Param(Float(1e-4, 2.0), 1e-4),
            "cat_smooth": Param(Float(1e-3, 100.0, log=True), 10.0),
            "cat_l2": Param(Float(5e-3, 20.0, log=True), 10.0),
            "max_cat_to_onehot": Param(Int(4, 100, log=True), 4),
            "min_data_per_group": Param(Int(2, 200, log=True), 100),
            "features": Param(Choice(["raw", "generated"]), "raw"),
        }

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        """4 or 16 to 2048 rounds of one tree (for each class, where there are more than two)."""
        return _STEPS if is_slow(task) else _STEPS[2:]

    def create_model(
        self,
        config: Config,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None = None,
    ) -> LightGBMModel:
        """Encode, bin, and take over the trees of a checkpoint."""
        task = context.task
        config = fill_defaults(config, self.search_space(context.task))
        encoder, features = fit_encoder(
            replace(NATIVE, generated=config["features"] == "generated"), train.table, train.target, task
        )
        target_scaler = TargetScaler.of(train.target, train.weight, task)
        model = LightGBMModel(encoder, target_scaler, context)
        if checkpoint is not None:
            model.resume(checkpoint)
        model.prepare(_parameters(config, train, context), features, train, validation)
        return model

    def load(self, folder: Path, context: TrainingContext) -> Fitted:
        """Open a checkpoint for prediction."""
        model: Fitted = open_model(folder, context, "lightgbm")
        return model


class LightGBMModel(BaseModel):
    """One booster being grown; see `windvane.models.base.Model`."""

    def __init__(self, encoder: Encoder, target_scaler: TargetScaler, context: TrainingContext) -> None:
        super().__init__(encoder, target_scaler, context)
        self.early_stopping = EarlyStopping(_PATIENCE)
        self.booster: Any = None
        self._parameters: dict[str, Any] = {}
        self._live = False  # whether the booster can be updated: it was not read from a file

    def resume(self, folder: Path) -> None:
        """Take over the trees of a checkpoint: all of them, also those after the best iteration."""
        import lightgbm as lgb

        state, fitted = self.restore(folder), open_model(folder, self.context, "lightgbm")
        with reading(folder, lgb.basic.LightGBMError):
            self.early_stopping = EarlyStopping(_PATIENCE, state["losses"])
            self.encoder, self.booster = fitted.encoder, fitted.booster
            if state["sha256"] is not None:
                check_digest(folder / "training.txt", state["sha256"])
                self.booster = lgb.Booster(model_file=folder / "training.txt")

    def prepare(self, parameters: dict[str, Any], features: Encoded, train: DataSplit, validation: DataSplit) -> None:
        """Bin the rows to learn from and to be evaluated on."""
        import lightgbm as lgb

        p, c = self.encoder.n_numbers, len(train.table.cardinalities)
        self._parameters = parameters
        # The raw features stay: the trees of earlier segments are run over them where a segment begins.
        self._train = lgb.Dataset(
            features,
            self.target_scaler.transform(train.target),
            weight=train.weight,
            categorical_feature=list(range(p, p + c)),
            params=parameters,
            free_raw_data=False,
        ).construct()
        self._valid = self._train.create_valid(
            self.encoder.transform(validation.table),
            self.target_scaler.transform(validation.target),
            weight=validation.weight,
        )

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        """Boost up to this many rounds; the clock is asked before each."""
        while self.iterations < min(iterations, _STEPS[-1]) and not self.finished and time.monotonic() < deadline:
            self._boost()

    def _boost(self) -> None:
        import lightgbm as lgb

        if self._live and self.iterations not in _STEPS:
            self.booster.update()
        else:  # a segment begins
            self.booster = lgb.train(
                self._parameters | _seeds(self.context.seed, self.iterations),
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
        self.iterations, self.best_iteration = len(self.early_stopping.losses), self.early_stopping.best
        self.finished = self.early_stopping.should_stop or self.iterations >= _STEPS[-1]

    def fitted(self) -> FittedModel:
        """Return the trees up to the best iteration."""
        if self.booster is None:
            raise RuntimeError("the model has not grown yet")
        return FittedLightGBM(self.encoder, self.output(), self.booster, self.best_iteration, self.context.threads)

    def save(self, folder: Path) -> None:
        """Write a checkpoint; where there are trees after the best iteration, all of them in ``training.txt``."""
        self.fitted().save(folder)
        sha256 = None
        if self.best_iteration < self.booster.current_iteration():
            self.booster.save_model(folder / "training.txt", num_iteration=-1)
            sha256 = digest(folder / "training.txt")
        self.save_training(folder, {"losses": self.early_stopping.losses, "sha256": sha256})


def _parameters(config: Config, train: DataSplit, context: TrainingContext) -> dict[str, Any]:
    task = context.task
    n_rows = len(train.target)
    objective = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}[task.kind]
    return {
        **{name: value for name, value in config.items() if name != "features"},
        "objective": objective,
        "metric": {"binary": "binary_logloss", "multiclass": "multi_logloss", "regression": "l2"}[task.kind],
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


def _seeds(seed: int, start: int) -> dict[str, int]:
    """Make the seeds of the segment that begins after so many rounds."""
    names = ("bagging_seed", "feature_fraction_seed", "extra_seed", "objective_seed")
    values = np.random.SeedSequence([seed, start]).generate_state(len(names)) >> 1  # LightGBM's integers are signed
    return dict(zip(names, map(int, values), strict=True))

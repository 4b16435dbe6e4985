from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from toys import CLASSES, ToyFamily, make_problem, make_trial

from windvane.data.column_types import infer_schema
from windvane.data.task import Kind
from windvane.errors import DiskError
from windvane.models.base import DataSplit, TrainingContext
from windvane.persistence import Predictor
from windvane.runtime.columns.table import Table
from windvane.runtime.ensemble import Ensemble, Member
from windvane.search import refit as module
from windvane.search.problem import Problem
from windvane.search.refit import refit_ensemble

MEMBERS = (Member(3, "checkpoint_0001", "toy", 0.75), Member(1, "checkpoint_0000", "other", 0.25))
TRIALS = [
    make_trial(0, 0.1, "toy"),
    make_trial(1, 0.2, "other", config={"rate": 0.5}, best_iterations=(3, 4, 4), seed=21),
    make_trial(3, 0.1, "toy", config={"rate": 0.2}, best_iterations=(2, 7, 8), seed=23),
]


def predictor_of(problem: Problem) -> Predictor:
    return Predictor(
        task=problem.task,
        schema=infer_schema(pd.DataFrame({"a": [1.0, 2.0]})),
        metric=problem.metric,
        classes=np.arange(CLASSES[problem.task.kind]) if problem.task.is_classification else None,
        ensemble=Ensemble(MEMBERS, 0.1, temperature=1.5),
        models=[[], []],
        folders=[[], []],
    )


def refit(problem: Problem, folder: Path, *families: ToyFamily) -> Predictor:
    chosen: Any = {family.name: family for family in families or (ToyFamily("toy"), ToyFamily("other"))}
    rows = DataSplit(problem.table, problem.target, problem.weight)
    return refit_ensemble(predictor_of(problem), TRIALS, chosen, rows, folder)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_each_member_is_trained_on_all_rows_for_the_mean_of_its_iterations(kind: Kind, tmp_path: Path) -> None:
    problem = make_problem(kind)
    new = refit(problem, tmp_path / "refit")
    assert (new.ensemble, new.task, new.metric) == (predictor_of(problem).ensemble, problem.task, problem.metric)
    everything = DataSplit(problem.table, problem.target)
    blend = 0.0
    for weight, rate, iterations, seed in ((0.75, 0.2, 6, 23), (0.25, 0.5, 4, 21)):
        model = ToyFamily().create_model({"rate": rate}, everything, everything, TrainingContext(problem.task, seed))
        model.train_until(iterations)
        blend = blend + weight * model.predict(problem.table)
    plain = Predictor(**{**vars(new), "ensemble": Ensemble(MEMBERS, 0.1)})
    np.testing.assert_allclose(plain.predict_raw(problem.table), blend, rtol=1e-12)
    assert new.folders == [[tmp_path / "refit" / "00003" / "fold_0"], [tmp_path / "refit" / "00001" / "fold_0"]]
    assert all((folder / "state.npz").exists() for folders in new.folders for folder in folders)
    assert [path.name for path in tmp_path.iterdir()] == ["refit"]


def test_weights_reach_the_models(tmp_path: Path) -> None:
    seen = []

    class Weighing(ToyFamily):
        def create_model(
            self,
            config: Any,
            train: DataSplit,
            valid: DataSplit,
            context: TrainingContext,
            checkpoint: Path | None = None,
        ) -> Any:
            seen.append((train, valid))
            return super().create_model(config, train, valid, context, checkpoint)

    weight = np.arange(90.0)
    refit(make_problem(weight=weight), tmp_path / "refit", Weighing("toy"), Weighing("other"))
    for train, valid in seen:
        np.testing.assert_array_equal(train.weight, weight)
        np.testing.assert_array_equal(valid.weight, weight)


def test_rows_for_early_stopping_are_few_and_spread_over_a_sorted_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_STOPPING_ROWS", 20)
    seen = []

    class Watching(ToyFamily):
        def create_model(
            self,
            config: Any,
            train: DataSplit,
            valid: DataSplit,
            context: TrainingContext,
            checkpoint: Path | None = None,
        ) -> Any:
            seen.append(valid)
            return super().create_model(config, train, valid, context, checkpoint)

    problem = make_problem("multiclass")
    order = np.argsort(problem.target, kind="stable")
    table: Table = problem.table.take(order)
    families: Any = {name: Watching(name) for name in ("toy", "other")}
    train = DataSplit(table, problem.target[order])
    refit_ensemble(predictor_of(problem), TRIALS, families, train, tmp_path / "refit")
    for valid in seen:
        assert 10 <= valid.table.n_rows <= 20
        assert set(valid.target) == {0, 1, 2}


def test_an_earlier_refit_is_replaced_by_one_that_went_well_alone(tmp_path: Path) -> None:
    problem = make_problem()
    first = refit(problem, tmp_path / "refit")

    def states() -> list[bytes]:
        return [(folder / "state.npz").read_bytes() for folders in first.folders for folder in folders]

    before = states()

    def broken(event: str, iterations: int) -> None:
        if event == "train_until":
            raise RuntimeError("no")

    def full(event: str, iterations: int) -> None:
        if event == "save":
            raise OSError(28, "No space left on device")

    for hook, error, message in ((broken, RuntimeError, "no"), (full, DiskError, "No space left.*is as it was")):
        with pytest.raises(error, match=message):
            refit(problem, tmp_path / "refit", ToyFamily("toy"), ToyFamily("other", hook=hook))
        assert states() == before
        assert [path.name for path in tmp_path.iterdir()] == ["refit"]
    half = make_problem(n=45)
    second = refit(half, tmp_path / "refit")
    assert second.folders == first.folders
    assert states() != before
    assert [path.name for path in tmp_path.iterdir()] == ["refit"]

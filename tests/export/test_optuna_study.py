"""The trials of a run as a study of Optuna."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from leaving import make_frame, make_predictor, make_target

from windvane.errors import InputError
from windvane.export.optuna_study import NAME, write_study
from windvane.models import TABLE_FAMILIES
from windvane.search.trial import Trial


def test_the_study_is_read_back(tmp_path: Path) -> None:
    X = make_frame()
    predictor = make_predictor(tmp_path, X, make_target(X, "binary"), "binary", [("linear", {})], folds=1)
    config = {name: param.default for name, param in TABLE_FAMILIES["lightgbm"].search_space(predictor.task).items()}
    first = Trial(0, "linear", {}, "portfolio", 1, status="done", loss=0.2, checkpoint="c", started=1.0, ended=3.5)
    trials = [
        first,
        replace(first, number=1, family="lightgbm", config={**config, "num_leaves": 10**6}, loss=0.1),
        replace(first, number=2, family="own", config={"alpha": 1}, status="failed", error="it broke", checkpoint=None),
    ]
    path = tmp_path / "study.db"
    write_study(trials, predictor, TABLE_FAMILIES, path)
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{path}")
    assert study.direction.name == "MAXIMIZE" and study.metric_names == ["roc_auc"]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert [trial.value for trial in study.trials] == [0.8, 0.9, None]
    assert study.best_trial.number == 1
    found = study.trials[1]
    del config["num_leaves"]
    assert found.params == {"family": "lightgbm", **{f"lightgbm.{name}": value for name, value in config.items()}}
    assert found.user_attrs["lightgbm.num_leaves"] == 10**6  # beyond the search space
    assert study.trials[0].duration is not None and study.trials[0].duration.total_seconds() == 2.5
    assert study.trials[0].user_attrs["ensemble_weight"] == 1.0
    assert study.trials[2].user_attrs["error"] == "it broke" and study.trials[2].user_attrs["own.alpha"] == 1
    for wrong in (path, tmp_path / "study.txt", tmp_path / "nowhere" / "study.db"):
        with pytest.raises(InputError, match=r"ending in \.db"):
            write_study(trials, predictor, TABLE_FAMILIES, wrong)

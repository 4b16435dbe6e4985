from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost
import numpy as np
import pytest
from cases import make_case
from toys import Ticking

from windvane.models import FAMILIES, base_model
from windvane.models.boosting import catboost as catboost_family

FAMILY = FAMILIES["catboost"]
QUICK = {"learning_rate": 0.2, "depth": 3}


def test_it_continues_from_the_moment_that_the_clock_stopped_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Ticking()
    for module in (base_model, catboost_family):
        monkeypatch.setattr(module, "time", clock)
    case = make_case("binary", n=3000)
    one, two = case.create_model(FAMILY), case.create_model(FAMILY)
    one.train_until(64, deadline=6.0)  # one look before the first tree, one after each
    assert one.iterations == 6 and not one.finished
    one.train_until(64)
    two.train_until(64)
    np.testing.assert_array_equal(one.predict(case.test.table), two.predict(case.test.table))


def test_a_checkpoint_has_the_trees_that_predict_and_no_others(tmp_path: Path) -> None:
    case = make_case("multiclass")
    model: Any = case.create_model(FAMILY, QUICK)
    model.train_until(10**6)
    assert model.best_iteration < model.iterations
    model.save(tmp_path)
    booster = catboost.CatBoost().load_model(str(tmp_path / "model.cbm"))
    assert booster.tree_count_ == model.best_iteration < model.booster.tree_count_
    np.testing.assert_array_equal(
        FAMILY.load(tmp_path, case.context).predict(case.test.table), model.predict(case.test.table)
    )

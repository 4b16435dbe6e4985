from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case, make_case

from windvane.models import FAMILIES
from windvane.models.encoding import ORDINAL, fit_encoder
from windvane.runtime.columns.encoder import float32


def test_a_forest_is_the_one_of_scikit_learn(case: Case) -> None:
    family = FAMILIES["random_forest"]
    model: Any = case.create_model(family)
    model.train_until(8)
    model.train_until(16)
    encoder, features = fit_encoder(ORDINAL, case.train.table, case.train.target, case.context.task)
    features = float32(features)
    forest = model._estimator.set_params(warm_start=False, n_estimators=16).fit(features, case.train.target)
    rows = float32(encoder.transform(case.test.table))
    expected = forest.predict_proba(rows) if case.context.task.is_classification else forest.predict(rows)
    np.testing.assert_allclose(model.predict(case.test.table), expected, rtol=1e-12, atol=1e-12)


def test_models_that_are_averaged_are_together_as_many_trees_as_one(tmp_path: Path) -> None:
    case = make_case("multiclass")
    family = FAMILIES["random_forest"]
    model: Any = case.create_model(family)
    model.train_until(128)
    model.save(tmp_path)
    few: Any = family.load(tmp_path, replace(case.context, n_bagged_models=3))
    assert sum(len(part.sizes) for part in few.parts) == 43
    trees = model._estimator.estimators_[:43]
    rows = float32(model.encoder.transform(case.test.table))
    expected = np.mean([tree.predict_proba(rows) for tree in trees], axis=0)
    np.testing.assert_allclose(few.predict(case.test.table), expected, rtol=1e-12, atol=1e-12)
    content = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**content, "parts": 10**12}))  # an edited file costs no time
    assert len(family.load(tmp_path, replace(case.context, n_bagged_models=3)).parts) == len(few.parts)


def test_only_new_trees_are_written_and_the_others_linked(tmp_path: Path) -> None:
    case = make_case("binary")
    family = FAMILIES["extra_trees"]
    folders = [tmp_path / name for name in "abc"]
    model = case.create_model(family)
    for total, folder in zip((8, 16, 32), folders, strict=True):
        folder.mkdir()
        model.train_until(total)
        model.save(folder)
    assert sorted(path.name for path in folders[2].glob("trees_*.npz")) == ["trees_0.npz", "trees_1.npz", "trees_2.npz"]
    assert (folders[2] / "trees_0.npz").samefile(folders[0] / "trees_0.npz")
    # The folder of the last state may have been moved or removed.
    folders[2].rename(tmp_path / "moved")
    last = tmp_path / "last"
    last.mkdir()
    model.save(last)
    np.testing.assert_array_equal(
        family.load(last, case.context).predict(case.test.table),
        family.load(tmp_path / "moved", case.context).predict(case.test.table),
    )

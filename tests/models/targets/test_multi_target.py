"""Models of several targets are those of each target alone."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case

from windvane.data.task import Kind
from windvane.models import FAMILIES, linear
from windvane.models.targets.multi_target import MultiTarget, for_task
from windvane.runtime.models import load_models


def with_three_targets(case: Case) -> Case:
    """Add the target backwards, and noise."""
    task = replace(case.context.task, n_targets=3, n_classes=0)

    def several(part):
        noise = np.random.default_rng(1).permutation(part.target)
        return replace(part, target=np.column_stack([part.target, part.target[::-1], noise]))

    parts = {name: several(getattr(case, name)) for name in ("train", "validation", "test")}
    return replace(case, context=replace(case.context, task=task), **parts)


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize("name", ["linear", "lightgbm"])
def test_each_target_is_learned_as_if_alone(name: str, kind: Kind, tmp_path: Path) -> None:
    case = make_case(kind, n=120, texts=name == "linear")
    several = with_three_targets(case)
    family = for_task(FAMILIES[name], several.context.task)
    model = several.create_model(family)
    for iterations in (4, 16):
        model.train_until(iterations)
    found = model.predict(several.test.table)
    for j in range(3):
        one = replace(
            case,
            train=replace(case.train, target=several.train.target[:, j]),
            validation=replace(case.validation, target=several.validation.target[:, j]),
        )
        alone = one.create_model(FAMILIES[name])
        alone.train_until(16)
        expected = alone.predict(one.test.table)
        np.testing.assert_array_equal(found[:, j], expected[:, 1] if kind == "binary" else expected)
    model.save(tmp_path)
    for loaded in (family.load(tmp_path, several.context), load_models(tmp_path)):
        np.testing.assert_allclose(loaded.predict(several.test.table), found, rtol=1e-6)
    resumed = several.create_model(family, checkpoint=tmp_path)
    assert (resumed.iterations, resumed.best_iteration) == (model.iterations, model.best_iteration)
    np.testing.assert_allclose(resumed.predict(several.test.table), found, rtol=1e-6)


def test_columns_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from windvane.models import encoding

    made = []
    fit = encoding.fit_transformers
    monkeypatch.setattr(encoding, "fit_transformers", lambda *parts: made.append(1) or fit(*parts))
    several = with_three_targets(make_case("regression", n=60))
    several.create_model(MultiTarget(FAMILIES["lightgbm"]))
    assert len(made) == 1
    several.create_model(MultiTarget(FAMILIES["linear"]))  # the large category is encoded by each target
    assert len(made) == 4


def test_a_slow_first_target_leaves_time_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions of the optimizer take a second."""
    monkeypatch.setattr(linear, "_PORTIONS", (1, 1, 1, 1, 1, 512))
    clock, fit = [0.0], linear.LinearModel._fit

    def fit_slowly(model: linear.LinearModel, target: Any) -> None:
        fit(model, target)
        clock[0] += 1.0

    monkeypatch.setattr(linear.LinearModel, "_fit", fit_slowly)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    model = with_three_targets(make_case("binary", n=60)).create_model(MultiTarget(FAMILIES["linear"]))
    model.train_until(6, deadline=3.5)
    assert [one.iterations for one in model.models] == [2, 1, 1]


def test_one_target_needs_no_other_family() -> None:
    task = make_case("regression", n=60).context.task
    assert for_task(FAMILIES["linear"], task) is FAMILIES["linear"]

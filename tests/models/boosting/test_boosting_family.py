from __future__ import annotations

import pytest

from windvane.data.task import Task
from windvane.models import FAMILIES


@pytest.mark.parametrize("name", ["lightgbm", "catboost", "xgboost"])
def test_many_columns_and_classes_are_kept_earlier(name: str) -> None:
    usual, slow = Task("binary", 1000, 20, 2), Task("multiclass", 1000, 617, 26)
    assert [FAMILIES[name].checkpoint_iterations({}, task)[0] for task in (usual, slow)] == [16, 4]

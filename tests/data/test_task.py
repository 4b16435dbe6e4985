"""Facts of a learning problem."""

from __future__ import annotations

import pytest

from windvane.data.task import Task


@pytest.mark.parametrize(
    ("task", "classification", "outputs"),
    [
        (Task("binary", 10, 2, 2), True, 2),
        (Task("multiclass", 10, 2, 7), True, 7),
        (Task("regression", 10, 2), False, 1),
    ],
)
def test_outputs(task: Task, classification: bool, outputs: int) -> None:
    assert task.is_classification is classification
    assert task.n_outputs == outputs

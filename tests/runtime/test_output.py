from __future__ import annotations

import numpy as np
from windvane.models.links import from_scores

from windvane.data.task import Task
from windvane.models.units import Units

SCORES = np.array([[0.3, -1.0, 2.0], [0.0, 0.0, 800.0]])


def test_numbers_come_in_their_units() -> None:
    found = from_scores(SCORES[:, :1], np.empty(0, dtype=np.intp), Task("regression", 2, 1), Units(10.0, 2.0))
    np.testing.assert_allclose(found, [10.6, 10.0])


def test_classes_that_were_not_seen_get_nothing() -> None:
    task = Task("multiclass", 2, 1, 4)
    three = from_scores(SCORES, np.array([0, 1, 3]), task, Units())
    powers = np.exp(SCORES - SCORES.max(axis=1, keepdims=True))
    np.testing.assert_allclose(three[:, [0, 1, 3]], powers / powers.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(three[:, 2], 0.0)
    two = from_scores(SCORES[:, :1], np.array([1, 2]), task, Units())
    np.testing.assert_allclose(two, [[0, 1 - 1 / (1 + np.exp(-0.3)), 1 / (1 + np.exp(-0.3)), 0], [0, 0.5, 0.5, 0]])
    np.testing.assert_array_equal(from_scores(SCORES[:, :1], np.array([2]), task, Units()), [[0, 0, 1, 0]] * 2)

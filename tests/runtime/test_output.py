from __future__ import annotations

import numpy as np
import pytest

from windvane.runtime.output import SMALLEST_PROBABILITY, Output, log_probabilities

SCORES = np.array([[0.3, -1.0, 2.0], [0.0, 0.0, 800.0]])


def test_numbers_come_in_their_units() -> None:
    np.testing.assert_allclose(Output(0, mean=10.0, scale=2.0).from_scores(SCORES[:, :1]), [10.6, 10.0])


def test_classes_that_were_not_seen_get_nothing() -> None:
    three = Output(4, (0, 1, 3)).from_scores(SCORES)
    powers = np.exp(SCORES - SCORES.max(axis=1, keepdims=True))
    np.testing.assert_allclose(three[:, [0, 1, 3]], powers / powers.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(three[:, 2], 0.0)
    two = Output(4, (1, 2)).from_scores(SCORES[:, :1])
    np.testing.assert_allclose(two, [[0, 1 - 1 / (1 + np.exp(-0.3)), 1 / (1 + np.exp(-0.3)), 0], [0, 0.5, 0.5, 0]])
    np.testing.assert_array_equal(Output(4, (2,)).from_scores(SCORES[:, :1]), [[0, 0, 1, 0]] * 2)


def test_json_and_back() -> None:
    output = Output(3, (0, 2), 1.5, 2.0)
    assert Output.from_json(output.to_json()) == output
    with pytest.raises(ValueError, match="classes"):
        Output.from_json({**output.to_json(), "classes": [0, 3]})
    for wrong in (Output(3), Output(0, (0,))):
        with pytest.raises(ValueError, match="classes"):
            wrong.check_has_classes()


def test_logarithms_of_probabilities_are_finite() -> None:
    found = log_probabilities(np.array([0.0, 0.5, 1.0], dtype=np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.log([SMALLEST_PROBABILITY, 0.5, 1.0]), rtol=1e-6)

from __future__ import annotations

import math

from windvane.models.curve import Curve


def test_best_is_the_first_lowest_and_what_is_not_finite_is_worst() -> None:
    curve = Curve(5, [math.nan, 3.0, 2.0, 2.0, math.inf])
    assert curve.best == 3 and curve.losses == [math.inf, 3.0, 2.0, 2.0, math.inf]
    assert curve.add(1.0) and curve.best == 6
    assert not curve.add(1.0) and curve.best == 6


def test_patience_grows_with_the_best_iteration() -> None:
    for best, least, patience in ((1, 50, 50), (1, 5, 20), (200, 50, 80)):
        curve = Curve(least, [1 / (i + 1) for i in range(best)])
        waited = 0
        while not curve.stalled:
            curve.add(9.0)
            waited += 1
        assert waited == patience + 1 and curve.best == best

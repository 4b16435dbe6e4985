"""Batches add up to the minibatch estimator, with intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow_similarity import cka_of_batches

from windvane.errors import InputError
from windvane.inspect.measures import Dissimilarities, KernelAlignment, Sketch
from windvane.inspect.tally import Map, Tally, average


def random_batches(n_batches: int, n: int, seed: int, shared: float = 1.0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    random = torch.Generator().manual_seed(seed)
    turn = torch.randn(6, 9, generator=random)
    batches = []
    for _ in range(n_batches):
        base = torch.randn(n, 6, generator=random)
        batches.append((base, shared * base @ turn + 3 * torch.randn(n, 9, generator=random)))
    return batches


def tallied(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> Tally:
    measure = KernelAlignment()
    tally = Tally(measure)
    for X, Y in batches:
        tally.add({"X": measure.sketch(X)}, {"Y": measure.sketch(Y)})
    return tally


def test_hsic_is_averaged_before_it_is_divided() -> None:
    batches = random_batches(5, 10, 0)
    tally = tallied(batches)
    assert tally.map().values[0, 0] == pytest.approx(cka_of_batches(batches), abs=1e-6)
    assert (tally.n_batches, tally.n_images) == (5, 50)


def test_batches_count_by_their_images() -> None:
    whole, part = random_batches(1, 20, 0)[0], random_batches(1, 5, 1)[0]
    tally, measure = tallied([whole, part]), KernelAlignment()
    scores = [measure.compare([measure.sketch(X)], [measure.sketch(Y)]) for X, Y in (whole, part)]
    cross, left, right = ((20 * getattr(scores[0], k) + 5 * getattr(scores[1], k)) for k in ("cross", "left", "right"))
    assert tally.map().values[0, 0] == pytest.approx(float(cross[0, 0] / np.sqrt(left * right)[0]))


def test_intervals_hold_the_truth() -> None:
    truth = tallied(random_batches(300, 64, 10**6)).map().values[0, 0]
    found = [tallied(random_batches(8, 16, seed)).map() for seed in range(200)]
    held = np.mean([one.low[0, 0] <= truth <= one.high[0, 0] for one in found])
    assert 0.88 <= held <= 0.99
    assert all(one.low[0, 0] <= one.values[0, 0] <= one.high[0, 0] for one in found)


def test_one_batch_has_no_interval() -> None:
    only = tallied(random_batches(1, 16, 0)).map()
    assert np.isfinite(only.values).all()
    assert np.isnan(only.low).all()


def test_repeats_are_averaged() -> None:
    maps = [tallied(random_batches(2, 16, seed)).map() for seed in range(6)]
    values = np.array([one.values[0, 0] for one in maps])
    found = average(maps)
    assert found.values[0, 0] == pytest.approx(values.mean())
    half = 2.5706 * values.std(ddof=1) / np.sqrt(6)  # Student's t, 5 degrees of freedom
    assert (found.low[0, 0], found.high[0, 0]) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-4)
    assert average(maps[:1]) is maps[0]
    assert isinstance(found, Map)


def test_undefined_layers() -> None:
    measure, random = KernelAlignment(), torch.Generator().manual_seed(0)
    tally = Tally(measure)
    for batch in range(3):
        layers = {
            "fine": torch.randn(8, 4, generator=random),
            "constant": torch.full((8, 4), 2.0),
            "often constant": torch.randn(8, 4, generator=random) * (batch == 1),
            "once infinite": torch.randn(8, 4, generator=random) / (batch != 1),
        }
        sketches = {name: measure.sketch(layer) for name, layer in layers.items()}
        tally.add(sketches, sketches)
    reasons = {"constant": "constant", "once infinite": "not finite"}
    assert tally.undefined() == (reasons, reasons)
    values = tally.map().values
    defined = np.array([True, False, True, False])
    np.testing.assert_array_equal(np.isfinite(values), np.outer(defined, defined))
    np.testing.assert_allclose(values.diagonal()[defined], 1)


def test_other_measures_are_averaged_over_batches_that_say_something() -> None:
    measure, random = Dissimilarities(), torch.Generator().manual_seed(0)
    parts = [(torch.randn(8, 4, generator=random), torch.randn(8, 4, generator=random)) for _ in range(3)]
    sketches = [(measure.sketch(X), measure.sketch(Y)) for X, Y in parts]
    tally = Tally(measure)
    for left, right in sketches:
        tally.add({"X": left}, {"Y": right})
    each = [measure.compare([left], [right]).cross[0, 0] for left, right in sketches]
    assert tally.map().values[0, 0] == pytest.approx(np.mean(each))


def test_mistakes() -> None:
    tally, sketch = Tally(KernelAlignment()), Sketch((torch.ones(6, dtype=torch.float64),), 4, "")
    with pytest.raises(InputError, match="No batch"):
        tally.map()
    tally.add({"a": sketch}, {"b": sketch})
    with pytest.raises(InputError, match="same layers"):
        tally.add({"other": sketch}, {"b": sketch})
    with pytest.raises(InputError, match=r"hold \[4, 5\] images"):
        tally.add({"a": sketch}, {"b": Sketch(sketch.parts, 5, "")})

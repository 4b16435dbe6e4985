"""Batches add up to the minibatch estimator, with intervals that cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow_similarity import cka_of_batches

from windvane.errors import InputError
from windvane.inspect.similarity.accumulator import SimilarityAccumulator, SimilarityMatrix, average_repeats
from windvane.inspect.similarity.measures import CKAMeasure, LayerSummary, RSAMeasure


def random_batches(n_batches: int, n: int, seed: int, shared: float = 1.0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    random = torch.Generator().manual_seed(seed)
    turn = torch.randn(6, 9, generator=random)
    batches = []
    for _ in range(n_batches):
        base = torch.randn(n, 6, generator=random)
        batches.append((base, shared * base @ turn + 3 * torch.randn(n, 9, generator=random)))
    return batches


def tallied(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> SimilarityAccumulator:
    measure = CKAMeasure()
    accumulator = SimilarityAccumulator(measure)
    for X, Y in batches:
        accumulator.add({"X": measure.summarize(X)}, {"Y": measure.summarize(Y)})
    return accumulator


def test_hsic_is_averaged_before_it_is_divided() -> None:
    batches = random_batches(5, 10, 0)
    accumulator = tallied(batches)
    assert accumulator.matrix().values[0, 0] == pytest.approx(cka_of_batches(batches), abs=1e-6)
    assert (accumulator.n_batches, accumulator.n_images) == (5, 50)


def test_batches_count_by_their_images() -> None:
    whole, part = random_batches(1, 20, 0)[0], random_batches(1, 5, 1)[0]
    accumulator, measure = tallied([whole, part]), CKAMeasure()
    scores = [measure.compare([measure.summarize(X)], [measure.summarize(Y)]) for X, Y in (whole, part)]
    cross, left, right = ((20 * getattr(scores[0], k) + 5 * getattr(scores[1], k)) for k in ("cross", "left", "right"))
    assert accumulator.matrix().values[0, 0] == pytest.approx(float(cross[0, 0] / np.sqrt(left * right)[0]))


def test_intervals_cover_the_truth() -> None:
    truth = tallied(random_batches(300, 64, 10**6)).matrix().values[0, 0]
    found = [tallied(random_batches(8, 16, seed)).matrix() for seed in range(200)]
    held = np.mean([one.ci_low[0, 0] <= truth <= one.ci_high[0, 0] for one in found])
    assert 0.88 <= held <= 0.99
    assert all(one.ci_low[0, 0] <= one.values[0, 0] <= one.ci_high[0, 0] for one in found)


def test_one_batch_has_no_interval() -> None:
    only = tallied(random_batches(1, 16, 0)).matrix()
    assert np.isfinite(only.values).all()
    assert np.isnan(only.ci_low).all()


def test_repeats_are_averaged() -> None:
    maps = [tallied(random_batches(2, 16, seed)).matrix() for seed in range(6)]
    values = np.array([one.values[0, 0] for one in maps])
    found = average_repeats(maps)
    assert found.values[0, 0] == pytest.approx(values.mean())
    half = 2.5706 * values.std(ddof=1) / np.sqrt(6)  # Student's t, 5 degrees of freedom
    assert (found.ci_low[0, 0], found.ci_high[0, 0]) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=1e-4
    )
    assert average_repeats(maps[:1]) is maps[0]
    assert isinstance(found, SimilarityMatrix)


def test_undefined_layers() -> None:
    measure, random = CKAMeasure(), torch.Generator().manual_seed(0)
    accumulator = SimilarityAccumulator(measure)
    for batch in range(3):
        layers = {
            "fine": torch.randn(8, 4, generator=random),
            "constant": torch.full((8, 4), 2.0),
            "often constant": torch.randn(8, 4, generator=random) * (batch == 1),
            "once infinite": torch.randn(8, 4, generator=random) / (batch != 1),
        }
        summaries = {name: measure.summarize(layer) for name, layer in layers.items()}
        accumulator.add(summaries, summaries)
    reasons = {"constant": "constant", "once infinite": "not finite"}
    assert accumulator.undefined() == (reasons, reasons)
    values = accumulator.matrix().values
    defined = np.array([True, False, True, False])
    np.testing.assert_array_equal(np.isfinite(values), np.outer(defined, defined))
    np.testing.assert_allclose(values.diagonal()[defined], 1)


def test_other_measures_are_averaged_over_defined_batches() -> None:
    measure, random = RSAMeasure(), torch.Generator().manual_seed(0)
    parts = [(torch.randn(8, 4, generator=random), torch.randn(8, 4, generator=random)) for _ in range(3)]
    summaries = [(measure.summarize(X), measure.summarize(Y)) for X, Y in parts]
    accumulator = SimilarityAccumulator(measure)
    for left, right in summaries:
        accumulator.add({"X": left}, {"Y": right})
    each = [measure.compare([left], [right]).cross[0, 0] for left, right in summaries]
    assert accumulator.matrix().values[0, 0] == pytest.approx(np.mean(each))


def test_mistakes() -> None:
    accumulator, summary = (
        SimilarityAccumulator(CKAMeasure()),
        LayerSummary((torch.ones(6, dtype=torch.float64),), 4, ""),
    )
    with pytest.raises(InputError, match="No batch"):
        accumulator.matrix()
    accumulator.add({"a": summary}, {"b": summary})
    with pytest.raises(InputError, match="same layers"):
        accumulator.add({"other": summary}, {"b": summary})
    with pytest.raises(InputError, match=r"hold \[4, 5\] images"):
        accumulator.add({"a": summary}, {"b": LayerSummary(summary.parts, 5, "")})

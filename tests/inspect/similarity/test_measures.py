"""CKA and RSA of all layers at once, against one pair at a time in numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine, pdist
from scipy.stats import spearmanr
from slow_similarity import gram, hsic_biased, hsic_unbiased, rbf
from torch import Tensor

from windvane.errors import InputError
from windvane.inspect.similarity import measures
from windvane.inspect.similarity.measures import CKAMeasure, Measure, RSAMeasure, SimilaritySums

SHAPES = [(2,), (300,), (3, 9, 9), (5000,)]


def layers(n: int, seed: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    base = torch.randn(n, 2, generator=random)
    return [
        (base @ torch.randn(2, int(np.prod(shape)), generator=random)).relu().reshape(n, *shape)
        + torch.randn(n, *shape, generator=random)
        for shape in SHAPES
    ]


def scored(measure: Measure, left: list[Tensor], right: list[Tensor]) -> SimilaritySums:
    return measure.compare([measure.summarize(one) for one in left], [measure.summarize(one) for one in right])


@pytest.mark.parametrize("n", [4, 5, 40])
@pytest.mark.parametrize(
    ("kernel", "unbiased", "slow_kernel", "hsic"),
    [("linear", True, gram, hsic_unbiased), ("linear", False, gram, hsic_biased), ("rbf", True, rbf, hsic_unbiased)],
)
def test_hsic_equals_numpy(n: int, kernel: str, unbiased: bool, slow_kernel: object, hsic: object) -> None:
    left, right = layers(n, 0), layers(n, 1)
    found = scored(CKAMeasure(kernel, unbiased), left, right)  # type: ignore[arg-type]
    K, L = ([slow_kernel(x) for x in side] for side in (left, right))  # type: ignore[operator]
    known = np.array([[hsic(k, l) for l in L] for k in K])  # type: ignore[operator]
    own = [np.array([hsic(k, k) for k in side]) for side in (K, L)]  # type: ignore[operator]
    np.testing.assert_allclose(found.left, own[0], rtol=1e-6)
    np.testing.assert_allclose(found.right, own[1], rtol=1e-6)
    size = np.sqrt(np.outer(*own))
    np.testing.assert_allclose(found.cross / size, known / size, atol=1e-6)


def test_many_pairs_are_multiplied_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = layers(20, 0), layers(20, 1)
    whole = scored(CKAMeasure(), left, right)
    monkeypatch.setattr(measures, "PAIRS_AT_ONCE", 7)
    np.testing.assert_allclose(scored(CKAMeasure(), left, right).cross, whole.cross)


def test_a_network_with_itself_is_symmetric() -> None:
    measure = CKAMeasure()
    summaries = [measure.summarize(one) for one in layers(20, 0)]
    found = measure.compare(summaries, summaries)
    np.testing.assert_allclose(found.cross, found.cross.T)
    np.testing.assert_allclose(found.cross.diagonal(), found.left)


def test_rsa_equals_scipy() -> None:
    left, right = layers(15, 0), layers(15, 1)
    distances = [[pdist(x.flatten(1).double().numpy()) for x in side] for side in (left, right)]
    ranked, turned = (scored(RSAMeasure(by), left, right) for by in ("spearman", "cosine"))  # type: ignore[arg-type]
    for i, a in enumerate(distances[0]):
        for j, b in enumerate(distances[1]):
            assert ranked.cross[i, j] == pytest.approx(spearmanr(a, b).statistic, abs=1e-6)
            assert turned.cross[i, j] == pytest.approx(1 - cosine(a, b), abs=1e-6)
    np.testing.assert_allclose(ranked.left, 1)


def test_undefined_layers() -> None:
    flawed = [torch.ones(8, 3), torch.full((8, 3), torch.nan), torch.randn(8, 3)]
    for measure in (CKAMeasure(), CKAMeasure("rbf"), RSAMeasure()):
        summaries = [measure.summarize(one) for one in flawed]
        assert [one.undefined_reason for one in summaries] == ["constant", "not finite", ""]
        found = measure.compare(summaries, summaries)
        assert np.isfinite(found.cross).all()
        assert found.left[:2].tolist() == [0, 0]
        assert found.left[2] > 0


def test_distances_that_are_all_the_same() -> None:
    assert RSAMeasure().summarize(torch.eye(6)).undefined_reason == "constant"


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="kernel='cubic' is not known"):
        CKAMeasure("cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="bandwidth=0"):
        CKAMeasure(bandwidth=0)
    with pytest.raises(InputError, match="by='rank' is not known"):
        RSAMeasure("rank")  # type: ignore[arg-type]


def test_small_batches() -> None:
    for measure in (CKAMeasure(), RSAMeasure()):
        with pytest.raises(InputError, match=r"a batch of 3 images cannot be compared. Allowed: at least 4"):
            measure.summarize(torch.rand(3, 5))


def test_titles_differ() -> None:
    every = [CKAMeasure(), CKAMeasure("rbf"), CKAMeasure(unbiased=False), RSAMeasure()]
    assert len({one.title for one in (*every, RSAMeasure("cosine"))}) == 5

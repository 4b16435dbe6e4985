"""Procrustes, SVCCA and PWCCA against numpy on the features themselves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.cross_decomposition import CCA
from torch import Tensor

from windvane.errors import InputError
from windvane.inspect.similarity.cca import CCAMeasure, ProcrustesMeasure
from windvane.inspect.similarity.measures import Measure

pytestmark = pytest.mark.filterwarnings("ignore:.*unrelated layers reach")


def layer(n: int, p: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    base = torch.randn(n, 3, generator=torch.Generator().manual_seed(99))
    return base @ torch.randn(3, p, generator=random).double().float() + 0.3 * torch.randn(n, p, generator=random)


def one(measure: Measure, X: Tensor, Y: Tensor) -> float:
    return float(measure.compare([measure.summarize(X)], [measure.summarize(Y)]).cross[0, 0])


def center(X: Tensor) -> np.ndarray:
    features = X.flatten(1).double().numpy()
    return features - features.mean(0)


@pytest.mark.parametrize(("p", "q"), [(5, 5), (4, 90), (200, 300)])
def test_procrustes_equals_scipy(p: int, q: int) -> None:
    X, Y = layer(20, p, 0), layer(20, q, 1)
    A, B = (center(Z) / np.linalg.norm(center(Z)) for Z in (X, Y))
    width = max(p, q)
    A, B = (np.pad(Z, ((0, 0), (0, width - Z.shape[1]))) for Z in (A, B))
    assert one(ProcrustesMeasure(), X, Y) == pytest.approx(orthogonal_procrustes(A, B)[1], abs=1e-6)


def test_canonical_correlations_equal_scikit_learn() -> None:
    X, Y = layer(200, 4, 0), layer(200, 3, 1)
    U, V = CCA(n_components=3, max_iter=5000, tol=1e-12).fit_transform(X.numpy(), Y.numpy())
    known = [np.corrcoef(U[:, i], V[:, i])[0, 1] for i in range(3)]
    assert one(CCAMeasure(explained_variance=1.0), X, Y) == pytest.approx(np.mean(known), abs=1e-4)


def slow_pwcca(X: np.ndarray, Y: np.ndarray, kept: float) -> tuple[float, float]:
    """SVCCA and PWCCA with whitening of the leading directions, as in the papers."""
    leading = []
    for Z in (X, Y):
        U, s, _ = np.linalg.svd(Z, full_matrices=False)
        leading.append(U[:, : 1 + int((np.cumsum(s**2) / np.sum(s**2) < kept).sum())])
    turns, correlations, _ = np.linalg.svd(leading[0].T @ leading[1], full_matrices=False)
    weights = np.abs((leading[0] @ turns).T @ X).sum(1)
    return correlations.mean(), weights @ correlations / weights.sum()


@pytest.mark.parametrize(("p", "q", "kept"), [(6, 9, 0.99), (200, 30, 0.9), (300, 400, 0.8)])
def test_svcca_and_pwcca_equal_numpy(p: int, q: int, kept: float) -> None:
    X, Y = layer(40, p, 0), layer(40, q, 1)
    known = slow_pwcca(center(X), center(Y), kept)
    assert one(CCAMeasure(kept), X, Y) == pytest.approx(known[0], abs=1e-6)
    assert one(CCAMeasure(kept, weighted=True), X, Y) == pytest.approx(known[1], abs=1e-5)


def test_invariances() -> None:
    X, Y = layer(60, 5, 0), layer(60, 4, 1)
    turned = X @ torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2)))[0] * 7
    bent = X @ torch.randn(5, 5, generator=torch.Generator().manual_seed(3))
    full = CCAMeasure(explained_variance=1.0)
    assert one(ProcrustesMeasure(), X, turned) == pytest.approx(1, abs=1e-6)
    assert one(ProcrustesMeasure(), X, bent) < 0.99
    assert one(full, X, bent) == pytest.approx(1, abs=1e-5)
    assert one(full, bent, Y) == pytest.approx(one(full, X, Y), abs=1e-5)


def test_undefined_layers() -> None:
    flawed = [torch.ones(8, 3), torch.full((8, 3), torch.nan), torch.randn(8, 3)]
    for measure in (ProcrustesMeasure(), CCAMeasure(), CCAMeasure(weighted=True)):
        summaries = [measure.summarize(x) for x in flawed]
        assert [summary.undefined_reason for summary in summaries] == ["constant", "not finite", ""]
        found = measure.compare(summaries, summaries)
        assert found.left.tolist() == [0, 0, 1]
        assert found.cross[2, 2] == pytest.approx(1)
        assert np.count_nonzero(found.cross) == 1


def test_mistakes() -> None:
    with pytest.raises(InputError, match="explained_variance=0"):
        CCAMeasure(explained_variance=0)
    with pytest.raises(InputError, match="a batch of 3 images"):
        ProcrustesMeasure().summarize(torch.rand(3, 5))


def test_warns_of_chance_correlations() -> None:
    X, Y = (torch.randn(60, 40, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    with pytest.warns(UserWarning, match="keep up to 40 directions of batches of 60 images.* about 0.8"):
        found = one(CCAMeasure(explained_variance=1.0), X, Y)
    assert found > 0.6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one(CCAMeasure(explained_variance=1.0), X[:, :4], Y[:, :4])

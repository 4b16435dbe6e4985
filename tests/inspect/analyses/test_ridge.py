from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge

from windvane.errors import InputError
from windvane.inspect.analyses.ridge import ALPHAS, ridge_path


def problem(n: int, d: int, seed: int = 0, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    return draw.normal(size=(n, d)) * draw.uniform(0.1, 10, d) + labels[:, None] * draw.normal(size=d), labels


def slow_decisions(x: np.ndarray, labels: np.ndarray, z: np.ndarray, penalty: float) -> np.ndarray:
    """The normal equations with an intercept that is not penalised, for each class."""
    mean, scale = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1)
    x, z = (np.c_[(part - mean) / scale, np.ones(len(part))] for part in (x, z))
    ridge = penalty * np.eye(x.shape[1])
    ridge[-1, -1] = 0
    targets = np.stack([np.where(labels == label, 1.0, -1.0) for label in np.unique(labels)], axis=1)
    return z @ np.linalg.solve(x.T @ x + ridge, x.T @ targets)


@settings(deadline=None, max_examples=25)
@given(st.integers(4, 30), st.integers(1, 40), st.integers(0, 1000))
def test_equals_the_normal_equations(n: int, d: int, seed: int) -> None:
    x, labels = problem(n, d, seed)
    z, _ = problem(9, d, seed + 1)
    alphas = (0.1, 3.0, 100.0)
    path = ridge_path(x, labels, alphas)
    for index, penalty in enumerate(alphas):
        assert path.decision_function(z, index) == pytest.approx(slow_decisions(x, labels, z, penalty), abs=1e-7)


def test_equals_scikit_learn() -> None:
    x, y = load_digits(return_X_y=True)
    scale = np.where(x[:900].std(0) > 0, x[:900].std(0), 1)
    path = ridge_path(x[:900], y[:900], (10.0,))
    targets = np.where(y[:900, None] == np.arange(10), 1.0, -1.0)
    other = Ridge(10.0).fit(x[:900] / scale, targets)
    assert path.decision_function(x[900:], 0) == pytest.approx(other.predict(x[900:] / scale), abs=1e-8)
    assert path.accuracy(x[900:], y[900:], 0) == np.mean(other.predict(x[900:] / scale).argmax(1) == y[900:])
    assert path.accuracy(x[900:], y[900:]) > 0.85


@pytest.mark.parametrize("shape", [(12, 5), (8, 20)])
def test_loo_error_equals_leaving_out(shape: tuple[int, int]) -> None:
    x, labels = problem(*shape, n_classes=2)
    path = ridge_path(x, labels, (0.5, 20.0))
    x = (x - x.mean(0)) / x.std(0)
    targets = np.stack([np.where(labels == label, 1.0, -1.0) for label in (0, 1)], axis=1)
    for index, penalty in enumerate((0.5, 20.0)):
        squares = []
        for i in range(len(x)):
            kept = np.arange(len(x)) != i
            fitted = Ridge(penalty).fit(x[kept], targets[kept])
            squares.append((fitted.predict(x[i : i + 1])[0] - targets[i]) ** 2)
        assert path.loo_error[index] == pytest.approx(np.mean(squares), rel=1e-8)


def test_penalty_follows_the_noise() -> None:
    """Pure noise asks for a stronger penalty than a clear rule."""
    draw = np.random.default_rng(0)
    x, labels = draw.normal(size=(60, 40)), np.arange(60) % 2
    noise, clear = ridge_path(x, labels), ridge_path(x, np.sign(x[:, 0] + x[:, 1]))
    assert ALPHAS[noise.best] > 10 * ALPHAS[clear.best]


def test_constant_features_and_one_example_per_class() -> None:
    x, labels = problem(3, 6)
    x[:, 2] = 7.0
    path = ridge_path(x, labels)
    assert path.accuracy(x, labels, 0) == 1.0
    assert np.isfinite(path.loo_error).all()


def test_mistakes() -> None:
    x, labels = problem(6, 2)
    for features, names, alphas, message in (
        (x[:, 0], labels, (1.0,), r"features \(6,\) and labels \(6,\) do not fit"),
        (x, labels * 0, (1.0,), "one class only"),
        (x, labels, (0.0, 1.0), r"alphas=\[0.0, 1.0\] is not usable. Allowed: numbers above 0"),
        (x * np.nan, labels, (1.0,), "NaN or infinite"),
    ):
        with pytest.raises(InputError, match=message):
            ridge_path(features, names, alphas)

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from windvane.evaluation import metric_functions


def sample(seed, k, decimals=2):
    """Labels, probabilities with ties and weights, with every class."""
    rng = np.random.default_rng(seed)
    y = np.r_[np.arange(k), rng.integers(0, k, 40)]
    p = np.maximum(rng.dirichlet(np.ones(k), len(y)).round(decimals), 0.01)  # scikit-learn cuts off elsewhere
    return y, p / p.sum(axis=1, keepdims=True), rng.integers(1, 5, len(y)) / 2


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 4), st.booleans(), st.integers(1, 3))
def test_scores_of_classes_equal_scikit_learn(seed, k, weighted, decimals):
    y, p, weight = sample(seed, k, decimals)
    w = weight if weighted else None
    labels = p.argmax(axis=1)
    positive = p[:, 1] if k == 2 else p
    average = {"average": "macro", "zero_division": 0.0, "sample_weight": w}
    expected = {
        "roc_auc": metrics.roc_auc_score(y, positive, multi_class="ovr", sample_weight=w),
        "average_precision": metrics.average_precision_score(y, positive, sample_weight=w),
        "log_loss": metrics.log_loss(y, p, sample_weight=w),
        "brier_score": metrics.brier_score_loss(y, positive, sample_weight=w, labels=np.arange(k)),
    }
    for name, value in expected.items():
        assert getattr(metric_functions, name)(y, p, w) == pytest.approx(value, abs=1e-12), name
    expected = {
        "accuracy": metrics.accuracy_score(y, labels, sample_weight=w),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, labels, sample_weight=w),
        "matthews_corrcoef": metrics.matthews_corrcoef(y, labels, sample_weight=w),
        "f1_macro": metrics.f1_score(y, labels, **average),
        "f1_weighted": metrics.f1_score(y, labels, **(average | {"average": "weighted"})),
    }
    if k == 2:
        for name in ("f1", "precision", "recall"):
            expected[name] = getattr(metrics, f"{name}_score")(y, labels, **(average | {"average": "binary"}))
    for name, value in expected.items():
        assert getattr(metric_functions, name)(y, labels, w) == pytest.approx(value, abs=1e-12), name


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(2, 40), st.booleans())
def test_scores_of_ranks_equal_scikit_learn(seed, k, n, weighted):
    rng = np.random.default_rng(seed)
    y, found = rng.integers(0, k, (2, n))  # some of the classes may be absent
    w = rng.integers(1, 5, n) / 2 if weighted else None
    expected = metrics.mean_absolute_error(y, found, sample_weight=w)
    assert metric_functions.ordinal_mae(y, found, w) == pytest.approx(expected, abs=1e-12)
    if len(np.unique([y, found])) > 1:
        kappa = metrics.cohen_kappa_score(y, found, labels=np.arange(k), weights="quadratic", sample_weight=w)
        assert metric_functions.quadratic_kappa(y, found, w) == pytest.approx(kappa, abs=1e-12)


def test_kappa_of_one_class_is_that_of_chance():
    y = np.ones(5, dtype=int)
    assert metric_functions.quadratic_kappa(y, y) == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.booleans())
def test_scores_of_numbers_equal_scikit_learn(seed, weighted):
    rng = np.random.default_rng(seed)
    y, p = rng.normal(size=(2, 30))
    w = rng.random(30) if weighted else None
    for name, reference in (
        ("mean_squared_error", metrics.mean_squared_error),
        ("root_mean_squared_error", metrics.root_mean_squared_error),
        ("mean_absolute_error", metrics.mean_absolute_error),
        ("r2", metrics.r2_score),
    ):
        assert getattr(metric_functions, name)(y, p, w) == pytest.approx(reference(y, p, sample_weight=w), abs=1e-12)


@pytest.mark.parametrize("guess", [2.0, 3.0])
def test_r2_of_a_constant_target(guess):
    y, p = np.full(4, 2.0), np.full(4, guess)
    assert metric_functions.r2(y, p) == metrics.r2_score(y, p)


def test_classes_that_do_not_occur():
    p = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    y = np.array([0, 1, 1])
    first, second = metrics.roc_auc_score(y == 0, p[:, 0]), metrics.roc_auc_score(y == 1, p[:, 1])
    assert metric_functions.roc_auc(y, p) == pytest.approx((first + second) / 2)
    assert metric_functions.average_precision(y, p) == pytest.approx(
        np.mean([metrics.average_precision_score(y == c, p[:, c]) for c in (0, 1)])
    )
    assert metric_functions.log_loss(y, p) == pytest.approx(metrics.log_loss(y, p, labels=[0, 1, 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = metrics.balanced_accuracy_score(y, [0, 1, 2])
    assert metric_functions.balanced_accuracy(y, np.array([0, 1, 2])) == pytest.approx(expected)


def test_one_class_alone_is_defined():
    y, p = np.zeros(3, dtype=int), np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
    assert metric_functions.roc_auc(y, p) == 0.5
    assert metric_functions.roc_auc(y, np.c_[p, p[:, 0]]) == 0.5
    assert metric_functions.average_precision(y, p) == 0.0
    assert metric_functions.f1(y, y) == 0.0


def test_weights_of_zero_take_rows_out():
    y, p, _ = sample(0, 2)
    weight = (np.arange(len(y)) % 3 > 0).astype(float)
    for name in ("roc_auc", "average_precision", "log_loss"):
        score = getattr(metric_functions, name)
        assert score(y, p, weight) == pytest.approx(score(y[weight > 0], p[weight > 0]), abs=1e-12)


def test_log_loss_bears_zeros_and_rows_that_do_not_sum_to_one():
    y, p = np.array([0, 1, 1]), np.array([[1.0, 0.0], [1.0, 0.0], [2.0, 6.0]])
    assert metric_functions.log_loss(y, p) == pytest.approx(-(0 + np.log(1e-15) + np.log(0.75)) / 3)
    assert np.isfinite(metric_functions.log_loss(y, np.zeros((3, 2))))

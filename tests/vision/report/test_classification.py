"""Scores of predictions, against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from windvane.data.images import ImageDataset
from windvane.errors import InputError
from windvane.vision.report.classification import EvaluatedImages
from windvane.vision.report.example_images import scores_by_class


def evaluated(target: np.ndarray, probabilities: np.ndarray, *, used_for_selection: bool = False) -> EvaluatedImages:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    classes = tuple(f"class {i}" for i in range(probabilities.shape[1]))
    names = tuple(f"image {i}" for i in range(len(target)))
    return EvaluatedImages(
        ImageDataset([pixels] * len(target), target, classes, names), probabilities, used_for_selection
    )


@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_against_scikit_learn(n: int, c: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, probabilities = rng.integers(0, c, n), rng.dirichlet(np.ones(c), n).astype(np.float32)
    one = evaluated(target, probabilities)
    predicted = probabilities.argmax(axis=1)
    assert one.accuracy == pytest.approx(metrics.accuracy_score(target, predicted))
    html = scores_by_class(one)
    for score in (metrics.recall_score, metrics.precision_score, metrics.f1_score):
        shares = score(target, predicted, labels=range(c), average=None, zero_division=np.nan)
        assert all(("-" if np.isnan(share) else f"{share:.1%}") in html for share in shares)
    interval = binomtest(int((target == predicted).sum()), n).proportion_ci(method="wilson")
    assert one.interval() == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_the_most_confident() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.05, 0.95], [0.4, 0.6]])
    one = evaluated(np.array([0, 0, 0, 1, 0]), probabilities)
    assert one.most_confident(correct=True, n=9, per_class=9) == [3, 0, 1, 2]
    assert one.most_confident(correct=True, n=9, per_class=2) == [3, 0, 1]
    assert one.most_confident(correct=True, n=2, per_class=9) == [3, 0]
    assert one.most_confident(correct=False, n=9, per_class=9) == [4]


def slow_doubts(target: np.ndarray, probabilities: np.ndarray) -> dict[int, int]:
    """Images and the class that they look like, by the definition of confident learning."""
    n, c = probabilities.shape
    thresholds = {}
    for j in range(c):
        of_class = [probabilities[i, j] for i in range(n) if target[i] == j]
        thresholds[j] = sum(of_class) / len(of_class) if of_class else np.inf
    found = {}
    for i in range(n):
        confident = [j for j in range(c) if probabilities[i, j] >= thresholds[j]]
        best = max(confident, key=lambda j: probabilities[i, j], default=target[i])
        if probabilities[i, best] > probabilities[i, target[i]]:
            found[i] = int(best)
    return found


@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_doubtful_labels_and_the_most_probable_classes(n: int, c: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, probabilities = rng.integers(0, c, n), rng.dirichlet(np.ones(c), n)
    one = evaluated(target, probabilities)
    found = one.doubtful_labels()
    assert dict(found) == slow_doubts(target, probabilities)
    margins = [probabilities[i, j] - probabilities[i, target[i]] for i, j in found]
    assert margins == sorted(margins, reverse=True)
    for k in range(1, c):
        expected = metrics.top_k_accuracy_score(target, probabilities, k=k, labels=range(c)) if c > 2 else None
        assert expected is None or one.top_accuracy(k) == pytest.approx(expected)
    assert one.top_accuracy(1) == one.accuracy and one.top_accuracy(c) == 1


def test_a_swapped_label_is_doubtful() -> None:
    """Of two classes that are told apart with 0.9, the image that is labelled as the other one."""
    target = np.array([0] * 10 + [1] * 10 + [1])
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 10 + [[0.95, 0.05]])
    assert evaluated(target, probabilities).doubtful_labels() == [(20, 0)]


def test_what_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"shape \(3, 2\), but must have \(2, 2\)"):
        EvaluatedImages(evaluated(np.array([0, 1]), np.eye(2)).images, np.eye(3)[:, :2], used_for_selection=False)
    with pytest.raises(InputError, match="at least one, with one label each"):
        evaluated(np.array([], dtype=np.int64), np.zeros((0, 2)))
    with pytest.raises(InputError, match="at least one, with one label each"):
        evaluated(np.array([[0, 1]]), np.zeros((1, 2)))

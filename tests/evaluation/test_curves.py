"""The numbers behind the figures are scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from windvane.evaluation import curves

RNG = np.random.default_rng(0)
TRUE = RNG.random(5000) < 0.3
SCORE = np.clip(0.3 * TRUE + 0.7 * RNG.random(5000), 0, 1)


def test_thinned_curves_are_those_of_scikit_learn() -> None:
    x, y = curves.roc_points(TRUE, SCORE)
    whole_x, whole_y, _ = roc_curve(TRUE, SCORE)
    assert len(x) <= curves.MAX_POINTS + 2 < len(whole_x)
    assert auc(x, y) == pytest.approx(roc_auc_score(TRUE, SCORE), abs=3e-3)
    assert {*zip(x, y, strict=True)} <= {*zip(whole_x, whole_y, strict=True)}
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    recall, precision = curves.precision_recall_points(TRUE, SCORE)
    whole = precision_recall_curve(TRUE, SCORE)
    assert {*zip(precision, recall, strict=True)} <= {*zip(whole[0], whole[1], strict=True)}
    assert abs(auc(recall, precision)) == pytest.approx(auc(whole[1], whole[0]), abs=2e-3)


def test_few_points_are_all_kept() -> None:
    x, y = curves.roc_points(np.array([True, False, True]), np.array([0.9, 0.5, 0.2]))
    np.testing.assert_array_equal((x, y), roc_curve([1, 0, 1], [0.9, 0.5, 0.2])[:2])


@pytest.mark.parametrize("k", [2, 5, 30])
def test_confusion(k: int) -> None:
    target = np.minimum(RNG.integers(k, size=4000), RNG.integers(k, size=4000))
    predicted = np.where(RNG.random(4000) < 0.6, target, RNG.integers(k, size=4000))
    labels = [str(i) for i in range(k)]
    counts, names = curves.confusion(target, predicted, labels)
    whole = confusion_matrix(target, predicted)
    if k <= curves.MAX_CLASSES:
        np.testing.assert_array_equal(counts, whole)
        assert names == labels
        return
    rows = whole.sum(axis=1)
    few = curves.MAX_CLASSES
    kept = [int(name) for name in names[:few]]
    assert names == [*sorted(names[:few], key=int), curves.OTHERS]
    assert min(rows[kept]) >= max(np.delete(rows, kept))
    np.testing.assert_array_equal(counts[:few, :few], whole[np.ix_(kept, kept)])
    others = np.delete(np.arange(k), kept)
    np.testing.assert_array_equal(counts[:few, few], whole[np.ix_(kept, others)].sum(axis=1))
    assert counts[few, few] == whole[np.ix_(others, others)].sum()


def test_confused_pairs() -> None:
    target, predicted = RNG.integers(5, size=300), RNG.integers(5, size=300)
    whole, labels = confusion_matrix(target, predicted), list("01234")
    pairs = curves.top_confusions(target, predicted, labels)
    assert [count for *_, count, _ in pairs] == sorted(whole[~np.eye(5, dtype=bool)], reverse=True)
    for true, other, count, share in pairs:
        i, j = int(true), int(other)
        assert whole[i, j] == count
        assert share == count / whole[i].sum()
    assert curves.top_confusions(target, target, labels) == []

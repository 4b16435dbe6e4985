import pickle
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    fbeta_score,
    get_scorer,
    get_scorer_names,
    jaccard_score,
    log_loss,
    make_scorer,
    precision_score,
    recall_score,
)

from windvane.data.task import Task
from windvane.errors import InputError, MetricError
from windvane.evaluation.metrics import Metric, check_own_metric, get_metric, significant_digits

TASKS = {
    "binary": Task("binary", 60, 4, 2),
    "multiclass": Task("multiclass", 60, 4, 3),
    "regression": Task("regression", 60, 4),
}


def problem(kind):
    """Codes or positive numbers, and a prediction of the form of a model's."""
    rng = np.random.default_rng(0)
    k = TASKS[kind].n_classes
    if k == 0:
        return rng.random(60) + 0.1, rng.random(60) + 0.1
    y = rng.integers(0, k, 60)
    return y, rng.dirichlet(np.ones(k) + 3 * np.eye(k)[y].mean(axis=0), 60)


@pytest.mark.parametrize(("kind", "name"), [("binary", "roc_auc"), ("multiclass", "log_loss"), ("regression", "rmse")])
def test_auto(kind, name):
    assert get_metric("auto", TASKS[kind]).name == name


@pytest.mark.parametrize(
    ("alias", "kind", "name"),
    [
        ("auc", "binary", "roc_auc"),
        ("roc_auc_ovr", "multiclass", "roc_auc"),
        ("neg_log_loss", "binary", "log_loss"),
        ("logloss", "multiclass", "log_loss"),
        ("acc", "binary", "accuracy"),
        ("neg_root_mean_squared_error", "regression", "rmse"),
        ("neg_mean_absolute_error", "regression", "mae"),
        ("mean_squared_error", "regression", "mse"),
        ("max_error", "regression", "max_error"),
        ("neg_max_error", "regression", "max_error"),
    ],
)
def test_aliases(alias, kind, name):
    metric = get_metric(alias, TASKS[kind])
    assert metric.name == name
    assert get_metric(metric.name, TASKS[kind]) == metric  # a run keeps the name alone


class Answers:
    """A model whose answers are given."""

    def __init__(self, classes, answers):
        self.classes_, self.answers = classes, answers
        self._estimator_type = "regressor" if classes is None else "classifier"

    def __sklearn_tags__(self):
        tags = LogisticRegression().__sklearn_tags__()
        if self.classes_ is None:
            tags.estimator_type, tags.classifier_tags = "regressor", None
        return tags

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return self.answers

    def predict(self, X):
        return self.answers if self.classes_ is None else self.classes_[self.answers.argmax(axis=1)]


def suits(name, kind):
    try:
        get_metric(name, TASKS[kind])
    except InputError:
        return False
    return (name, kind) != ("top_k_accuracy", "binary")  # without meaning there, as scikit-learn warns


SUITING = [(name, kind) for kind in TASKS for name in get_scorer_names() if suits(name, kind)]


@pytest.mark.parametrize(("name", "kind"), SUITING)
def test_every_scorer_of_scikit_learn_that_suits_the_task(name, kind):
    y, prediction = problem(kind)
    metric = get_metric(name, TASKS[kind])
    classes = np.arange(TASKS[kind].n_classes) if TASKS[kind].n_classes else None
    expected = get_scorer(f"{name}_ovr" if name == "roc_auc" and kind == "multiclass" else name)
    score = expected(Answers(classes, prediction), np.zeros((60, 1)), y)
    value = metric.score(metric.loss(y, prediction))
    assert (value if metric.greater_is_better else -value) == pytest.approx(score, abs=1e-12)


def test_suiting_scorers_are_not_refused():
    counts = Counter(kind for _, kind in SUITING)
    assert counts["binary"] >= 25
    assert counts["multiclass"] >= 20
    assert counts["regression"] >= 13


def test_losses_are_low_for_good_predictions():
    y = np.array([0, 1, 1, 0])
    good, bad = np.eye(2)[y] * 0.8 + 0.1, np.eye(2)[1 - y] * 0.8 + 0.1
    for name in ("roc_auc", "log_loss", "accuracy", "balanced_accuracy", "f1", "average_precision", "brier_score"):
        metric = get_metric(name, TASKS["binary"])
        assert metric.loss(y, good) < metric.loss(y, bad), name
        assert metric.score(metric.loss(y, good)) == pytest.approx(
            float(metric.function(y, good.argmax(axis=1) if metric.needs == "labels" else good))
        )


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_has_an_infinite_loss(kind, bad):
    y, prediction = problem(kind)
    prediction[3] = bad
    assert get_metric("auto", TASKS[kind]).loss(y, prediction) == np.inf


def test_own_metric_of_labels_sees_the_users_labels():
    seen = []

    def share(y_true, y_pred):
        seen.append((list(y_true), list(y_pred)))
        return np.mean(y_true == y_pred)

    metric = get_metric(Metric("share", share), TASKS["binary"], np.array(["no", "yes"]))
    loss = metric.loss(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.ones(3))
    assert seen == [(["no", "yes", "yes"], ["no", "no", "yes"])]
    assert loss == pytest.approx(-2 / 3)
    assert metric.score(loss) == pytest.approx(2 / 3)


def test_own_metric_of_probabilities_gets_weights_where_it_takes_them():
    def weighted(y_true, y_pred, sample_weight=None):
        assert y_pred.shape == (3, 2)
        return -1.0 if sample_weight is None else sample_weight.sum()

    own = Metric("w", weighted, needs="probabilities", greater_is_better=False)
    metric = get_metric(own, TASKS["binary"], np.array(["a", "b"]))
    y, p = np.array([0, 1, 1]), np.full((3, 2), 0.5)
    assert metric.loss(y, p, np.full(3, 2.0)) == 6.0
    assert metric.loss(y, p) == -1.0
    assert metric.loss(y, p, np.zeros(3)) == -1.0  # rows without any weight are evaluated unweighted


def test_own_metric_without_a_signature():
    metric = get_metric(Metric("largest", max, needs="values"), TASKS["regression"])
    assert metric.loss(np.array(1.0), np.array(2.0), np.ones(1)) == -2.0


def test_scorer_objects_see_labels_and_the_positive_column():
    X, codes = make_classification(random_state=0)
    y = np.array(["no", "yes"])[codes]
    model = LogisticRegression().fit(X, y)
    p = model.predict_proba(X)
    for scorer in (
        make_scorer(fbeta_score, beta=2, pos_label="no"),
        make_scorer(accuracy_score),
        make_scorer(log_loss, greater_is_better=False, response_method="predict_proba"),
        get_scorer("roc_auc"),
    ):
        metric = get_metric(scorer, TASKS["binary"], model.classes_)
        value = metric.score(metric.loss(codes, p))
        assert (value if metric.greater_is_better else -value) == pytest.approx(scorer(model, X, y))


def positive_mean(y_true, y_score, pos_label):
    return float(np.mean(y_score[y_true == pos_label]))


def test_scorer_of_the_first_class_gets_its_probabilities():
    scorer = make_scorer(positive_mean, response_method="predict_proba", pos_label="no")
    metric = get_metric(scorer, TASKS["binary"], np.array(["no", "yes"]))
    loss = metric.loss(np.array([0, 1]), np.array([[0.8, 0.2], [0.3, 0.7]]), np.ones(2))
    assert metric.score(loss) == pytest.approx(0.8)


def test_scorer_of_numbers():
    metric = get_metric(get_scorer("neg_median_absolute_error"), TASKS["regression"])
    assert metric.loss(np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.5, 3.5])) == pytest.approx(0.5)
    assert not metric.greater_is_better


def test_metrics_travel_to_workers():
    for name in ("roc_auc", "f1_micro"):
        metric = get_metric(name, TASKS["binary"])
        assert pickle.loads(pickle.dumps(metric)) == metric


@pytest.mark.parametrize(
    ("metric", "kind", "message"),
    [
        ("roc_acu", "binary", "metric='roc_acu' is not known. Did you mean 'roc_auc'?"),
        ("adjusted_rand_score", "binary", "is not known"),
        ("rmse", "binary", "metric='rmse' is not for binary tasks. Allowed: roc_auc"),
        ("neg_mean_poisson_deviance", "multiclass", "is not for multiclass tasks"),
        ("roc_auc", "regression", "metric='roc_auc' is not for regression tasks. Allowed: rmse"),
        ("f1_micro", "regression", "is not for regression tasks"),
        ("f1", "multiclass", "metric='f1' is for two classes, but there are 3. Use 'f1_macro'."),
        ("precision", "multiclass", "Use 'precision_macro'"),
        ("positive_likelihood_ratio", "multiclass", "Use 'balanced_accuracy'"),
        (accuracy_score, "binary", "wrap it as windvane.Metric(name, function, needs=...)"),
        (3, "binary", "metric=3 is not a name, scikit-learn scorer or windvane.Metric."),
        (None, "binary", "metric=None is not a name"),
        (Metric("m", max), "regression", "has needs='labels', but for regression it must be 'values'"),
        (Metric("m", max, needs="values"), "binary", "for classification it must be 'labels' or 'probabilities'"),
        (get_scorer("r2"), "binary", "has needs='values', but for classification"),
        (
            make_scorer(max, response_method="decision_function"),
            "binary",
            "needs decision_function, but models only have",
        ),
    ],
)
def test_errors(metric, kind, message):
    with pytest.raises(InputError) as caught:
        get_metric(metric, TASKS[kind], np.arange(TASKS[kind].n_classes) if TASKS[kind].n_classes else None)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("m", 3), "function=3 cannot be called"),
        (("m", max, "label"), "needs='label' is not known. Did you mean 'labels'?"),
    ],
)
def test_errors_of_the_constructor(arguments, message):
    with pytest.raises(InputError) as caught:
        Metric(*arguments)
    assert message in str(caught.value)


BINARY_TASK = Task("binary", 200, 3, 2)


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("labels", [["no", "yes"], [0, 1], [False, True], [2, 5]])
@pytest.mark.parametrize("name", ["f1", "precision", "recall", "jaccard", "average_precision"])
def test_the_positive_class_is_the_one_asked_for(name: str, labels: list[Any], positive: int) -> None:
    rng = np.random.default_rng(3)
    target = (rng.random(200) < 0.3).astype(int)
    second = np.clip(0.5 * target + 0.7 * rng.random(200), 0, 1)
    probabilities = np.column_stack([1 - second, second])
    weight = rng.random(200)
    classes = np.array(labels)
    functions: dict[str, Any] = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
    functions |= {"jaccard": jaccard_score, "average_precision": average_precision_score}
    prediction = probabilities[:, positive] if name == "average_precision" else classes[probabilities.argmax(axis=1)]
    expected = functions[name](classes[target], prediction, pos_label=classes[positive], sample_weight=weight)
    named = get_metric(name, BINARY_TASK, classes, positive)
    assert (named.positive, named.uses_positive) == (positive, True)
    assert named.score(named.loss(target, probabilities, weight)) == pytest.approx(expected)
    scorer = get_metric(get_scorer(name), BINARY_TASK, classes, positive)
    assert scorer.uses_positive
    assert scorer.score(scorer.loss(target, probabilities, weight)) == pytest.approx(expected)


def test_metrics_that_know_no_positive_class() -> None:
    target = np.array([0, 1, 1, 0, 1])
    probabilities = np.column_stack([[0.6, 0.3, 0.4, 0.7, 0.9], [0.4, 0.7, 0.6, 0.3, 0.1]])
    for name in ("roc_auc", "log_loss", "accuracy", "f1_macro", "matthews_corrcoef"):
        first, second = (get_metric(name, BINARY_TASK, None, positive) for positive in (0, 1))
        assert (first.positive, first.uses_positive) == (0, False)
        assert first.loss(target, probabilities) == second.loss(target, probabilities)
    macro = get_metric(make_scorer(f1_score, average="macro"), BINARY_TASK, np.array(["a", "b"]), 0)
    assert not macro.uses_positive
    chosen = get_metric(make_scorer(f1_score, pos_label="a"), BINARY_TASK, np.array(["a", "b"]), 1)
    assert (chosen.positive, chosen.uses_positive) == (0, True)  # what the scorer says is what it is about
    assert get_metric("accuracy", Task("multiclass", 9, 2, 3)).positive is None


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1.0, 1e12])
def test_own_scores_of_any_scale_keep_their_differences(scale: float) -> None:
    metric = get_metric(
        Metric("gain", lambda y, p: scale * float((y == p).mean()), "labels"), BINARY_TASK, np.arange(2)
    )
    good, bad = np.eye(2)[[0, 1, 1]], np.eye(2)[[0, 1, 0]]
    target = np.array([0, 1, 1])
    losses = [metric.loss(target, prediction) for prediction in (good, bad)]
    assert losses == [-scale, pytest.approx(-scale * 2 / 3)]
    assert metric.score(losses[0]) == scale


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda y, p: None, "The metric 'mine' returned None, but must return a number"),
        (lambda y, p: float("nan"), "The metric 'mine' returned nan, but must return a number"),
        (lambda y, p: "high", "The metric 'mine' returned 'high', but must return a number"),
        (lambda y, p: np.ones(2), "The metric 'mine' returned array"),
        (lambda y, p: 1 / 0, "The metric 'mine' raised ZeroDivisionError: division by zero"),
        (lambda y: 1.0, "The metric 'mine' raised TypeError"),
    ],
)
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_faults_of_own_metrics_are_named(kind: str, function: Any, message: str) -> None:
    target, prediction = problem(kind)
    needs = "values" if kind == "regression" else "probabilities"
    metric = get_metric(
        Metric("mine", function, needs), TASKS[kind], None if kind == "regression" else np.arange(TASKS[kind].n_classes)
    )
    with pytest.raises(MetricError, match=re.escape(message)):
        metric.loss(target, prediction)
    with pytest.raises(MetricError, match=re.escape(message)):
        check_own_metric(metric, target, TASKS[kind], None)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_own_metrics_are_checked_with_a_plausible_prediction(kind: str) -> None:
    target, _ = problem(kind)
    seen: list[Any] = []

    def function(y: Any, p: Any, sample_weight: Any = None) -> float:
        seen.append((y, p, sample_weight))
        return 0.5

    needs = "values" if kind == "regression" else "probabilities"
    weight = np.arange(1.0, 61.0)
    check_own_metric(
        get_metric(Metric("mine", function, needs), TASKS[kind], None if kind == "regression" else np.arange(3)),
        target,
        TASKS[kind],
        weight,
    )
    ((y, p, given),) = seen
    assert sorted(given) == weight.tolist()
    assert sorted(y) == sorted(target)
    if kind == "regression":
        assert sorted(p) == sorted(target)
    else:
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert (p >= 0).all() and p.shape == (60, TASKS[kind].n_classes)


def test_significant_digits() -> None:
    assert significant_digits(np.array([0.3, 0.2, np.inf])) == 6
    assert significant_digits(np.array([1e-12, 2e-12])) == 6
    assert significant_digits(np.array([1000.001, 1000.002])) == 11
    assert significant_digits(np.array([5.0, 5.0])) == significant_digits(np.array([np.inf])) == 6
    assert significant_digits(np.array([1.0, 1.0 + 1e-15])) == 14


LEVELS = np.array(["low", "medium", "high"])


@pytest.mark.parametrize("name", ["quadratic_kappa", "quadratic_weighted_kappa", "ordinal_mae"])
def test_an_ordinal_metric_needs_an_order(name):
    task = Task("multiclass", 60, 4, 3)
    with pytest.raises(InputError, match=r"labels with an order, but 'low', 'medium', 'high' have none.*ordered=True"):
        get_metric(name, task, LEVELS)
    assert get_metric(name, replace(task, ordered=True), LEVELS).needs == "labels"
    assert get_metric(name, task, np.array([1, 2, 5])).needs == "labels"


@pytest.mark.parametrize("scorer", ["neg_log_loss", "roc_auc_ovr_weighted"])
def test_scorers_of_probabilities_with_labels_in_their_own_order(scorer):
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 40), rng.dirichlet(np.ones(3), 40)
    task = Task("multiclass", 60, 4, 3, ordered=True)
    own = get_metric(get_scorer(scorer), task, LEVELS)
    plain = get_metric(get_scorer(scorer), task, np.array([0, 1, 2]))
    assert own.loss(y, p) == pytest.approx(plain.loss(y, p))


def test_a_scorer_of_one_class_with_labels_in_their_own_order():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 40), rng.dirichlet(np.ones(2), 40)
    scorer = make_scorer(average_precision_score, response_method="predict_proba", pos_label="low")
    found = get_metric(scorer, Task("binary", 40, 4, 2, ordered=True), np.array(["low", "high"]))
    assert found.score(found.loss(y, p)) == pytest.approx(average_precision_score(y == 0, p[:, 0]))

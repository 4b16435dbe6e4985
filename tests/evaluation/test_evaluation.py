"""Every table of an evaluation equals what scikit-learn or counting gives; odd rows give odd but honest tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from toys import HOSTILE_LABEL, HOSTILE_NAME, check_html

from windvane.data.task import Kind, Task
from windvane.errors import InputError
from windvane.evaluation.decisions.thresholds import with_threshold
from windvane.evaluation.evaluation import (
    MAX_SEGMENTS,
    MISSING,
    OTHERS,
    USUAL,
    Evaluation,
    columns_for_segments,
    evaluate,
    make_segments,
)
from windvane.evaluation.metrics import Metric, get_metric
from windvane.evaluation.predictions import Predictions
from windvane.pages.html_builder import number
from windvane.runtime.columns.table import Table
from windvane.runtime.ensemble import Ensemble

LABELS: dict[Kind, Any] = {"binary": np.array(["no", "yes"]), "multiclass": np.array([3, 5, 8]), "regression": None}


def make(kind: Kind, n: int = 200, seed: int = 0, *, weighted: bool = False) -> Predictions:
    rng = np.random.default_rng(seed)
    weight = rng.integers(1, 5, n) / 2 if weighted else None
    table = Table(np.empty((n, 0)), 0)
    if kind == "regression":
        target = rng.normal(10, 3, n)
        return Predictions(table, np.arange(n), target, target + rng.normal(size=n), weight)
    k = len(LABELS[kind])
    target = np.concatenate([np.arange(k), rng.integers(k, size=n - k)])
    p = rng.dirichlet(np.ones(k), n) + 0.5 * np.eye(k)[target]
    ensemble = Ensemble((), 0.0)
    return Predictions(table, np.arange(n), target, p / p.sum(axis=1, keepdims=True), weight, ensemble=ensemble)


def evaluated(predictions: Predictions, kind: Kind, metric: str = "auto", **more: Any) -> Evaluation:
    task = Task(kind, 100, 1, 0 if kind == "regression" else len(LABELS[kind]))
    return evaluate(predictions, get_metric(metric, task, LABELS[kind]), task, LABELS[kind], **more)


@pytest.mark.parametrize("kind", list(USUAL))
@pytest.mark.parametrize("weighted", [False, True])
def test_every_score_has_an_interval_around_it(kind: Kind, weighted: bool) -> None:
    predictions = make(kind, weighted=weighted)
    found = evaluated(predictions, kind).metrics.set_index("metric")
    assert found.index[0] == {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[kind]
    assert set(USUAL[kind]) < set(found.index)
    task = Task(kind, 100, 1, 0 if kind == "regression" else len(LABELS[kind]))
    for name in USUAL[kind]:
        row = found.loc[name]
        assert row["score"] == pytest.approx(predictions.score(get_metric(name, task)))
        assert row["low"] <= row["score"] <= row["high"] and row["n"] == 200


def test_classes_are_those_of_scikit_learn() -> None:
    predictions = make("multiclass", weighted=True)
    classes = evaluated(predictions, "multiclass").classes
    assert classes is not None
    report = sk.classification_report(
        predictions.target, predictions.labels, sample_weight=predictions.weight, output_dict=True
    )
    for code, row in enumerate(classes.to_dict("records")):
        for name, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert row[name] == pytest.approx(report[str(code)][theirs])
        assert row["support"] == np.sum(predictions.target == code)
        area = sk.roc_auc_score(
            predictions.target == code, predictions.prediction[:, code], sample_weight=predictions.weight
        )
        assert row["auc"] == pytest.approx(area)
    assert classes["class"].tolist() == [3, 5, 8]


def test_labels_follow_the_threshold() -> None:
    predictions = replace(make("binary"), ensemble=with_threshold(Ensemble((), 0.0), 0.8, 1))
    found = evaluated(predictions, "binary")
    assert found.threshold == pytest.approx(0.8) and found.positive_class == "yes"
    chosen = predictions.prediction[:, 1] > 0.8
    precision = found.metrics.set_index("metric").loc["precision", "score"]
    assert precision == pytest.approx(sk.precision_score(predictions.target, chosen))
    assert found.confusion is not None
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(predictions.target, chosen))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.booleans(), st.integers(2, 60))
def test_lift_adds_up(seed: int, weighted: bool, n: int) -> None:
    predictions = make("binary", n, seed, weighted=weighted)
    lift = evaluated(predictions, "binary", max_seconds=0).lift
    assert lift is not None
    weight = np.ones(n) if predictions.weight is None else predictions.weight
    positives = (weight * predictions.target).sum()
    assert lift["n"].sum() == n and len(lift) == min(n, 10)
    assert lift["share"].iloc[-1] == pytest.approx(1) and lift["gain"].iloc[-1] == pytest.approx(1)
    shares = np.diff(lift["share"], prepend=0.0)
    assert (shares * lift["lift"]).sum() == pytest.approx(1)
    first = np.argsort(-predictions.prediction[:, 1], kind="stable")[: lift["n"].iloc[0]]
    assert lift["gain"].iloc[0] == pytest.approx((weight * predictions.target)[first].sum() / positives)


@pytest.mark.parametrize("kind", list(USUAL))
def test_the_worst_rows_come_first(kind: Kind) -> None:
    predictions = make(kind)
    columns = pd.DataFrame({"loss": np.arange(200), "b": list("xy") * 100, "row": 7})
    found = evaluated(predictions, kind, n_worst=5, columns=columns, max_seconds=0)
    worst = found.worst_rows
    if kind == "regression":
        loss = abs(predictions.prediction - predictions.target)
    else:
        loss = -np.log(predictions.prediction[np.arange(200), predictions.target])
        np.testing.assert_array_equal(worst["target"], LABELS[kind][predictions.target[worst.index]])
    np.testing.assert_allclose(worst["loss"], np.sort(loss)[::-1][:5])
    np.testing.assert_array_equal(worst["loss (column)"], worst.index)
    np.testing.assert_array_equal(worst["b"], columns["b"].iloc[worst.index])
    assert [(row["row"], row["row (column)"]) for row in found.to_dict()["worst_rows"]] == [(i, 7) for i in worst.index]
    assert evaluated(predictions, kind, n_worst=0, max_seconds=0).worst_rows.empty


def test_segments_are_scores_of_their_rows() -> None:
    predictions = make("binary", weighted=True)
    group, size = np.array(["a", "b", "c", None], dtype=object)[np.arange(200) % 4], np.arange(200.0)
    found = evaluated(predictions, "binary", segments={"group": group, "size": size}).segments
    assert found["segment"].tolist()[:4] == ["a", "b", "c", MISSING]
    assert found["n"].tolist() == [50] * 4 + [40] * 5
    metric = get_metric("roc_auc", Task("binary", 100, 1, 2))
    parts = [np.arange(200) % 4 == i for i in range(4)] + [size // 40 == i for i in range(5)]
    for row, part in zip(found.to_dict("records"), parts, strict=True):
        some = predictions.take(np.flatnonzero(part))
        assert row["score"] == pytest.approx(some.score(metric))
        assert row["low"] <= row["score"] <= row["high"]
        assert row["target"] == pytest.approx(np.average(some.target, weights=some.weight))
        assert row["prediction"] == pytest.approx(np.average(some.prediction[:, 1], weights=some.weight))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=60)
    | st.lists(st.none() | st.text(max_size=2), min_size=1, max_size=60)
    | st.lists(st.booleans(), min_size=1)
    | st.lists(st.dates().map(pd.Timestamp), min_size=1, max_size=60)
    | st.lists(st.integers(0, 40), min_size=1, max_size=200)
)
def test_every_row_is_in_one_segment(values: list[Any]) -> None:
    codes, names = make_segments(pd.Series(values).array)
    assert len(codes) == len(values) and codes.min() >= 0 and codes.max() < len(names)
    assert len(names) <= MAX_SEGMENTS + 3
    missing = pd.isna(pd.Series(values)).to_numpy()
    assert (MISSING in names) == missing.any()
    if missing.any():
        np.testing.assert_array_equal(codes == len(names) - 1, missing)


def test_many_texts_leave_a_rest() -> None:
    codes, names = make_segments([f"t{i % 30}" for i in range(100)])
    assert names[-1] == OTHERS and len(names) == MAX_SEGMENTS + 1
    assert np.sum(codes == MAX_SEGMENTS) == 100 - 4 * 10 - 3 * 2


def test_categories_of_numbers_may_be_missing() -> None:
    codes, names = make_segments(pd.Categorical([2, 1, None, 2]))
    assert codes.tolist() == [1, 0, 2, 1] and names == ["1.0", "2.0", MISSING]


def test_a_column_may_be_named_or_given() -> None:
    frame = pd.DataFrame({"a": [1, 2], 7: ["x", "y"]})
    assert list(columns_for_segments("a", frame, 2)) == ["a"]
    assert list(columns_for_segments(["a", "7"], frame, 2)) == ["a", "7"]
    assert list(columns_for_segments(pd.Series([0, 1], name="site"), frame, 2)) == ["site"]
    assert list(columns_for_segments(["u", "v"], frame, 2)["by"]) == ["u", "v"]
    assert list(columns_for_segments(np.array([0, 1]), None, 2)) == ["by"]
    assert columns_for_segments(None, frame, 2) == {}
    with pytest.raises(InputError, match=r"by='aa' is not known. Did you mean 'a'"):
        columns_for_segments("aa", frame, 2)
    for wrong in ([1.5, 2.5, 3.5], frame, "a"):
        with pytest.raises(InputError, match=r"a value for each|not known"):
            columns_for_segments(wrong, None if isinstance(wrong, str) else frame.iloc[:1], 1)


def test_the_diagram_states_the_calibration_error_of_the_metrics(tmp_path: Path) -> None:
    found = evaluated(make("binary", weighted=True), "binary", max_seconds=0)
    error = found.metrics.set_index("metric").loc["expected_calibration_error", "score"]
    page = found.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"Expected calibration error: {number(error, 3)}." in page


def test_rows_of_one_class() -> None:
    whole = make("binary")
    one = whole.take(np.flatnonzero(whole.target == 1))
    found = evaluated(one, "binary")
    assert np.isnan(found.metrics["score"].iloc[0]) and np.isnan(found.metrics["low"].iloc[0])
    assert found.classes is not None and found.classes["auc"].isna().all()
    assert found.lift is not None and (found.lift["lift"] == 1).all()
    none = evaluated(whole.take(np.flatnonzero(whole.target == 0)), "binary")
    assert none.lift is not None and none.lift["gain"].isna().all()
    for one_class in (found, none):
        json.loads(one_class.to_json())
        assert "nan" not in str(one_class).lower()
        check_html(one_class._repr_html_())


def test_one_row() -> None:
    found = evaluated(make("regression", 1), "regression")
    assert found.n_rows == 1 and found.metrics["low"].isna().all()
    assert len(found.worst_rows) == 1


def test_own_metrics_and_chosen_ones() -> None:
    own = Metric("within 1", lambda y, p: float(np.mean(abs(y - p) < 1)), needs="values")
    predictions = make("regression")
    found = evaluated(predictions, "regression", metrics=["r2", own]).metrics
    assert found["metric"].tolist() == ["rmse", "r2", "within 1"]
    assert found["score"].iloc[2] == np.mean(abs(predictions.prediction - predictions.target) < 1)
    assert found["low"].iloc[2] < found["score"].iloc[2] < found["high"].iloc[2]
    assert evaluated(predictions, "regression", metrics="mae").metrics["metric"].tolist() == ["rmse", "mae"]
    with pytest.raises(InputError, match="metric='f1' is not for regression"):
        evaluated(predictions, "regression", metrics=["f1"])


@pytest.mark.parametrize("kind", list(USUAL))
def test_it_is_text_json_and_html(kind: Kind, tmp_path: Path) -> None:
    columns = pd.DataFrame({HOSTILE_NAME: [HOSTILE_LABEL] * 200, "when": pd.date_range("2024", periods=200)})
    segments = {HOSTILE_NAME: np.array([HOSTILE_LABEL, "b"])[np.arange(200) % 2]}
    found = evaluated(make(kind), kind, columns=columns, segments=segments)
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    assert found.metrics["metric"].iloc[0] in text
    content = json.loads(found.to_json())
    assert content == found.to_dict()
    assert [row["metric"] for row in content["metrics"]] == found.metrics["metric"].tolist()
    assert len(content["segments"]) == 2 and content["worst_rows"][0]["row"] == found.worst_rows.index[0]
    page = found.report(tmp_path / "page.html").read_text(encoding="utf-8")
    check_html(page)
    check_html(found._repr_html_())
    assert HOSTILE_NAME not in page and HOSTILE_LABEL not in page
    assert ("Calibration" in page) == (kind != "regression") and ("Gain" in page) == (kind == "binary")

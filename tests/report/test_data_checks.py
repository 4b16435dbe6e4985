"""Generated data with one issue each, and the sentences about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse as sp
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from windvane.data.column_types import infer_schema
from windvane.data.files import to_frame
from windvane.data.splits import Fold
from windvane.data.task import Task
from windvane.evaluation.columns.identifiers import find_identifiers
from windvane.evaluation.metrics import get_metric
from windvane.report import data_checks
from windvane.report.data_checks import (
    DuplicateRows,
    count_shared_rows,
    find_data_issues,
    find_duplicates,
    row_hashes,
    single_column_scores,
)
from windvane.runtime.columns.schema import Schema
from windvane.search.problem import Problem

RNG = np.random.default_rng(0)
N = 400


def make(frame: Any, target: Any) -> tuple[Problem, Schema]:
    found = to_frame(frame)
    schema = infer_schema(found)
    target = np.asarray(target)
    n_classes = int(target.max()) + 1 if target.dtype.kind == "i" else 0
    task = Task(
        "regression" if n_classes == 0 else "binary" if n_classes == 2 else "multiclass", len(target), 1, n_classes
    )
    fold = Fold(np.arange(len(target) // 2), np.arange(len(target) // 2, len(target)))
    return Problem(task, get_metric("auto", task, None), schema.transform(found), target, None, (fold,), 0), schema


def said(frame: Any, target: Any) -> list[str]:
    problem, schema = make(frame, target)
    labels = [f"class {i}" for i in range(problem.task.n_classes)]
    ids = find_identifiers(schema, problem.table)
    return find_data_issues(problem.table, schema, problem.target, alone(problem, schema), labels, ids=ids)


def alone(problem: Problem, schema: Schema) -> dict[str, float]:
    return single_column_scores(problem.table, problem.target, problem.task.n_classes, schema.matrix_places, 0)


def sound() -> tuple[pd.DataFrame, Any]:
    X = pd.DataFrame({"a": RNG.normal(size=N), "b": RNG.normal(size=N), "c": RNG.choice(list("xyz"), N)})
    return X, (X["a"] + RNG.normal(size=N) > 0).astype(int).to_numpy()


def test_sound_data_are_passed_over() -> None:
    X, y = sound()
    assert said(X, y) == []
    assert said(X, X["a"] + RNG.normal(size=N)) == []


@pytest.mark.parametrize("goal", ["classes", "numbers", "category"])
def test_a_column_that_gives_the_target_away(goal: str) -> None:
    X, y = sound()
    if goal == "numbers":
        y = X["a"].to_numpy() + RNG.normal(size=N)
        X["leak"] = 3 * y + 0.001 * RNG.normal(size=N)
    else:
        X["leak"] = y * 5.0 + RNG.normal(0, 0.1, N) if goal == "classes" else np.where(y == 1, "paid", "due")
    (text,) = said(X, y)
    assert text.startswith("“leak” alone predicts the target almost perfectly")


def test_a_column_score_is_that_on_rows_that_the_tree_did_not_see() -> None:
    X, y = sound()
    problem, schema = make(X, y)
    scores = alone(problem, schema)
    rows = np.sort(np.random.default_rng(0).permutation(N))
    half = np.random.default_rng(1).permutation(N) < N // 2
    values = X[["a"]].to_numpy()[rows]
    tree = DecisionTreeClassifier(min_samples_leaf=3, max_leaf_nodes=32, random_state=0).fit(values[half], y[half])
    assert scores["a"] == pytest.approx(roc_auc_score(y[~half], tree.predict_proba(values[~half])[:, 1]))
    assert scores["b"] < 0.65 < scores["a"]
    assert r2_score([1, 2, 3], [1, 2, 3]) == 1.0


def test_duplicates_and_contradictions() -> None:
    X, y = sound()
    X.loc[0, "a"] = np.nan
    twice = pd.concat([X, X.iloc[:50]], ignore_index=True)
    problem, _ = make(twice, np.append(y, [*y[:40], *(1 - y[40:50])]))
    assert find_duplicates(problem.table, problem.target) == DuplicateRows(N + 50, 50, 20)
    (text,) = said(twice, problem.target)
    assert text.startswith("50 rows (11.1%) repeat an earlier row")
    assert "20 rows equal a row with another target" in text


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, -0.0, 1.5, np.nan]), st.sampled_from(["p", "q", None])), min_size=3, max_size=12
    )
)
def test_hashes_are_equal_where_rows_are(rows: list[tuple[float, str | None]]) -> None:
    frame = pd.DataFrame([*rows, (0.0, "p"), (1.5, "q")], columns=["a", "b"])
    hashes = row_hashes(infer_schema(frame).transform(frame))
    texts = [
        f"{'nan' if a != a else a + 0.0}{'' if b is None or b != b else b}" for a, b in frame.itertuples(index=False)
    ]
    for i in range(len(texts)):
        for j in range(i):
            assert (hashes[i] == hashes[j]) == (texts[i] == texts[j])


def test_hashes_of_sparse_rows() -> None:
    dense = RNG.integers(3, size=(40, 4)) * 1.0
    hashes = row_hashes(infer_schema(to_frame(sp.csr_matrix(dense))).transform(to_frame(sp.csr_matrix(dense))))
    expected = {tuple(row) for row in dense.tolist()}
    assert len(np.unique(hashes)) == len(expected) < 40


def test_rows_that_train_and_test_share() -> None:
    X, _ = sound()
    schema = infer_schema(X)
    train, test = schema.transform(X.iloc[:300]), schema.transform(X.iloc[280:])
    assert count_shared_rows(train, test) == 20


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (np.arange(N) + 1000, "like an identifier"),
        ([f"user{i}" for i in range(N)], "like an identifier"),
        (["same"] * N, "constant, not used"),
        (np.where(np.arange(N) < 300, np.nan, RNG.normal(size=N)), "more than half of the values are missing"),
        ([f"v{i // 2}" for i in range(N)], "many distinct values for 400 rows"),
    ],
)
def test_odd_columns(column: Any, words: str) -> None:
    X, y = sound()
    texts = said(X.assign(odd=column), y)
    assert any(words in text and "odd" in text for text in texts), texts


def test_rare_and_unbalanced_classes() -> None:
    X, _ = sound()
    rare = np.where(np.arange(N) < 5, 1, 0)
    assert any("Fewer than 20 rows of class 1 (5)" in text for text in said(X, rare))
    large = pd.concat([X] * 8, ignore_index=True) + 0.0 if False else pd.DataFrame(RNG.normal(size=(4000, 2)))
    assert any("unbalanced: 40 rows" in text for text in said(large, np.where(np.arange(4000) < 40, 1, 0)))


def test_odd_numbers_to_predict() -> None:
    X, _ = sound()
    assert any("exactly 0" in text for text in said(X, np.where(np.arange(N) < 200, 0.0, RNG.normal(size=N))))
    assert any("long tail" in text for text in said(X, np.exp(3 * RNG.normal(size=N))))


def test_time_for_the_columns_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_checks, "MAX_SECONDS", -1.0)
    problem, schema = make(*sound())
    assert alone(problem, schema) == {}


def test_labels_that_differ_in_spaces() -> None:
    X, y = sound()
    problem, schema = make(X, y)
    texts = find_data_issues(problem.table, schema, problem.target, {}, ["due", "due "], ids=[])
    assert texts[0].startswith("Classes differ in spaces or capital letters alone: 'due' and 'due '.")


def test_a_class_in_every_row_brings_no_warning_of_scikit_learn(recwarn: pytest.WarningsRecorder) -> None:
    X, _ = sound()
    problem, schema = make(X.iloc[:60], np.arange(60))
    alone(problem, schema)
    assert not recwarn.list

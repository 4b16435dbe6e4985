from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse as sp
from sklearn.model_selection import GroupKFold, KFold

from windvane.data.target import TaskType
from windvane.data.task import Task
from windvane.errors import InputError
from windvane.evaluation.metrics import Metric
from windvane.models import DEFAULT
from windvane.search.problem import PreparedProblem
from windvane.search.strategy.families import choose_families
from windvane.search.strategy.policy import Policy
from windvane.search.table_problem import TableOptions, prepare_table_problem
from windvane.settings import Settings

OPTIONS = {field.name for field in fields(TableOptions)}


def settings(**changes: Any) -> Settings:
    facts: dict[str, Any] = {"time_budget": 60.0, "n_jobs": 2, "memory_limit": 4000.0, "policy": "auto"}
    facts |= {"ensemble_size": 25, "n_trials": None, "run_dir": None, "seed": 3, "verbose": 0, "keep_data": True}
    return Settings(**{**facts, **changes})


def frame(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=n), "colour": rng.choice(["red", "blue", "green"], n), "one": 1})


def labels(n: int = 60, k: int = 2) -> list[str]:
    return [f"class {i % k}" for i in range(n)]


def run(
    X: Any, y: Any, changes: dict[str, Any] | None = None, goal: TaskType = "classification", **given: Any
) -> PreparedProblem:
    options = TableOptions(**{name: given.pop(name) for name in [*given] if name in OPTIONS})
    families = choose_families(given.pop("families", None))
    return prepare_table_problem(X, y, goal, options, settings(**(changes or {})), families, owner="Auto", **given)


def test_identifiers_are_left_out_unless_they_are_wanted() -> None:
    n = 200
    X = frame(n).assign(customer_id=np.random.default_rng(1).permutation(n))
    prepared = run(X, labels(n))
    assert [column.name for column in prepared.schema.columns if column.kind == "dropped"] == ["one", "customer_id"]
    assert prepared.problem.table.n_columns == 2
    assert any("'customer_id'" in note and "identifier" in note for note in prepared.notes)
    assert run(X, labels(n), {"keep_ids": True}).problem.table.n_columns == 3
    y = X["customer_id"].to_numpy() + 0.5  # of use
    kept = run(X, y, goal="regression")
    assert kept.problem.table.n_columns == 3
    assert any("'customer_id'" in warning and "predicts the target" in warning for warning in kept.warnings)
    assert run(X[["customer_id"]], labels(n)).problem.table.n_columns == 1  # there is nothing else


@pytest.mark.parametrize(
    ("lowest", "metric", "log_link"),
    [
        (0.0, "auto", True),
        (0.0, "r2", True),
        (0.0, "neg_mean_squared_error", True),
        (-0.1, "auto", False),
        (0.0, "mae", False),
        (0.0, "pinball_0.5", False),
        (0.0, Metric("rmse", lambda y_true, y_pred: 0.0, needs="values"), False),  # whatever its name, it may be any
    ],
)
def test_a_log_link_is_for_means_of_targets_from_0(lowest: float, metric: Any, log_link: bool) -> None:
    y = np.arange(60) % 7 + lowest
    assert run(frame(), y, goal="regression", metric=metric).problem.task.log_link is log_link
    several = pd.DataFrame({"a": np.arange(60.0), "b": y})
    if metric == "auto":
        assert run(frame(), several, goal="regression").problem.task.log_link is log_link


def test_named_columns_are_left_out() -> None:
    X = frame().assign(row=[f"r{i}" for i in range(60)])
    schema = run(X, labels(), ignore=["colour"], id_columns="row").schema
    assert schema.id_columns == ["row"]
    assert [column.kind for column in schema.columns] == ["number", "dropped", "dropped", "dropped"]
    with pytest.raises(InputError, match=r"ignore='color' is not known. Did you mean 'colour'"):
        run(X, labels(), ignore=["color"])
    with pytest.raises(InputError, match="no column to learn from"):
        run(X[["a", "row"]], labels(), ignore=["a", "row"])


def test_a_table_and_labels_become_a_problem() -> None:
    prepared = run(frame(), labels())
    problem = prepared.problem
    assert problem.task == Task("binary", 60, 2, 2)  # the constant column is dropped
    assert (problem.metric.name, problem.seed, problem.weight) == ("roc_auc", 3, None)
    np.testing.assert_array_equal(problem.target, np.arange(60) % 2)
    assert prepared.classes is not None and prepared.classes.tolist() == ["class 0", "class 1"]
    assert (problem.table.n_numbers, problem.table.cardinalities) == (1, (3,))
    assert prepared.policy.name == "cv5" and len(problem.folds) == 5
    np.testing.assert_array_equal(np.sort(problem.validation_rows), np.arange(60))
    assert set(prepared.families) == set(DEFAULT)
    assert prepared.warnings == ()


def test_three_classes_and_numbers() -> None:
    prepared = run(frame(), labels(k=3))
    assert (prepared.problem.task.kind, prepared.problem.metric.name) == ("multiclass", "log_loss")
    prepared = run(frame(), np.linspace(0, 1, 60), goal="regression")
    assert (prepared.problem.task.kind, prepared.problem.metric.name) == ("regression", "rmse")
    assert prepared.classes is None
    assert prepared.problem.target.dtype == np.float64


def test_the_same_seed_gives_the_same_folds_and_another_one_others() -> None:
    def folds(seed: int) -> list[list[int]]:
        return [fold.validation.tolist() for fold in run(frame(), labels(), {"seed": seed}).problem.folds]

    assert folds(1) == folds(1)
    assert folds(1) != folds(2)


@pytest.mark.parametrize(("name", "n_folds"), [("holdout", 1), ("cv3", 3), ("cv10-halving", 10)])
def test_the_policy_of_the_user_is_kept(name: str, n_folds: int) -> None:
    prepared = run(frame(), labels(), {"policy": name})
    assert prepared.policy == Policy(name, n_folds, name.endswith("halving"), "chosen by the user")
    assert len(prepared.problem.folds) == n_folds


def test_with_a_trial_limit_the_policy_depends_on_neither_cores_nor_clock() -> None:
    poor = {"time_budget": 0.01, "n_jobs": 1}
    assert run(frame(), labels(), poor).policy.name == "holdout"
    assert run(frame(), labels(), {**poor, "n_trials": 5}).policy.name == "cv5"


def test_splits_of_the_user() -> None:
    prepared = run(frame(), labels(), split=KFold(4))
    assert prepared.policy.n_folds == len(prepared.problem.folds) == 4
    assert prepared.policy.reason == "the splitter that was given"
    groups = np.repeat(np.arange(20), 3)
    for fold in run(frame(), labels(), groups=groups).problem.folds:
        assert not set(groups[fold.train]) & set(groups[fold.validation])
    for fold in run(frame(), np.arange(60.0), goal="regression", time=np.arange(60)[::-1]).problem.folds:
        assert fold.train.min() > fold.validation.max()


@pytest.mark.parametrize(("n_groups", "name"), [(2, "cv5"), (3, "cv3"), (4, "cv5"), (5, "cv5")])
def test_the_automatic_policy_has_no_more_folds_than_groups(n_groups: int, name: str) -> None:
    groups = [f"group {i % n_groups}" for i in range(60)]
    y = np.arange(60) // 2 % 2
    prepared = run(frame(), y, groups=groups)
    assert (prepared.policy.name, prepared.policy.n_folds) == (name, n_groups)
    assert len(prepared.problem.folds) == n_groups
    notes = [note for note in prepared.notes if "folds" in note]
    if n_groups == 5:
        assert notes == [] and "groups" not in prepared.policy.reason
    else:
        reason = f"groups has {n_groups} distinct values, which carry no more folds"
        assert (notes, prepared.policy.reason) == ([f"Validated by {n_groups} folds, not 5: {reason}."], reason)
        with pytest.raises(InputError, match=rf"groups has {n_groups} distinct value\(s\), but 5 are needed"):
            run(frame(), y, {"policy": "cv5"}, groups=groups)
    assert run(frame(), y, {"policy": "holdout"}, groups=groups).policy.n_folds == 1


def test_one_group_cannot_be_validated() -> None:
    with pytest.raises(InputError, match=r"groups has 1 distinct value\(s\), but 2 are needed"):
        run(frame(), labels(), groups=[1] * 60)
    assert run(frame(), labels(), groups=np.arange(60) // 20, split=GroupKFold(2)).policy.n_folds == 2


def test_a_row_of_totals_is_warned_of() -> None:
    X = frame().assign(n=np.arange(60) % 7 + 1)
    X = pd.concat([X, X[["a", "n"]].sum().to_frame().T], ignore_index=True)
    y = np.append(np.arange(60) % 2, 1)
    for time in (None, np.arange(61)):
        assert any("looks like a summary of the table" in warning for warning in run(X, y, time=time).warnings)
        assert not any("summary" in warning for warning in run(X[:60], y[:60], time=np.arange(60)).warnings)


def test_rare_classes_are_told_of() -> None:
    y = ["often"] * 30 + ["seldom"] * 29 + ["once"]
    prepared = run(frame(), y)
    assert "once" in prepared.warnings[0]
    once = y.index("once")
    assert all(once in fold.train for fold in prepared.problem.folds)


def test_weights_and_metrics_of_the_user() -> None:
    prepared = run(frame(), labels(), sample_weight=np.arange(1, 61), metric="accuracy")
    np.testing.assert_allclose(prepared.problem.weight, np.arange(1, 61) / 30.5, rtol=1e-6)
    assert prepared.problem.metric.name == "accuracy"
    own = Metric("hits", lambda y_true, y_pred: float((y_true == y_pred).mean()))
    metric = run(frame(), labels(), metric=own).problem.metric
    assert metric.classes is not None and metric.classes.tolist() == ["class 0", "class 1"]


@pytest.mark.parametrize(
    ("X", "y", "given", "message"),
    [
        (
            frame(),
            labels(59),
            {},
            "X and y have different lengths: 60 and 59 (inconsistent numbers of samples",
        ),
        (frame(), ["a"] * 60, {}, "y has one class only ('a')"),
        (frame(), [*labels(59), None], {}, "y has 1 missing value"),
        (frame(), labels(), {"metric": "roc_auk"}, "Did you mean 'roc_auc'?"),
        (frame(), labels(), {"metric": "rmse"}, "metric='rmse' is not for binary tasks"),
        (frame(), labels(), {"families": ["lightgmb"]}, "families='lightgmb' is not known. Did you mean 'lightgbm'?"),
        (frame(), labels(), {"sample_weight": [1.0]}, "sample_weight has the shape (1,), but must have (60,)"),
        (frame(), labels(), {"groups": [1, 2]}, "groups has 2 values, but there are 60 rows"),
        (frame(), labels(), {"split": 5}, "split=5 is not a splitter"),
        (frame()[["one"]], labels(), {}, "X has no column to learn from"),
        (frame()[[]], labels(), {}, "0 feature(s) (shape=(60, 0)) while a minimum of 1 is required"),
        (frame(), np.full(60, np.inf), {"goal": "regression"}, "y has 60 infinite values"),
    ],
)
def test_bad_input_is_named(X: Any, y: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        run(X, y, **given)
    assert message in str(caught.value)


@pytest.mark.parametrize("convert", [lambda X: X.to_numpy(), lambda X: X.to_numpy().tolist(), sp.csr_matrix])
def test_tables_of_other_forms(convert: Callable[[Any], Any]) -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)))
    problem = run(convert(X), labels()).problem
    assert (problem.task.n_rows, problem.task.n_columns) == (60, 3)


@pytest.mark.parametrize("options", [{}, {"groups": np.repeat(np.arange(20), 3)}, {"time": np.arange(60)[::-1]}])
@pytest.mark.parametrize(
    "make", [pd.DataFrame, lambda X: X["one"].to_numpy()[:, None], lambda X: sp.csr_matrix(X[["one"]])]
)
def test_a_row_of_weight_zero_is_no_row(make: Any, options: dict[str, Any]) -> None:
    X, y = frame(), labels()
    X["one"] = np.arange(60.0)
    weight = np.where(np.arange(60) % 4 == 1, 0.0, 1.0 + np.arange(60) % 3)
    rows = np.flatnonzero(weight)
    y_odd = [None if w == 0 else label for w, label in zip(weight, y, strict=True)]  # nobody reads the others
    X_odd = X.copy()
    X_odd.loc[weight == 0, "one"] = 1e9
    found = run(make(X_odd), y_odd, sample_weight=weight, **options)
    less = {name: values[rows] for name, values in options.items()}
    wanted = run(make(X.iloc[rows]), [y[i] for i in rows], sample_weight=weight[rows], **less)
    assert found.schema == wanted.schema
    assert found.problem.task == wanted.problem.task
    assert found.problem.fingerprint() == wanted.problem.fingerprint()
    for fold, other in zip(found.problem.folds, wanted.problem.folds, strict=True):
        np.testing.assert_array_equal(fold.train, other.train)
        np.testing.assert_array_equal(fold.validation, other.validation)


def test_a_split_of_rows_some_of_which_have_weight_zero() -> None:
    weight = np.where(np.arange(60) % 4 == 1, 0.0, 1.0)
    pairs = [(np.arange(60) < 40, np.arange(40, 60))]
    problem = run(frame(), labels(), sample_weight=weight, split=pairs).problem
    assert problem.weight is None  # the others count the same
    assert (problem.folds[0].train.tolist(), len(problem.folds[0].validation)) == (list(range(30)), 15)
    with pytest.raises(InputError, match="groups has 59 values, but there are 60 rows"):
        run(frame(), labels(), sample_weight=weight, groups=np.arange(59))


@pytest.mark.parametrize("name", ["y", "groups", "time", "sample_weight"])
def test_another_order_of_the_same_labels_is_reported(name: str) -> None:
    values = {"y": pd.Series(labels()), name: pd.Series(1 + np.arange(60) // 2)}
    if name == "y":
        values["y"] = pd.Series(labels())
    values[name] = values[name].sample(frac=1, random_state=0)
    (warning,) = run(frame(), values.pop("y"), **values).warnings
    assert warning.startswith(f"{name} has the index labels of X in another order")


def test_how_the_table_was_read_is_said() -> None:
    table = frame().assign(price=["1,5 €", "2.000 €"] * 30, day=["01/02/2024", "03/04/2024"] * 30)
    prepared = run(table, ["1,5", "2"] * 30, goal="regression")
    assert prepared.notes == (
        "The target is read as numbers written like 1.234,5.",
        "1 column is read as numbers written like 1.234,5 €: 'price'.",
        "1 column left out (constant): 'one'.",
    )
    (warning,) = prepared.warnings
    assert "no value decides between the orders: 'day'" in warning


def test_labels_that_differ_in_spaces_are_a_warning() -> None:
    spaced = [f"{label} " if i % 7 == 0 else label for i, label in enumerate(labels())]
    (warning,) = run(frame(), spaced).warnings
    assert warning.startswith("Classes differ in spaces or capital letters alone: 'class 0' and 'class 0 ', 'class 1' ")

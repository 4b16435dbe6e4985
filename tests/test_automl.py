"""The estimators as a user meets them: fit, predict, promises."""

from __future__ import annotations

import pickle
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_classification
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from benchmarks.engine.bad_families import BadFamily
from windvane import AutoClassifier, AutoRegressor, InputError, Metric, NoModelError, RunError, load
from windvane.errors import MissingColumnsError, RunLockedError, RunMismatchError

# A trial limit makes results repeatable only where the time does not end first, however busy the machine is.
QUICK = {"time_budget": 3600, "n_trials": 2, "random_state": 0, "verbose": 0, "n_jobs": 1}
DEFAULT = {**QUICK, "n_trials": 3, "policy": "cv3"}  # a linear model, a network and CatBoost


@pytest.fixture(scope="module")
def cancer() -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return tuple(train_test_split(X, y, random_state=0, stratify=y))


@pytest.fixture(scope="module")
def fitted(cancer, tmp_path_factory) -> AutoClassifier:
    X, _, y, _ = cancer
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    return AutoClassifier(**{**DEFAULT, "n_jobs": 2}, run_dir=run_dir).fit(X, y)


@pytest.mark.alone
def test_the_budget_holds_and_the_model_is_good(cancer) -> None:
    X, X_test, y, y_test = cancer
    started = time.monotonic()
    model = AutoClassifier(time_budget=8, n_jobs=2, verbose=0, random_state=0).fit(X, y, X_test=X_test, y_test=y_test)
    assert time.monotonic() - started < 8 + 2
    assert roc_auc_score(y_test, model.predict_proba(X_test)[:, 1]) > 0.98
    assert model.test_score_ == pytest.approx(roc_auc_score(y_test, model.predict_proba(X_test)[:, 1]))
    curve = model.performance_over_time_
    assert curve["seconds"].is_monotonic_increasing
    assert curve["ensemble"].iloc[-1] >= curve["best_single"].iloc[-1] - 1e-6
    board = model.leaderboard()
    assert board["ensemble_weight"].sum() == pytest.approx(1)
    assert board["validation_loss"].fillna(np.inf).is_monotonic_increasing
    assert model.policy_.reason


def test_probabilities_are_those_of_the_labels(fitted: AutoClassifier, cancer) -> None:
    _, X_test, _, _ = cancer
    p = fitted.predict_proba(X_test)
    assert p.shape == (len(X_test), 2)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (fitted.predict(X_test) == fitted.classes_[p.argmax(axis=1)]).all()
    one = np.concatenate([fitted.predict_proba(X_test.iloc[[i]]) for i in range(5)])
    np.testing.assert_allclose(one, p[:5], rtol=1e-5)


def test_columns_may_come_in_any_order_but_not_be_missing(fitted: AutoClassifier, cancer) -> None:
    _, X_test, _, _ = cancer
    shuffled = X_test[X_test.columns[::-1]].assign(more=1)
    np.testing.assert_array_equal(fitted.predict_proba(shuffled), fitted.predict_proba(X_test))
    with pytest.raises(MissingColumnsError, match="mean radius"):
        fitted.predict(X_test.drop(columns="mean radius"))


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])  # the other run has 2
def test_with_a_trial_limit_the_result_is_always_the_same(fitted: AutoClassifier, cancer, n_jobs: int) -> None:
    X, X_test, y, _ = cancer
    again = AutoClassifier(**{**DEFAULT, "n_jobs": n_jobs}).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X_test), fitted.predict_proba(X_test))
    assert [t.loss for t in again.trials_] == [t.loss for t in fitted.trials_]


def test_a_budget_that_ends_before_the_trial_limit_is_said(cancer, capsys) -> None:
    X, _, y, _ = cancer
    AutoClassifier(4, n_trials=1000, random_state=0, n_jobs=1).fit(X, y)
    assert "of 1000 trials: another run with this seed may differ" in capsys.readouterr().err


def test_suggestions_are_the_same_for_one_worker_and_two() -> None:
    X, y = load_iris(return_X_y=True)
    options = {"n_trials": 13, "families": ["linear"], "random_state": 3, "verbose": 0, "policy": "cv3"}
    one, two = (AutoClassifier(n_jobs=n, **options).fit(X, y) for n in (1, 2))
    assert [t.config for t in one.trials_] == [t.config for t in two.trials_]
    assert {t.source for t in one.trials_} == {"portfolio", "sampler"}
    assert one.predictor_.ensemble == two.predictor_.ensemble


def test_save_and_load_predict_the_same(fitted: AutoClassifier, cancer, tmp_path: Path) -> None:
    _, X_test, _, y_test = cancer
    fitted.save(tmp_path / "model")
    opened = load(tmp_path / "model")
    np.testing.assert_array_equal(opened.predict_proba(X_test), fitted.predict_proba(X_test))
    assert opened.score(X_test, y_test) == fitted.score(X_test, y_test)
    with pytest.raises(InputError, match="not empty"):
        fitted.save(tmp_path / "model")
    with pytest.raises(RunError, match="no run to resume"):
        opened.resume(5)


def test_pickles_and_copies_predict_the_same(fitted: AutoClassifier, cancer) -> None:
    _, X_test, _, _ = cancer
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X_test), fitted.predict_proba(X_test))


@pytest.mark.alone
def test_a_run_is_loaded_and_goes_on(cancer, tmp_path: Path) -> None:
    X, X_test, y, _ = cancer
    options = {**DEFAULT, "n_jobs": 2, "families": ["linear", "extra_trees"], "run_dir": tmp_path / "run"}
    fitted = AutoClassifier(**options).fit(X, y)
    opened = load(fitted.run_dir, n_jobs=2)
    np.testing.assert_array_equal(opened.predict_proba(X_test), fitted.predict_proba(X_test))
    before = min(t.loss for t in opened.trials_)
    earlier = opened.performance_over_time_
    opened.verbose = 0
    started = time.monotonic()
    opened.resume(6)
    assert time.monotonic() - started < 6 + 2
    assert len(opened.trials_) > len(fitted.trials_)
    assert min(t.loss for t in opened.trials_) <= before
    over_time = opened.performance_over_time_
    assert len(over_time) > len(earlier)
    np.testing.assert_array_equal(over_time[: len(earlier)], earlier)
    assert (np.diff(over_time["seconds"]) >= 0).all()
    assert [t.number for t in opened.trials_] == list(range(len(opened.trials_)))


def test_fit_on_a_run_goes_on_or_refuses(cancer, tmp_path: Path) -> None:
    X, _, y, _ = cancer
    options = {"random_state": 0, "verbose": 0, "n_jobs": 1, "families": ["linear"], "run_dir": tmp_path / "run"}
    first = AutoClassifier(n_trials=1, **options).fit(X, y)
    second = AutoClassifier(n_trials=3, **options).fit(X, y)
    assert len(first.trials_) == 1
    assert len(second.trials_) == 3
    with pytest.raises(RunMismatchError, match="data"):
        AutoClassifier(n_trials=1, **options).fit(X.iloc[1:], y.iloc[1:])
    with pytest.raises(RunMismatchError, match="metric: 'roc_auc' there, 'accuracy' here"):
        AutoClassifier(n_trials=1, metric="accuracy", **options).fit(X, y)
    for changed in (y.map({0: "malignant", 1: "benign"}), y.map({0: "a", 1: "b"})):
        with pytest.raises(RunMismatchError, match="data"):
            AutoClassifier(n_trials=1, **options).fit(X, changed)
    with pytest.raises(RunMismatchError, match="other folds"):
        AutoClassifier(n_trials=1, **options).fit(X, y, groups=np.arange(len(y)) // 2)
    with pytest.raises(RunMismatchError, match="seed"):
        AutoClassifier(n_trials=1, **{**options, "random_state": 1}).fit(X, y)


def test_a_run_in_use_is_refused(cancer, tmp_path: Path) -> None:
    X, _, y, _ = cancer
    options = {**QUICK, "families": ["linear"], "run_dir": tmp_path / "run"}

    def fit_again(trial) -> None:
        with pytest.raises(RunLockedError, match="in use"):
            AutoClassifier(**options).fit(X, y)

    AutoClassifier(**options).fit(X, y, callbacks=[fit_again])


def test_a_callback_may_end_the_search(cancer) -> None:
    X, _, y, _ = cancer
    heard = []

    def stop(trial) -> bool:
        heard.append(trial)
        return True

    started = time.monotonic()
    model = AutoClassifier(time_budget=60, verbose=0, n_jobs=1).fit(X, y, callbacks=[stop])
    assert time.monotonic() - started < 30
    assert len(heard) >= 1
    assert len(model.predict(X)) == len(X)


@pytest.mark.alone
def test_what_misbehaves_is_survived(cancer) -> None:
    X, _, y, _ = cancer
    bad = [BadFamily("segfault"), BadFamily("hang"), BadFamily("raise")]
    started = time.monotonic()
    model = AutoClassifier(time_budget=12, n_jobs=2, verbose=0, families=["linear", *bad]).fit(X, y)
    assert time.monotonic() - started < 12 + 2
    statuses = {t.family: t.status for t in model.trials_ if t.family.startswith("bad")}
    assert statuses["bad_segfault"] == "crashed"
    assert statuses["bad_raise"] == "failed"


def test_a_trial_killed_in_mid_step_enters_the_ensemble_with_its_last_finished_step(cancer) -> None:
    X, X_test, y, _ = cancer
    hanging = BadFamily("hang", good_steps=1)
    model = AutoClassifier(time_budget=6, n_jobs=1, verbose=0, families=[hanging]).fit(X, y)
    trial = model.trials_[0]
    assert trial.status in ("timeout", "stopped")
    assert trial.checkpoint == "checkpoint_0000"
    assert model.predictor_.ensemble.members[0].family == "bad_hang"
    np.testing.assert_allclose(model.predict_proba(X_test), 0.5)


def test_when_nothing_works_a_summary_says_why(cancer) -> None:
    X, _, y, _ = cancer
    with pytest.raises(NoModelError, match="bad_raise: failed x2: ValueError: this family always fails"):
        AutoClassifier(time_budget=20, n_jobs=1, verbose=0, families=[BadFamily("raise")]).fit(X, y)


def test_own_metric_and_labels(tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]

    def share_of_virginica_found(y_true, y_pred) -> float:
        return float(np.mean(y_pred[y_true == "virginica"] == "virginica"))

    metric = Metric("found", share_of_virginica_found, needs="labels")
    model = AutoClassifier(metric=metric, families=["linear", "extra_trees"], **QUICK).fit(X, names)
    assert set(model.predict(X)) <= set(names)
    assert model.score(X, names) > 0.9
    model.save(tmp_path / "model")
    with pytest.warns(UserWarning, match=r"'found' was the user's own.*score\(\) is that of 'log_loss' now"):
        opened = load(tmp_path / "model")
    assert opened.score(X, names) == pytest.approx(-log_loss(names, model.predict_proba(X)))
    assert load(tmp_path / "model", metric=metric).score(X, names) == model.score(X, names)


def test_regression() -> None:
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    model = AutoRegressor(n_trials=2, random_state=0, verbose=0, n_jobs=2, policy="cv3").fit(X, y)
    rmse = float(np.sqrt(np.mean((model.predict(X_test) - y_test) ** 2)))
    assert model.score(X_test, y_test) == pytest.approx(-rmse)
    assert rmse < 0.85 * y_test.std()
    assert not hasattr(model, "predict_proba")


def test_weights_groups_time_and_splitters_reach_the_folds() -> None:
    X, y = make_classification(200, 5, random_state=0)
    groups = np.arange(200) // 4
    for given in ({"groups": groups}, {"time": np.arange(200)}, {"split": [(np.arange(150), np.arange(150, 200))]}):
        model = AutoClassifier(families=["linear"], policy="cv3", **QUICK).fit(X, y, **given)
        assert np.isfinite(model.trials_[0].loss)
    weight = np.where(y == 1, 20.0, 1.0)
    weighted = AutoClassifier(families=["linear"], **QUICK).fit(X, y, sample_weight=weight)
    plain = AutoClassifier(families=["linear"], **QUICK).fit(X, y)
    assert weighted.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean() + 0.1


def test_refit_has_one_model_for_each_member(cancer) -> None:
    X, X_test, y, y_test = cancer
    model = AutoClassifier(**QUICK, policy="cv3").fit(X, y)
    before = model.score(X_test, y_test)
    model.refit(X, y)
    assert all(len(folds) == 1 for folds in model.predictor_.models)
    assert model.score(X_test, y_test) > before - 0.02


def test_importance_finds_the_column_that_matters() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(300, 4)), columns=list("abcd"))
    y = (X["c"] + 0.1 * rng.normal(size=300) > 0).map({True: "yes", False: "no"})
    model = AutoClassifier(families=["linear"], **QUICK).fit(X, y)
    assert model.feature_importance(X, y).index[0] == "c"


def test_it_is_an_estimator_of_scikit_learn(cancer) -> None:
    X, _, y, _ = cancer
    model = AutoClassifier(families=["linear"], metric="accuracy", **QUICK)
    assert clone(model).get_params() == model.get_params()
    assert cross_val_score(model, X, y, cv=2).mean() > 0.9
    pipeline = make_pipeline(FunctionTransformer(np.log1p), model).fit(X, y)
    assert pipeline.score(X, y) > 0.9


def test_rare_classes_are_seen_by_every_training_part() -> None:
    X, y = load_iris(return_X_y=True)
    X, y = X[:101], y[:101]  # one row of class 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = AutoClassifier(families=["linear"], policy="cv5", **QUICK).fit(X, y)
    assert any("class" in str(w.message) for w in caught)
    assert model.predict_proba(X).shape == (101, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "roc_auk"}, "metric='roc_auk' is not known. Did you mean 'roc_auc'?"),
        ({"policy": "cv7"}, "policy='cv7' is not known. Did you mean"),
        ({"families": ["lightbgm"]}, "Did you mean 'lightgbm'?"),
        ({"time_budget": 0}, "time_budget=0 is not a length of time"),
        ({"n_jobs": 0}, "n_jobs=0 is not usable"),
        ({"memory_limit": -1}, "memory_limit=-1 is not usable"),
    ],
)
def test_bad_options_get_one_clear_error(options: dict, message: str) -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError) as caught:
        AutoClassifier(**{**QUICK, **options}).fit(X, y)
    assert message in str(caught.value)


def test_bad_targets_get_one_clear_error() -> None:
    X, y = load_iris(return_X_y=True)
    for target, message in [
        (np.zeros(150), "one class"),
        (y[:-1], "150 and 149"),
        (np.where(y == 0, np.nan, y), "missing"),
    ]:
        with pytest.raises(InputError, match=message):
            AutoClassifier(**QUICK).fit(X, target)
    with pytest.raises(InputError, match="infinite"):
        AutoRegressor(**QUICK).fit(X, np.where(y == 0, np.inf, y))


def test_weights_that_are_scaled_or_zero_change_nothing() -> None:
    X, y = make_classification(160, 5, random_state=0)
    weight = 1.0 + np.arange(160) % 3
    weight[::4] = 0.0
    kept = weight > 0
    options = {**QUICK, "policy": "holdout", "n_trials": 3, "families": ["linear", "lightgbm", "mlp"]}
    wanted = AutoClassifier(**options).fit(X[kept], y[kept], sample_weight=weight[kept])
    model = AutoClassifier(**options).fit(X, y, sample_weight=1e-6 * weight)
    np.testing.assert_allclose(model.predict_proba(X), wanted.predict_proba(X), rtol=0, atol=1e-9)
    assert model.score(X, y, 1e3 * weight) == pytest.approx(wanted.score(X[kept], y[kept], weight[kept]))
    model.refit(X, y, sample_weight=weight)
    wanted.refit(X[kept], y[kept], sample_weight=weight[kept])
    np.testing.assert_allclose(model.predict_proba(X), wanted.predict_proba(X), rtol=0, atol=1e-9)


def test_a_target_in_another_order_is_reported(fitted: AutoClassifier, cancer) -> None:
    _, X_test, _, y_test = cancer
    other = y_test.iloc[::-1]
    with pytest.warns(UserWarning, match="y has the index labels of X in another order") as said:
        assert fitted.score(X_test, other) < 0.9
    assert said[0].filename == __file__  # the line of the user, not one of windvane
    assert fitted.score(X_test, other.loc[X_test.index]) > 0.98
    with pytest.warns(UserWarning, match="y has the index labels of X in another order"):
        fitted.feature_importance(X_test, other, n_repeats=1)


def test_the_positive_class_is_kept(tmp_path: Path, cancer) -> None:
    X, X_test, y, y_test = cancer
    y, y_test = y.map({0: "malignant", 1: "benign"}), y_test.map({0: "malignant", 1: "benign"})
    options = {**QUICK, "n_trials": 1, "policy": "holdout", "families": ["linear"], "metric": "f1"}
    model = AutoClassifier(**options, run_dir=tmp_path / "run", positive_class="benign").fit(X, y)
    assert model.positive_class_ == "benign"

    def expected(of: AutoClassifier) -> float:
        return f1_score(y_test, of.predict(X_test), pos_label=str(of.positive_class_))

    assert model.score(X_test, y_test) == pytest.approx(expected(model))
    model.save(tmp_path / "saved")
    for again in (load(tmp_path / "saved"), load(tmp_path / "run"), pickle.loads(pickle.dumps(model))):
        assert again.positive_class_ == "benign"
        assert again.score(X_test, y_test) == model.score(X_test, y_test)
    page = model.report(tmp_path / "report.html", X_test, y_test).read_text()
    assert "Test f1 of “benign”" in page
    assert "“benign” against the other class" in page
    same = AutoClassifier(**options, run_dir=tmp_path / "run").fit(X, y)
    assert same.positive_class_ == "benign"  # of the run
    with pytest.raises(RunMismatchError, match="positive_class: 'benign' there, 'malignant' here"):
        AutoClassifier(**options, run_dir=tmp_path / "run", positive_class="malignant").fit(X, y)
    with pytest.raises(InputError, match="positive_class='x' is no class"):
        AutoClassifier(**options, positive_class="x").fit(X, y)
    assert clone(model).positive_class == "benign"


def test_settings_of_the_session_change_nothing(fitted: AutoClassifier, cancer) -> None:
    _, X_test, _, y_test = cancer
    expected = fitted.predict_proba(X_test)
    with config_context(transform_output="pandas"), np.errstate(all="raise"):
        np.testing.assert_array_equal(fitted.predict_proba(X_test), expected)
        assert fitted.score(X_test, y_test) > 0.98
        row = X_test.iloc[0]
        np.testing.assert_allclose(fitted.predict_proba(row), expected[:1], atol=1e-6)
        np.testing.assert_allclose(fitted.predict_proba(row.to_dict()), expected[:1], atol=1e-6)
        pickle.loads(pickle.dumps(fitted)).refit(X_test, y_test)


def test_labels_that_json_cannot_hold_come_back(tmp_path: Path) -> None:
    X, number = load_diabetes(return_X_y=True, as_frame=True)
    y = pd.cut(number, [0, 150, 1000])
    model = AutoClassifier(**{**QUICK, "n_trials": 1}, families=["linear"], policy="holdout").fit(X, y)
    model.save(tmp_path / "saved")
    for one in (model, load(tmp_path / "saved")):
        assert set(one.predict(X)) == set(y.cat.categories)
        assert one.score(X, y) > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X_test": lambda X: X.drop(columns="mean radius")}, "X_test and y_test cannot be used: .*mean radius"),
        ({"y_test": lambda y: y.replace({0: 7})}, "X_test and y_test cannot be used: .*7"),
        ({"y_test": lambda y: y.iloc[:-1]}, "X_test and y_test have different lengths"),
        ({"sample_weight": lambda w: w[:-1]}, "sample_weight has the shape"),
        ({"groups": lambda g: g[:-1]}, "groups"),
        ({"split": lambda _: [([0, 1], [5, 10**6])]}, "split"),
    ],
)
def test_what_cannot_be_used_is_said_before_any_model_is_trained(cancer, change, message, tmp_path: Path) -> None:
    X, X_test, y, y_test = cancer
    given = {"X_test": X_test, "y_test": y_test, "sample_weight": np.ones(len(y)), "groups": np.arange(len(y))}
    given |= {"split": 0}
    changed = {name: make(given[name]) for name, make in change.items()}
    test = {"X_test": X_test, "y_test": y_test} if {"X_test", "y_test"} & set(changed) else {}
    with pytest.raises(InputError, match=message):
        AutoClassifier(200, n_jobs=1, verbose=0, run_dir=tmp_path / "run").fit(X, y, **(test | changed))
    assert not (tmp_path / "run").exists()


def test_a_memory_limit_decides_how_many_workers_there_are(cancer) -> None:
    X, _, y, _ = cancer
    with pytest.raises(InputError, match="memory_limit=50 is too small: one worker process needs"):
        AutoClassifier(60, memory_limit=50, verbose=0).fit(X, y)
    with pytest.warns(UserWarning, match="memory_limit=450 MB is enough for 2 worker processes, not for n_jobs=4"):
        AutoClassifier(memory_limit=450, **{**QUICK, "n_jobs": 4, "families": ["linear"]}).fit(X, y)

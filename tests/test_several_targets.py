"""Several targets and quantiles as a user meets them, in Python and in a shell."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shell import shell
from sklearn.metrics import f1_score

from windvane import AutoClassifier, AutoRegressor, InputError, load

QUICK: dict[str, Any] = {"time_budget": 3600, "n_trials": 2, "random_state": 0, "verbose": 0, "n_jobs": 1}
FAMILIES = ["linear", "lightgbm"]
RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(160, 3)), columns=list("abc"), index=np.arange(160) + 1000)
X["kind"] = RNG.choice(["u", "v"], 160)
NUMBERS = pd.DataFrame({"length": 3 * X["a"] + X["b"], "price": 1000 * (X["b"] + (X["kind"] == "u"))})
LISTS = [["red"] * (a > 0.3) + ["green"] * (b > 0.3) for a, b in zip(X["a"], X["b"], strict=True)]


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> AutoRegressor:
    run = tmp_path_factory.mktemp("runs") / "numbers"
    return AutoRegressor(**QUICK, families=FAMILIES, run_dir=run).fit(X, NUMBERS, X_test=X[:40], y_test=NUMBERS[:40])


@pytest.fixture(scope="module")
def classifier() -> AutoClassifier:
    return AutoClassifier(**QUICK, families=FAMILIES, metric="log_loss").fit(X, LISTS)


def test_one_run_predicts_all_numbers(regressor: AutoRegressor) -> None:
    found = regressor.predict(X)
    assert (list(found.columns), found.index.equals(X.index)) == (["length", "price"], True)
    assert regressor.target_names_ == ["length", "price"]
    relative = ((found - NUMBERS) ** 2).mean() ** 0.5 / NUMBERS.std(ddof=0)
    assert -regressor.score(X, NUMBERS) == pytest.approx(relative.mean())
    assert relative.max() < 0.3
    board = regressor.leaderboard(X, NUMBERS)
    assert board.loc[board["family"] == "constant", "test_score"].item() == pytest.approx(-1)
    table = regressor.evaluate(X, NUMBERS, by="kind").targets
    assert table is not None
    assert table["target"].tolist() == ["length", "price"]
    assert table["rmse"].to_numpy() == pytest.approx(((found - NUMBERS) ** 2).mean().to_numpy() ** 0.5)
    assert regressor.feature_importance(X, NUMBERS, n_repeats=1).index[0] in ("a", "b")


def test_a_label_that_no_row_has_leaves_the_mean_undefined(classifier: AutoClassifier) -> None:
    rows = [i for i, labels in enumerate(LISTS) if "red" not in labels]
    found = classifier.evaluate(X.iloc[rows], [LISTS[i] for i in rows])
    scores = found.metrics.set_index("metric")["score"]
    assert np.isnan(scores["roc_auc"]) and np.isfinite(scores["log_loss"])
    assert found.targets is not None
    assert found.targets.set_index("target")["roc_auc"].isna().to_dict() == {"green": False, "red": True}


def test_labels_come_back_as_lists(classifier: AutoClassifier) -> None:
    found, probability = classifier.predict(X), classifier.predict_proba(X)
    assert classifier.target_names_ == classifier.classes_.tolist() == ["green", "red"]
    assert found == [[name for name, p in zip(["green", "red"], row, strict=True) if p > 0.5] for row in probability]
    assert np.mean([sorted(true) == row for true, row in zip(LISTS, found, strict=True)]) > 0.9
    evaluated = classifier.evaluate(X, LISTS)
    assert "160 rows, 2 labels" in str(evaluated)
    assert evaluated.metrics.set_index("metric").loc["subset_accuracy", "score"] > 0.9


def test_saved_copied_resumed_and_trained_on_all_rows(
    regressor: AutoRegressor, classifier: AutoClassifier, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "saved")
    for other in (load(tmp_path / "saved"), pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_allclose(other.predict_proba(X), classifier.predict_proba(X))
        assert other.predict(X[:5]) == classifier.predict(X[:5])
    again = load(regressor.run_dir)
    pd.testing.assert_frame_equal(again.predict(X), regressor.predict(X))
    assert again.test_score_ == regressor.test_score_
    again.set_params(verbose=0)
    again.resume(3600, n_trials=1)
    assert len(again.trials_) == 3
    again.refit(X, NUMBERS)
    assert again.score(X, NUMBERS) > -0.3
    page = regressor.report(tmp_path / "page.html").read_text()
    assert "Regression, 2 targets" in page
    assert "price" in page


def test_an_exported_folder_predicts_the_same(
    regressor: AutoRegressor, classifier: AutoClassifier, tmp_path: Path
) -> None:
    X.to_csv(tmp_path / "rows.csv", index=False)

    def run(name: str, *options: str) -> pd.DataFrame:
        words = [sys.executable, "-I", str(tmp_path / name / "predictor.py"), str(tmp_path / "rows.csv"), *options]
        with (tmp_path / "out.csv").open("w") as out:
            subprocess.run(words, stdout=out, check=True)
        return pd.read_csv(tmp_path / "out.csv")

    regressor.export(tmp_path / "numbers")
    np.testing.assert_allclose(run("numbers"), regressor.predict(X), rtol=1e-6)
    classifier.export(tmp_path / "labels")
    np.testing.assert_allclose(run("labels", "--proba")[["green", "red"]], classifier.predict_proba(X), rtol=1e-6)
    assert run("labels")["prediction"].fillna("").tolist() == ["|".join(row) for row in classifier.predict(X)]
    assert "the 2 labels green, red" in (tmp_path / "labels" / "README.txt").read_text()


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.calibrate(),
        lambda model: model.predict_set(X),
        lambda model: model.explain(X),
        lambda model: model.to_sklearn(),
        lambda model: model.to_onnx("model.onnx"),
    ],
)
def test_what_is_for_one_target_says_so(classifier: AutoClassifier, call: Any) -> None:
    with pytest.raises(InputError, match="is for one target, but the model has 2: green, red"):
        call(classifier)


@pytest.fixture
def rare(classifier: AutoClassifier) -> Any:
    """The classifier of the module, which the test may change, with rows of which few have both labels."""
    model, names = pickle.loads(pickle.dumps(classifier)), ["green", "red"]
    noise = pd.DataFrame(np.random.default_rng(1).normal(size=(160, 2)), index=X.index)
    truth = pd.DataFrame({"green": X["b"] + noise[0] > 1, "red": X["a"] + noise[1] > 1.2}).astype(int)
    return model, truth, [[name for name in names if row[name]] for _, row in truth.iterrows()]


def test_each_label_has_the_best_of_all_thresholds(rare: Any) -> None:
    model, truth, y = rare
    probability = model.predict_proba(X)
    tuning = model.tune_threshold(X=X, y=y)
    assert model.threshold_ == tuning.thresholds

    def best(label: str, column: int) -> float:
        """Slow and obvious: F1 above every probability that occurs."""
        return max(f1_score(truth[label], probability[:, column] >= p) for p in probability[:, column])

    found = [[label in row for row in model.predict(X)] for label in truth]
    for j, label in enumerate(truth):
        assert f1_score(truth[label], found[j]) == pytest.approx(best(label, j))
    assert tuning.score == pytest.approx(np.mean([best(label, j) for j, label in enumerate(truth)]))
    plain = [f1_score(truth[label], probability[:, j] > 0.5) for j, label in enumerate(truth)]
    assert tuning.default_score == pytest.approx(np.mean(plain))
    assert tuning.default_score < tuning.score
    np.testing.assert_array_equal(model.predict_proba(X), probability)
    evaluated = model.evaluate(X, y, metrics=["f1", "roc_auc"])
    assert evaluated.metrics.set_index("metric").loc["f1", "score"] == pytest.approx(tuning.score)
    assert "thresholds green 0." in str(tuning)
    assert model.set_threshold(None).threshold_ == {"green": 0.5, "red": 0.5}


def test_validation_rows_tune_the_thresholds_that_every_copy_keeps(tmp_path: Path) -> None:
    y = [row if i % 3 else [] for i, row in enumerate(LISTS)]
    settings: dict[str, Any] = {**QUICK, "n_trials": 1, "families": ["linear"], "metric": "f1"}
    model = AutoClassifier(**settings, run_dir=tmp_path / "run").fit(X, y)
    before = model.predictor_.ensemble.loss
    tuning = model.tune_threshold("f1_macro")
    assert tuning.out_of_fold and tuning.score >= tuning.default_score
    assert model.predictor_.ensemble.loss == pytest.approx(1 - tuning.score)
    assert model.predictor_.ensemble.loss <= before
    thresholds, expected = model.threshold_, model.predict(X)
    assert len(set(thresholds.values()) - {0.5}) == 2
    model.save(tmp_path / "saved")
    for copy in (load(tmp_path / "run"), load(tmp_path / "saved"), pickle.loads(pickle.dumps(model))):
        assert copy.threshold_ == thresholds
        assert copy.predict(X) == expected
    assert load(tmp_path / "run").tuning_.thresholds == tuning.thresholds
    model.export(tmp_path / "folder")
    X.to_csv(tmp_path / "rows.csv", index=False)
    program = [sys.executable, "-I", str(tmp_path / "folder" / "predictor.py"), str(tmp_path / "rows.csv")]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    assert [row.strip('"') for row in done.stdout.splitlines()[1:]] == ["|".join(row) for row in expected]
    page = model.report(tmp_path / "page.html").read_text()
    assert f"A label is predicted above its own probability (for f1): green {thresholds['green']:.4g}, red" in page


def test_thresholds_of_labels_by_hand(rare: Any) -> None:
    model, _, y = rare
    probability = model.predict_proba(X)
    assert model.set_threshold(0.2).threshold_ == {"green": 0.2, "red": 0.2}
    assert model.set_threshold({"red": 0.9}).threshold_ == {"green": 0.2, "red": 0.9}
    assert [("green" in row, "red" in row) for row in model.predict(X)] == [(g > 0.2, r > 0.9) for g, r in probability]
    assert model.set_threshold([0.3, 0.4]).threshold_ == {"green": 0.3, "red": 0.4}
    for value, message in (
        (1.5, "threshold of 'green'=1.5"),
        ([0.1], "threshold has 1 number, but there are 2 labels"),
        ({"rde": 0.2}, "threshold of the label='rde' is not known. Did you mean 'red'?"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            model.set_threshold(value)
    for goal, message in (
        ({"metric": "f1_micro"}, "metric='f1_micro' counts all labels together"),
        ({"metric": "roc_auc"}, "metric='roc_auc' does not look at labels"),
        ({"precision": 0.9}, "precision is for one target, but there are 2. Allowed: metric."),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            model.tune_threshold(**goal, X=X, y=y)


def test_wrong_targets_are_refused_before_the_search(regressor: AutoRegressor) -> None:
    with pytest.raises(InputError, match=r"for one target, but the model has 2: length, price"):
        regressor.predict_interval(X)
    with pytest.raises(InputError, match="different lengths: 160 and 3"):
        regressor.evaluate(X, NUMBERS[:3])
    with pytest.raises(InputError, match=r"X_test and y_test cannot be used: .* 1 column, .* 2: length, price"):
        AutoRegressor(**QUICK).fit(X, NUMBERS, X_test=X, y_test=NUMBERS[["length"]])


def test_the_shell_takes_several_targets(tmp_path: Path) -> None:
    pd.concat([X, NUMBERS, (X[["a", "b"]] > 0).set_axis(["hot", "wet"], axis=1)], axis=1).to_csv(
        tmp_path / "all.csv", index=False
    )

    labels = ["--target", "hot", "--target", "wet"]
    options = ["--time", 3600, "--n-trials", 1, "--jobs", 1, "--seed", 0, "--families", "linear", "--quiet"]
    fitted = shell(
        *("fit", tmp_path / "all.csv", *labels, "--out", tmp_path / "run", *options),
        *("--ignore", "length", "--ignore", "price", "--test", tmp_path / "all.csv"),
    )
    assert fitted.exit_code == 0, fitted.output
    assert "test ROC AUC" in fitted.stdout
    done = shell("predict", tmp_path / "run", tmp_path / "all.csv", "--out", tmp_path / "found.csv")
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "found.csv")
    assert (found["hot"] == (X["a"] > 0).to_numpy()).mean() > 0.9
    assert list(found.columns) == ["hot", "wet"]
    assert "2 labels" in shell("evaluate", tmp_path / "run", tmp_path / "all.csv", *labels).stdout
    assert "above its probability: hot 0.5, wet 0.5" in shell("threshold", tmp_path / "run").stdout
    tuned = shell("threshold", tmp_path / "run", "--metric", "f1")
    assert "thresholds hot 0." in tuned.stdout and "for one half" in tuned.stdout
    assert "hot 0.5," not in shell("threshold", tmp_path / "run").stdout
    assert (
        json.loads(shell("threshold", tmp_path / "run", "--value", 0.25, "--json").stdout)["thresholds"]["wet"] == 0.25
    )
    for words, message in (
        (["predict", tmp_path / "run", tmp_path / "all.csv", "--out", "-", "--set", 0.9], "--set is for one target"),
        (["predict", tmp_path / "run", tmp_path / "all.csv", "--out", "-", "--interval", 0.9], "is for one target"),
        (["calibrate", tmp_path / "run"], "calibrate is for one target"),
        (["threshold", tmp_path / "run", "--cost", "hot:wet=2"], "--cost is for one target"),
        (["evaluate", tmp_path / "run", tmp_path / "all.csv", *labels[:2]], "the model has 2 targets: hot, wet."),
        (["fit", tmp_path / "all.csv", "--target", "hot", "--target", "hot", "--out", "x"], "'hot' is there twice"),
        (
            ["fit", tmp_path / "all.csv", "--target", "hot", "--target", "price", "--out", "x"],
            "of two tasks (hot: classification, price: regression)",
        ),
        (["fit", tmp_path / "all.csv", "--target", "hot", "--target", "wett", "--out", "x"], "--target='wett'"),
    ):
        refused = shell(*words)
        assert refused.exit_code == 2
        assert message in refused.stderr


@pytest.mark.parametrize("family", ["lightgbm", "catboost", "xgboost", "hist_gradient_boosting"])
def test_a_quantile_has_its_share_of_the_rows_below(family: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    columns = pd.DataFrame({"x": rng.random(600)})
    y = columns["x"] * 10 + rng.exponential(size=600)  # the quantile 0.9 is 2.3 above the line, the mean 1
    model = AutoRegressor(**{**QUICK, "n_trials": 1}, metric="pinball_0.9", policy="holdout", families=[family])
    model.fit(columns, y)
    assert 0.8 < (y <= model.predict(columns)).mean() < 0.97
    model.save(tmp_path / "saved")
    np.testing.assert_allclose(load(tmp_path / "saved").predict(columns), model.predict(columns))
    board = model.leaderboard()
    assert board["validation_loss"].iloc[0] < board.loc[board["family"] == "constant", "validation_loss"].item()


def test_families_without_a_quantile_are_named() -> None:
    with pytest.raises(InputError, match=r"none of them learns a quantile\. Allowed: lightgbm"):
        AutoRegressor(**QUICK, metric="pinball_0.9", families=["linear"]).fit(X, NUMBERS["price"])

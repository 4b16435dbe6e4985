"""Time, gaps and lags from `fit` to an exported folder, and in a shell."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from shell import shell

from windvane import AutoRegressor, InputError, Lags, TimeSplit, load
from windvane.search.problem import Problem

DAYS = pd.date_range("2024-01-01", periods=80)
rng = np.random.default_rng(0)
SHOPS = pd.DataFrame({"shop": np.repeat(["007", "012"], 80), "day": np.tile(DAYS, 2)})
SHOPS["price"] = rng.normal(size=160).round(2)
# A week repeats itself, with other numbers in each shop.
SHOPS["sales"] = np.concatenate([np.resize(week, 80) for week in rng.normal(scale=10, size=(2, 7)).round(2)])
LATER = pd.DataFrame({"shop": np.repeat(["007", "012"], 7), "day": np.tile(pd.date_range("2024-03-21", periods=7), 2)})
LATER["price"] = 0.0
LAGS = Lags([7, 14], of=["sales", "price"], by="shop")


def small(**settings):
    return AutoRegressor(300, n_trials=1, n_jobs=1, families=["linear"], verbose=0, random_state=0, **settings)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    split = TimeSplit(2, gap="7d", max_train_size="15d")
    made = small(run_dir=tmp_path_factory.mktemp("shops") / "run")
    return made.fit(SHOPS.drop(columns="sales"), SHOPS["sales"], time="day", split=split, lags=LAGS)


def truth(frame):
    """A week repeats itself."""
    known = {(row.shop, row.day.weekday()): row.sales for row in SHOPS.itertuples()}
    return np.array([known[row.shop, row.day.weekday()] for row in frame.itertuples()])


def test_folds_and_columns(model):
    problem = Problem.read(model._directory.data, model.predictor_.metric)
    days = SHOPS["day"].to_numpy()
    assert len(problem.folds) == model.policy_.n_folds == 2
    assert model.policy_.reason == "in order of time, n_splits=2, gap='7d', max_train_size='15d'"
    for fold in problem.folds:
        gap = days[fold.validation].min() - days[fold.train].max()
        assert gap == np.timedelta64(7, "D")
        assert days[fold.train].max() - days[fold.train].min() == np.timedelta64(14, "D")
    names = ["sales_lag_7", "sales_lag_14", "price_lag_7", "price_lag_14"]
    assert model.feature_names_in_.tolist() == ["shop", "day", "price"]
    assert model.predictor_.schema.feature_names == ["shop", "day", "price", *names]
    assert model.leaderboard()["validation_loss"].min() < 1


def test_later_rows(model, tmp_path):
    found = model.predict(LATER)
    assert np.abs(found - truth(LATER)).mean() < 1
    for i in (0, 9, 13):
        for alone in (LATER.iloc[[i]], LATER.iloc[i], LATER.iloc[i].to_dict()):
            assert model.predict(alone) == pytest.approx(found[i], rel=1e-12)
    model.save(tmp_path / "saved")
    assert (load(tmp_path / "saved").predict(LATER) == found).all()
    assert (load(model.run_dir).predict(LATER) == found).all()
    model.export(tmp_path / "exported")
    LATER.to_csv(tmp_path / "later.csv", index=False)
    program = [sys.executable, str(tmp_path / "exported" / "predictor.py"), str(tmp_path / "later.csv")]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert np.allclose([float(line) for line in done.stdout.split()[1:]], found, rtol=1e-9)


def test_rows_beyond_the_known_ones(model):
    beyond = LATER.assign(day=LATER["day"] + pd.Timedelta(days=30))
    with pytest.warns(UserWarning, match="No row of X has a lag: .* not 7 or 14 steps before"):
        model.predict(beyond)
    between = pd.concat([SHOPS.iloc[:0], LATER]).assign(sales=truth(LATER))
    weeks = [between.assign(day=between["day"] + pd.Timedelta(days=7 * i)) for i in range(4)]
    more = load(model.run_dir)
    for week in weeks:
        more.update_lags(week.drop(columns="sales"), week["sales"])
    assert np.abs(more.predict(LATER.assign(day=LATER["day"] + pd.Timedelta(days=28))) - truth(LATER)).mean() < 1
    with pytest.warns(UserWarning, match="No row of X has a lag"):  # the last rows alone are known
        more.predict(SHOPS)


def test_some_rows_beyond_the_known_ones(model):
    """A table in which one row has a lag says how many have none."""
    beyond = LATER.iloc[:3].assign(day=LATER["day"].max() + pd.Timedelta(days=30))
    table = pd.concat([LATER, beyond], ignore_index=True)
    message = f"3 of {len(table)} rows of X have no lag: .* the last ones, are not 7 or 14"
    with pytest.warns(UserWarning, match=message) as said:
        found = model.predict(table)
    assert said[0].filename == __file__
    assert np.allclose(found[: len(LATER)], model.predict(LATER))


def test_importance_explanation_and_report(model, tmp_path):
    X, y = LATER, truth(LATER)
    assert model.feature_importance(X, y).index[0] in ("sales_lag_7", "sales_lag_14")
    found = model.explain(X, time_budget=5)
    assert np.allclose(found.base + found.values.sum(axis=1), model.predict(X))
    page = model.report(tmp_path / "page.html", X, y).read_text()
    assert "sales_lag_7" in page
    assert "gives the order of time" in page


def test_refit_knows_its_own_rows(model):
    week = LATER.assign(sales=truth(LATER))
    rows = pd.concat([SHOPS, week], ignore_index=True)
    again = load(model.run_dir).refit(rows.drop(columns="sales"), rows["sales"])
    next_week = LATER.assign(day=LATER["day"] + pd.Timedelta(days=7))
    assert np.abs(again.predict(next_week) - truth(next_week)).mean() < 1


def test_what_cannot_be(model):
    with pytest.raises(InputError, match="lags, which are found among other rows"):
        model.to_sklearn()
    with pytest.raises(InputError, match="X lacks 'day'"):
        model.predict(LATER.drop(columns="day"))
    with pytest.raises(InputError, match=r"time='date'.*'day'"):
        small().fit(SHOPS[["price", "day"]], SHOPS["sales"], time="date")
    with pytest.raises(InputError, match="lags need time=, the name of a column"):
        small().fit(SHOPS[["price"]], SHOPS["sales"], time=SHOPS["day"], lags=[1])
    with pytest.raises(InputError, match="time='x0' is not known"):
        small().fit(SHOPS[["price"]].to_numpy(), SHOPS["sales"], time="x0", lags=[1])


def test_shell(tmp_path):
    SHOPS.to_csv(tmp_path / "shops.csv", index=False)
    LATER.to_csv(tmp_path / "later.csv", index=False)
    fit = ["fit", tmp_path / "shops.csv", "--target", "sales", "--out", tmp_path / "run", "--quiet"]
    fit += ["--families", "linear", "--n-trials", "1", "--jobs", "1", "--time", "300", "--policy", "cv3"]
    in_time = ["--time-column", "day", "--gap", "7d", "--lags", "7,14", "--lag-by", "shop"]
    done = shell(*fit, *in_time)
    assert done.exit_code == 0, done.output
    done = shell("predict", tmp_path / "run", tmp_path / "later.csv", "--out", "-")
    found = [float(line) for line in done.stdout.split()[1:]]
    assert np.abs(found - truth(LATER)).mean() < 1
    schema = json.loads((tmp_path / "run" / "manifest.json").read_text())["schema"]
    assert schema["lags"]["by"] == ["shop"]
    for options, message in (
        (["--gap", "7d"], "--gap orders rows by time, but --time-column is missing"),
        (["--lags", "7"], "--lags orders rows by time, but --time-column is missing"),
        (["--time-column", "day", "--lags", "a"], "--lags='a' is not usable"),
        (["--time-column", "day", "--lag-by", "shop"], "--lag-by is for --lags"),
        (["--time-column", "date"], "--time-column='date'"),
        (["--time-column", "day", "--gap", "soon"], "gap='soon' is not a length of time"),
    ):
        done = shell(*fit, *options)
        assert done.exit_code == 2
        assert message in done.stderr

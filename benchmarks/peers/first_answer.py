"""windvane after 5 seconds against scikit-learn's histogram boosting at its defaults.

Claim: after 5 s the answer is better than HistGradientBoosting's on three quarters of the tables.
Data: ../shared/data/tables, up to 60,000 rows: every second of those that neither the portfolio was learned from nor
    another benchmark uses, in the order of their names.
Protocol: 75/25 split, stratified, seed 0; 1 - ROC AUC for two classes, log loss for more, RMSE for numbers. The other
    model has no time limit; its categories are ordinal codes that it knows as such, texts of few values too.
Hardware: 2 cores, no GPU; nothing else running. Repeats: 1.
Commands:
    python -m benchmarks.peers.first_answer run      # ten minutes; resumable
    python -m benchmarks.peers.first_answer table
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from benchmarks.command_line import make_main
from benchmarks.data import read_table
from benchmarks.markdown import print_head
from benchmarks.result_table import Row, results_of
from windvane import AutoClassifier, AutoRegressor

SECONDS = 5
RESULTS = results_of(__file__, ("table",), {"seconds": SECONDS, "jobs": 2})
NAMES = (
    *("acs_income", "airfare", "arrests", "autos_symboling", "bangladesh_contraception", "beijing_pm25"),
    *("bfi_gender", "biomed", "blood_brain", "bodyfat", "breast_cancer_ljubljana", "bupa_liver"),
    *("charity_response", "chile_vote", "cnae9", "college_gpa", "compas_two_year", "covid_testing"),
    *("credit_approval", "cylinder_bands", "delta_elevators", "doctor_visits_nmes", "elevators", "epa_mpg"),
    *("fishing_mode", "fried", "gm_car_prices", "guatemala_immun", "har_dumbbell", "health_insurance"),
    *("heart_hungarian", "horse_colic", "house_8L", "irish_school", "krk_zero-one_vs_draw", "lecture_rating"),
    *("lending_club", "lrs_spectrometer", "madelon", "marvel_align", "michigan_math4", "mnist_5k"),
    *("mothers_work", "movie_rating", "mushroom", "new_thyroid", "no2", "nonvoters", "oil_spill", "penguins"),
    *("politician_reply", "primary_tumor", "puma32H", "resume_callback", "river_flow_rf1", "sa_heart"),
    *("schizo", "shuttle", "socmob", "sonar", "stackoverflow_remote", "storm_status", "tecator", "tic_tac_toe"),
    *("uk_smoking", "us_colleges", "verbal_aggression", "vietnam_insurance", "waveform5000", "wheat_seeds"),
    *("wind_dublin", "wvs_poverty"),
)


def plan() -> list[tuple[str, ...]]:
    return [(name,) for name in NAMES]


def measure(name: str) -> Row:
    """Fit both on one split."""
    X, y, facts = read_table(name)
    X, y = X[y.notna()], y.dropna()
    is_regression = facts["task"] == "regression"
    target = y.to_numpy(float) if is_regression else np.unique(y.astype(str), return_inverse=True)[1]
    if not is_regression:  # every class in both parts
        kept = np.isin(target, np.flatnonzero(np.bincount(target) >= 4))
        X, target = X[kept], np.unique(target[kept], return_inverse=True)[1]
    X_train, X_test, y_train, y_test = train_test_split(
        X, target, test_size=0.25, random_state=0, stratify=None if is_regression else target
    )
    started = time.monotonic()
    estimator = AutoRegressor if is_regression else AutoClassifier
    ours = estimator(SECONDS, n_jobs=2, random_state=0, verbose=0).fit(X_train, y_train)
    seconds = time.monotonic() - started
    started = time.monotonic()
    theirs = _histogram_boosting(X_train, is_regression).fit(X_train, y_train)
    return {
        "table": name,
        "task": facts["task"],
        "n_train": len(X_train),
        "columns": X.shape[1],
        "windvane": _loss(ours, X_test, y_test),
        "histogram_boosting": _loss(theirs, X_test, y_test),
        "windvane_seconds": seconds,
        "histogram_boosting_seconds": time.monotonic() - started,
        "trials": len(ours.trials_),
        "policy": ours.policy_.name,
    }


def _histogram_boosting(X: pd.DataFrame, is_regression: bool) -> Any:
    numbers = [column for column in X if pd.api.types.is_numeric_dtype(X[column])]
    others = [column for column in X if column not in numbers]
    few = [column for column in others if X[column].astype(str).nunique() <= 250]
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=250
    )
    columns = make_column_transformer((encoder, others), remainder="passthrough", verbose_feature_names_out=False)
    model = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    positions = [i for i, column in enumerate(others) if column in few]
    return make_pipeline(columns, model(categorical_features=positions, random_state=0))


def _loss(model: Any, X: pd.DataFrame, y: NDArray[Any]) -> float:
    if not hasattr(model, "predict_proba"):
        return float(root_mean_squared_error(y, model.predict(X)))
    p = model.predict_proba(X)
    return float(1 - roc_auc_score(y, p[:, 1]) if p.shape[1] == 2 else log_loss(y, p, labels=model.classes_))


def run() -> None:
    """Measure what has not been measured yet."""
    warnings.simplefilter("ignore")
    RESULTS.fill(plan(), measure)


def table() -> None:
    """Print a row a task."""
    rows = RESULTS.rows()
    print_head("| task | tables | better after 5 s | median of the loss ratios | fit, seconds (largest) |")
    for task in ("binary", "multiclass", "regression", "all"):
        part = [row for row in rows if task in (row["task"], "all")]
        ratios = np.array([row["windvane"] / max(row["histogram_boosting"], 1e-12) for row in part])
        share = f"{np.mean(ratios < 1):.0%}"
        slowest = max(row["windvane_seconds"] for row in part)
        print(f"| {task} | {len(part)} | {share} | {np.median(ratios):.3f} | {slowest:.1f} |")


main = make_main(__doc__, {"run": run, "table": table})


if __name__ == "__main__":
    main()

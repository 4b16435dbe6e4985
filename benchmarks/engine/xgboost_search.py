"""XGBoost as one trial of a search: does it lower the test loss of the ensemble?

Claim: docs/decisions.md. One fit of nine trials: XGBoost by default and the first eight of the portfolio. Ensembles are
then selected from eight of them on the same validation predictions: "without" lacks XGBoost, as the default families
do; "with" lacks the last trial of the portfolio, which XGBoost displaces. "all" has the nine.
Hardware: any; one worker. At most 1,000 rows to learn from, three folds. Repeats: tables that no comparison with
other systems uses (`RESERVED`), four with classes (log loss) and three with numbers (RMSE).
Commands:
    python -m benchmarks.engine.xgboost_search run
    python -m benchmarks.engine.xgboost_search table
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from benchmarks.command_line import make_main
from benchmarks.data import check_not_reserved, read_table
from benchmarks.markdown import print_arms
from benchmarks.result_table import results_of

NAMES = (
    *("compas_two_year", "wind_dublin", "us_colleges", "botswana_contraception"),
    *("head_injury", "sacramento_homes", "new_thyroid"),
)
check_not_reserved(NAMES)
TRAIN_ROWS, TEST_ROWS, TRIALS, POLICY, SEED = 1_000, 3_000, 9, "cv3", 0
SETTINGS = {"train_rows": TRAIN_ROWS, "test_rows": TEST_ROWS, "trials": TRIALS, "policy": POLICY, "seed": SEED}
RESULTS = results_of(__file__, ("table",), SETTINGS)
ARMS = ("without", "with", "all")


def plan() -> list[tuple[Any, ...]]:
    return [(name,) for name in NAMES]


def measure(name: str) -> dict[str, Any]:
    """Fit once and select the three ensembles; their losses on rows of no fold."""
    from windvane import AutoClassifier, AutoRegressor
    from windvane.models import DEFAULT

    X, y, row = read_table(name)
    classify = row["task"] != "regression"
    X, X_test, y, y_test = train_test_split(
        X, y, train_size=min(TRAIN_ROWS, len(y) * 2 // 3), random_state=SEED, stratify=y if classify else None
    )
    X_test, y_test = X_test.iloc[:TEST_ROWS], y_test.iloc[:TEST_ROWS]
    estimator = AutoClassifier if classify else AutoRegressor
    model = estimator(
        "3h", n_trials=TRIALS, policy=POLICY, families=[*DEFAULT, "xgboost"], n_jobs=1, random_state=SEED, verbose=0
    ).fit(X, y)
    extra = [trial.number for trial in model.trials_ if trial.family == "xgboost"]
    assert len(extra) == 1 and len(model.trials_) == TRIALS
    found: dict[str, Any] = {"table": name, "train": len(y)}
    for arm, left_out in zip(ARMS, (extra, [TRIALS - 1], []), strict=True):
        predictor = model._select_without((), left_out)
        assert predictor is not None
        raw = predictor.predict_raw(predictor.table(X_test))
        if classify:
            loss = log_loss(y_test, raw, labels=predictor.classes)
        else:
            loss = float(np.sqrt(np.mean((raw - y_test.to_numpy(dtype=float)) ** 2)))
        weight = sum(member.weight for member in predictor.ensemble.members if member.number in extra)
        found |= {f"{arm}.loss": loss, f"{arm}.validation": predictor.ensemble.loss, f"{arm}.weight": float(weight)}
    return found


def table() -> None:
    """Print the test loss with XGBoost relative to that without it, and its weight in the ensemble."""
    print_arms(RESULTS.rows(), ARMS, "loss")


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})


if __name__ == "__main__":
    main()

"""LightGBM with a Poisson objective as one trial of a search: does it lower the test RMSE of the ensemble?

Claim: docs/decisions.md. One fit of nine trials of the portfolio of regressions, with "poisson" after the first
LightGBM. Ensembles are then selected from eight of them on the same validation predictions: "without" lacks the
Poisson trial, as the portfolio was before; "with" lacks the last trial, which the Poisson trial displaces. "all" has
the nine.
Hardware: any; one worker. At most 1,000 rows to learn from, three folds. Repeats: tables that no other benchmark is
evaluated on, with targets of at least 0 that are counts or skewed; those where the objectives alone were measured come
last.
Commands:
    python -m benchmarks.engine.log_link_search run
    python -m benchmarks.engine.log_link_search table
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from benchmarks.command_line import make_main
from benchmarks.data import check_not_reserved, read_table
from benchmarks.markdown import print_arms
from benchmarks.result_table import results_of

NAMES = (
    *("acs_income", "cps_1988", "socmob", "house_8L", "bank32nh", "pol", "epa_mpg", "machine_cpu"),
    *("fifa_value", "doctor_visits_nmes", "nyc_taxi_tip", "cran_check_times"),
)
check_not_reserved(NAMES)
TRAIN_ROWS, TEST_ROWS, TRIALS, POLICY, SEEDS = 1_000, 3_000, 9, "cv3", (0, 1)
SETTINGS = {"train_rows": TRAIN_ROWS, "test_rows": TEST_ROWS, "trials": TRIALS, "policy": POLICY}
RESULTS = results_of(__file__, ("table", "seed"), SETTINGS)
ARMS = ("without", "with", "all")


def plan() -> list[tuple[Any, ...]]:
    return [(name, seed) for seed in SEEDS for name in NAMES]


def measure(name: str, seed: int) -> dict[str, Any]:
    """Fit once and select the three ensembles; their RMSE on rows of no fold."""
    from windvane import AutoRegressor

    X, y, _ = read_table(name)
    y = y.astype(np.float64)
    X, X_test, y, y_test = train_test_split(X, y, train_size=min(TRAIN_ROWS, len(y) * 2 // 3), random_state=seed)
    X_test, true = X_test.iloc[:TEST_ROWS], y_test.to_numpy()[:TEST_ROWS]
    model = AutoRegressor(n_trials=TRIALS, policy=POLICY, n_jobs=1, random_state=seed, verbose=0).fit(X, y)
    extra = [trial.number for trial in model.trials_ if trial.config.get("objective") == "poisson"]
    assert len(extra) == 1 and len(model.trials_) == TRIALS
    found: dict[str, Any] = {"table": name, "seed": seed, "train": len(y)}
    for arm, left_out in zip(ARMS, (extra, [TRIALS - 1], []), strict=True):
        predictor = model._select_without((), left_out)
        assert predictor is not None
        weight = sum(m.weight for m in predictor.ensemble.members if m.number in extra)
        rmse = float(np.sqrt(np.mean((predictor.predict(X_test) - true) ** 2)))
        found |= {f"{arm}.rmse": rmse, f"{arm}.validation": predictor.ensemble.loss, f"{arm}.weight": float(weight)}
    return found


def table() -> None:
    """Print the test RMSE with the Poisson trial relative to that without it, and its weight in the ensemble."""
    print_arms(RESULTS.rows(), ARMS, "rmse")


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})


if __name__ == "__main__":
    main()

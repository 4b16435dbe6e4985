"""Objectives with a log link for counts and positive targets: does a choice by validation lower the test RMSE?

Claim: docs/decisions.md. LightGBM in the default configuration of its family, on ten tables with targets of at least
0: squared error, Poisson and Tweedie deviance, and squared error of log(1 + y) with the smearing estimate of Duan
(1983) back to means. Each stops early on its own loss; "chosen" is the one with the lowest validation RMSE. Test RMSE
is divided by that of squared error.
Hardware: any. At most 1,500 rows to learn from. Repeats: 2 seeds; tables that no other benchmark is evaluated on.
Commands:
    python -m benchmarks.engine.log_link run
    python -m benchmarks.engine.log_link table
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from benchmarks.command_line import make_main
from benchmarks.data import check_not_reserved, read_table
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane.data.column_types import infer_schema
from windvane.data.task import Task
from windvane.models.base import DataSplit, TrainingContext
from windvane.models.boosting.lightgbm import LightGBM, _parameters
from windvane.models.search_space import fill_defaults

NAMES = (
    *("airfare", "beijing_pm25", "cran_check_times", "doctor_visits_nmes", "fifa_value", "gm_car_prices"),
    *("gss_income", "hotel_rates", "nyc_taxi_tip", "sacramento_homes"),
)
check_not_reserved(NAMES)
OBJECTIVES = ("regression", "poisson", "tweedie", "log1p")
TRAIN_ROWS, TEST_ROWS, ROUNDS, PATIENCE, SEEDS = 1_500, 3_000, 512, 50, (0, 1)
SETTINGS = {"train_rows": TRAIN_ROWS, "test_rows": TEST_ROWS, "rounds": ROUNDS, "patience": PATIENCE}
RESULTS = results_of(__file__, ("table", "seed"), SETTINGS)


def plan() -> list[tuple[Any, ...]]:
    return [(name, seed) for seed in SEEDS for name in NAMES]


def measure(name: str, seed: int) -> dict[str, Any]:
    """Train each objective on two thirds of the rows and stop on the rest; RMSE there and on other rows."""
    X, target, _ = read_table(name)
    y = target.to_numpy(dtype=np.float64)
    X, X_test, y, y_test = train_test_split(X, y, train_size=min(TRAIN_ROWS, len(y) // 2), random_state=seed)
    X_test, y_test = X_test.iloc[:TEST_ROWS], y_test[:TEST_ROWS]
    assert y.min() >= 0
    schema = infer_schema(X)
    table, test = schema.transform(X), schema.transform(X_test)
    train, validation = train_test_split(np.arange(len(y)), test_size=1 / 3, random_state=seed)
    found: dict[str, Any] = {"table": name, "seed": seed, "train": len(train), "zeros": float((y == 0).mean())}
    for objective in OBJECTIVES:
        predict = _train(
            objective, DataSplit(table.take(train), y[train]), DataSplit(table.take(validation), y[validation])
        )
        for part, rows, true in (("validation", table.take(validation), y[validation]), ("test", test, y_test)):
            found[f"{part}.{objective}"] = float(np.sqrt(np.mean((predict(rows) - true) ** 2)))
    return found


def _train(objective: str, train: DataSplit, validation: DataSplit) -> Any:
    import lightgbm as lgb

    family = LightGBM()
    task = Task("regression", train.table.n_rows, train.table.n_columns)
    config = fill_defaults({}, family.search_space(task))
    context = TrainingContext(task, seed=0)
    parameters = _parameters(config, train, context)
    name = "regression" if objective == "log1p" else objective
    parameters |= {"objective": name, "metric": "l2" if name == "regression" else name}
    p, c = train.table.n_numbers, len(train.table.cardinalities)
    forward = np.log1p if objective == "log1p" else (lambda values: values)
    data = lgb.Dataset(
        train.table.matrix, forward(train.target), categorical_feature=list(range(p, p + c)), params=parameters
    )
    valid = data.create_valid(validation.table.matrix, forward(validation.target))
    stopping = lgb.early_stopping(PATIENCE, verbose=False)
    booster = lgb.train(parameters, data, ROUNDS, valid_sets=[valid], callbacks=[stopping])
    if objective != "log1p":
        return lambda table: booster.predict(table.matrix)
    errors = np.log1p(validation.target) - booster.predict(validation.table.matrix)
    factor = float(np.mean(np.exp(errors)))
    return lambda table: factor * np.exp(booster.predict(table.matrix)) - 1


def table() -> None:
    """Print the test RMSE of each objective and of the choice by validation, relative to squared error."""
    frame = RESULTS.frame()
    print_head("| table | seed | zeros | Poisson | Tweedie | log(1 + y) | chosen |")
    ratios = []
    for row in frame.to_dict("records"):
        chosen = min(OBJECTIVES, key=lambda one: row[f"validation.{one}"])
        ratio = [row[f"test.{one}"] / row["test.regression"] for one in (*OBJECTIVES[1:], chosen)]
        ratios.append(ratio)
        cells = " | ".join(f"{value:.3f}" for value in ratio)
        print(f"| {row['table'].replace('_', '-')} | {row['seed']} | {row['zeros']:.0%} | {cells} ({chosen}) |")
    means = np.exp(np.log(ratios).mean(axis=0))
    print(f"| geometric mean | | | {' | '.join(f'{value:.3f}' for value in means)} |")
    better = (np.array(ratios) < 1).sum(axis=0)
    print(f"\nLower than squared error in {', '.join(map(str, better))} of {len(ratios)} runs.")


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})


if __name__ == "__main__":
    main()

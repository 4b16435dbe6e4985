"""Coverage of prediction intervals and sets, and how wide or large they are, beside MAPIE at equal data.

Claim: on 10 regression and 10 classification tables the coverage is within 2 points of what was asked in the mean, and
the intervals are not wider and the sets not larger than those of MAPIE from the same models. The tables are those of
the other benchmarks; the rule for the widths was chosen on 20 other tables.
Systems: `windvane` is a search of three trials; `rule` is windvane's code and `MAPIE` is MAPIE's, both on LightGBM with
its defaults and the same five folds. Sets of `windvane` hold at least one class; `rule` may return empty sets, as MAPIE
does.
Hardware: one core, no GPU. Repeats: 1 split a table, at most 3,000 rows to train on and 3,000 to test.

    python -m benchmarks.uncertainty.coverage run
    python -m benchmarks.uncertainty.coverage table

MAPIE is no dependency of windvane: `pip install --no-deps --target FOLDER mapie` and PYTHONPATH=FOLDER. Where it is not
installed, its runs are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from benchmarks.command_line import make_parser
from benchmarks.data import REGRESSION, read_table
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane.evaluation.decisions.conformal import fit_class_sets, fit_intervals, interval_score
from windvane.runtime.columns.table import Floats

CLASSIFICATION = (
    *("attrition", "car_evaluation", "cell_segmentation", "churn_modelling", "credit_data"),
    *("eucalyptus", "hpc_jobs", "kr_vs_kp", "pendigits", "telco_churn"),
)
SYSTEMS = ("windvane", "rule", "MAPIE")
COVERAGES = (0.8, 0.9, 0.95)
MAX_ROWS = 3_000
N_FOLDS = 5
N_TRIALS = 3  # of the search
SETTINGS = {"max_rows": MAX_ROWS, "folds": N_FOLDS, "n_trials": N_TRIALS}
RESULTS = results_of(__file__, ("table", "system", "asked"), SETTINGS)

Arrays = tuple[Any, Any, Any, Any]  # X, X_test, y, y_test


def plan() -> list[tuple[Any, ...]]:
    return list(product((*REGRESSION, *CLASSIFICATION), SYSTEMS, COVERAGES))


def load(name: str) -> Arrays:
    """Read a table and split it; of classes stratified."""
    frame, y, _ = read_table(name)
    n_test = min(MAX_ROWS, int(0.4 * len(y)))
    n_train = min(MAX_ROWS, len(y) - n_test)
    strata = None if name in REGRESSION else y
    found: Any = train_test_split(frame, y, train_size=n_train, test_size=n_test, random_state=0, stratify=strata)
    X, X_test, y_train, y_test = (part.reset_index(drop=True) for part in found)
    return X, X_test, y_train, y_test


def as_numbers(X: pd.DataFrame, X_test: pd.DataFrame) -> tuple[Floats, Floats]:
    """Replace everything but numbers by codes, the same in both tables."""
    both = pd.concat([X, X_test])
    columns = [
        values.astype(float) if pd.api.types.is_numeric_dtype(values) else pd.factorize(values)[0]
        for _, values in both.items()
    ]
    matrix = np.column_stack(columns).astype(float)
    return matrix[: len(X)], matrix[len(X) :]


def by_windvane(data: Arrays, is_regression: bool) -> list[Any]:
    """Intervals (n, 2), or sets (n, k) with the classes, for each coverage."""
    from windvane import AutoClassifier, AutoRegressor

    X, X_test, y, _ = data
    if is_regression:
        regressor = AutoRegressor(n_trials=N_TRIALS, n_jobs=1, random_state=0, verbose=0).fit(X, y)
        return [regressor.predict_interval(X_test, coverage) for coverage in COVERAGES]
    classifier = AutoClassifier(n_trials=N_TRIALS, n_jobs=1, random_state=0, verbose=0).fit(X, y)
    return [(classifier.predict_set(X_test, coverage), classifier.classes_) for coverage in COVERAGES]


def by_rule(data: Arrays, is_regression: bool) -> list[Any]:
    """The same with windvane's rule on the folds of LightGBM."""
    X, X_test, y, _ = data
    X, X_test = as_numbers(X, X_test)
    classes, codes = np.unique(y, return_inverse=True)
    target: Any = np.asarray(y, dtype=float) if is_regression else codes
    k = () if is_regression else (len(classes),)
    out_of_fold, mean = np.zeros((len(X), *k)), np.zeros((len(X_test), *k))
    for train, validation in folds(is_regression).split(X, target):
        model = estimator(is_regression).fit(X[train], target[train])
        predict = model.predict if is_regression else model.predict_proba
        out_of_fold[validation] = predict(X[validation])
        mean += predict(X_test) / N_FOLDS
    rows = np.arange(len(X))
    if is_regression:
        intervals = fit_intervals(out_of_fold, target, None, rows)
        return [intervals.apply(mean, intervals.scores.limit(coverage)) for coverage in COVERAGES]
    sets = fit_class_sets(out_of_fold, target, None, rows, 1.0)
    found = [sets.apply(mean, sets.limits(coverage, classes, False), allow_empty=True) for coverage in COVERAGES]
    return [(one, classes) for one in found]


def by_mapie(data: Arrays, is_regression: bool) -> list[Any]:
    """The same with MAPIE: CV+ with absolute errors; of classes the scores of Sadinle et al."""
    X, X_test, y, _ = data
    X, X_test = as_numbers(X, X_test)
    levels = list(COVERAGES)
    if is_regression:
        model: Any = import_module("mapie.regression").CrossConformalRegressor(
            estimator(True), confidence_level=levels, method="plus", cv=folds(True)
        )
        model.fit_conformalize(X, np.asarray(y, dtype=float))
        return [model.predict_interval(X_test)[1][:, :, i] for i in range(len(levels))]
    classes, codes = np.unique(y, return_inverse=True)
    model = import_module("mapie.classification").CrossConformalClassifier(
        estimator(False), confidence_level=levels, conformity_score="lac", cv=folds(False)
    )
    model.fit_conformalize(X, codes)
    sets = model.predict_set(X_test)[1]
    return [(sets[:, :, i], classes) for i in range(len(levels))]


def folds(is_regression: bool) -> Any:
    """The five folds of `rule` and `MAPIE`."""
    return (KFold if is_regression else StratifiedKFold)(N_FOLDS, shuffle=True, random_state=0)


def estimator(is_regression: bool) -> Any:
    """LightGBM with its defaults."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    return (LGBMRegressor if is_regression else LGBMClassifier)(n_jobs=1, verbose=-1, random_state=0)


def measure(found: Any, y: Any, asked: float, is_regression: bool) -> dict[str, float]:
    """Coverage, mean width or size, and of intervals the mean interval score; widths in standard deviations of y."""
    if is_regression:
        target, (lower, upper) = np.asarray(y, dtype=float), np.asarray(found, dtype=float).T
        outside = np.maximum(np.maximum(lower - target, target - upper), 0)
        scale = float(target.std())
        return {
            "coverage": float(np.mean(outside <= 0)),
            "size": float(np.mean(upper - lower)) / scale,
            "interval_score": float(np.mean(interval_score(upper - lower, outside, asked))) / scale,
        }
    sets, classes = found
    codes = np.searchsorted(classes, np.asarray(y))
    return {
        "coverage": float(sets[np.arange(len(codes)), codes].mean()),
        "size": float(sets.sum(axis=1).mean()),
        "empty": float(np.mean(~sets.any(axis=1))),
    }


def run(tables: Sequence[str], systems: Sequence[str]) -> None:
    """Measure what has not been measured yet."""
    methods = {"windvane": by_windvane, "rule": by_rule, "MAPIE": by_mapie}
    for name, system in product(tables, systems):
        is_missing = any(RESULTS.find(name, system, asked) is None for asked in COVERAGES)
        if not is_missing or (system == "MAPIE" and find_spec("mapie") is None):
            continue
        data, is_regression = load(name), name in REGRESSION
        found = methods[system](data, is_regression)
        for asked, one in zip(COVERAGES, found, strict=True):
            task = "regression" if is_regression else "classification"
            run_of = {"table": name, "system": system, "asked": asked, "task": task}
            RESULTS.put({**run_of, **measure(one, data[3], asked, is_regression)})
        print(name, system, flush=True)


def table() -> None:
    """Print, for each task, coverage and size of each system in the mean, then each table at 0.9."""
    found = RESULTS.frame()
    for task, names, size in (("regression", REGRESSION, "width"), ("classification", CLASSIFICATION, "size")):
        extra = "interval score against MAPIE" if task == "regression" else "empty sets"
        print(f"## {task.capitalize()}\n")
        print_head(f"| asked | system | coverage | lowest | highest | {size} against MAPIE | {extra} |")
        of_task = found[found["task"] == task]
        for asked, system in product(COVERAGES, SYSTEMS):
            rows = of_task[of_task["asked"] == asked].set_index("table")
            ours, theirs = (rows[rows["system"] == one] for one in (system, "MAPIE"))
            coverage = 100 * ours["coverage"]
            cells = [f"{100 * asked:.0f} %", system]
            cells += [f"{value:.1f} %" for value in (coverage.mean(), coverage.min(), coverage.max())]
            cells.append(f"{_mean_ratio(ours['size'], theirs['size']):.3f}")
            if task == "regression":
                cells.append(f"{_mean_ratio(ours['interval_score'], theirs['interval_score']):.3f}")
            else:
                cells.append(f"{100 * ours['empty'].mean():.1f} %")
            print(f"| {' | '.join(cells)} |")
        print_head(f"\n| table, 90 % asked | {' | '.join(f'{one}: coverage, {size}' for one in SYSTEMS)} |")
        at_90 = of_task[of_task["asked"] == 0.9].set_index(["table", "system"])
        for name in names:
            rows = at_90.loc[[(name, system) for system in SYSTEMS]]
            cells = [f"{100 * c:.1f} %, {s:.2f}" for c, s in zip(rows["coverage"], rows["size"], strict=True)]
            print(f"| {name} | {' | '.join(cells)} |")
        print()


def _mean_ratio(ours: pd.Series, theirs: pd.Series) -> float:
    """Geometric mean over the tables."""
    return float(np.exp(np.log(ours / theirs).mean()))


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table")
    parser.add_argument("--tables", nargs="+", default=[*REGRESSION, *CLASSIFICATION])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    arguments = parser.parse_args(words)
    if arguments.command == "table":
        table()
    else:
        run(arguments.tables, arguments.systems)


if __name__ == "__main__":
    main()

"""Thresholds and calibration, chosen out of fold, on rows that chose nothing: 20 tables of two classes.

Claim: docs/findings/thresholds.md. A threshold tuned for F1, or for a positive row that is missed costing ten times a
false alarm, against one half; expected calibration error and log loss before and after `calibrate`.
Hardware: any. Models are small: three trials, three folds, at most 1,000 rows. Repeats: 1 seed; tables that no other
benchmark is evaluated on. Takes about 3 CPU minutes.
Commands:
    python -m benchmarks.engine.thresholds run
    python -m benchmarks.engine.thresholds table
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

from benchmarks.command_line import make_main
from benchmarks.data import check_not_reserved, read_table
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane import AutoClassifier
from windvane.evaluation.decisions.calibration import METHODS, expected_calibration_error

NAMES = (
    *("actg175", "arrests", "bangladesh_contraception", "bfi_gender", "botswana_contraception", "ces11_abortion"),
    *("charity_response", "compas_two_year", "crime_arrest", "email_spam_openintro", "flchain_death", "head_injury"),
    *("health_insurance", "hmda_boston", "k401_eligible", "lending_club", "monica", "recidivism_cens", "sick"),
    "guatemala_prenat",
)
check_not_reserved(NAMES)
TRAIN_ROWS, TEST_ROWS = 1_000, 5_000
FAMILIES = ("linear", "extra_trees", "lightgbm")
N_TRIALS, MISS_COST = 3, 10.0
SETTINGS = {"train_rows": TRAIN_ROWS, "test_rows": TEST_ROWS, "n_trials": N_TRIALS, "miss_cost": MISS_COST}
RESULTS = results_of(__file__, ("table",), SETTINGS)


def plan() -> list[tuple[Any, ...]]:
    return [(name,) for name in NAMES]


def measure(name: str) -> dict[str, Any]:
    """Fit on one part of a table; F1, cost, calibration error and log loss on the other."""
    X, y, _ = read_table(name)
    n_train = min(TRAIN_ROWS, len(y) // 2)
    X, X_test, y, y_test = train_test_split(X, y, train_size=n_train, random_state=0, stratify=y)
    X_test, y_test = X_test.iloc[:TEST_ROWS], y_test.iloc[:TEST_ROWS]
    model = AutoClassifier(
        600, n_trials=N_TRIALS, n_jobs=1, families=list(FAMILIES), policy="cv3", random_state=0, verbose=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    is_positive = (y_test == model.positive_class_).to_numpy().astype(int)
    positive = list(model.classes_).index(model.positive_class_)
    other = model.classes_[1 - positive]

    def f1() -> float:
        return float(f1_score(is_positive, model.predict(X_test) == model.positive_class_))

    def cost() -> float:
        chosen = (model.predict(X_test) == model.positive_class_).astype(int)
        return float(np.mean(np.where(is_positive > chosen, MISS_COST, is_positive < chosen)))

    found: dict[str, Any] = {"table": name, "train": len(y), "test": len(y_test), "positive": float(is_positive.mean())}
    found |= {"f1.half": f1(), "cost.half": cost()}
    model.tune_threshold("f1")
    found |= {"f1.tuned": f1(), "f1.threshold": model.threshold_}
    model.tune_threshold(costs={(model.positive_class_, other): MISS_COST})
    found |= {"cost.tuned": cost(), "cost.threshold": model.threshold_}
    model.set_threshold(1 / (1 + MISS_COST))  # what is best where probabilities are right
    found |= {"cost.from_probabilities": cost()}
    model.set_threshold(None)
    for method in METHODS:
        model.calibrate(method)
        p = model.predict_proba(X_test)
        two = np.column_stack([1 - p[:, positive], p[:, positive]])
        found[f"ece.{method}"] = expected_calibration_error(is_positive, two)
        found[f"log_loss.{method}"] = float(log_loss(is_positive, two))
        found[f"auc.{method}"] = float(roc_auc_score(is_positive, two[:, 1]))
    found["chosen"] = model.calibrate().method
    return found


def table() -> None:
    """Print the tables of the page."""
    frame = RESULTS.frame()
    print("## Thresholds\n")
    print_head("| table | rows | positive | F1 at 0.5 | F1 tuned | cost at 0.5 | cost tuned | cost at 1/11 |")
    for row in frame.to_dict("records"):
        scores = [row[f"f1.{one}"] for one in ("half", "tuned")]
        costs = [row[f"cost.{one}"] for one in ("half", "tuned", "from_probabilities")]
        cells = [f"{value:.3f}" for value in scores + costs]
        print(f"| {row['table']} | {row['train']:,} | {row['positive']:.1%} | {' | '.join(cells)} |")
    means = [f"{frame[name].mean():.3f}" for name in ("f1.half", "f1.tuned", "cost.half", "cost.tuned")]
    print(f"| mean | | | {' | '.join(means)} | {frame['cost.from_probabilities'].mean():.3f} |")
    better = [int((frame["f1.tuned"] > frame["f1.half"]).sum()), int((frame["cost.tuned"] < frame["cost.half"]).sum())]
    print(f"\nF1 is higher on {better[0]} of {len(frame)} tables, the cost lower on {better[1]}.\n")
    print("## Calibration\n")
    print_head("| table | chosen | error before | error after | log loss before | log loss after |")
    before, after = [], []
    for row in frame.to_dict("records"):
        one = [row["ece.none"], row["log_loss.none"]]
        two = [row[f"ece.{row['chosen']}"], row[f"log_loss.{row['chosen']}"]]
        before.append(one)
        after.append(two)
        shown = " | ".join(f"{value:.4f}" for value in (one[0], two[0], one[1], two[1]))
        print(f"| {row['table']} | {row['chosen'].replace('_', '-')} | {shown} |")
    first, last = np.mean(before, axis=0), np.mean(after, axis=0)
    print(f"| mean | | {first[0]:.4f} | {last[0]:.4f} | {first[1]:.4f} | {last[1]:.4f} |")
    print("\n## Methods\n")
    print_head("| method | mean error | mean log loss | lowest log loss | chosen |")
    losses = frame[[f"log_loss.{method}" for method in METHODS]].to_numpy()
    for i, method in enumerate(METHODS):
        best, chosen = int((losses.argmin(axis=1) == i).sum()), int((frame["chosen"] == method).sum())
        error = frame[f"ece.{method}"].mean()
        print(f"| {method.replace('_', '-')} | {error:.4f} | {losses[:, i].mean():.4f} | {best} | {chosen} |")


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})


if __name__ == "__main__":
    main()

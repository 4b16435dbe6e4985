"""Where a table is won or lost: test loss and CPU seconds of every model of windvane and AutoGluon, side by side.

Claim: none; it prints whether single models, their number, the folds, the ensemble weights or the calibration lose.
Protocol: one 75/25 split, seed 0, 60 s, two cores, metric "auto"; AutoGluon 1.6.3 best_quality in the environment
    that `compare.py setup --systems autogluon` made; its leaderboard on the test rows.
Commands:
    python -m benchmarks.peers.diagnose run arrhythmia texture anneal
    python -m benchmarks.peers.diagnose table
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.command_line import make_parser
from benchmarks.peers.compare import METRICS, environment_python, load_split
from benchmarks.result_table import results_of

RESULTS = results_of(__file__, ("table", "budget", "system"))
BUDGET = 60
TABLES = (  # of the results
    *("alzheimer_blood", "anneal", "arrhythmia", "mdrr"),
    *("vowel", "texture", "sacramento_homes", "vietnam_insurance"),
)

# Runs in AutoGluon's own environment: fits, and writes the leaderboard with the test loss of every model.
AUTOGLUON = """
import json, sys, time
import pandas as pd
from autogluon.tabular import TabularPredictor
folder, metric, budget = sys.argv[1], sys.argv[2], float(sys.argv[3])
train, test = pd.read_parquet(folder + "/train.parquet"), pd.read_parquet(folder + "/test.parquet")
names = {"roc_auc": "roc_auc", "log_loss": "log_loss", "rmse": "root_mean_squared_error"}
started = time.monotonic()
kind = sys.argv[4]  # else a regression target of whole numbers is taken for classes
predictor = TabularPredictor(
    label="__target__", problem_type=kind, eval_metric=names[metric], path=folder + "/ag", verbosity=0
)
predictor.fit(train, time_limit=budget, presets="best_quality", num_cpus=2, num_gpus=0)
seconds = time.monotonic() - started
board = predictor.leaderboard(test, silent=True)
weights = {}
best = predictor.model_best
try:
    weights = predictor._trainer.load_model(best)._get_model_weights()
except Exception:
    pass
rows = [
    {"model": r.model, "test": (1 - r.score_test) if metric == "roc_auc" else -r.score_test,
     "validation": (1 - r.score_val) if metric == "roc_auc" else -r.score_val,
     "fit_seconds": r.fit_time_marginal, "weight": float(weights.get(r.model, 0)), "final": r.model == best}
    for r in board.itertuples()
]
json.dump({"seconds": seconds, "models": rows}, open(folder + "/autogluon.json", "w"))
"""
FAMILIES = {
    "LightGBM": "lightgbm",
    "CatBoost": "catboost",
    "XGBoost": "xgboost",
    "RandomForest": "forests",
    "ExtraTrees": "forests",
    "NeuralNet": "networks",
    "KNeighbors": "neighbours",
    "Weighted": "ensemble",
    "network": "networks",
    "mlp": "networks",
    "random_forest": "forests",
    "extra_trees": "forests",
}


def run_windvane(split: Any, budget: int) -> dict[str, Any]:
    """Fit, and measure every trial of the run on the test rows."""
    from windvane import AutoClassifier, AutoRegressor
    from windvane.data.files import to_frame
    from windvane.models import FAMILIES as MODELS
    from windvane.models.base import TrainingContext
    from windvane.search.run.run_directory import RunDirectory

    kind = AutoRegressor if split.kind == "regression" else AutoClassifier
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started = time.monotonic()
        model = kind(budget, n_jobs=2, random_state=0, run_dir=run, verbose=0).fit(split.X_train, split.y_train)
        seconds = time.monotonic() - started
        predictor, directory = model.predictor_, RunDirectory(run)
        table = predictor.schema.transform(to_frame(split.X_test))
        target = split.y_test if split.kind == "regression" else np.searchsorted(model.classes_, split.y_test)
        weights = {member.number: member.weight for member in predictor.ensemble.members}
        rows = []
        for trial in model.trials_:
            if not trial.usable:
                continue
            checkpoint = directory.checkpoint(trial.number, str(trial.checkpoint))
            folds = sorted(checkpoint.glob("fold_*"))
            models = [MODELS[trial.family].load(fold, TrainingContext(predictor.task, trial.seed)) for fold in folds]
            prediction = np.mean([one.predict(table) for one in models], axis=0)
            rows.append(
                {
                    "model": f"{trial.family}#{trial.number}",
                    "test": predictor.metric.loss(target, prediction),
                    "validation": trial.loss,
                    "fit_seconds": trial.cpu_seconds,
                    "weight": weights.get(trial.number, 0.0),
                    "final": False,
                    "config": dict(trial.config),
                }
            )
        final = predictor.metric.loss(target, predictor.predict_raw(table))
        ensemble = {"model": "ensemble", "test": final, "validation": predictor.ensemble.loss, "fit_seconds": 0.0}
        rows.append({**ensemble, "weight": 1.0, "final": True})
        return {"seconds": seconds, "policy": model.policy_.name, "models": rows}


def run_autogluon(split: Any, budget: int) -> dict[str, Any]:
    """Fit in AutoGluon's environment and read its leaderboard."""
    with tempfile.TemporaryDirectory() as folder:
        for name, X, y in (("train", split.X_train, split.y_train), ("test", split.X_test, split.y_test)):
            X.assign(__target__=np.asarray(y)).to_parquet(f"{folder}/{name}.parquet")
        metric = METRICS[split.kind]
        words = [str(environment_python("autogluon")), "-c", AUTOGLUON, folder, metric, str(budget), split.kind]
        subprocess.run(words, check=True, capture_output=True, cwd=folder)
        return dict(json.loads(Path(folder, "autogluon.json").read_text()))


def run(tables: list[str], budget: int) -> None:
    """Run both systems one after the other on each table, where there is no result yet."""
    for table in tables:
        split = load_split(table)
        facts = {"table": table, "rows": len(split.y_train), "columns": split.X_train.shape[1], "kind": split.kind}
        for system, fit in (("windvane", run_windvane), ("autogluon", run_autogluon)):
            if (environment_python(system)).exists() and RESULTS.find(table, budget, system) is None:
                RESULTS.put({**facts, "budget": budget, "system": system, **fit(split, budget)})
        print(describe(table, budget), flush=True)


def family_of(model: str) -> str:
    """Return the kind of model a name stands for."""
    if "_L2" in model and "Weighted" not in model:
        return "second layer"
    return next((family for prefix, family in FAMILIES.items() if model.startswith(prefix)), model.split("#")[0])


def plan() -> list[tuple[Any, ...]]:
    return [(table, BUDGET, system) for table in TABLES for system in ("windvane", "autogluon")]


def describe(table: str, budget: int) -> str:
    """Return a table: for each kind of model the best test loss, the number of models, CPU seconds and weight."""
    found = {system: RESULTS.find(table, budget, system) for system in ("windvane", "autogluon")}
    results = {system: result for system, result in found.items() if result is not None}
    first = next(iter(results.values()))
    lines = [f"{table}: {first['rows']} rows, {first['columns']} columns, {budget} s"]
    for system, result in results.items():
        models = pd.DataFrame(result["models"])
        models["family"] = models["model"].map(family_of)
        final = models[models["final"]].iloc[0]
        lines.append(f"  {system}: final {final['test']:.5g}, {result['seconds']:.0f} s, {len(models)} models")
        for family, group in models[~models["final"]].groupby("family"):
            chosen = group.iloc[int(group["validation"].to_numpy().argmin())]
            lines.append(
                f"    {family:13s} n {len(group):2d}  best test {group['test'].min():.5g}  by validation "
                f"{chosen['test']:.5g} ({chosen['validation']:.5g})  seconds {group['fit_seconds'].sum():.0f}  "
                f"weight {group['weight'].sum():.2f}"
            )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table")
    parser.add_argument("tables", nargs="*")
    parser.add_argument("--budget", type=int, default=BUDGET)
    arguments = parser.parse_args(words)
    if arguments.command == "run":
        run(arguments.tables, arguments.budget)
    else:
        runs = dict.fromkeys((row["table"], row["budget"]) for row in RESULTS.rows())
        print("\n\n".join(describe(*run) for run in runs))


if __name__ == "__main__":
    main()

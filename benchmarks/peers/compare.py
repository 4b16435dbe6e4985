"""windvane against Auto-Sklearn 2.0, AutoGluon best_quality and FLAML on 13 tables with classes and 10 with numbers.

Claim: with 60 s and 2 cores windvane has the best mean rank of the four, and predicts faster than AutoGluon.
Systems: auto-sklearn 0.15.0 (AutoSklearn2Classifier; AutoSklearnRegressor where the target is a number), AutoGluon
    1.6 (best_quality, CPU), FLAML 2.7 (default learners); each in its own virtual environment.
Protocol: 75/25 split, stratified, seed 0, the same for all systems; metric "auto" (1 - ROC AUC for two classes, log
    loss for more, RMSE for regression); the loss is computed here from the saved predictions. A failure ranks last,
    ties half. Prediction: warm, median of 20 calls on 1, 100 and 10,000 rows (drawn with replacement from the test
    part). auto-sklearn trains a selector at its first construction on a machine; that is done before its clock starts.
Hardware: 2 cores, no GPU; nothing else running (it waits, then refuses, when more than half a core is busy; a run
    during which others used more than a tenth of a core is repeated).
Repeats: 1; windvane in 10 s has 3 random states on that split (mean loss counts).
Further: windvane and AutoGluon on 24 more tables, drawn at random among those that nothing is learned from.
Commands:
    python -m benchmarks.peers.compare setup      # needs Python 3.9, swig and a C++ compiler
    python -m benchmarks.peers.compare run --systems autosklearn2 autogluon flaml
    python -m benchmarks.peers.compare run --systems windvane --seeds 0 1 2
    python -m benchmarks.peers.compare table      # --own-budget 10: windvane in 10 s against the others in 60
    (each with --kind regression for the tables with numbers)
    python -m benchmarks.peers.compare run --kind further --systems windvane autogluon
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from benchmarks.data import CLASSIFICATION, FURTHER, REGRESSION, read_table
from benchmarks.peers.report import read_results, report
from benchmarks.result_table import ResultTable

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("WINDVANE_PEERS", Path.home() / ".cache" / "windvane-peers"))

SYSTEMS = ("windvane", "autosklearn2", "autogluon", "flaml")
TABLES = {"classification": CLASSIFICATION, "regression": REGRESSION, "further": FURTHER}
# Random states of windvane's results, by kind and budget in seconds; the other systems run once, for 60 s.
OWN_SEEDS: dict[str, dict[int, tuple[int, ...]]] = {
    "classification": {10: (0, 1, 2), 60: (0,)},
    "regression": {60: (0,)},
    "further": {60: (0,)},
}
BUDGET = 60
METRICS = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
JOBS, SPLIT_SEED, TEST_SHARE, POLL_S = 2, 0, 0.25, 2.0
# Cores that others may use: before a run (it waits), and on average during it (it is repeated).
IDLE, QUIET = 0.5, 0.1

RESULTS = ResultTable(
    HERE / "peers.jsonl",
    ("system", "table", "seed", "budget"),
    {"jobs": JOBS, "split_seed": SPLIT_SEED, "test_share": TEST_SHARE},
)

_ASKL_PINS = "numpy==1.23.5 pandas==1.5.3 ConfigSpace==0.4.21 pyrfr==0.8.3"
PIP: dict[str, tuple[str, ...]] = {
    "autosklearn2": (
        "install pip<24 setuptools<60 wheel Cython<3 numpy==1.23.5",
        f"install --no-build-isolation {_ASKL_PINS} scipy<1.10 scikit-learn==0.24.2 pyarrow<18",
        f"install --no-build-isolation {_ASKL_PINS} auto-sklearn==0.15.0 psutil",
    ),
    # fastai pulls torchvision in; no tabular model uses it, and a build that does not match torch's breaks fastai.
    "autogluon": (
        "install torch==2.13.0",
        "install autogluon.tabular[lightgbm,catboost,xgboost,fastai,ray]==1.6.3 pyarrow",
        "uninstall -y torchvision",
    ),
    "flaml": ("install flaml[automl,catboost]==2.7.0 pyarrow",),
}


def find_python39() -> str:
    """Return a Python 3.9: $WINDVANE_PYTHON39, else on the PATH, else one of pyenv's."""
    candidates = [os.environ.get("WINDVANE_PYTHON39"), shutil.which("python3.9")]
    if shutil.which("pyenv"):
        known = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True)
        for name in known.stdout.split():
            found = subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True)
            candidates.append(str(Path(found.stdout.strip()) / "bin" / "python"))
    probe = "import sys; sys.exit(sys.version_info[:2] != (3, 9))"
    for python in filter(None, candidates):
        # A pyenv shim is on the PATH even when it leads to no interpreter, so each is tried.
        if subprocess.run([python, "-c", probe], capture_output=True).returncode == 0:
            return python
    raise SystemExit("no Python 3.9 found; set WINDVANE_PYTHON39")


def environment_python(system: str) -> Path:
    """Return the python that runs `system`."""
    return Path(sys.executable) if system == "windvane" else CACHE / system / "bin" / "python"


def setup(args: argparse.Namespace) -> None:
    """Create the environments that are missing."""
    for system in args.systems:
        python, done = environment_python(system), CACHE / system / "installed"
        if system == "windvane" or done.exists():
            continue
        base = find_python39() if system == "autosklearn2" else sys.executable
        subprocess.run([base, "-m", "venv", str(CACHE / system)], check=True)
        for line in PIP[system]:
            subprocess.run([str(python), "-m", "pip", *line.split()], check=True)
        done.touch()


class Job(NamedTuple):
    """One run: a system on a table with a random state and a budget in seconds."""

    system: str
    table: str
    seed: int
    budget: int


def plan() -> list[tuple[Any, ...]]:
    jobs: list[Job] = []
    for kind, tables in TABLES.items():
        others = ("autogluon",) if kind == "further" else SYSTEMS[1:]
        jobs += [Job(system, table, 0, BUDGET) for system, table in product(others, tables)]
        for budget, seeds in OWN_SEEDS[kind].items():
            jobs += [Job("windvane", table, seed, budget) for table, seed in product(tables, seeds)]
    return [tuple(job) for job in jobs]


class Split(NamedTuple):
    """A table cut in two; labels are codes of the sorted classes, or the values themselves."""

    kind: str
    n_classes: int
    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: np.ndarray
    y_test: np.ndarray
    digest: str


def load_split(table: str, seed: int = SPLIT_SEED) -> Split:
    """Read `table` and cut it 75/25, stratified by class."""
    X, y, row = read_table(table)
    if row.task == "regression":
        labels, n_classes, strata = y.to_numpy(dtype=float), 0, None
    else:
        classes, labels = np.unique(y.astype(str).to_numpy(dtype=object), return_inverse=True)
        n_classes, strata = len(classes), labels
    train, test = train_test_split(np.arange(len(y)), test_size=TEST_SHARE, random_state=seed, stratify=strata)
    digest = hashlib.sha256(test.astype("<i8").tobytes()).hexdigest()[:16]
    part = [X.iloc[rows].reset_index(drop=True) for rows in (train, test)]
    return Split(row.task, n_classes, part[0], part[1], labels[train], labels[test], digest)


def write_task(job: Job, split: Split, folder: Path, jobs: int) -> None:
    """Write what the driver reads; the labels of the test part are not among it."""
    spec = {"kind": split.kind, "metric": METRICS[split.kind], "n_classes": split.n_classes}
    spec |= {"seed": job.seed, "budget": job.budget, "jobs": jobs}
    (folder / "task.json").write_text(json.dumps(spec))
    np.save(folder / "y_train.npy", split.y_train)
    for name, X in (("train", split.X_train), ("test", split.X_test)):
        # Without pandas' own metadata every version of pandas can read the file.
        stored = pa.Table.from_pandas(X, preserve_index=False).replace_schema_metadata(None)
        pq.write_table(stored, folder / f"{name}.parquet")


def loss_of(prediction: np.ndarray, split: Split) -> float:
    """Return 1 - ROC AUC, log loss or RMSE on the test part; lower is better."""
    y = split.y_test
    if prediction.shape[0] != len(y) or not np.isfinite(prediction).all():
        raise ValueError("the prediction has missing rows or values")
    if split.kind == "regression":
        return float(np.sqrt(np.mean((prediction.ravel() - y) ** 2)))
    if split.kind == "binary":
        return float(1 - roc_auc_score(y, prediction[:, 1]))
    clipped = np.clip(prediction, 1e-15, None)
    clipped /= clipped.sum(axis=1, keepdims=True)
    return float(-np.mean(np.log(clipped[np.arange(len(y)), y])))


def wait_until_idle(patience: float) -> float:
    """Wait until the machine is idle, refuse after `patience` seconds; return how many cores were busy."""
    stop = time.monotonic() + patience
    while (busy := float(psutil.cpu_percent(interval=3)) * (psutil.cpu_count() or 1) / 100) > IDLE:
        if time.monotonic() > stop:
            raise SystemExit(f"refused: {busy:.2f} cores are busy with something else")
    return busy


class Watch:
    """Follows a driver's process tree: its memory, and what other processes compute meanwhile."""

    def __init__(self, root: int) -> None:
        self.root, self.peak_mb, self.outside_s = root, 0.0, 0.0
        self.tree: dict[int, psutil.Process] = {}
        self.others: dict[tuple[int, float], float] = {}
        self.sample(first=True)

    def sample(self, *, first: bool = False) -> None:
        """Look at every process once."""
        memory = 0.0
        for process in psutil.process_iter(["pid", "ppid", "create_time", "cpu_times", "memory_info"]):
            info = process.info
            pid, cpu, rss = info["pid"], info["cpu_times"], info["memory_info"]
            if cpu is None or rss is None or pid == os.getpid():
                continue
            if pid == self.root or pid in self.tree or info["ppid"] in self.tree:
                self.tree[pid] = process
                memory += rss.rss / 2**20
                continue
            key, used = (pid, info["create_time"]), cpu.user + cpu.system
            self.outside_s += used - self.others.get(key, used if first else 0.0)
            self.others[key] = used
        self.peak_mb = max(self.peak_mb, memory)

    def end(self) -> None:
        """Kill what is left of the tree."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.root, signal.SIGKILL)
        for process in self.tree.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def execute(job: Job, folder: Path) -> dict[str, Any]:
    """Run the driver in a separate session; return what was seen from outside."""
    driver = HERE / f"peer_{job.system}.py"
    log = CACHE / f"{'-'.join(map(str, job))}.log"
    limit = job.budget * 3 + 300
    command, start = [str(environment_python(job.system)), str(driver), str(folder)], time.monotonic()
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=folder, start_new_session=True)
    watch = Watch(process.pid)
    try:
        while process.poll() is None and time.monotonic() - start < limit:
            time.sleep(POLL_S)
            watch.sample()
        ended = process.poll()
    finally:
        watch.end()
        process.wait()
    seen: dict[str, Any] = {"peak_rss_mb": round(watch.peak_mb), "outside_cpu_s": round(watch.outside_s, 1)}
    seen["wall_s"] = round(time.monotonic() - start, 1)
    if ended is None:
        seen["error"] = f"killed after {limit} s"
    elif ended != 0:
        seen["error"] = f"exit status {ended}\n" + log.read_text(errors="replace")[-1500:]
    return seen


def without_paths(text: str) -> str:
    """Keep of every absolute path in `text` its last part alone."""
    return re.sub(r"(?<![\w.])(?:/[\w.@+~-]+)+/([\w.@+~-]+)", r"\1", text)[-3000:]


def run_job(job: Job, jobs: int = JOBS, patience: float | None = None) -> dict[str, Any]:
    """Run `job` on so many cores and return its result; with a patience, once the machine is idle."""
    split = load_split(job.table)
    result: dict[str, Any] = {**job._asdict(), "metric": METRICS[split.kind], "loss": None, "split": split.digest}
    result |= {"n_train": len(split.y_train), "n_test": len(split.y_test)}
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = Path(name)
        write_task(job, split, folder, jobs)
        if patience is not None:
            result["busy_before"] = round(wait_until_idle(patience), 2)
        seen = execute(job, folder)
        if (folder / "outcome.json").exists():
            result |= json.loads((folder / "outcome.json").read_text())
        result |= seen
        if (folder / "prediction.npy").exists():
            try:
                result["loss"] = loss_of(np.load(folder / "prediction.npy"), split)
            except ValueError as error:
                result["error"] = str(error)
    if "error" in result:
        result["error"] = without_paths(result["error"])
    return result


def disturbance_of(result: dict[str, Any]) -> float:
    """Return the cores that other processes used during the run, on average."""
    return float(result["outside_cpu_s"]) / float(result["wall_s"])


def run(args: argparse.Namespace) -> None:
    """Run every combination that has no undisturbed result yet; keep the least disturbed try."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:JOBS])
    CACHE.mkdir(parents=True, exist_ok=True)
    for table, system, seed in product(args.tables or TABLES[args.kind], args.systems, args.seeds):
        job = Job(system, table, seed, args.budget)
        known = RESULTS.find(*job)
        disturbance = disturbance_of(known) if known else math.inf
        for _ in range(args.tries if disturbance > QUIET else 0):
            result = run_job(job, patience=args.wait)
            print(*job, result["loss"], result.get("fit_s"), *result.get("error", "").splitlines()[-1:], flush=True)
            if disturbance_of(result) < disturbance:
                disturbance = disturbance_of(result)
                RESULTS.put(result)
            if disturbance <= QUIET:
                break


def table(args: argparse.Namespace) -> None:
    """Print the report in markdown."""
    budgets = dict.fromkeys(SYSTEMS, args.budget) | {"windvane": args.own_budget or args.budget}
    print(report(read_results(RESULTS.frame(), TABLES[args.kind], budgets)))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("setup", "run", "table"):
        command = commands.add_parser(name)
        command.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
        command.add_argument("--kind", choices=list(TABLES), default="classification")
        command.add_argument("--budget", type=int, default=BUDGET, help="seconds to fit")
        if name == "table":
            command.add_argument("--own-budget", type=int, help="seconds to fit of windvane alone")
        if name == "run":
            command.add_argument("--tables", nargs="+", help="instead of all of the kind")
            command.add_argument("--seeds", nargs="+", type=int, default=[0])
            command.add_argument("--wait", type=float, default=1800, help="seconds to wait for an idle machine")
            command.add_argument("--tries", type=int, default=3, help="runs at most, where others disturb them")
    args = parser.parse_args(words)
    {"setup": setup, "run": run, "table": table}[args.command](args)


if __name__ == "__main__":
    main()

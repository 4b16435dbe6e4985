"""Every trial on disk: append-only JSON lines, and tables of them.

A line is a `Trial` with a hash of itself; a later line with the same number replaces an earlier one (a resumed trial).
A line that was torn by a kill or damaged is skipped, wherever it stands, and the next record starts on a new line.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from windvane.errors import ModelFileError
from windvane.evaluation.baseline import ConstantBaseline
from windvane.evaluation.metrics import Metric
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.serialization import seal, sync, unseal
from windvane.search.trial import Trial

PerformanceCurve = list[tuple[float, float, float]]  # seconds of the run, loss of the best trial, loss of the ensemble


class History:
    """The trials of a run, in memory and in one file, which is made with the first trial."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Trial] = []  # every line in the order of writing; a resumed trial has several
        self._ends_with_newline = True
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            self._ends_with_newline = text.endswith("\n") or not text
            for line in text.splitlines():
                try:
                    self.records.append(Trial.from_json(unseal(json.loads(line), path)))
                except (ModelFileError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
                    continue  # torn by a kill, or damaged

    @property
    def trials(self) -> list[Trial]:
        """The last record of every trial, in the order of their numbers."""
        latest = {trial.number: trial for trial in self.records}
        return [latest[number] for number in sorted(latest)]

    def append(self, trial: Trial) -> None:
        """Add a trial in memory; `write` brings it to the disk."""
        self.records.append(trial)

    def write(self, trials: Sequence[Trial]) -> None:
        """Add lines to the file, safe from a power cut; raises OSError if the file cannot be written."""
        lines = "".join(json.dumps(seal(trial.to_json())) + "\n" for trial in trials)
        if not self._ends_with_newline:
            lines = "\n" + lines
        is_new = not self.path.exists()
        self._ends_with_newline = False  # until the lines are safe
        with self.path.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync(self.path.parent)
        self._ends_with_newline = True


def leaderboard(
    trials: Sequence[Trial],
    ensemble: Ensemble | None,
    constant: ConstantBaseline | None = None,
    test_scores: Mapping[int | None, float] | None = None,
) -> pd.DataFrame:
    """Return one row for each trial and one of the constant, best validation loss first, indexed by rank.

    `test_scores` are by number of the trial, None for the constant.
    """
    weights = {member.number: member.weight for member in (() if ensemble is None else ensemble.members)}
    baselines = baseline_numbers(trials)
    rows: list[dict[str, Any]] = [
        {
            "trial": trial.number,
            "family": trial.family,
            "ensemble_weight": weights.get(trial.number, 0.0),
            "validation_loss": trial.loss if np.isfinite(trial.loss) else np.nan,
            "fit_seconds": trial.fit_seconds,
            "predict_seconds": trial.predict_seconds,
            "status": trial.status,
            "source": trial.source,
            "baseline": trial.number in baselines,
        }
        for trial in sorted(trials, key=lambda trial: trial.number)
    ]
    if constant is not None:
        rows.append(
            {
                "trial": pd.NA,
                "family": "constant",
                "ensemble_weight": 0.0,
                "validation_loss": constant.loss if np.isfinite(constant.loss) else np.nan,
                "fit_seconds": 0.0,
                "predict_seconds": 0.0,
                "status": "done",
                "source": "baseline",
                "baseline": True,
            }
        )
    board = pd.DataFrame(rows).astype({"trial": "Int64"})
    if test_scores is not None:
        numbers = [None if pd.isna(number) else int(number) for number in board["trial"]]
        board.insert(4, "test_score", [test_scores.get(number, np.nan) for number in numbers])
    board = board.sort_values("validation_loss", kind="stable", na_position="last", ignore_index=True)
    return board.set_index(pd.RangeIndex(1, len(board) + 1, name="rank"))


def baseline_numbers(trials: Sequence[Trial]) -> set[int]:
    """Return the numbers of the trials that are baselines: the first linear model, and LightGBM by default.

    They are entries of the portfolio, evaluated on the same folds as every trial, so they are marked and not trained a
    second time; without them where the budget ends before their turn. With successive halving the trial on most rows
    and iterations stands for its configuration.
    """
    found = set()
    for family in ("linear", "lightgbm"):
        tried = [trial for trial in trials if trial.family == family and trial.source == "portfolio"]
        first = min(tried, key=lambda trial: trial.number, default=None)
        # Of images the portfolio has no default linear model.
        config = first.config if first is not None and family == "linear" else {}
        same = [trial for trial in tried if trial.config == config]
        if same:
            best = max(same, key=lambda t: (t.usable, t.iteration_fraction, t.n_rows or math.inf, -t.number))
            found.add(best.number)
    return found


def performance_over_time(curve: Sequence[tuple[float, float, float]], metric: Metric) -> pd.DataFrame:
    """Return the validation scores of the best single model and of the ensemble, in the metric's own direction."""
    return pd.DataFrame(
        {
            "seconds": [seconds for seconds, _, _ in curve],
            "best_single": [metric.score(single) for _, single, _ in curve],
            "ensemble": [metric.score(ensemble) for _, _, ensemble in curve],
        }
    )


def describe_failures(trials: Sequence[Trial]) -> str:
    """Return one line for each family, status and error of the trials that are not usable."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for trial in trials:
        if not trial.usable:
            reason = trial.error or ("its validation loss is not finite" if trial.status == "done" else "no model yet")
            counts[trial.family, trial.status, reason] += 1
    lines = [f"  {family}: {status} x{count}: {error}" for (family, status, error), count in counts.items()]
    return "\n".join(lines) or "  no trial was finished"

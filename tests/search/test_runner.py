"""A run that was killed, and what is left of it."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from windvane import AutoClassifier, NoModelError, RunError, load
from windvane.search.run.run_directory import RunDirectory

SCRIPT = textwrap.dedent("""
    from sklearn.datasets import load_breast_cancer
    from windvane import AutoClassifier
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    AutoClassifier(time_budget=100, n_jobs=2, verbose=0, random_state=0, run_dir={run_dir!r}).fit(X, y)
""")


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, pd.Series]:
    return load_breast_cancer(return_X_y=True, as_frame=True)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_run_is_opened_and_goes_on(tmp_path: Path, data) -> None:
    X, y = data
    root = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(run_dir=str(root))])
    end = time.monotonic() + 95  # the budget of the script, nearly: a busy machine takes long to begin
    # A checkpoint that is in no history yet is the interesting case.
    while time.monotonic() < end and len(list(root.glob("trials/*/checkpoint_*/trial.json"))) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {int(path.parent.name) for path in root.glob("trials/*/checkpoint_*")}
    history = RunDirectory(root).read_history()
    assert kept <= {trial.number for trial in history.trials}
    opened = load(root)
    assert opened.predict_proba(X).shape == (len(X), 2)
    best = min(trial.loss for trial in opened.trials_)
    # Until a trial has ended that the history does not have: how many seconds that takes is the machine's affair.
    model = AutoClassifier(time_budget=90, n_jobs=2, verbose=0, run_dir=root)
    model.fit(X, y, callbacks=[lambda trial: True])
    assert min(trial.loss for trial in model.trials_) <= best
    assert kept <= {trial.number for trial in model.trials_}
    seconds = [trial.ended for trial in model.trials_]
    assert max(seconds) > max(trial.ended for trial in history.trials)


def test_data_that_were_not_kept_are_asked_for(tmp_path: Path, data) -> None:
    X, y = data
    root = tmp_path / "run"
    options = {"n_trials": 1, "families": ["linear"], "verbose": 0, "random_state": 0, "n_jobs": 1}
    model = AutoClassifier(run_dir=root, keep_data=False, **options).fit(X, y)
    assert not (root / "data").exists()
    np.testing.assert_array_equal(load(root).predict_proba(X), model.predict_proba(X))
    with pytest.raises(RunError, match="kept no data"):
        model.resume(5)


def test_a_run_without_a_model_says_so(tmp_path: Path, data) -> None:
    X, y = data
    root = tmp_path / "run"
    options = {"n_trials": 1, "families": ["linear"], "verbose": 0, "random_state": 0, "n_jobs": 1}
    AutoClassifier(run_dir=root, **options).fit(X, y)
    for path in (root / "ensemble.json", root / "history.jsonl"):
        path.unlink()
    shutil.rmtree(root / "trials" / "00000")
    with pytest.raises(NoModelError, match="no usable model yet; fit with the same data and settings"):
        load(root)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, data) -> None:
    X, y = data
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="is not empty and holds no run"):
        AutoClassifier(run_dir=tmp_path, n_trials=1, verbose=0).fit(X, y)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_temporary_run_goes_with_its_object(data) -> None:
    import optuna  # noqa: F401 - its first import keeps errors of imports for good, with the frames that import

    X, y = data
    model = AutoClassifier(n_trials=1, families=["linear"], verbose=0, n_jobs=1).fit(X, y)
    folder = model._directory.root
    assert folder.exists()
    del model
    gc.collect()  # an exception that a library caught may hold the frames of the fit in a cycle
    assert not folder.exists()


def test_a_full_disk_ends_the_search_and_not_the_fit(tmp_path: Path, data) -> None:
    script = textwrap.dedent("""
        import warnings
        from sklearn.datasets import load_breast_cancer
        from windvane import AutoClassifier
        from windvane.search.run.history import History
        X, y = load_breast_cancer(return_X_y=True, as_frame=True)
        write = History.write
        def full(self, trials):
            if len(self.records) >= 3:
                raise OSError(28, "No space left on device")
            write(self, trials)
        History.write = full
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = AutoClassifier(time_budget=60, n_jobs=2, verbose=0, families=["linear"]).fit(X, y)
        assert any("No space left" in str(w.message) for w in caught)
        print("FITTED", len(model.trials_))
    """)
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert "FITTED" in done.stdout, done.stderr
    assert time.monotonic() - started < 50

"""Power cuts, full disks, signals, forks and moved folders: what a user has must survive them."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_iris

from windvane import AutoClassifier, ModelFileError, RunError, load
from windvane.errors import DiskError
from windvane.runtime import serialization
from windvane.search.run.checkpoint import is_whole
from windvane.search.run.history import History
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial

QUICK: dict[str, Any] = {
    "n_trials": 2,
    "n_jobs": 1,
    "random_state": 0,
    "verbose": 0,
    "families": ["linear"],
    "policy": "cv3",
}
posix = pytest.mark.skipif(os.name != "posix", reason="signals and forks of POSIX")


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, pd.Series]:
    return load_iris(return_X_y=True, as_frame=True)


@pytest.fixture(scope="module")
def fitted(data: Any, tmp_path_factory: pytest.TempPathFactory) -> AutoClassifier:
    return AutoClassifier(run_dir=tmp_path_factory.mktemp("runs") / "run", **QUICK).fit(*data)


@pytest.fixture
def run(fitted: AutoClassifier, tmp_path: Path) -> Path:
    """A copy of a run that may be damaged."""
    return Path(shutil.copytree(fitted.run_dir, tmp_path / "run"))


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


# --- one bit


@pytest.mark.parametrize("kind", ["save", "export"])
def test_no_bit_of_a_manifest_changes_in_silence(fitted: AutoClassifier, data: Any, kind: str, tmp_path: Path) -> None:
    getattr(fitted, kind)(tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    content, expected = path.read_bytes(), json.loads(path.read_text())
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.choice(len(content), 150, replace=False):
        flip(path, position, int(rng.integers(8)))
        try:
            assert json.loads(path.read_text(encoding="utf-8")) == expected  # as a line break for a space
        except ValueError:
            pass  # no JSON any more
        except AssertionError:
            with pytest.raises((ModelFileError, RunError)):
                load(tmp_path / "model")
            refused += 1
        path.write_bytes(content)
    assert refused > 50
    load(tmp_path / "model")


def test_an_exported_program_is_checked_too(fitted: AutoClassifier, tmp_path: Path) -> None:
    fitted.export(tmp_path / "out")
    assert load(tmp_path / "out").classes_.tolist() == [0, 1, 2]
    (tmp_path / "out" / "README.txt").write_text("notes of my own")
    load(tmp_path / "out")
    flip(tmp_path / "out" / "runtime" / "ensemble.py", 1000)
    with pytest.raises(ModelFileError, match=r"runtime/ensemble\.py.* is damaged"):
        load(tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": float("nan")},
        {"temperature": 0.0},
        {"decision_weights": [1.0, float("inf"), 1.0]},
        {"members": float("inf")},
        {"members": float("nan")},
        {"members": 0.2},
    ],
)
def test_a_sealed_manifest_with_senseless_numbers_is_refused(
    fitted: AutoClassifier, change: dict[str, Any], tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    manifest = serialization.read_sealed(path)
    if "members" in change:
        manifest["ensemble"]["members"][0]["weight"] = change["members"]
    else:
        manifest["ensemble"] |= change
    serialization.write_sealed(path, manifest)
    with pytest.raises(ModelFileError, match="record of the ensemble is damaged"):
        load(tmp_path / "model")


@pytest.mark.parametrize("name", ["matrix.npy", "target.npy", "folds.npz", "task.json"])
def test_data_with_one_other_bit_are_not_trained_on(run: Path, data: Any, name: str) -> None:
    content = (run / "data" / name).read_bytes()
    at = content.index(b'"seed": ') + 8 if name == "task.json" else len(content) // 2
    flip(run / "data" / name, at)
    with pytest.raises(RunError, match="data"):
        load(run).resume(3)
    again = AutoClassifier(run_dir=run, **QUICK).fit(*data)  # fit has the data, and writes them again
    assert len(again.trials_) == 2
    assert (run / "data" / name).read_bytes() == content


@pytest.mark.parametrize("file", ["fold_0/*.npz", "valid.npy", "trial.json"])
def test_a_damaged_member_of_a_run_is_left_out(data: Any, file: str, tmp_path: Path) -> None:
    options = {**QUICK, "families": ["linear", "extra_trees"], "n_trials": 4}
    model = AutoClassifier(run_dir=tmp_path / "run", **options).fit(*data)
    member = model.predictor_.ensemble.members[0]
    path = next((tmp_path / "run" / "trials" / f"{member.number:05d}").rglob(file))
    if file == "valid.npy":
        path.write_bytes(b"no array")
    else:
        flip(path, path.stat().st_size // 2)
    with pytest.warns(UserWarning, match=f"trial {member.number} are damaged"):
        again = load(tmp_path / "run")
    assert member.number not in {one.number for one in again.predictor_.ensemble.members}
    assert again.predict(data[0]).shape == (150,)


@pytest.mark.parametrize("name", ["task", "classes", "metric", "own_metric", "schema", "ensemble"])
def test_a_manifest_without_a_value_is_refused(fitted: AutoClassifier, name: str, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    manifest = serialization.read_sealed(path)
    serialization.write_sealed(path, {key: value for key, value in manifest.items() if key != name})
    with pytest.raises(ModelFileError, match="damaged"):
        load(tmp_path / "model")


def test_a_damaged_line_of_the_history_is_no_trial(tmp_path: Path) -> None:
    history = History(tmp_path / "h.jsonl")
    history.write([Trial(i, "linear", {}, "portfolio", seed=1, loss=0.5, checkpoint="checkpoint_0000") for i in (0, 1)])
    text = (tmp_path / "h.jsonl").read_text()
    (tmp_path / "h.jsonl").write_text(text.replace('"loss": 0.5', '"loss": 0.1', 1))
    assert [(trial.number, trial.loss) for trial in History(tmp_path / "h.jsonl").trials] == [(1, 0.5)]


# --- full and read-only disks


@contextlib.contextmanager
def mounted(image: Path, folder: Path, options: str = "") -> Iterator[Path]:
    """A file system in a file; skips the test where it cannot be mounted."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-o", "loop" + options, str(image), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no mount: {error}")
    if done.returncode != 0:
        pytest.skip(f"no loop device can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def make_image(path: Path, megabytes: int) -> Path:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4")
    with path.open("wb") as file:
        file.truncate(megabytes * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(path)], check=True)
    return path


def fill(folder: Path, leave: int) -> None:
    """Leave some bytes of a file system free."""
    stats = os.statvfs(folder)
    free = (stats.f_bfree if os.geteuid() == 0 else stats.f_bavail) * stats.f_frsize
    with (folder / "filler").open("wb") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, free - leave))


def test_a_disk_that_fills_up_ends_the_search_with_a_model(data: Any, tmp_path: Path) -> None:
    X, y = data
    with mounted(make_image(tmp_path / "disk", 24), tmp_path / "mount") as disk:

        def fill_up(trial: Trial) -> None:
            if trial.number == 2:
                fill(disk, 0)

        model = AutoClassifier(60, run_dir=disk / "run", **{**QUICK, "n_trials": None})
        started = time.monotonic()
        with pytest.warns(UserWarning, match=r"(?s)No space left.*in memory it predicts, and save\(\) keeps it"):
            model.fit(X, y, callbacks=[fill_up])
        assert time.monotonic() - started < 40
        assert model.score(X, y) > -0.2
        with pytest.raises(DiskError, match=r"'.*/mount/model' cannot be written: No space left.*model in memory"):
            model.save(disk / "model")
        assert not (disk / "model").exists()
        with pytest.raises(DiskError, match=r"report\.html' cannot be written: No space left"):
            model.report(disk / "report.html")
        model.save(tmp_path / "model")
        np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), model.predict_proba(X))
        (disk / "filler").unlink()
        again = load(disk / "run")
        assert {trial.number for trial in again.trials_} >= {0, 1, 2}


def test_a_disk_without_room_for_the_data_is_one_error(data: Any, tmp_path: Path) -> None:
    with mounted(make_image(tmp_path / "disk", 16), tmp_path / "mount") as disk:
        fill(disk, 0)
        with pytest.raises((DiskError, RunError), match=r"mount/run.*No space left"):
            AutoClassifier(20, run_dir=disk / "run", **{**QUICK, "n_trials": None}).fit(*data)


def test_a_run_on_a_read_only_disk_predicts_and_is_saved_elsewhere(run: Path, data: Any, tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk", 24)
    with mounted(image, tmp_path / "mount") as disk:
        shutil.copytree(run, disk / "run")
    with mounted(image, tmp_path / "mount", ",ro") as disk:
        model = load(disk / "run")
        assert model.score(*data) > -0.2
        with pytest.raises(RunError, match=r"mount/run' cannot be used: .*Read-only"):
            model.resume(5)
        with pytest.raises(DiskError, match="Read-only"):
            model.save(disk / "model")
        model.save(tmp_path / "model")
    assert load(tmp_path / "model").score(*data) > -0.2


# --- power cuts

FIT = """
import sys
from sklearn.datasets import load_breast_cancer
from windvane import AutoClassifier
X, y = load_breast_cancer(return_X_y=True, as_frame=True)
AutoClassifier({seconds}, n_jobs=2, verbose=0, random_state=0, run_dir={run_dir!r}).fit(X, y)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_after_a_power_cut_a_run_resumes_with_every_trial_of_its_history(tmp_path: Path) -> None:
    """The file behind a file system is copied ten times in a fit: what a disk holds when the power goes."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    copies = []
    with mounted(make_image(tmp_path / "disk", 192), tmp_path / "mount") as disk:
        script = FIT.format(seconds=120, run_dir=str(disk / "run"))
        process = subprocess.Popen([sys.executable, "-c", script])
        try:
            end = time.monotonic() + 100
            while time.monotonic() < end and not (disk / "run" / "history.jsonl").exists():
                time.sleep(0.1)
            for i in range(10):
                time.sleep(1.5)
                copies.append(shutil.copyfile(tmp_path / "disk", tmp_path / f"cut{i}"))
        finally:
            process.kill()
            process.wait()
            time.sleep(1.0)  # the workers end
    n_trials = []
    for i, image in enumerate(copies):
        with mounted(image, tmp_path / f"mount{i}") as disk:
            directory = RunDirectory(disk / "run")
            named = {t.number: t for t in History(directory.history).trials if t.checkpoint is not None}
            n_trials.append(len(named))
            for number, trial in named.items():
                assert is_whole(directory.checkpoint(number, str(trial.checkpoint)))
            model = load(disk / "run", n_jobs=2)
            assert set(named) <= {trial.number for trial in model.trials_}
            assert model.score(X, y) > 0.9
            if i in (0, 9):
                model.verbose = 0
                model.resume(6)
                assert set(named) <= {trial.number for trial in model.trials_ if trial.usable}
        image.unlink()
    assert min(n_trials) > 0 and len(n_trials) == 10


def test_what_is_synced_is_renamed_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, replace, sync_folder = serialization.sync, os.replace, serialization.sync_folder
    monkeypatch.setattr(serialization, "sync", lambda path: (calls.append(f"sync {path.name}"), sync(path)))
    monkeypatch.setattr(serialization, "sync_folder", lambda path: (calls.append("sync all"), sync_folder(path)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(f"rename to {Path(b).name}"), replace(a, b)))
    serialization.write_sealed(tmp_path / "a.json", {"a": 1})
    assert calls == [f"sync a.json.{os.getpid()}.tmp", "rename to a.json", f"sync {tmp_path.name}"]
    calls.clear()
    with serialization.new_folder(tmp_path / "b", "path") as making:
        (making / "file").write_text("content")
    assert calls == ["sync all", "rename to b", f"sync {tmp_path.name}"]


# --- signals and callbacks

SIGNALLED = textwrap.dedent("""
    import os, signal, sys, threading, time
    from sklearn.datasets import load_breast_cancer
    from windvane import AutoClassifier, load, persistence
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    number = getattr(signal, sys.argv[1])
    if sys.argv[2] == "opening":  # after the search, while the ensemble opens
        opener = persistence.open_predictor
        def slow(*args, **more):
            os.kill(os.getpid(), number)
            time.sleep(0.3)
            return opener(*args, **more)
        persistence.open_predictor = slow
        model = AutoClassifier(n_trials=2, n_jobs=1, verbose=0, random_state=0, families=["linear"])
    else:
        model = AutoClassifier(100, n_jobs=1, verbose=0, random_state=0, families=["linear"])
    def callback(trial):
        if sys.argv[2] == "searching":
            os.kill(os.getpid(), number)
        if sys.argv[2] == "twice":
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        if sys.argv[2] == "error":
            raise ZeroDivisionError("of the user")
    model.fit(X, y, callbacks=[callback])
    print("FITTED", model.score(X, y), len(model.trials_))
""")


def run_signalled(name: str, when: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SIGNALLED, name, when], capture_output=True, text=True, timeout=200)


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("when", ["searching", "opening"])
def test_a_signal_leaves_a_fitted_model(name: str, when: str) -> None:
    done = run_signalled(name, when)
    assert done.stdout.startswith("FITTED 0.9"), done.stderr


@posix
@pytest.mark.parametrize(
    ("when", "error"), [("twice", "KeyboardInterrupt"), ("error", "ZeroDivisionError: of the user")]
)
def test_what_ends_a_fit_at_once_names_the_run_that_it_leaves(when: str, error: str) -> None:
    done = run_signalled("SIGTERM", when)
    assert error in done.stderr
    root = done.stderr.split("The run so far is in '")[1].split("'")[0]
    try:
        X, y = load_breast_cancer(return_X_y=True, as_frame=True)
        assert load(root).score(X, y) > 0.9
    finally:
        shutil.rmtree(root)


# --- forks, folders and places


@posix
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a fork beside threads
def test_a_fork_that_ends_leaves_the_run_of_its_parent(data: Any) -> None:
    script = textwrap.dedent("""
        import os, sys, warnings
        warnings.simplefilter("ignore")
        from sklearn.datasets import load_iris
        from windvane import AutoClassifier
        X, y = load_iris(return_X_y=True, as_frame=True)
        options = dict(n_trials=1, n_jobs=1, verbose=0, random_state=0, families=["linear"])
        model = AutoClassifier(**options).fit(X, y)
        child = os.fork()
        if child == 0:
            sys.exit(0)  # with all that runs at the end of a process
        os.waitpid(child, 0)
        root = model._directory.root
        assert root.exists()
        model.save(sys.argv[1])
        AutoClassifier(**options).fit(X, y)  # the worker cache still works
        print(root)
    """)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", script, folder + "/model"], capture_output=True, text=True, timeout=200
        )
    assert done.stdout, done.stderr
    assert not Path(done.stdout.strip()).exists()  # it goes with the process that it belongs to


@posix
def test_a_fork_does_not_keep_the_lock_of_its_parent(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.lock()
    assert directory._lock is not None
    held = os.dup(directory._lock.fileno())  # as a child process has it
    directory.unlock()
    again = RunDirectory(tmp_path / "run")
    again.lock()
    again.unlock()
    os.close(held)


def test_unpickling_needs_no_usual_folder_for_temporary_files(
    fitted: AutoClassifier, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pickle.dumps(fitted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no shared memory")
    again = pickle.loads(packed)
    np.testing.assert_array_equal(again.predict_proba(data[0]), fitted.predict_proba(data[0]))


def test_a_relative_run_dir_survives_another_working_directory(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    model = AutoClassifier(run_dir="run", **QUICK).fit(*data)
    opened = load("run")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for one in (model, opened):
        one.verbose = 0
        one.save(f"model_{id(one)}")
        one.resume(2)
    assert not (tmp_path / "elsewhere" / "run").exists()


def test_a_model_whose_folder_was_deleted_says_so(run: Path, data: Any, tmp_path: Path) -> None:
    model = load(run)
    shutil.rmtree(run)
    assert model.score(*data) > -0.2
    for call in (model.save, model.export):
        with pytest.raises(ModelFileError, match=r"run/trials/.* was deleted\. It still predicts"):
            call(tmp_path / "out")
    with pytest.raises(ModelFileError, match="was deleted"):
        pickle.dumps(model)
    with pytest.raises(RunError, match="no run to resume"):
        model.resume(2)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

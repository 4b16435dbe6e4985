"""Faults while a fit runs: signals to its processes, disks that fill up, power cuts; the run is then continued."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.data import ROOT
from benchmarks.reliability.cases import Failure, Unavailable, check_model, check_run, data, within
from windvane import AutoClassifier, WindvaneError

BUDGET = 8
FAMILIES = ["linear", "extra_trees", "lightgbm"]
SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT)
OPTIONS: dict[str, Any] = {"n_jobs": 2, "verbose": 0, "families": FAMILIES, "n_trials": 16}


def _workers(process: psutil.Process) -> list[psutil.Process]:
    """The worker processes of a fit."""
    found = []
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("windvane" in word and "worker" in word and "reaper" not in word for word in child.cmdline()):
                found.append(child)
    return found


FAULTS = 3  # of the workers of one fit


@lru_cache(maxsize=1)
def _disturbed_fit(fit: int) -> tuple[tuple[str, ...], str | Exception]:
    """Send signals to workers at random instants of a fit: what happened to whom, and how it ended."""
    rng = np.random.default_rng([5, fit])
    waits = np.sort(rng.uniform(0, BUDGET - 0.5, FAULTS))
    victims: list[psutil.Process] = []
    words: list[str] = []

    def disturb() -> None:
        started = time.monotonic()
        for i, wait in enumerate(waits):
            time.sleep(max(0.0, started + wait - time.monotonic()))
            number = SIGNALS[(fit * FAULTS + i) % len(SIGNALS)]
            workers = _workers(psutil.Process())
            words.append(f"{number.name} after {wait:.1f} s" if workers else "no worker to disturb")
            if workers:
                victims.append(workers[rng.integers(len(workers))])
                with contextlib.suppress(psutil.Error):
                    victims[-1].send_signal(number)

    thread = threading.Thread(target=disturb)
    with tempfile.TemporaryDirectory(prefix="windvane-workers-") as folder:
        run_dir = Path(folder) / "run"
        model = AutoClassifier(BUDGET, random_state=fit, run_dir=run_dir, n_jobs=2, verbose=0, families=FAMILIES)
        thread.start()
        outcome: str | Exception
        try:
            with within(BUDGET):
                model.fit(*data())
            check_model(model)
            thread.join()
            outcome = check_run(run_dir, resume=fit % 2 == 0)
        except Exception as error:  # each of the faults may be the reason
            outcome = error
        finally:
            thread.join()
            for victim in victims:
                with contextlib.suppress(psutil.Error):
                    victim.kill()
    return tuple(words), outcome


def disturb_worker(seed: int, folder: Path) -> str:
    """Send a signal to a worker at a random instant of a fit in this process, which has to bear several."""
    words, outcome = _disturbed_fit(seed // FAULTS)
    if isinstance(outcome, Exception):
        raise outcome
    return f"{words[seed % FAULTS]}: {outcome}"


SCRIPT = """
import sys
from benchmarks.reliability.cases import check_model, data
from windvane import AutoClassifier
X, y = data()
print("STARTED", flush=True)
model = AutoClassifier({budget}, random_state={seed}, run_dir={run!r}, **{options})
model.fit(X, y)
check_model(model)
print("FITTED", flush=True)
"""


def disturb_main(seed: int, folder: Path) -> str:
    """Send a signal to a fitting process; it must end or go on, and its workers must not stay."""
    rng = np.random.default_rng([6, seed])
    number = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSTOP)[seed % 5]
    wait = float(rng.uniform(0, BUDGET))
    run, errors = folder / "run", folder / "errors"
    script = SCRIPT.format(budget=BUDGET, seed=seed, run=str(run), options=OPTIONS)
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True
        )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        workers = _workers(psutil.Process(process.pid))
        process.send_signal(number)
        if number == signal.SIGSTOP:
            time.sleep(1.0)
            process.send_signal(signal.SIGCONT)
        try:
            out, _ = process.communicate(timeout=40)
        except subprocess.TimeoutExpired as error:
            raise Failure("hang", f"{number.name} after {wait:.1f} s: still there after 40 s") from error
    finally:
        process.kill()
        process.wait()
    text = errors.read_text()
    ended = re.findall(r"^(\w+(?:\.\w+)*)(?::|$)", text.strip().splitlines()[-1]) if text.strip() else []
    if number != signal.SIGKILL and "FITTED" not in out and ended not in (["KeyboardInterrupt"], ["SystemExit"]):
        known = bool(ended) and ended[0].startswith("windvane")
        if not known:
            raise Failure("traceback", f"{number.name} after {wait:.1f} s: {text.strip()[-200:]}")
    _, left = psutil.wait_procs(workers, timeout=10)
    if left and number == signal.SIGKILL:
        raise Failure("hang", f"{len(left)} workers are left 10 s after SIGKILL")
    if not run.exists():
        return f"{number.name} after {wait:.1f} s: nothing had begun"
    return f"{number.name} after {wait:.1f} s: {check_run(run, resume=True)}"


@contextlib.contextmanager
def _mounted(folder: Path, *options: str, source: str = "none") -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    try:
        done = subprocess.run(["mount", *options, source, str(folder)], capture_output=True, text=True)
    except OSError as error:
        raise Unavailable(str(error)) from error
    if done.returncode:
        raise Unavailable(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_disk(seed: int, folder: Path) -> str:
    """Fit on a disk that is small, that fills up at a random trial, or while no file may be large."""
    rng = np.random.default_rng([8, seed])
    kind = ("small", "fills up", "file size")[seed % 3]
    at, size = int(rng.integers(0, 6)), int(rng.integers(300, 8000)) if kind == "small" else 64_000
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    limited: list[int] = []

    def disturb(trial: Any) -> None:
        if trial.number == at and kind == "fills up":
            with (disk / "filler").open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(2**16))
        if trial.number == at and kind == "file size":
            limit = int(rng.integers(1, 20_000))
            for pid in (os.getpid(), *(worker.pid for worker in _workers(psutil.Process()))):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, limits[1]))
                limited.append(pid)

    with _mounted(folder / "disk", "-t", "tmpfs", "-o", f"size={size}k") as disk:
        model: Any = AutoClassifier(BUDGET, random_state=seed, run_dir=disk / "run", **OPTIONS)
        word = f"{kind}, trial {at}, {size} KB"
        try:
            with within(BUDGET):
                model.fit(*data(), callbacks=[disturb])
            check_model(model)
        except WindvaneError as error:
            word += f", {type(error).__name__}"
        finally:
            for pid in limited:
                with contextlib.suppress(OSError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        (disk / "filler").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        if not (disk / "run").exists():
            return word
        return f"{word}: {check_run(disk / 'run', resume=seed % 2 == 0)}"


CUTS = 30  # of one fit


@lru_cache(maxsize=1)
def _cut_disks(fit: int) -> tuple[Path, ...]:
    """Copies of the file behind a mounted ext4, taken during a fit: what a disk holds when the power goes."""
    folder = Path(tempfile.mkdtemp(prefix="windvane-power-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(48 * 2**20)
    if shutil.which("mkfs.ext4") is None:
        raise Unavailable("no mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    rng = np.random.default_rng([9, fit])
    copies: list[Path] = []
    with _mounted(folder / "mount", "-o", "loop", source=str(image)) as disk:
        is_over = threading.Event()

        def cut() -> None:
            while not (disk / "run" / "manifest.json").exists() and not is_over.is_set():
                time.sleep(0.02)
            for i in range(CUTS):
                if is_over.wait(float(rng.uniform(0, 1.2))):
                    break
                copy = folder / f"cut{i}"
                subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
                copies.append(copy)

        thread = threading.Thread(target=cut)
        thread.start()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                AutoClassifier(25, random_state=fit, run_dir=disk / "run", **OPTIONS).fit(*data())
        finally:
            is_over.set()
            thread.join()
    while len(copies) < CUTS:  # a fast end: the power fails just after it
        copies.append(Path(shutil.copyfile(image, folder / f"cut{len(copies)}")))
    return tuple(copies)


def cut_power(seed: int, folder: Path) -> str:
    """Mount what a disk held at a random instant of a fit, and continue the run."""
    copy = _cut_disks(seed // CUTS)[seed % CUTS]
    with _mounted(folder / "disk", "-o", "loop", source=str(copy)) as disk:
        found = check_run(disk / "run", resume=seed % 6 == 0) if (disk / "run").exists() else "nothing had begun"
    copy.unlink()
    return found

"""The worker program: reads jobs from its input, evaluates them, writes what came of them to its output.

It is a program of its own, not a fork: it starts the same from a script without a ``__main__`` guard, a notebook,
the prompt, a thread or a test. It lives through many trials and many fits.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from windvane.models import FAMILIES
from windvane.models.base import Family
from windvane.search import channel
from windvane.search.evaluate import Limits, evaluate
from windvane.search.run import Problem, RunDirectory
from windvane.search.trial import Job, Trial
from windvane.settings import MEGABYTE

# Loaded while the fit still types the table, so that no trial need wait for them. Not in a thread: an import that runs
# beside a trial shows its half-made modules to libraries that look into `sys.modules`.
_PRELOADED = ("sklearn.ensemble", "sklearn.linear_model", "sklearn.neural_network", "lightgbm")


class _State:
    """The run that the worker is open for."""

    def __init__(self, message: dict[str, Any]) -> None:
        session = channel.unpack(message["session"])
        self.directory = RunDirectory(Path(message["root"]))
        # What a killed worker leaves behind goes with the run.
        self.directory.temporary.mkdir(exist_ok=True)
        tempfile.tempdir = str(self.directory.temporary)
        self.problem = Problem.read(self.directory.data, session["metric"])
        self.families: dict[str, Family] = {**FAMILIES, **session["families"]}


def main() -> None:
    """Serve until the input ends."""
    jobs, events = _take_pipes()
    warnings.simplefilter("ignore")  # a trial's warnings are no news to the user
    state: _State | None = None
    channel.send(events, {"event": "ready"})
    while (message := channel.receive(jobs)) is not None:
        verb = message["do"]
        if verb == "warm":
            _preload()
        elif verb == "open":
            _send_output_to(message["log"])
            _limit_memory(float(message["memory"]))
            state = None
            try:
                state = _State(message)
            except Exception:  # an own metric or family that does not load here; the fit must hear of it
                words = traceback.format_exc(limit=-3)
                channel.send(events, {"event": "unfit", "root": message["root"], "error": words})
        elif verb == "close":
            state = None
        elif verb == "run" and state is not None:
            _run(message, state, events)


def _run(message: dict[str, Any], state: _State, events: IO[bytes]) -> None:
    job = Job(**message["job"])
    limits = Limits(time.monotonic() + float(message["seconds"]))
    folder = state.directory.trial(job.number)

    def report(trial: Trial) -> None:
        channel.send(events, {"event": "step", "trial": trial.to_json()})

    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits.threads):  # one: sums in another order would be another result
        trial = evaluate(job, state.problem, state.families[job.family], folder, limits, report)
    channel.send(events, {"event": "done", "trial": trial.to_json()})


def _take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Keep the two pipes for messages, so that what libraries print cannot fall between them."""
    jobs, events = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)
    return jobs, events


def _send_output_to(path: str) -> None:
    """Let the run's log have what libraries print."""
    with contextlib.suppress(OSError):  # a log is not worth a worker
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)


def _limit_memory(megabytes: float) -> None:
    """Let one huge allocation fail at once, where the system can; the fit's watch comes round every 100 ms only."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    import psutil

    if sys.platform == "linux":
        held = psutil.Process().memory_info().data
        limit = int(held + megabytes * MEGABYTE)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _preload() -> None:
    for name in _PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def job_message(job: Job, seconds: float) -> dict[str, Any]:
    """Make the message that has a worker run a job.

    Parameters
    ----------
    job
        What to evaluate.
    seconds
        How long it may grow; infinity for no clock.

    Returns
    -------
    dict
        For `channel.send`.
    """
    plain = {**asdict(job), "config": dict(job.config)}
    return {"do": "run", "job": plain, "seconds": seconds}


if __name__ == "__main__":
    main()

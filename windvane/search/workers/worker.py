"""The worker process: reads trials from its input, trains them, writes events to its output.

It is a separate program, not a fork: it starts the same from a script without a ``__main__`` guard, a notebook, the
prompt, a thread or a test. It serves many trials and many fits.
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
from pathlib import Path
from typing import IO, Any

from threadpoolctl import threadpool_limits

from windvane.errors import DiskError, WindvaneError
from windvane.models import FAMILIES
from windvane.models.base import Family
from windvane.runtime.serialization import writing
from windvane.search.problem import Problem
from windvane.search.run.run_directory import RunDirectory
from windvane.search.train_trial import train_trial
from windvane.search.trial import Trial
from windvane.search.workers.messages import receive, send, unpack_objects
from windvane.settings import MEGABYTE

# Loaded while the fit still infers column types, so that no trial need wait for them. Not in a thread: an import that
# runs beside a trial shows its half-loaded modules to libraries that look into `sys.modules`.
_PRELOADED = ("sklearn.ensemble", "sklearn.linear_model", "sklearn.neural_network", "lightgbm")


class _Run:
    """The run that the worker is open for."""

    def __init__(self, message: dict[str, Any]) -> None:
        objects = unpack_objects(message["objects"])
        self.directory = RunDirectory(Path(message["root"]))
        # Scratch files of a killed worker are deleted with the run.
        with writing(self.directory.temporary, "Nothing was trained."):
            self.directory.temporary.mkdir(exist_ok=True)
        tempfile.tempdir = str(self.directory.temporary)
        self.problem = Problem.read(self.directory.data, objects["metric"])
        self.families: dict[str, Family] = {**FAMILIES, **objects["families"]}


def main() -> None:
    """Serve until the input ends."""
    requests, events = _take_pipes()
    warnings.simplefilter("ignore")  # a trial's warnings do not concern the user
    run: _Run | None = None
    send(events, {"event": "worker_ready"})
    while (message := receive(requests)) is not None:
        action = message["do"]
        if action == "preload":
            _preload()
        elif action == "open":
            run = None  # its data are freed before others are read
            run = _open(message, events)
        elif action == "close":
            run = None
        elif action == "train" and run is not None:
            trial, deadline = Trial.from_json(message["trial"]), time.monotonic() + float(message["seconds"])
            with threadpool_limits(1):  # sums in another order would be another result
                try:
                    trial = train_trial(
                        trial,
                        run.problem,
                        run.families[trial.family],
                        run.directory.trial(trial.number),
                        lambda so_far: send(events, {"event": "checkpoint", "trial": so_far.to_json()}),
                        deadline=deadline,
                    )
                except DiskError as error:
                    _send_error(events, str(run.directory.root), str(error))
                    continue
            send(events, {"event": "finished", "trial": trial.to_json()})


def _open(message: dict[str, Any], events: IO[bytes]) -> _Run | None:
    """Read a run; None, and an error is reported, if that fails."""
    _send_output_to(RunDirectory(Path(message["root"])).log)
    _limit_memory(float(message["memory"]))
    try:
        return _Run(message)
    except WindvaneError as error:
        _send_error(events, message["root"], str(error))
    except Exception:  # an own metric or family that does not load here ends the fit
        _send_error(events, message["root"], traceback.format_exc(limit=-3))
    return None


def _send_error(events: IO[bytes], root: str, error: str) -> None:
    """Report an error that ends the fit."""
    send(events, {"event": "worker_error", "root": root, "error": error})


def _take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Keep the two pipes for messages, so that output of libraries cannot mix with them."""
    requests, events = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # errors go where the pool can read them, until a run has a log
        os.dup2(nothing, standard)
    os.close(nothing)
    return requests, events


def _send_output_to(path: Path) -> None:
    """Send what libraries print to the run's log."""
    with contextlib.suppress(OSError):  # a log is not worth a worker
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)


def _limit_memory(megabytes: float) -> None:
    """Let one huge allocation fail at once, if the system can; the pool looks only every 100 ms."""
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


if __name__ == "__main__":
    main()

"""A Dask cluster whose scheduler or worker freezes or dies, before a fit or in it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.reliability.cases import Unavailable, check_model, check_run, data, within
from windvane import AutoClassifier
from windvane.search.workers import dask_members

BUDGET = 25


@contextmanager
def _cluster() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Yield the address and the processes of a scheduler and two workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    python = [sys.executable, "-m"]
    scheduler = [*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    worker = [*python, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen([*command, "--no-dashboard"], **quiet) for command in (scheduler, worker, worker)]
    try:
        yield address, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def disturb_cluster(seed: int, folder: Path) -> str:
    """Freeze or kill one process of a cluster at a random trial."""
    try:
        import distributed
    except ImportError as error:
        raise Unavailable(str(error)) from error
    rng = np.random.default_rng([7, seed])
    number = (signal.SIGSTOP, signal.SIGKILL)[seed % 2]
    victim, role = ((1, "worker"), (1, "worker"), (0, "scheduler"))[seed % 3]
    at = int(rng.integers(0, 4))
    run_dir = folder / "run"
    X, y = data()
    with mock.patch.object(dask_members, "SILENT_SECONDS", 4.0), _cluster() as (address, processes):
        client = distributed.Client(address, timeout=60)
        try:
            client.wait_for_workers(2, timeout=90)

            def disturb(trial: Any) -> None:
                if trial.number == at:
                    os.kill(processes[victim].pid, number)

            model = AutoClassifier(
                BUDGET, families=["linear", "extra_trees"], verbose=0, random_state=seed, run_dir=run_dir
            )
            with within(BUDGET):
                model.fit(X, y, dask_client=client, callbacks=[disturb])
            check_model(model)
        finally:
            os.kill(processes[victim].pid, signal.SIGCONT)
            client.close(timeout=5)
    return f"{signal.Signals(number).name} of the {role} at trial {at}: {check_run(run_dir, resume=False)}"

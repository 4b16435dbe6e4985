"""Which Dask workers of a cluster can be used now: those that answer, have this version, and send heartbeats.

A worker that is frozen, or whose import takes long, is left out until it answers; nothing waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from windvane.errors import WorkerError
from windvane.search.workers.background import in_background
from windvane.search.workers.dask_task import check_worker
from windvane.version import VERSION

ANSWER_SECONDS = 5.0  # for a call of the scheduler
SILENT_SECONDS = 8.0  # without a heartbeat a worker counts as frozen; they come every half to two seconds

CLUSTER_ERRORS = (Exception, asyncio.CancelledError)  # a client raises these when its cluster goes away

Result = TypeVar("Result")


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """Return the result of a call that may wait for ever; raises TimeoutError after some seconds."""
    try:
        return in_background(call).result(seconds)
    except TimeoutError:
        raise TimeoutError(f"The Dask cluster did not answer within {seconds:.0f} seconds.") from None


@dataclass
class _Member:
    threads: int
    last_seen: float = 0.0  # in the scheduler's time
    heard: float = 0.0  # `time.monotonic` instant at which that changed
    version: str | None = None  # None until it answers
    sees: bool = False  # whether it sees the run directory
    error: str = ""  # why it cannot be used


class DaskMembers:
    """The workers of a cluster; a thread of the pool calls `refresh`, any thread reads."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._members: dict[str, _Member] = {}
        self._witness: str | None = None  # a file of the run directory

    def refresh(self) -> None:
        """Ask the scheduler who is there, and greet who is new; raises TimeoutError if it does not answer."""
        found = within(ANSWER_SECONDS, self._client.scheduler_info)["workers"]
        now, members = time.monotonic(), dict[str, _Member]()
        for address, record in found.items():
            member = self._members.get(address)
            if member is None:
                member = _Member(int(record["nthreads"]))
                if self._witness is not None:
                    self._greet(address, member)
            if record["last_seen"] != member.last_seen:
                member.last_seen, member.heard = record["last_seen"], now
            members[address] = member
        self._members = members

    def greet(self, witness: str, seconds: float) -> None:
        """Ask each worker for its version and whether it sees a file; returns when all have answered, or in time."""
        self._witness = witness
        members = self._members
        for address, member in members.items():
            self._greet(address, member)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(m.version or m.error for m in members.values()):
            time.sleep(0.02)
        errors = [member.error for member in members.values() if member.error]
        if errors and len(errors) == len(members):
            raise WorkerError(errors[0])

    def _greet(self, address: str, member: _Member) -> None:
        def ask() -> None:
            try:
                answers = self._client.run(check_worker, self._witness, workers=[address])
                (version, member.sees) = answers[address]
                if version != VERSION:
                    member.error = f"The Dask workers have windvane {version}; here it is {VERSION}."
                member.version = version
            except CLUSTER_ERRORS as error:
                member.error = f"The Dask workers cannot run windvane: {type(error).__name__}: {error}"

        in_background(ask)

    @cached_property
    def must_see(self) -> bool:
        """Whether workers that do not see the run directory are left out: the first that answered all see it."""
        return all(m.sees for m in self._members.values() if m.version is not None and not m.error)

    @property
    def n_threads(self) -> int:
        """Threads of all workers that may become usable."""
        return sum(member.threads for member in self._members.values() if not member.error)

    @property
    def usable(self) -> dict[str, int]:
        """Address -> threads of the workers that can train a trial now."""
        now = time.monotonic()
        return {
            address: member.threads
            for address, member in self._members.items()
            if member.version is not None
            and not member.error
            and now - member.heard < SILENT_SECONDS
            and (member.sees or not self.must_see)  # decided when the first has answered
        }

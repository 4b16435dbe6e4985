"""When a search must end, and how much longer than on an idle core everything takes on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """When the search must end."""

    started: float  # of this fit, a `time.monotonic` instant
    seconds: float  # that the fit may take
    earlier: float = 0.0  # seconds that earlier fits of the same run took
    slowdown: float = 1.0  # seconds that a second of a core takes

    def left(self, reserve: float = 0.0) -> float:
        """Return the seconds until the end of the budget, less a reserve."""
        return self.started + self.seconds - reserve - time.monotonic()

    def instant(self, share: float) -> float:
        """Return the `time.monotonic` instant at which a share of the budget is over; infinite if the budget is."""
        return self.started + share * self.seconds

    def left_of(self, share: float) -> float:
        """Return the seconds until a share of the budget is over."""
        return self.instant(share) - time.monotonic()

    def now(self) -> float:
        """Return the seconds since the start of the run."""
        return self.earlier + time.monotonic() - self.started


class SlowdownMeter:
    """Measures how many seconds a second of a core takes in this thread, while it computes."""

    min_seconds = 0.5  # of a measurement; shorter ones are noise, and count as no slowdown

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.thread_time()

    def read(self) -> float:
        """Return the slowdown since the meter was made, at least 1."""
        wall, cpu = time.monotonic() - self._wall, time.thread_time() - self._cpu
        return 1.0 if wall < self.min_seconds else max(1.0, wall / max(cpu, 1e-3))

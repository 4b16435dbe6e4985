"""How far a run is: by steps, or by the clock, so that the schedule ends on time.

Each step covers a share of what is left of the schedule: (1 - progress) / steps left. For a number of steps that share
is always 1 / steps. For a time it follows the speed that is measured while running, and progress still reaches 1 with
the last step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from windvane.vision.recipe import Recipe


def learning_rate_at(progress: float, recipe: Recipe) -> float:
    """Give the learning rate at a point of the run.

    Parameters
    ----------
    progress
        Share of the run that is done, 0 to 1.
    recipe
        Its rate and warmup count.

    Returns
    -------
    float
        Zero at both ends.
    """
    if progress < recipe.warmup_fraction:
        return recipe.learning_rate * progress / recipe.warmup_fraction
    return (
        recipe.learning_rate
        * 0.5
        * (1.0 + math.cos(math.pi * (progress - recipe.warmup_fraction) / (1.0 - recipe.warmup_fraction)))
    )


EVALUATIONS = 20  # a run, fewer where they would take more than their share of the time
EVALUATION_SHARE = 0.1
_BLIND_STEPS = 200.0  # the steps that a timed run is taken for until its speed is measured
_ENDING_SHARE, _ENDING_SECONDS = 0.01, 0.2  # kept for loading and writing in the end
_SMOOTH = 0.3  # weight of the newest speed


class Schedule:
    """The schedule of one run.

    Parameters
    ----------
    steps
        To be done in all; None where time counts.
    seconds
        For the whole run; None where steps count.
    evaluation_steps
        How many steps an evaluation is as long as; only until one is measured.
    began
        When this part of the run began, on the clock.
    clock
        Gives seconds.
    """

    def __init__(
        self,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        evaluation_steps: float = 0.0,
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._steps, self._seconds = steps, seconds
        self._began = clock() if began is None else began
        self._left = float(steps) if steps is not None else _BLIND_STEPS
        self._looked: tuple[float, int] = (clock(), 0)
        self._pace: float | None = None  # seconds a step
        self._judging: float | None = None  # seconds an evaluation
        self._evaluation_steps = evaluation_steps
        self.step = 0
        self.progress = 0.0
        self.judged = 0.0  # progress at the last evaluation

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far, with those before it was resumed."""
        return self._clock() - self._began

    @property
    def middle(self) -> float:
        """Progress in the middle of the coming step, for its rate."""
        return self.progress + 0.5 * self._share

    @property
    def finished(self) -> bool:
        """Whether the schedule is at its end."""
        return self.progress >= 1.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end; None before any speed is known."""
        if self._seconds is not None:
            return max(0.0, self._seconds - self.elapsed)
        return None if self._pace is None else self._pace * self._left + self._all_judging

    def advance(self) -> None:
        """Count a step."""
        if self._left <= 1.0:
            self.progress = 1.0
        else:
            self.progress += self._share
        self._left -= 1.0
        self.step += 1

    def stop(self) -> None:
        """Be at the end, whatever is left."""
        self.progress = 1.0

    def look(self) -> None:
        """Measure the speed and correct what is left; to be called when the device has caught up."""
        now, (then, at) = self._clock(), self._looked
        if self.step > at:
            pace = (now - then) / (self.step - at)
            known = self._pace is not None and at > 0  # the first steps are slow: nothing is warm
            self._pace = _SMOOTH * pace + (1.0 - _SMOOTH) * self._pace if known and self._pace is not None else pace
        self._looked = (now, self.step)
        if self._seconds is not None and self._pace is not None:
            ending = max(_ENDING_SHARE * self._seconds, _ENDING_SECONDS)
            left = self._seconds - self.elapsed - ending - self._all_judging
            self._left = max(0.0, left / max(self._pace, 1e-9))
            if left < 0.5 * self._pace:
                self.progress = 1.0

    def due(self) -> bool:
        """Whether the network is to be evaluated now."""
        return self.finished or self.progress - self.judged >= 1.0 / self._judgements - 1e-9

    def evaluated(self) -> None:
        """Take note that the network is being evaluated now."""
        self.judged = self.progress

    def judging_took(self, seconds: float) -> None:
        """Take note of what an evaluation cost, with all that goes with it.

        Parameters
        ----------
        seconds
            Wall-clock time, which does not count as that of steps.
        """
        self._judging = seconds
        self._looked = (self._clock(), self.step)

    def to_json(self) -> dict[str, float]:
        """Give what `resume` takes."""
        return {"step": self.step, "progress": self.progress, "judged": self.judged, "elapsed": self.elapsed}

    def resume(self, kept: Mapping[str, float]) -> None:
        """Go on from a kept state.

        Parameters
        ----------
        kept
            From `to_json`.
        """
        self.step, self.progress, self.judged = int(kept["step"]), kept["progress"], kept["judged"]
        self._began -= kept["elapsed"]
        self._looked = (self._clock(), self.step)
        if self._steps is not None:
            self._left = float(self._steps - self.step)

    @property
    def _share(self) -> float:
        return (1.0 - self.progress) / max(1.0, self._left)

    @property
    def _one_judging(self) -> float:
        """Seconds that an evaluation takes, measured or guessed."""
        return self._judging if self._judging is not None else self._evaluation_steps * (self._pace or 0.0)

    @property
    def _all_judging(self) -> float:
        """Seconds for the evaluations that are left; there is always one in the end."""
        return self._one_judging * max(1, round((1.0 - self.progress) * self._judgements))

    @property
    def _judgements(self) -> int:
        if self._seconds is None or self._one_judging == 0.0:
            return EVALUATIONS
        return max(1, int(min(EVALUATIONS, EVALUATION_SHARE * self._seconds / self._one_judging)))

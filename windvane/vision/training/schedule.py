"""Progress of a run, by steps or by the clock, and the learning rate along it.

Each step covers a share of what is left of the schedule: (1 - progress) / steps left. With a number of steps that share
is always 1 / steps. With a time budget it follows the speed that is measured while running, and progress still reaches
1 with the last step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from windvane.vision.recipe import Recipe

EVALUATIONS = 20  # per run; fewer if they would take more than their share of the time
EVALUATION_SHARE = 0.1
_ASSUMED_STEPS = 200.0  # of a run with a time budget, until its speed is measured
_ENDING_SHARE, _ENDING_SECONDS = 0.01, 0.2  # reserved for loading and writing in the end
_SMOOTHING = 0.3  # weight of the newest speed


def learning_rate_at(progress: float, recipe: Recipe) -> float:
    """Return the learning rate at a progress of 0 to 1: linear warmup, then a cosine to zero."""
    if progress < recipe.warmup_fraction:
        return recipe.learning_rate * progress / recipe.warmup_fraction
    angle = math.pi * (progress - recipe.warmup_fraction) / (1.0 - recipe.warmup_fraction)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(angle))


class Schedule:
    """Progress of one run of a number of steps, or of a time budget in seconds."""

    # `evaluation_steps` is the assumed length of an evaluation, in steps, until one is measured; `started` is the start
    # of the run on the clock. What follows the run within its time budget takes as long as `evaluations_after`
    # evaluations and `seconds_after` seconds.

    def __init__(
        self,
        *,
        steps: int | None = None,
        time_budget: float | None = None,
        evaluation_steps: float = 0.0,
        evaluations_after: float = 0.0,
        seconds_after: float = 0.0,
        started: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._steps, self._time_budget = steps, time_budget
        self._started = clock() if started is None else started
        self._steps_left = float(steps) if steps is not None else _ASSUMED_STEPS
        self._deadline = math.inf
        self._limited_seconds = math.inf  # from `finish_by` to its deadline
        self._last_measured: tuple[float, int] = (clock(), 0)  # time, step
        self._seconds_per_step: float | None = None
        self._evaluation_seconds: float | None = None
        self._evaluation_steps = evaluation_steps
        self._evaluations_after, self._seconds_after = evaluations_after, seconds_after
        self.step = 0
        self.progress = 0.0
        self.last_evaluated = 0.0  # progress at the last evaluation

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far, including those before it was resumed."""
        return self._clock() - self._started

    @property
    def step_midpoint(self) -> float:
        """Progress in the middle of the coming step, for its learning rate."""
        return self.progress + 0.5 * self._step_share

    @property
    def finished(self) -> bool:
        """Whether the schedule is at its end."""
        return self.progress >= 1.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end; None until a speed is known."""
        if self._time_budget is not None:
            return max(0.0, self._time_budget - self.elapsed)
        if self._seconds_per_step is None:
            return None
        return self._seconds_per_step * self._steps_left + self._remaining_evaluation_seconds

    def advance(self) -> None:
        """Count a step."""
        if self._steps_left <= 1.0:
            self.progress = 1.0
        else:
            self.progress += self._step_share
        self._steps_left -= 1.0
        self.step += 1

    def stop(self) -> None:
        """Skip the steps that are left."""
        self.progress = 1.0

    def finish_by(self, deadline: float) -> None:
        """Reach the end of a number of steps by an instant of the clock, in fewer steps if these take too long."""
        self._deadline, self._limited_seconds = deadline, max(0.0, deadline - self._clock())

    def start_steps(self) -> None:
        """Start timing steps, when the first images are there: the time to decode them does not count."""
        self._last_measured = (self._clock(), self.step)

    def measure_speed(self) -> None:
        """Measure the speed and correct what is left; call it when the device has caught up."""
        now, (then, step) = self._clock(), self._last_measured
        if self.step > step:
            pace = (now - then) / (self.step - step)
            # The first steps are slow: nothing is warm. Their speed is not averaged into later ones.
            if self._seconds_per_step is not None and step > 0:
                pace = _SMOOTHING * pace + (1.0 - _SMOOTHING) * self._seconds_per_step
            self._seconds_per_step = pace
        self._last_measured = (now, self.step)
        if self._seconds_per_step is None:
            return
        if self._time_budget is not None:
            ending = max(_ENDING_SHARE * self._time_budget, _ENDING_SECONDS)
            after = self._seconds_after + self._evaluations_after * self._seconds_per_evaluation
            seconds = self._time_budget - self.elapsed - ending - after
        else:
            seconds = self._deadline - now
        affordable = (seconds - self._remaining_evaluation_seconds) / max(self._seconds_per_step, 1e-9)
        wanted = math.inf if self._steps is None else float(self._steps - self.step)
        self._steps_left = max(0.0, min(wanted, affordable))
        if affordable < 0.5 and wanted > 0.0:
            self.progress = 1.0

    def evaluation_due(self) -> bool:
        """Whether the network is to be evaluated now: at regular distances, and not again shortly before the end."""
        distance = 1.0 / self._n_evaluations
        due = self.progress - self.last_evaluated >= distance - 1e-9
        return self.finished or (due and 1.0 - self.progress >= 0.5 * distance)

    def start_evaluation(self) -> None:
        """Note the progress at which an evaluation starts."""
        self.last_evaluated = self.progress

    def record_evaluation_time(self, seconds: float) -> None:
        """Note the wall-clock time of an evaluation and of writing its files, which is no time of steps."""
        self._evaluation_seconds = seconds
        self._last_measured = (self._clock(), self.step)

    def state_dict(self) -> dict[str, float]:
        return {
            "step": self.step,
            "progress": self.progress,
            "last_evaluated": self.last_evaluated,
            "elapsed": self.elapsed,
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.step, self.progress = int(state["step"]), state["progress"]
        self.last_evaluated = state["last_evaluated"]
        self._started -= state["elapsed"]
        self._last_measured = (self._clock(), self.step)
        if self._steps is not None:
            self._steps_left = float(self._steps - self.step)

    @property
    def _step_share(self) -> float:
        return (1.0 - self.progress) / max(1.0, self._steps_left)

    @property
    def _seconds_per_evaluation(self) -> float:
        """Measured seconds, or assumed ones before the first evaluation."""
        if self._evaluation_seconds is not None:
            return self._evaluation_seconds
        return self._evaluation_steps * (self._seconds_per_step or 0.0)

    @property
    def _remaining_evaluation_seconds(self) -> float:
        """Seconds of the evaluations that are left, one that is due now among them; there is always one in the end."""
        n = self._n_evaluations
        since = max(self.last_evaluated, self.progress - 1.0 / n)
        return self._seconds_per_evaluation * max(1, round((1.0 - since) * n))

    @property
    def _n_evaluations(self) -> int:
        seconds = self._limited_seconds if self._time_budget is None else self._time_budget
        if math.isinf(seconds) or self._seconds_per_evaluation == 0.0:
            return EVALUATIONS
        affordable = EVALUATION_SHARE * seconds / self._seconds_per_evaluation
        return max(1, int(min(EVALUATIONS, affordable)))

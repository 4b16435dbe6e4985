"""What a saved model keeps of its run: trials, losses over time, policy, test score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from windvane.errors import ModelFileError
from windvane.evaluation.baseline import ConstantBaseline
from windvane.evaluation.decisions.thresholds import DecisionTuning
from windvane.search.run.history import PerformanceCurve
from windvane.search.strategy.policy import Policy
from windvane.search.trial import Trial


@dataclass(frozen=True)
class RunRecord:
    """The history of a model, without data and without the models of trials that do not predict."""

    trials: Sequence[Trial]
    curve: PerformanceCurve
    policy: Policy | None
    test_score: float | None = None  # higher is better
    constant: ConstantBaseline | None = None
    tuning: DecisionTuning | None = None  # of the threshold

    def to_json(self) -> dict[str, Any]:
        return {
            "trials": [trial.to_json() for trial in self.trials],
            "curve": [list(point) for point in self.curve],
            "policy": None if self.policy is None else asdict(self.policy),
            "test_score": self.test_score,
            "constant": None if self.constant is None else self.constant.to_json(),
            "tuning": None if self.tuning is None else self.tuning.to_json(),
        }

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> Self:
        """Read the record in the manifest of a saved model; empty if it has no record."""
        return cls.from_json(manifest["run"]) if "run" in manifest else cls([], [], None)

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """Read what `to_json` wrote; raises ModelFileError if it is something else."""
        try:
            score = record["test_score"]
            return cls(
                [Trial.from_json(trial) for trial in record["trials"]],
                [(float(a), float(b), float(c)) for a, b, c in record["curve"]],
                None if record["policy"] is None else Policy(**record["policy"]),
                None if score is None else float(score),
                ConstantBaseline.from_json(record.get("constant")),
                DecisionTuning.from_json(record.get("tuning")),
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(f"The record of the run is damaged: {error!r}") from error

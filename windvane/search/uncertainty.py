"""What the intervals and sets of a run are learned from: its validation rows, predicted out of fold."""

from __future__ import annotations

import numpy as np

from windvane.evaluation.decisions.conformal import fit_class_sets, fit_intervals
from windvane.runtime.conformal import Uncertainty
from windvane.runtime.ensemble import Ensemble
from windvane.search.ensemble_selection import EnsembleBuilder


def learn_uncertainty(builder: EnsembleBuilder, ensemble: Ensemble) -> Uncertainty | None:
    """Learn intervals or sets of classes; None for several targets, or if a prediction is missing or not finite."""
    problem = builder.problem
    if problem.task.n_targets > 1:
        return None
    blend, rows = builder.blend(ensemble), problem.validation_rows
    if blend is None or not np.isfinite(blend).all():
        return None
    if problem.task.is_classification:
        return fit_class_sets(blend, builder.target, builder.weight, rows, ensemble.temperature)
    return fit_intervals(blend, builder.target.astype(np.float64), builder.weight, rows)

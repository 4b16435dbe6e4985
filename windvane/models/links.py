"""From linear scores to what a model predicts: numbers in their units, or probabilities of all classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from windvane.data.table import Floats
from windvane.data.task import Task
from windvane.models.units import Units


def from_scores(scores: Floats, classes: NDArray[np.intp], task: Task, units: Units) -> Floats:
    """Turn scores into predictions.

    Parameters
    ----------
    scores
        Shape (n, k): one column for a number or for the second of two classes, else one for each of `classes`.
    classes
        Codes of the classes that the training part holds; empty for regression. One alone has all certainty.
    task
        Gives the number of all classes; those that training never saw get the probability 0.
    units
        Of the training part.

    Returns
    -------
    ndarray
        Shape (n,) or (n, n_classes).
    """
    if not task.is_classification:
        return units.expand(scores[:, 0])
    found = np.zeros((len(scores), task.n_classes))
    if len(classes) == 1:
        found[:, classes] = 1.0
    elif len(classes) == 2:
        found[:, classes] = np.hstack([expit(-scores), expit(scores)])
    else:
        found[:, classes] = softmax(scores, axis=1)
    return found

"""The estimators: `base` tells the story of one run, `fitted_estimator` answers what can be asked after it."""

from windvane.automl.images import AutoImageClassifier
from windvane.automl.loading import keep_decision, load
from windvane.automl.tables import AutoClassifier, AutoRegressor

__all__ = ["AutoClassifier", "AutoImageClassifier", "AutoRegressor", "keep_decision", "load"]

"""What a fitted estimator tells of its run, and how its model is taken away: a mixin of both estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from windvane import fitted, persist
from windvane.predictor import Predictor
from windvane.search.trial import Trial


def predictor_of(estimator: Any) -> Predictor:
    """Give the predictor of a fitted estimator; raises scikit-learn's `NotFittedError` where it is not fitted."""
    check_is_fitted(estimator, "predictor_")
    predictor: Predictor = estimator.predictor_
    return predictor


def facts_of(estimator: Any) -> dict[str, Any]:
    """Describe a fitted estimator for the manifest of a saved model."""
    own_metric = not isinstance(estimator.metric, str)
    return persist.facts(type(estimator).__name__, predictor_of(estimator), own_metric)


class Results:
    """What can be asked of a fitted estimator."""

    trials_: list[Trial]
    curve_: list[tuple[float, float, float]]

    def leaderboard(self) -> pd.DataFrame:
        """Rank all trials of the run.

        Returns
        -------
        pandas.DataFrame
            See `windvane.fitted.leaderboard`.
        """
        ensemble = predictor_of(self).ensemble
        return fitted.leaderboard(self.trials_, ensemble)

    @property
    def performance_over_time_(self) -> pd.DataFrame:
        """Validation score of the best single model and of the ensemble, over seconds."""
        metric = predictor_of(self).metric
        return fitted.performance_over_time(self.curve_, metric)

    def feature_importance(self, X: Any, y: Any, *, n_repeats: int = 5) -> pd.DataFrame:
        """Measure how much the score loses when a column is shuffled.

        Parameters
        ----------
        X, y
            Rows to measure on, best such that were not trained on.
        n_repeats
            Shuffles of each column.

        Returns
        -------
        pandas.DataFrame
            Columns importance and std, one row for each column, largest first.
        """
        return fitted.feature_importance(self, X, y, n_repeats, seed=0)

    def report(self, path: str | Path, X_test: Any = None, y_test: Any = None) -> Path:
        """Write one self-contained page on the run: the honest score, the data, the search, the errors.

        Parameters
        ----------
        path
            A name that ends in .html; an earlier page is replaced, any other file is left alone.
        X_test, y_test
            Rows that the search did not see, for an unbiased score.

        Returns
        -------
        Path
            Of the page.
        """
        from windvane.report.evidence import Run
        from windvane.report.story import write_report

        return write_report(Run.of(self), Path(path), X_test, y_test)

    def save(self, path: str | Path) -> None:
        """Save the predictor alone in a new folder, open to `windvane.load`.

        Parameters
        ----------
        path
            Must not exist, or be an empty folder; nothing is written over.
        """
        predictor = predictor_of(self)
        persist.write_predictor(facts_of(self), predictor, Path(path))

    def export(self, folder: str | Path) -> None:
        """Write a folder that predicts without windvane: native model files and a `predictor.py`.

        Parameters
        ----------
        folder
            Must not exist, or be an empty folder; nothing is written over.
        """
        from windvane.export.folder import write_folder

        write_folder(facts_of(self), predictor_of(self), Path(folder))

    def to_sklearn(self) -> Any:
        """Say the ensemble in scikit-learn's own objects, and those of the boosters' libraries; none is windvane's.

        Returns
        -------
        Pipeline or FixedThresholdClassifier
            Fitted, with the same predictions; an `InputError` names what scikit-learn cannot say.
        """
        from windvane.export.plain import to_sklearn

        return to_sklearn(predictor_of(self))

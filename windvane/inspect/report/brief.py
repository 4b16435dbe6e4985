"""A look inside one network within seconds, for the page of another report: similarity, attention, receptive fields."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.analyses.attention_distance import attention_distance
from windvane.inspect.analyses.receptive_field import receptive_fields
from windvane.inspect.batches import device_of
from windvane.inspect.hooks import observe
from windvane.inspect.layer_selection import layer_names
from windvane.inspect.similarity.compare import Sampling, compare
from windvane.pages.html_builder import Html, bars, figure, heatmap, paragraph, side_by_side
from windvane.pages.svg_charts import Axis, Series, plot

MAX_IMAGES, MIN_IMAGES = 64, 8  # of similarity and attention; CKA of fewer says nothing
FIELD_IMAGES, FIELD_LAYERS = 8, 8
MAX_LAYERS = 10  # of the matrix, which has this width on the page
PASSES = 3.0  # a pass with hooks takes about so many times as long as one without


def inspect_briefly(model: nn.Module, images: Tensor, seconds: float) -> list[Html]:
    """Return figures of a network on images (n, channels, height, width) as it takes them, within about `seconds`."""
    # Analyses that do not apply to the network, or for which no time is left, are left out.
    deadline, images = time.monotonic() + seconds, images.to(device_of(model))
    if len(images) < MIN_IMAGES:
        return []
    pace = _seconds_per_image(model, images[:4])
    n_images = int(min(MAX_IMAGES, len(images), 0.4 * seconds / (PASSES * pace)))
    pictures: list[Html] = []
    sentences: list[str] = []
    parts: Sequence[Callable[[], tuple[Html, Sequence[str]]]] = (
        lambda: _similarity(model, images[:n_images]),
        lambda: _attention(model, images[:n_images]),
        lambda: _fields(model, images[:FIELD_IMAGES], int((deadline - time.monotonic()) / (FIELD_IMAGES * pace))),
    )
    for part in parts if n_images >= MIN_IMAGES else ():
        if time.monotonic() >= deadline:
            break
        try:
            picture, words = part()
        except InputError:  # the network has no such layers
            continue
        pictures.append(picture)
        sentences += words
    return [*map(paragraph, sentences), side_by_side(*pictures)] if pictures else []


def _seconds_per_image(model: nn.Module, images: Tensor) -> float:
    observe(model, images[:1])  # the first pass is slow
    started = time.monotonic()
    observe(model, images)
    return max(1e-6, time.monotonic() - started) / len(images)


def _blocks(model: nn.Module, images: Tensor, most: int) -> tuple[str, ...]:
    """Names of the blocks of a network, evenly chosen where there are more; of its normalizations without blocks."""
    try:
        names = layer_names(model, images, "block")
    except InputError:
        names = layer_names(model, images, "norm")
    chosen = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))
    return tuple(names[i] for i in chosen)


def _similarity(model: nn.Module, images: Tensor) -> tuple[Html, Sequence[str]]:
    names = _blocks(model, images, MAX_LAYERS)
    found = compare(model, model, images, list(names), sampling=Sampling(len(images)))
    shown = np.clip(np.nan_to_num(found.values), 0.0, 1.0)
    cells = [[(float(value), f"{100 * value:.0f}") for value in row] for row in shown]
    matrix = heatmap(found.layers[0], found.layers[1], cells, label="Similarity of the blocks")
    caption = (
        f"Linear CKA of the outputs of blocks, in %, on {found.n_images} images: 100 where both find the same images "
        "similar."
    )
    return figure("The blocks beside each other", matrix, caption), found.describe()


def _attention(model: nn.Module, images: Tensor) -> tuple[Html, Sequence[str]]:
    found = attention_distance(model, images)
    frame, uniform = found.to_frame(), found.uniform_distance
    depth = np.arange(len(found.layers), dtype=np.float64)
    ends = np.array([-0.5, len(found.layers) - 0.5])
    series = [
        Series(ends, np.full(2, uniform), "dashed", 4, "uniform attention"),
        Series(depth, np.array([one.mean() for one in found.distances]), "line", 1, "mean of the heads"),
        Series(frame["depth"].to_numpy(), frame["distance"].to_numpy(), "points", 0, "a head"),
    ]
    x = Axis("layer", float(ends[0]), float(ends[1]), [(i, str(int(i) + 1)) for i in depth.tolist()])
    y = Axis("distance in pixels", 0.0, 1.1 * max(uniform, float(frame["distance"].max())))
    caption = "Mean distance between a patch and the patches that it attends to. Local heads lie low."
    picture = plot(series, x, y, "Mean attention distance of every head by layer")
    return figure("How far the heads look", picture, caption, series), ()


def _fields(model: nn.Module, images: Tensor, most: int) -> tuple[Html, Sequence[str]]:
    names = _blocks(model, images, min(FIELD_LAYERS, most))
    found = receptive_fields(model, images, list(names), n_images=len(images))
    side = images.shape[-1]
    sigma = zip(found.layers, found.sigma.tolist(), strict=True)
    entries = [(name, one, f"{one:.1f} px · {one / side:.0%}") for name, one in sigma if np.isfinite(one)]
    caption = (
        f"Sigma of the Gaussian that is as wide as the dependence of a central unit on the {side} x {side} pixels, and "
        "its share of the side."
    )
    return figure("How far a unit sees", bars(entries, label="Receptive fields", full=side / 2), caption), ()

"""Axes labelled by block, heat maps and grids of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from windvane.errors import InputError
from windvane.inspect.plots import blocks_of, figure_and_axes, heat_map, image_grid, label_blocks


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [
        (
            ["stem", *(f"blocks.{i}.{part}" for i in range(12) for part in ("norm", "attn"))],
            ["stem", *(f"blocks.{i}" for i in range(12))],
        ),
        ([f"layer{i}.{j}.conv" for i in range(4) for j in range(9)], [f"layer{i}" for i in range(4)]),
        (["a", "b"], ["a", "b"]),
        ([f"encoder.layers.{i}.x.y" for i in range(6)], [f"encoder.layers.{i}" for i in range(6)]),
        (["a.x", "b", "a.y"], ["a.x", "b", "a.y"]),
    ],
)
def test_blocks(layers: list[str], blocks: list[str]) -> None:
    found = blocks_of(layers)
    assert [block.name for block in found] == blocks
    assert [block.start for block in found[1:]] == [block.stop for block in found[:-1]]
    assert found[-1].stop == len(layers)


def test_labels_are_not_crowded() -> None:
    layers = ["a", "b", "c", "d", *(f"blocks.{i // 20}" for i in range(300))]
    _, ax = figure_and_axes(None)
    label_blocks(ax, "x", layers)
    places = np.sort(ax.get_xticks())
    assert (np.diff(places) >= len(layers) / 26).all()
    assert ax.get_xlim() == (-0.5, len(layers) - 0.5)


def test_long_names_are_shortened() -> None:
    _, ax = figure_and_axes(None)
    label_blocks(ax, "y", ["encoder.layers.encoder_layer_0", "head"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["…s.encoder_layer_0", "head"]


def test_given_axes_are_drawn_on() -> None:
    figure = Figure()
    ax = figure.add_subplot()
    drawn, same = heat_map(np.eye(2), ["a", "b"], ["c", "d"], ax)
    assert drawn is figure
    assert same is ax


def test_undefined_cells_are_masked_and_negative_ones_are_marked() -> None:
    figure, ax = heat_map(np.array([[np.nan, -0.2], [0.3, 1.0]]), ["a", "b"], ["c", "d"])
    assert ax.images[0].get_array().mask.tolist() == [[True, False], [False, False]]
    assert ax.images[0].colorbar.extend == "min"
    assert heat_map(np.eye(2), ["a", "b"], ["c", "d"])[1].images[0].colorbar.extend == "neither"
    figure.canvas.draw()


def test_axes_without_a_figure_are_refused() -> None:
    ax = Figure().add_subplot()
    ax.remove()
    with pytest.raises(InputError, match="ax has been removed"):
        figure_and_axes(ax)


@pytest.mark.parametrize("odd", ["x", Figure(), np.zeros(2)])
def test_what_is_no_axes_is_refused(odd: Any) -> None:
    with pytest.raises(InputError, match=f"ax is of type {type(odd).__name__}"):
        figure_and_axes(odd)


@pytest.mark.parametrize("n", [1, 5, 24])
def test_maps_lie_apart_upright_and_on_one_scale(n: int) -> None:
    maps = np.linspace(0, 1, n * 12).reshape(n, 3, 4)
    figure = image_grid(maps, [f"map {i}" for i in range(n)], None, title="Maps", label="share")
    ax = figure.axes[0]
    assert len(ax.images) == n
    boxes = []
    for picture, one in zip(ax.images, maps, strict=True):
        assert picture.get_clim() == (0, 1)
        assert np.array_equal(picture.get_array(), one)
        left, right, bottom, top = picture.get_extent()
        assert (bottom - top) / (right - left) == pytest.approx(3 / 4)  # the axis points down
        boxes.append((left, right, top, bottom))
    (low, high), (below, above) = ax.get_xlim(), ax.get_ylim()
    for i, (left, right, top, bottom) in enumerate(boxes):
        assert low <= left and right <= high and above <= top and bottom <= below
        for other in boxes[:i]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top


def test_given_axes() -> None:
    figure = Figure()
    assert image_grid(np.zeros((2, 2, 2)), ["a", "b"], figure.subplots(), title="t", label="l") is figure

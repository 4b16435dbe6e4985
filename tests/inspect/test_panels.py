from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from windvane.inspect.panels import mosaic


@pytest.mark.parametrize("n", [1, 5, 24])
def test_maps_lie_apart_upright_and_on_one_scale(n: int) -> None:
    maps = np.linspace(0, 1, n * 12).reshape(n, 3, 4)
    figure = mosaic(maps, [f"map {i}" for i in range(n)], None, title="Maps", label="share")
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
    assert mosaic(np.zeros((2, 2, 2)), ["a", "b"], figure.subplots(), title="t", label="l") is figure

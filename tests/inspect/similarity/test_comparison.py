"""A comparison in words, tables and figures."""

from __future__ import annotations

import numpy as np
import pytest

from windvane.inspect.result import Result
from windvane.inspect.similarity.accumulator import SimilarityMatrix
from windvane.inspect.similarity.comparison import Comparison


def made(
    values: np.ndarray, names: tuple[str, str] = ("vit", "resnet"), undefined: dict[str, str] | None = None
) -> Comparison:
    layers = (tuple(f"blocks.{i}" for i in range(len(values))), tuple(f"layer.{i}" for i in range(values.shape[1])))
    if names[0] == names[1]:
        layers = (layers[0], layers[0])
    spread = SimilarityMatrix(values, values - 0.1, values + 0.1)
    return Comparison(names, layers, spread, "CKA", 640, 10, (undefined or {}, {}))


def banded(n_first: int, n_second: int, reach: float) -> np.ndarray:
    """Layer j of the second is most like the layer of the first at `reach` times its own depth."""
    depths = reach * np.arange(n_second) / n_second
    return np.exp(-np.abs(np.arange(n_first)[:, None] / n_first - depths) * 5)


def test_count_matched_below() -> None:
    found = made(banded(36, 120, 0.5))  # half of the second lies below a quarter of the first
    assert found.count_matched_below(0.25) == pytest.approx(60, abs=4)  # the depths of 36 layers are coarse
    assert found.count_matched_below(1.0) == 120
    sentences = found.describe()
    assert sentences[0].startswith(
        f"{found.count_matched_below(0.25)} of 120 layers of resnet lie below a quarter of vit, "
    )
    assert f" {found.count_matched_below(0.5)} below half" in sentences[0]
    assert "of 36 layers of vit lie below a quarter of resnet" in " ".join(sentences)


def test_matches_are_the_most_similar() -> None:
    values = np.array([[0.9, 0.2, np.nan], [0.1, 0.8, np.nan]])
    matches = made(values).matches()
    assert matches.index.tolist() == ["layer.0", "layer.1"]
    assert matches["match"].tolist() == ["blocks.0", "blocks.1"]
    assert matches["depth"].tolist() == [0, 0.5]
    assert matches["similarity"].tolist() == [0.9, 0.8]
    assert matches["ci_low"].tolist() == pytest.approx([0.8, 0.7])


def test_description_of_a_network_with_itself() -> None:
    values = np.full((6, 6), 0.5)
    values[:2, -2:] = values[-2:, :2] = 0.1
    (sentence,) = made(values, ("vit", "vit")).describe()
    assert "first third of vit and layers in its last third have a similarity of 0.10" in sentence
    assert sentence.endswith("a layer and the next one 0.50.")


def test_undefined_layers_are_described() -> None:
    values = banded(4, 4, 1.0)
    values[2] = np.nan
    sentences = made(values, undefined={"blocks.2": "constant"}).describe()
    assert sentences[-1] == "1 layer of vit cannot be compared: blocks.2 (constant)."


@pytest.mark.parametrize("n_layers", [1, 2])
def test_description_of_fewer_than_three_layers(n_layers: int) -> None:
    sentences = made(np.full((n_layers, 4), 0.5)).describe()
    assert f"of {n_layers} layer{'s' * (n_layers - 1)} of vit lie" in " ".join(sentences)
    assert "a similarity of 0.50 on average, one in the last third 0.50." in sentences[1]
    assert "nan" not in " ".join(sentences)


def test_description_of_undefined_matrices() -> None:
    empty = np.full((3, 3), np.nan)
    assert made(empty).describe() == []
    assert made(empty, ("vit", "vit")).describe() == []
    assert len(made(empty).matches()) == 0
    made(empty).plot()


def test_frame_has_a_row_for_each_pair() -> None:
    found = made(banded(3, 5, 1.0))
    frame = found.to_frame()
    assert len(frame) == 15
    row = frame[(frame["first"] == "blocks.1") & (frame["second"] == "layer.4")].iloc[0]
    assert row["similarity"] == found.values[1, 4]
    assert row["ci_high"] == pytest.approx(row["similarity"] + 0.1)


def test_transpose_and_renamed() -> None:
    found = made(banded(3, 5, 1.0), undefined={"blocks.0": "constant"})
    turned = found.transpose()
    assert turned.names == ("resnet", "vit")
    assert turned.values.shape == (5, 3)
    assert turned.undefined == ({}, {"blocks.0": "constant"})
    assert found.renamed("a", "b").names == ("a", "b")


def test_picture() -> None:
    found = made(banded(30, 50, 1.0))
    figure = found.plot()
    ax, scale = figure.axes
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("vit", "resnet")
    assert ax.images[0].get_clim() == (0, 1)
    assert ax.get_title() == "CKA, 640 images"
    assert scale.get_ylim() == (0, 1)
    assert isinstance(found, Result)


def test_results_are_recognized() -> None:
    assert issubclass(Comparison, Result)
    assert not issubclass(dict, Result)

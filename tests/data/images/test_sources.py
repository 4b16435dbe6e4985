"""Tables, arrays and datasets come out as the same list as a folder would."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

from windvane.data.images.sources import Columns, list_images
from windvane.errors import InputError
from windvane.runtime.images import decode_image


def encoded(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(seed)).save(stream, format="PNG")
    return stream.getvalue()


def pixels(seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "split": ["train", "train", "validation", "test"],
            "label": ["a", "b", "a", "b"],
            "name": ["1", "2", "3", "4"],
            "image": [encoded(i) for i in range(4)],
        }
    )


@pytest.mark.parametrize("form", ["parquet", "pandas", "polars", "arrow"])
def test_tables(form: str, tmp_path: Path) -> None:
    source: Any = frame()
    if form == "parquet":
        source = tmp_path / "images.parquet"
        frame().to_parquet(source)
    elif form != "pandas":
        source = pl.from_pandas(source)
        source = source.to_arrow() if form == "arrow" else source
    listing = list_images(source, Columns())
    assert listing.splits == ["train", "train", "valid", "test"]
    assert listing.labels == ["a", "b", "a", "b"]
    assert listing.names == ["1", "2", "3", "4"]
    assert listing.items == [encoded(i) for i in range(4)]
    assert listing.table is not None


def test_columns_are_found_by_values_or_named() -> None:
    odd = frame().rename(columns={"image": "blob", "label": "kind", "split": "use", "name": "who"})
    listing = list_images(odd, Columns())
    assert listing.labels == [None] * 4
    assert listing.names[2] == "row 2"
    listing = list_images(odd, Columns("blob", "kind", "use", "who"))
    assert listing.labels == ["a", "b", "a", "b"]
    assert listing.splits[2] == "valid"
    for columns, words in (
        (Columns(label="knd"), "columns.label='knd'.*'kind'"),
        (Columns(image="x"), "columns.image"),
    ):
        with pytest.raises(InputError, match=words):
            list_images(odd, columns)
    with pytest.raises(InputError, match=r"no column of images.*Its columns: use, kind, who"):
        list_images(odd.drop(columns="blob"), Columns())
    with pytest.raises(InputError, match="'elsewhere' is in the column 'split'"):
        list_images(frame().replace("test", "elsewhere"), Columns())
    with pytest.raises(InputError, match="without rows"):
        list_images(frame()[:0], Columns())


def test_paths_are_relative_to_their_table(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(encoded())
    pd.DataFrame({"file": ["cat.png", "dog.png"], "label": ["cat", "dog"]}).to_csv(tmp_path / "list.csv", index=False)
    listing = list_images(tmp_path / "list.csv", Columns())
    assert listing.items[0] == tmp_path / "cat.png"
    assert listing.names == ["cat.png", "dog.png"]
    assert listing.problems == ["", f"there is no such file in {str(tmp_path)!r}"]


def test_cells_that_hold_no_image() -> None:
    broken = frame()
    broken["image"] = [encoded(), None, float("nan"), 7]
    assert list_images(broken, Columns()).problems == [
        "",
        "there is no image",
        "there is no image",
        "a value of type int is no image",
    ]


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 6, 5, 1), (4, 6, 5, 3), (4, 6, 5, 4), (4, 1, 6, 5), (4, 3, 6, 5)])
def test_arrays_of_every_shape(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    listing = list_images(array, Columns())
    assert [item.shape[:2] for item in listing.items] == [(6, 5)] * 4  # type: ignore[union-attr]
    assert listing.names[3] == "image 3"
    out = decode_image(listing.items[2])
    if shape == (4, 3, 6, 5):
        assert np.array_equal(out, array[2].transpose(1, 2, 0))
    if shape == (4, 6, 5):
        assert np.array_equal(out[:, :, 1], array[2])


def test_values_of_every_type() -> None:
    levels = np.arange(256).reshape(1, 16, 16)
    for array in (levels / 255, levels.astype(np.float32), levels.astype(np.uint16) * 257, levels.astype(np.int64)):
        (item,) = list_images(array, Columns()).items
        assert np.array_equal(decode_image(item)[:, :, 0], levels[0]), array.dtype
    (item,) = list_images(np.eye(4)[None].astype(bool), Columns()).items
    assert np.array_equal(decode_image(item)[:, :, 0], 255 * np.eye(4))
    for wrong in (levels - 1.0, levels * 2.0):
        with pytest.raises(InputError, match="source has values from"):
            list_images(wrong, Columns())
    for wrong in (levels / 0.1 - np.inf, np.full((1, 2, 2), np.nan)):
        with pytest.raises(InputError, match=r"source\[0\] has values that are NaN or infinite"):
            list_images(wrong, Columns())


def test_lists_of_everything(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(1))
    stored = Image.open(io.BytesIO(encoded(1)))
    wide = np.zeros((3, 9, 2), dtype=np.uint8)
    listing = list_images([tmp_path / "a.png", str(tmp_path / "a.png"), encoded(1), stored, pixels(1), wide], Columns())
    for item in listing.items[:5]:
        assert np.array_equal(decode_image(item), pixels(1))
    assert decode_image(listing.items[5]).shape == (9, 2, 3)
    assert listing.names[0] == str(tmp_path / "a.png")
    truncated = Image.open(io.BytesIO(encoded(1)[:80]))
    assert list_images([truncated], Columns()).problems[0] != ""


def test_one_image_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(1))
    for source in (tmp_path / "a.png", encoded(1), pixels(1), Image.fromarray(pixels(1))):
        (item,) = list_images(source, Columns(), labelled=False).items
        assert np.array_equal(decode_image(item), pixels(1))


def test_what_is_no_source(tmp_path: Path) -> None:
    for source in (
        7,
        None,
        [],
        np.zeros(4),
        np.zeros((2, 7)),
        np.zeros((0, 4, 4)),
        [np.zeros((2, 2, 7))],
        [np.zeros(3)],
    ):
        with pytest.raises(InputError, match="source"):
            list_images(source, Columns())
    with pytest.raises(InputError, match="does not exist"):
        list_images(tmp_path / "nothing", Columns())


def test_a_mapping_of_splits() -> None:
    listing = list_images({"train": np.zeros((3, 4, 4)), "val": np.zeros((2, 4, 4))}, Columns())
    assert listing.splits == ["train"] * 3 + ["valid"] * 2
    assert listing.names[3] == "valid/image 0"
    with pytest.raises(InputError, match="'holdout' is a key of source"):
        list_images({"holdout": np.zeros((3, 4, 4))}, Columns())


def test_tensors_without_importing_torch() -> None:
    torch = pytest.importorskip("torch")
    (item,) = list_images(torch.full((1, 3, 5, 5), 0.5), Columns()).items
    assert (decode_image(item) == 128).all()


def test_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    (tmp_path / "a.png").write_bytes(encoded(0))
    features = datasets.Features({"img": datasets.Image(), "kind": datasets.ClassLabel(names=["ant", "bee"])})
    images = [str(tmp_path / "a.png"), Image.fromarray(pixels(1)), Image.fromarray(pixels(2))]
    one = datasets.Dataset.from_dict({"img": images, "kind": [1, 0, -1]}, features=features)
    listing = list_images(datasets.DatasetDict({"train": one, "test": one.select([2, 0])}), Columns())
    assert listing.labels == ["bee", "ant", None, None, "bee"]
    assert listing.splits == ["train"] * 3 + ["test"] * 2
    for item, seed in zip(listing.items, (0, 1, 2, 2, 0), strict=True):
        assert np.array_equal(decode_image(item), pixels(seed))
    with pytest.raises(InputError, match="not streamed"):
        list_images(one.to_iterable_dataset(), Columns())


def test_datasets_of_several_labels() -> None:
    datasets = pytest.importorskip("datasets")
    kind = datasets.Sequence(datasets.ClassLabel(names=["ant", "bee"]))
    features = datasets.Features({"image": datasets.Image(), "labels": kind})
    images = [Image.fromarray(pixels(i)) for i in range(3)]
    one = datasets.Dataset.from_dict({"image": images, "labels": [[0, 1], [], [1]]}, features=features)
    assert list_images(one, Columns()).labels == [["ant", "bee"], [], ["bee"]]


def test_each_type_of_a_mixed_list_has_its_own_scale() -> None:
    whole = np.array([[[0, 51, 255]]], dtype=np.uint8)
    forms = [whole, whole / 255, whole.astype(np.uint16) * 257, whole > 50]
    found = [np.asarray(item).tolist() for item in list_images(forms, Columns()).items]
    assert found == [[[[0, 51, 255]]]] * 3 + [[[[0, 255, 255]]]]


def test_the_image_with_values_that_are_not_finite_is_named() -> None:
    with pytest.raises(InputError, match=r"source\[1\] has values that are NaN or infinite"):
        list_images([np.zeros((4, 4)), np.full((4, 4), np.nan), np.ones((4, 4))], Columns())


def test_images_of_pillow_are_upright_as_their_files(tmp_path: Path) -> None:
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = tmp_path / f"{orientation}.png"
        Image.fromarray(pixels).save(file, exif=exif)
        with Image.open(file) as image:
            (item,) = list_images([image], Columns()).items
            assert image.size == (7, 5)  # left as it was
        assert np.array_equal(decode_image(item), decode_image(file))

"""From any source to splits that can be trained on: what is wrong is left out and named, what leaks is named."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from windvane.data.images import ImageDataset, read_images, read_unlabelled
from windvane.data.images.sources import Columns
from windvane.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "images"


def pixels(seed: int, height: int = 9, width: int = 7) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(seed: int, kind: str = "PNG", height: int = 9, width: int = 7) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(seed, height, width)).save(stream, format=kind)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 20 images each."""
    for label, start in (("cat", 0), ("dog", 20)):
        (tmp_path / label).mkdir()
        for i in range(20):
            (tmp_path / label / f"{i}.png").write_bytes(encoded(start + i))
    return tmp_path


def test_a_folder(folder: Path) -> None:
    images = read_images(folder)
    assert images.train.classes == ("cat", "dog")
    assert images.valid is not None
    assert (len(images.train), len(images.valid), images.test) == (32, 8, None)
    assert np.bincount(images.valid.labels).tolist() == [4, 4]
    assert not set(images.train.names) & set(images.valid.names)
    assert images.skipped == images.duplicates == ()
    for part in (images.train, images.valid):
        for i, name in enumerate(part.names):
            label, _, number = name.removesuffix(".png").partition("/")
            assert part.classes[part.labels[i]] == label
            assert np.array_equal(part.decode(i), pixels(int(number) + 20 * (label == "dog")))
    words = images.summary()
    assert "40 images of 2 classes: 32 to train, 8 to validate." in words
    assert "Each has 7 x 9 pixels" in words
    assert "8 of 40 training images were held out to validate (seed 0)" in words
    assert read_images(folder, seed=0).valid.names == images.valid.names  # type: ignore[union-attr]
    assert read_images(folder, seed=1).valid.names != images.valid.names  # type: ignore[union-attr]
    assert read_images(folder, valid=0).valid is None
    assert len(read_images(folder, valid=0.5).train) == 20


def test_a_folder_as_people_leave_it(folder: Path) -> None:
    """Everything that can be wrong with files, at once."""
    photo = encoded(50, "JPEG", 64, 64)
    (folder / "cat" / "corrupt.jpg").write_bytes(photo[:200] + bytes(500))
    (folder / "cat" / "cut.jpg").write_bytes(photo[: len(photo) // 2])
    (folder / "cat" / "empty.png").touch()
    (folder / "cat" / "notes.txt").write_text("not an image")
    (folder / "cat" / "bomb.png").write_bytes(b"")
    Image.new("1", (30_000, 3_000)).save(folder / "cat" / "bomb.png")
    (folder / "cat" / ".hidden.png").write_bytes(b"x")
    (folder / "cat" / "loop").symlink_to(folder)
    os.mkfifo(folder / "cat" / "pipe.png")
    (folder / "dog" / "\u72ac.png").write_bytes(encoded(51))
    (folder / "bird").mkdir()
    (folder / "fish").mkdir()
    (folder / "fish" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    kinds = {
        "grey.png": Image.fromarray(pixels(52)).convert("L"),
        "alpha.png": Image.fromarray(pixels(53)).convert("LA"),
    }
    kinds["palette.png"] = Image.fromarray(pixels(54)).convert("P")
    kinds["clear.png"] = Image.fromarray(pixels(55)).convert("RGBA")
    kinds["deep.png"] = Image.fromarray(pixels(56)[:, :, 0].astype(np.uint16) * 257)
    kinds["ink.jpg"] = Image.fromarray(pixels(57)).convert("CMYK")
    for name, image in kinds.items():
        image.save(folder / "dog" / name)
    images = read_images(folder)
    reasons = {one.name: one.reason for one in images.skipped}
    wrong = {"corrupt.jpg", "cut.jpg", "empty.png", "notes.txt", "bomb.png", "loop", "pipe.png"}
    assert {f"cat/{name}" for name in wrong} | {"fish/broken.png"} <= set(reasons)
    assert "cat/.hidden.png" not in reasons
    assert images.train.classes == ("cat", "dog")
    names = {*images.train.names, *images.valid.names}  # type: ignore[union-attr]
    assert {f"dog/{name}" for name in (*kinds, "\u72ac.png")} <= names
    assert len(names) == 47
    words = images.summary()
    assert "Without images: bird." in words
    assert "Left out because it is empty: cat/empty.png." in words
    assert images.train.load_array(8).shape == (len(images.train), 8, 8, 3)


def test_nothing_usable(tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "none"
    empty.mkdir()
    with pytest.raises(InputError, match="no training image that can be read and has a label"):
        read_images(empty)
    (empty / "a").mkdir()
    (empty / "a" / "x.png").touch()
    with pytest.raises(InputError, match=r"1 left out. Left out because it is empty: a/x.png"):
        read_images(empty)
    (empty / "a" / "x.png").write_bytes(encoded(0))
    with pytest.raises(InputError, match=r"one class only \(a\), but at least two are needed"):
        read_images(empty)
    with pytest.raises(InputError, match="no image that can be read"):
        read_unlabelled([b"x"])
    for valid in (1, -0.1, "a tenth"):
        with pytest.raises(InputError, match=r"valid=.* is not usable"):
            read_images(folder, valid=valid)  # type: ignore[arg-type]


def test_duplicates_and_leaks(folder: Path) -> None:
    (folder / "cat" / "again.bmp").write_bytes(encoded(3, "BMP"))  # twice, encoded otherwise
    (folder / "dog" / "wrong.png").write_bytes(encoded(4))  # a cat
    images = read_images(folder)
    assert {(one.names, one.same_label) for one in images.duplicates} == {
        (("cat/3.png", "cat/again.bmp"), True),
        (("cat/4.png", "dog/wrong.png"), False),
    }
    assert not any(one.leaks for one in images.duplicates)  # whoever holds out must not divide them
    for seed in range(5):
        assert not any(one.leaks for one in read_images(folder, seed=seed).duplicates)
    assert "under two labels, one of them wrong" in images.summary()


def test_leaks_between_given_splits() -> None:
    source = {"train": [pixels(i) for i in range(8)], "test": [pixels(i) for i in (3, 90, 91, 3)]}
    images = read_images(source, labels={"train": [0, 1] * 4, "test": [1, 0, 1, 1]}, valid=0)
    assert [one.names for one in images.duplicates] == [
        ("train/image 3", "test/image 0"),
        ("train/image 3", "test/image 3"),
    ]
    assert "2 images are in two splits, pixel for pixel" in images.summary()
    assert images.test is not None
    assert images.test.labels.tolist() == [1, 0, 1, 1]  # type: ignore[union-attr]


def test_groups_stay_together() -> None:
    table = pd.DataFrame({"image": [encoded(i) for i in range(60)], "label": ["ab"[i // 5 % 2] for i in range(60)]})
    table["name"] = [f"{i // 5}_{i % 5}" for i in range(60)]
    table["track"] = [i // 5 for i in range(60)]
    for groups in ("track", table["track"], lambda name: name.partition("_")[0]):
        images = read_images(table, groups=groups, valid=0.25)
        tracks = [{name.partition("_")[0] for name in part.names} for part in (images.train, images.valid) if part]
        assert not tracks[0] & tracks[1]
        assert len(images.valid) in (10, 15, 20)  # type: ignore[arg-type]


def test_arrays_with_labels() -> None:
    digits = load_digits()
    images = read_images(digits.images / 16, labels=digits.target)
    assert images.train.classes == tuple("0123456789")
    parts = [part for part in (images.train, images.valid) if part is not None]
    assert sum(map(len, parts)) == 1797
    first = images.train.names.index("image 5") if "image 5" in images.train.names else None
    if first is not None:
        assert np.array_equal(images.train.decode(first)[:, :, 0], np.rint(digits.images[5] / 16 * 255))
    with pytest.raises(InputError, match="labels has 3 values, but there are 1797 images"):
        read_images(digits.images, labels=[0, 1, 2])
    with pytest.raises(InputError, match=r"no training image .* has a label"):
        read_images(digits.images)


def test_several_labels() -> None:
    names = [["red"], ["red", "round"], ["round"], []] * 5
    images = read_images([pixels(i) for i in range(20)], labels=names, valid=0)
    assert images.train.classes == ("red", "round")
    assert images.train.labels.tolist()[:4] == [[1, 0], [1, 1], [0, 1], [0, 0]]  # type: ignore[union-attr]
    assert len(read_images([pixels(i) for i in range(20)], labels=names).valid) == 4  # type: ignore[arg-type]


def test_labels_beside_folders_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="folders of source are classes already"):
        read_images(folder, labels=[0] * 40)
    with pytest.raises(InputError, match="labels has the splits train, but source has train, test"):
        read_images({"train": np.zeros((2, 4, 4)), "test": np.zeros((2, 4, 4))}, labels={"train": [0, 1]})


def test_rows_without_image_or_label_are_named() -> None:
    table = pd.DataFrame({"image": [encoded(i) for i in range(12)], "label": ["a", "b"] * 6})
    table["image"] = table["image"].astype(object)
    table.loc[2, "image"] = None
    table.loc[3, "label"] = None
    images = read_images(table, groups=[i // 2 for i in range(12)], valid=0)
    assert {one.name: one.reason for one in images.skipped} == {
        "row 2": "there is no image",
        "row 3": "it has no label",
    }
    assert images.train.names[:3] == ("row 0", "row 1", "row 4")


@pytest.mark.parametrize(("height", "width", "size"), [(256, 256, 224), (320, 512, 224), (160, 96, 84), (32, 2000, 14)])
def test_the_center_is_cropped_from_the_resized_image(height: int, width: int, size: int) -> None:
    """The whole image is resized so that the short side is 8/7 of the size, then cropped; a smooth one shows where."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([128 + 100 * np.sin(4 * one / min(height, width)) for one in (y, x, x + y)], 2).astype(np.uint8)
    scale = size * 8 / 7 / min(height, width)
    shape = (round(width * scale), round(height * scale))
    left, top = ((side - size) // 2 for side in shape)
    resized = Image.fromarray(waves).resize(shape, Image.Resampling.BICUBIC)
    expected = np.asarray(resized.crop((left, top, left + size, top + size))).astype(int)
    found = ImageDataset([waves], None, (), ("waves",)).load(0, size, center=True)
    assert found.shape == (size, size, 3)
    assert np.abs(found - expected).max() <= 3


def test_an_image_set(folder: Path) -> None:
    train = read_images(folder, valid=0).train
    part = train.take([5, 0, 5])
    assert part.names == (train.names[5], train.names[0], train.names[5])
    assert len(train.take(train.labels == 1)) == 20
    assert np.array_equal(part.decode(1), train.decode(0))
    stretched = part.load_array(16)
    expected = Image.fromarray(train.decode(5)).resize((16, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(stretched[0], np.asarray(expected))
    squares = ImageDataset([pixels(i, 8, 8) for i in range(300)], None, (), tuple(map(str, range(300))))
    assert np.array_equal(squares.load_array(8), np.stack([pixels(i, 8, 8) for i in range(300)]))
    assert len(squares.take([]).load_array(4)) == 0
    again = pickle.loads(pickle.dumps(part))
    assert again.names == part.names
    (folder / train.names[0]).unlink()
    with pytest.raises(InputError, match=r"cat/0.png cannot be decoded: no such file"):
        train.decode(0)


def test_unlabelled(folder: Path) -> None:
    (folder / "loose.png").write_bytes(encoded(99))
    images = read_unlabelled(folder)
    assert len(images) == 41
    assert images.labels is None
    assert images.names[-1] == "loose.png"
    assert read_unlabelled(folder / "loose.png").names == ("loose.png",)
    assert len(read_unlabelled(np.zeros((3, 4, 4)))) == 3
    assert read_unlabelled(pd.DataFrame({"blob": [encoded(0)]}), columns=Columns(image="blob")).names == ("row 0",)
    (folder / "bad.png").touch()
    with pytest.warns(UserWarning, match=r"1 left out. Left out because it is empty: bad.png"):
        assert len(read_unlabelled(folder)) == 41


@pytest.mark.parametrize(("name", "classes"), [("math_symbols", 18), ("magnetic_tiles", 6)])
def test_real_images(name: str, classes: int) -> None:
    file = SHARED / f"{name}.parquet"
    if not file.exists():
        pytest.skip("the shared image sets are not here")
    images = read_images(file)
    assert len(images.train.classes) == classes
    assert images.skipped == ()
    assert images.test is not None
    index = pd.read_csv(SHARED / "index.csv").set_index("name").loc[name]
    assert len(images.test) == index.n_test
    assert len(images.train) + len(images.valid) == index.n_train  # type: ignore[arg-type]


def test_labels_of_a_folder_without_classes_need_a_list_of_files(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"has no folders of classes.*Allowed: a list of files"):
        read_images(tmp_path, labels=["a"])

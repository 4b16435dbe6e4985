"""The network of each kind of model computes what the model does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_folders import pictures, tiny_weights

from windvane import AutoImageClassifier, InputError
from windvane.data.task import Task
from windvane.evaluation.metrics import get_metric
from windvane.export.image_model import image_ensemble
from windvane.image_reader import ImageReader
from windvane.models import FAMILIES
from windvane.models.base import DataSplit, TrainingContext
from windvane.models.image_network import FromScratch
from windvane.persistence import Predictor
from windvane.runtime.columns.table import ImageColumn, Table
from windvane.runtime.ensemble import Ensemble, Member
from windvane.search.images.image_features import feature_schema
from windvane.vision.networks.ensemble import ImageEnsemble, _Calibration
from windvane.vision.transfer.frozen_features import FeatureExtractor, compute_views

CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("linear", {"C": 0.1}),
    ("linear", {"scale": "minmax"}),
    ("linear", {"scale": "normalise"}),
    ("linear", {"scale": "robust"}),
    ("network", {}),
    ("kernel", {"n_components": 64}),
    ("kernel", {"kernel": "polynomial", "n_components": 64}),
    ("extra_trees", {}),
    ("from_scratch", {"epochs": 10, "image_size": 32}),
    ("from_scratch", {"epochs": 10, "model": "resnet18", "image_size": 48}),
]


class Fixture:
    """A reader of two views, and the table of 60 images of three kinds."""

    def __init__(self, folder: Path, side: int) -> None:
        (folder / "weights").mkdir(parents=True)
        weights = tiny_weights(folder / "weights")
        small, kinds = pictures(60)
        self.pixels = small[:, :10].repeat(-(-side // 10), axis=1).repeat(-(-side // 10), axis=2)[:, :side, :side]
        self.pixels = np.ascontiguousarray(self.pixels)
        extractor = FeatureExtractor((weights,), folder / "features")
        matrix, views = compute_views(extractor, self.pixels, first_seconds=600, seconds=600)
        self.reader = ImageReader(side, views, (weights,), (1 / 3,) * 3, folder / "features")
        self.table = Table(matrix, matrix.shape[1], images=ImageColumn(self.pixels, np.arange(60), views))
        self.target = np.unique(kinds, return_inverse=True)[1].astype(np.int64)

    def predictor(self, *configs: tuple[str, dict[str, Any]], classes: int = 3) -> Predictor:
        rows = np.flatnonzero(self.target < classes)
        split = DataSplit(self.table.take(rows), self.target[rows])
        task = Task("multiclass", 60, self.table.n_columns, 3)
        models = []
        for family, config in configs:
            chosen = FAMILIES[family]
            model = chosen.create_model(config, split, split, TrainingContext(task, 0))
            model.train_until(2 if isinstance(chosen, FromScratch) else 30)
            models.append([model.fitted() if hasattr(model, "fitted") else _network(model)])
        members = tuple(Member(i, "c", family, 1 / len(configs)) for i, (family, _) in enumerate(configs))
        labels = np.array(["dark", "gray", "light"])
        return Predictor(
            schema=feature_schema(self.reader.views),
            classes=labels,
            ensemble=Ensemble(members, 0.1),
            models=models,
            task=task,
            metric=get_metric("log_loss", task, labels),
            folders=[[Path()] for _ in configs],
            images=self.reader,
        )

    def difference(self, network: ImageEnsemble, predictor: Predictor) -> float:
        pixels = self.pixels.copy()
        pixels[::2] = np.random.default_rng(1).integers(0, 256, pixels[::2].shape, dtype=np.uint8)
        expected = predictor.predict_raw(self.reader.table(pixels, np.zeros(60, dtype=np.bool_)))
        with torch.inference_mode():
            found = network(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
        return float(np.abs(found - expected).max())


def _network(model: Any) -> Any:
    from windvane.models.image_network import FittedImageNetwork

    return FittedImageNetwork(model._best())


@pytest.fixture(scope="module", params=[32, 160])
def fixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fixture:
    return Fixture(tmp_path_factory.mktemp("images"), request.param)


@pytest.mark.parametrize(("family", "config"), CONFIGS)
def test_a_network_of_each_family(family: str, config: dict[str, Any], fixture: Fixture) -> None:
    predictor = fixture.predictor((family, config))
    network, same = image_ensemble(predictor, lambda families, numbers: None)
    assert same is predictor
    assert fixture.difference(network, predictor) < (0.02 if family == "extra_trees" else 3e-3)


def test_a_blend_with_a_temperature_and_a_class_that_training_lacked(fixture: Fixture) -> None:
    predictor = fixture.predictor(("linear", {}), ("network", {}), ("kernel", {"n_components": 64}), classes=2)
    predictor = replace(predictor, ensemble=replace(predictor.ensemble, temperature=1.7))
    network, _ = image_ensemble(predictor, lambda families, numbers: None)
    assert fixture.difference(network, predictor) < 3e-3


@pytest.mark.parametrize("roots", [False, True])
def test_fold_models_are_averaged_as_the_ensemble_does(roots: bool, fixture: Fixture) -> None:
    predictor = fixture.predictor(("linear", {}), ("linear", {"C": 0.01}), ("network", {}))
    members = (Member(0, "c", "linear", 0.6, temperature=0.7), Member(1, "c", "network", 0.4, temperature=1.4))
    models = [[predictor.models[0][0], predictor.models[1][0]], predictor.models[2]]
    ensemble = Ensemble(members, 0.1, averages_roots=roots)
    predictor = replace(predictor, ensemble=ensemble, models=models, folders=[[Path(), Path()], [Path()]])
    network, _ = image_ensemble(predictor, lambda families, numbers: None)
    assert fixture.difference(network, predictor) < 3e-3


@pytest.mark.parametrize("knots", [(0.2, 0.5), (0.05, 0.3, 0.31, 0.9), (0.0, 0.4, 1.0)])
def test_calibrated_probabilities(knots: tuple[float, ...]) -> None:
    values = tuple(np.linspace(0.1, 0.95, len(knots)).tolist())
    ensemble = Ensemble((Member(0, "c", "linear", 1.0),), 0.1, calibration=(knots, values))
    second = np.concatenate([np.linspace(0, 1, 101), knots])
    blend = np.column_stack([1 - second, second])
    found = _Calibration(ensemble)(torch.from_numpy(blend.astype(np.float32))).numpy()
    np.testing.assert_allclose(found, ensemble.calibrate(blend), atol=1e-5)


def test_what_torch_cannot_express_makes_way(fixture: Fixture) -> None:
    odd = fixture.predictor(("linear", {"scale": "quantile"}))
    other = fixture.predictor(("linear", {}))
    asked = []

    def select_again(families: Any, numbers: Any) -> Predictor:
        asked.append(set(numbers))
        return other

    with pytest.warns(UserWarning, match="loss 0.1 there"):
        assert image_ensemble(odd, select_again)[1] is other
    assert asked == [{0}]
    with pytest.raises(InputError, match="no network for these models of the ensemble: linear"):
        image_ensemble(odd, lambda families, numbers: None)


def test_pixels_are_features_where_there_are_no_weights(tmp_path: Path) -> None:
    pixels, kinds = pictures(45)
    model = AutoImageClassifier(
        120, weights=[], families=["linear"], n_trials=1, n_jobs=1, random_state=0, verbose=0
    ).fit(pixels, kinds)
    network = model.to_torch()
    square = model.predictor_.images.read(pixels).images.pixels  # type: ignore[union-attr]
    with torch.inference_mode():
        found = network(torch.from_numpy(square).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found, model.predict_proba(pixels), atol=1e-3)

"""Networks as families of the search: they learn, resume bit for bit, and keep their deadlines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_folders import KINDS, pictures, tiny_weights
from sklearn.linear_model import LogisticRegression

from windvane.data.splits import Fold
from windvane.data.task import Task
from windvane.errors import InputError
from windvane.evaluation.metrics import get_metric
from windvane.models.base import Config, DataSplit, TrainingContext
from windvane.models.image_network import (
    AUGREG_NAMES,
    FineTune,
    FromScratch,
    check_weights,
    image_dataset,
)
from windvane.runtime.columns.table import ImageColumn, Table
from windvane.search.problem import Problem
from windvane.search.train_trial import train_trial
from windvane.search.trial import Trial
from windvane.vision.augment.augreg import AUGREG_LEVELS
from windvane.vision.augment.batch import normalize
from windvane.vision.networks.block_features import Projection, block_features
from windvane.vision.transfer.linear_probe import C_VALUES

TASK = Task("multiclass", 48, 3, 3)
CONTEXT = TrainingContext(TASK, seed=3)
SCRATCH: Config = {"epochs": 10, "image_size": 32}


def splits() -> tuple[DataSplit, DataSplit]:
    pixels, kinds = pictures(66)
    target = np.array([list(KINDS).index(kind) for kind in kinds])
    table = Table(np.zeros((66, 3)), 3, images=ImageColumn(pixels[:, :10], np.arange(66)))
    return tuple(DataSplit(table.take(rows), target[rows]) for rows in (np.arange(48), np.arange(48, 66)))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


def test_a_network_from_scratch_learns_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    train, validation = splits()
    whole = FromScratch().create_model(SCRATCH, train, validation, CONTEXT)
    whole.train_until(2)
    first = FromScratch().create_model(SCRATCH, train, validation, CONTEXT)
    first.train_until(1)
    first.save(tmp_path)
    resumed = FromScratch().create_model(SCRATCH, train, validation, CONTEXT, tmp_path)
    assert resumed.iterations == 1
    np.testing.assert_array_equal(resumed.predict(validation.table), first.predict(validation.table))
    resumed.train_until(2)
    assert (whole._run is not None) and (resumed._run is not None)
    for name, value in whole._run.network.state_dict().items():
        np.testing.assert_array_equal(value, resumed._run.network.state_dict()[name], name)
    probabilities = whole.predict(validation.table)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (probabilities.argmax(axis=1) == validation.target).mean() > 0.5


def test_a_fine_tuned_network_starts_as_good_as_its_probe_and_opens_without_its_weights(
    weights: str, tmp_path: Path
) -> None:
    train, validation = splits()
    family = FineTune((weights,))
    model = family.create_model({"epochs": 2, "image_size": 64}, train, validation, CONTEXT)
    model.train_until(1)
    assert model._run is not None
    history = model._run.history
    assert history[0].step == 0  # the probe
    assert max(one.valid_accuracy for one in history) >= history[0].valid_accuracy > 0.6
    model.save(tmp_path)
    loaded = FineTune().load(tmp_path, CONTEXT)
    np.testing.assert_array_equal(loaded.predict(validation.table), model.predict(validation.table))


def test_fine_tuning_starts_as_logistic_regression_on_what_all_blocks_see(weights: str) -> None:
    train, validation = splits()
    model = FineTune((weights,)).create_model({"epochs": 2, "image_size": 64}, train, validation, CONTEXT)
    run = model._start(np.inf)
    network: Any = run.network.eval()
    seen = []
    for split in (train, validation):
        pixels = torch.from_numpy(image_dataset(split.table.images, None, 3).load_array(64)).permute(0, 3, 1, 2)
        with torch.no_grad():
            seen.append(block_features(network, normalize(pixels, run.recipe)))
            logits = network(normalize(pixels, run.recipe))
    order = np.random.default_rng(run.recipe.seed).permutation(48)
    firsts = np.unique(train.target[order], return_index=True)[1]
    order = np.concatenate([order[firsts], np.delete(order, firsts)])
    projection = Projection.fit(seen[0].numpy()[order])
    assert run.recipe.block_components == len(projection.offset) == 47
    z, z_valid = (projection(one.numpy()).astype(np.float64) for one in seen)
    scale = z.std(axis=0)
    candidates = []
    for C in C_VALUES:
        expected = LogisticRegression(C=C, max_iter=200).fit((z - z.mean(axis=0)) / scale, train.target)
        candidates.append(expected.predict_proba((z_valid - z.mean(axis=0)) / scale))
    found = logits.softmax(dim=1).numpy()
    assert min(np.abs(found - one).max() for one in candidates) < 0.02
    for _, _, loss in run.micro_batch_losses(network, normalize(pixels, run.recipe), torch.eye(3)[validation.target]):
        loss.backward()
    gradients = {name: one.grad for name, one in network.named_parameters()}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())


def test_a_deadline_ends_the_training_with_a_finished_network() -> None:
    train, validation = splits()
    model = FromScratch().create_model({"epochs": 300, "image_size": 32}, train, validation, CONTEXT)
    started = time.monotonic()
    model.train_until(300, started + 4.0)
    assert time.monotonic() - started < 30  # the machine may be busy
    assert model.finished
    assert 1 <= model.iterations < 300


def test_a_learning_rate_that_diverges_ends_its_trial_alone(tmp_path: Path) -> None:
    train, validation = splits()
    table = Table(
        np.concatenate([train.table.matrix, validation.table.matrix]),
        3,
        images=ImageColumn(train.table.images.pixels, np.arange(66)) if train.table.images else None,
    )
    target = np.concatenate([train.target, validation.target])
    metric = get_metric("log_loss", TASK, np.array(list(KINDS)))
    problem = Problem(TASK, metric, table, target, None, (Fold(np.arange(48), np.arange(48, 66)),), 0)
    config: Config = {**SCRATCH, "learning_rate": 1e30}
    trial = train_trial(Trial(0, "from_scratch", config, "sampler", 0), problem, FromScratch(), tmp_path, print)
    assert (trial.status, trial.usable) == ("failed", False)
    assert trial.error is not None and "A lower learning rate" in trial.error


def test_families_of_images_leave_tables_alone(weights: str) -> None:
    table = Table(np.zeros((4, 1)), 1)
    images = splits()[0].table
    assert not FromScratch().supports(TASK, table)
    assert not FineTune((weights,)).supports(TASK, table)
    assert not FineTune().supports(TASK, images)
    assert FineTune((weights,)).supports(TASK, images)


def test_epochs_of_checkpoints() -> None:
    assert FromScratch().checkpoint_iterations({"epochs": 40}, TASK) == (10, 20, 40)
    assert FromScratch().checkpoint_iterations({"epochs": 10}, TASK) == (3, 5, 10)


def test_images_are_not_copied() -> None:
    images = splits()[0].table.images
    assert images is not None
    dataset = image_dataset(images, None, 3)
    assert np.shares_memory(dataset.items[5], images.pixels)


def test_weights_are_checked(tmp_path: Path) -> None:
    assert check_weights(["timm/resnet18", "timm/resnet18"]) == ("timm/resnet18",)
    assert check_weights([]) == ()
    for wrong in (["nothing"], 3, [3], [f"resnet18={tmp_path / 'none.pth'}"]):
        with pytest.raises(InputError, match="weights="):
            check_weights(wrong)


def test_the_names_of_the_levels_are_those_of_vision() -> None:
    assert tuple(AUGREG_LEVELS) == AUGREG_NAMES

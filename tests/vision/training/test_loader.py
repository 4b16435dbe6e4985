from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from pictures import image_set, noise, tiny_recipe

from windvane.data.images.dataset import ImageDataset
from windvane.runtime.images import crop_center, resize_square
from windvane.vision.training.device import DeviceContext
from windvane.vision.training.loader import (
    EpochSampler,
    InMemoryLoader,
    Loader,
    StreamingLoader,
    make_loader,
    sequential_batches,
)

CPU = DeviceContext(torch.device("cpu"), bfloat16=False)


@pytest.mark.parametrize(("n", "batch", "steps"), [(10, 3, 3), (10, 5, 2), (4, 100, 1), (1, 1, 1)])
def test_an_epoch_takes_every_row_at_most_once(n: int, batch: int, steps: int) -> None:
    sampler = EpochSampler(n, batch, seed=0)
    assert sampler.steps_per_epoch == steps
    for epoch in range(3):
        rows = torch.cat([sampler.batch_indices(epoch * steps + i) for i in range(steps)]).tolist()
        assert len(rows) == steps * sampler.batch_size == len(set(rows))
        assert set(rows) <= set(range(n))


def test_rows_depend_on_seed_and_step_alone() -> None:
    def batches(seed: int, steps: range) -> list[list[int]]:
        sampler = EpochSampler(50, 8, seed)
        return [sampler.batch_indices(step).tolist() for step in steps]

    kept = batches(3, range(20))
    assert batches(3, range(13, 20)) == kept[13:]
    assert kept[:6] != kept[6:12]
    assert batches(4, range(20)) != kept


def test_processes_share_each_batch() -> None:
    whole = EpochSampler(40, 8, seed=0)
    parts = [EpochSampler(40, 8, seed=0, rank=rank, world_size=3) for rank in range(3)]
    for step in range(7):
        rows = [row for part in parts for row in part.batch_indices(step).tolist()]
        assert Counter(rows) == Counter(whole.batch_indices(step).tolist())


@pytest.mark.parametrize(("n", "world"), [(10, 1), (10, 3), (1, 3)])
def test_one_pass_takes_every_row_once(n: int, world: int) -> None:
    batches = [rows for rank in range(world) for rows in sequential_batches(n, 4, rank, world)]
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert all(len(rows) for rows in batches)


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_both_kinds_give_the_same_plain_images(workers: int | None) -> None:
    images, recipe = noise(11), tiny_recipe()
    loader: Loader = (
        InMemoryLoader(images, recipe, CPU) if workers is None else StreamingLoader(images, recipe, CPU, workers)
    )
    found = list(loader.eval_batches(4))
    pixels, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    assert torch.equal(pixels, torch.from_numpy(np.stack(images.items)).permute(0, 3, 1, 2))
    assert labels.tolist() == (np.arange(11) % 3).tolist()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core
def test_worker_processes_crop_the_same_for_the_same_step() -> None:
    recipe = tiny_recipe(crop="random_resized_crop")
    sampler = EpochSampler(6, 6, seed=0)
    found = []
    for workers, step in ((0, 1), (2, 1), (0, 2)):
        loader = StreamingLoader(noise(6, 20), recipe, CPU, workers)
        assert loader.crops
        pixels, _ = next(loader.train_batches(sampler, step))
        pixels = pixels[sampler.batch_indices(step).argsort()]
        assert pixels.shape == (6, 3, 8, 8)
        found.append(pixels)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_crop_of_nearly_all_is_a_resized_image() -> None:
    image = np.linspace(0, 255, 24 * 24 * 3).reshape(24, 24, 3).astype(np.uint8)
    images = image_set(np.stack([image]), np.zeros(1), 2)
    recipe = tiny_recipe(crop="random_resized_crop", min_crop_area=0.999)
    cropped, _ = next(StreamingLoader(images, recipe, CPU, 0).train_batches(EpochSampler(1, 1, seed=0), 0))
    ((plain, _),) = StreamingLoader(images, tiny_recipe(), CPU, 0).eval_batches(1)
    # A part of nearly the whole area loses up to an eighth of a side where its sides differ.
    assert float((cropped.float() - plain.float()).abs().mean()) < 20


def test_what_does_not_fit_is_decoded_when_needed() -> None:
    assert isinstance(make_loader(noise(4), tiny_recipe(), CPU), InMemoryLoader)
    huge = noise(2).take(np.zeros(200_000, dtype=np.int64))
    assert isinstance(make_loader(huge, tiny_recipe(image_size=224), CPU), StreamingLoader)


def test_without_labels_they_are_minus_one() -> None:
    images = image_set(np.zeros((2, 8, 8, 3), np.uint8), None, 2)
    ((_, labels),) = InMemoryLoader(images, tiny_recipe(), CPU).eval_batches(2)
    assert labels.tolist() == [-1, -1]


def test_the_center_is_evaluated_and_whole_images_are_trained_on() -> None:
    rng = np.random.default_rng(0)
    items = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((20, 31, 3), (40, 16, 3), (16, 16, 3))]
    images = ImageDataset(items, np.zeros(3, np.int64), ("a", "b"), ("1", "2", "3"))
    recipe = tiny_recipe(eval_crop="center")
    expected = torch.from_numpy(np.stack([crop_center(item, 8) for item in items])).permute(0, 3, 1, 2)
    squeezed = torch.from_numpy(np.stack([resize_square(item, 8) for item in items])).permute(0, 3, 1, 2)
    for loader in (InMemoryLoader(images, recipe, CPU), StreamingLoader(images, recipe, CPU, 0)):
        ((found, _),) = loader.eval_batches(3)
        assert torch.equal(found, expected)
    sampler = EpochSampler(3, 3, seed=0)
    for loader in (make_loader(images, recipe, CPU, for_training=True), StreamingLoader(images, recipe, CPU, 0)):
        trained_on, _ = next(loader.train_batches(sampler, 0))
        assert torch.equal(trained_on, squeezed[sampler.batch_indices(0)])

"""Tensors, arrays, data sets, loaders and iterables yield the same batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from windvane.errors import InputError
from windvane.inspect.batches import image_batches, image_size, image_tensor, iter_batches, known_length, paired_batches

X = torch.arange(60.0).reshape(10, 6)


@pytest.mark.parametrize(
    "data",
    [
        X,
        X.numpy(),
        TensorDataset(X, torch.zeros(10)),
        DataLoader(TensorDataset(X, torch.zeros(10)), 4),
        [X[:4], X[4:8], X[8:]],
        [(X[:4], 0), (X[4:8], 0), (X[8:], 0)],
        [X[:4].numpy(), X[4:8].numpy(), X[8:].numpy()],
    ],
    ids=["tensor", "array", "data set", "loader", "batches", "with targets", "arrays"],
)
def test_every_kind_of_data(data: Any) -> None:
    assert [len(one) for one in iter_batches(data, 4)] == [4, 4, 2]
    assert torch.equal(torch.cat(list(iter_batches(data, 4))), X)
    assert [len(one) for one in iter_batches(data, 4, 7)] == [4, 3]
    assert torch.equal(torch.cat(list(iter_batches(data, 4, 7))), X[:7])


def test_labels_of_mappings_are_left_out() -> None:
    (batch,) = iter_batches([{"pixel_values": X, "labels": torch.zeros(10)}], 4)
    assert set(batch) == {"pixel_values"}


@pytest.mark.parametrize(
    ("data", "n_images", "message"),
    [
        (X, 11, "n_images=11, but data has 10 images"),
        (iter([X]), 11, "n_images=11, but data has 10 images"),
        (X, 0, "n_images=0 is not usable. Allowed: 1 or more"),
        ([], None, "data has no images"),
        (3, None, "data is int"),
        ("folder", None, "data is str"),
        (["folder"], None, "batches of type str"),
        (X.to(torch.uint8), None, "uint8"),
        (np.zeros((4, 2), np.uint8), None, "uint8"),
    ],
)
def test_unusable_data(data: Any, n_images: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(iter_batches(data, 4, n_images))


def test_batch_size_is_checked() -> None:
    with pytest.raises(InputError, match="batch_size=0"):
        list(iter_batches(X, 0))


def test_one_source_for_all_networks() -> None:
    for left, right in paired_batches(X, 2, 4, None):
        assert left is right


def test_one_source_for_each_network() -> None:
    steps = list(paired_batches((X, X[:, :2]), 2, 4, 9))
    assert [(tuple(a.shape), tuple(b.shape)) for a, b in steps] == [
        ((4, 6), (4, 2)),
        ((4, 6), (4, 2)),
        ((1, 6), (1, 2)),
    ]


def test_unequal_pairs() -> None:
    with pytest.raises(InputError, match=r"batches of \[2, 1\] images"):
        list(paired_batches((X, X[:9]), 2, 4, None))
    with pytest.raises(InputError, match="tuple of 3, but there are 2 networks"):
        list(paired_batches((X, X, X), 2, 4, None))


def test_known_length() -> None:
    assert known_length(X) == known_length(DataLoader(TensorDataset(X))) == 10
    assert known_length([X]) is None


def test_shuffling_loaders_cannot_be_paired() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(8, 3)), 4, shuffle=True)
    with pytest.raises(InputError, match="the networks would see different images"):
        next(paired_batches((loader, loader), 2, 4, None))
    assert next(paired_batches(loader, 2, 4, None))[0].shape == (4, 3)  # one for both is drawn once


def test_batches_come_with_their_images() -> None:
    model, x = nn.Conv2d(3, 1, 1), torch.randn(5, 3, 6, 8)
    parts = list(image_batches(model, x, 2))
    assert [len(images) for _, images in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([images for _, images in parts]), x)
    assert image_size(parts[0][1]) == (6, 8)
    named = [{"mask": torch.ones(2), "pixel_values": x[:2]}]
    ((batch, images),) = image_batches(model, named, 2)
    assert set(batch) == {"mask", "pixel_values"}
    assert torch.equal(images, x[:2])
    assert sum(len(images) for _, images in image_batches(nn.Identity(), x, 2, n_images=3)) == 3


def test_batches_without_images() -> None:
    with pytest.raises(InputError, match=r"data has tensors of shape \[\(4, 7\)\]. Allowed: images"):
        image_tensor(torch.zeros(4, 7))

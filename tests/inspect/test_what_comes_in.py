"""Every analysis refuses anything but a network and images with one error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from vision_toys import images, small_resnet, small_vit

from windvane import inspect
from windvane.errors import InputError

OF_BATCHES = (
    inspect.skip_ratios,
    inspect.receptive_fields,
    inspect.localization,
    inspect.attention_distance,
    inspect.collect_activations,
    lambda model, data: inspect.compare(model, model, data),
)
OF_ONE_BATCH = (inspect.attention_maps, inspect.head_outputs, inspect.layer_names)
OF_IMAGES = (inspect.grad_cam, inspect.attention_rollout)


@pytest.mark.parametrize("analysis", [*OF_BATCHES, *OF_ONE_BATCH, *OF_IMAGES, inspect.without_skip])
def test_what_is_no_network(analysis: Any) -> None:
    with pytest.raises(InputError, match="model is of type str"):
        analysis("resnet18", images())


@pytest.mark.parametrize("analysis", [*OF_BATCHES, *OF_ONE_BATCH, *OF_IMAGES])
@pytest.mark.parametrize("given", [torch.zeros(4, 3, 32, 32, dtype=torch.uint8), None, [1, 2], "images/"])
def test_what_are_no_images(analysis: Any, given: Any) -> None:
    with pytest.raises(InputError, match=r"^(data|images) (is|has|are) "):
        analysis(small_vit(), given)


@pytest.mark.parametrize("analysis", [*OF_ONE_BATCH, inspect.attention_rollout])
def test_arrays_are_images(analysis: Any) -> None:
    found, expected = (analysis(small_vit(), one) for one in (images().numpy(), images()))
    if isinstance(found, inspect.SaliencyMaps):
        np.testing.assert_array_equal(found.values, expected.values)
    assert list(found) == list(expected) if isinstance(found, dict) else type(found) is type(expected)


def test_one_image_and_layers_that_are_no_names() -> None:
    with pytest.raises(InputError, match=r"images has the shape \(3, 32, 32\)"):
        inspect.grad_cam(small_resnet(), images()[0])
    with pytest.raises(InputError, match="layers=None is not usable"):
        inspect.layer_names(small_resnet(), images(), None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="layers is empty"):
        inspect.attention_maps(small_vit(), images(), [])
    with pytest.raises(InputError, match="models is of type VisionTransformer"):
        inspect.head_similarity(small_vit(), images())  # type: ignore[arg-type]

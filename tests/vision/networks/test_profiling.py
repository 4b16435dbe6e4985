from __future__ import annotations

import time

import pytest
import torch
from pictures import noise, tiny_recipe
from torch import nn

from windvane.vision.networks import profiling
from windvane.vision.networks.cpu_bfloat16 import DepthwiseConv2d
from windvane.vision.networks.create import create_model
from windvane.vision.networks.profiling import (
    FEW,
    MANY,
    Timing,
    choose_precision,
    measure_timing,
    seconds_per_image,
)
from windvane.vision.training.device import DeviceContext

CPU = DeviceContext(torch.device("cpu"), bfloat16=False)


def test_every_cost_is_measured() -> None:
    recipe = tiny_recipe()
    network = create_model(recipe, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    timing = measure_timing(network, recipe, noise(20), CPU, (0.5, 0.0))
    assert timing.size == 8
    assert set(timing.train_step) == {0.0, 0.5}
    assert min(timing.decode, timing.forward, *timing.train_step.values()) > 0.0
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_networks_cost_by_the_pixel() -> None:
    assert Timing(224, 0.0, 1.0, {}).scale(112) == pytest.approx(0.25)


@pytest.mark.parametrize(("each", "counts"), [(0.0, [FEW, FEW, MANY]), (0.3, [FEW, FEW])])
def test_slow_work_is_measured_on_few_images(each: float, counts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked, now = [], [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def work(n: int) -> None:
        asked.append(n)
        now[0] += each * n

    assert seconds_per_image(work, CPU) == pytest.approx(each)
    assert asked == counts


@pytest.mark.parametrize("has", [True, False])
def test_large_networks_use_the_bfloat16_of_a_cpu(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)

    def network(groups: int, channels: int = 8) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, channels, 3, groups=groups))

    for macs, expected in ((30_000_000, has), (2_000_000, False)):
        monkeypatch.setattr(profiling, "count_macs", lambda network, image_size, macs=macs: macs)
        assert choose_precision(CPU, network(1), tiny_recipe()).bfloat16 == expected
        assert choose_precision(CPU, network(8), tiny_recipe()).bfloat16 == expected
        assert not choose_precision(CPU, network(4), tiny_recipe()).bfloat16
        assert not choose_precision(CPU, network(1), tiny_recipe(precision="float32")).bfloat16


def test_strides_over_the_whole_input_stay_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch leaves parts of their gradients unset in bfloat16."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    network = create_model(tiny_recipe(model="resnet10t", model_kwargs={}), 10)
    for size, expected in ((16, False), (32, True)):
        recipe = tiny_recipe(model="resnet10t", model_kwargs={}, image_size=size)
        assert profiling.count_macs(network, size) >= 5e6
        assert choose_precision(CPU, network, recipe).bfloat16 == expected


def test_only_networks_in_bfloat16_get_other_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(profiling, "count_macs", lambda network, image_size: 30_000_000)
    for precision, expected in (("auto", True), ("float32", False)):
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8))
        choose_precision(CPU, network, tiny_recipe(precision=precision))
        assert isinstance(network[1], DepthwiseConv2d) == expected

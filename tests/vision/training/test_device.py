from __future__ import annotations

import pytest
import torch

from windvane.errors import InputError
from windvane.vision.training.device import DeviceContext, derive_seed, find_device


def test_the_cpu_is_always_there() -> None:
    device = find_device("cpu", "auto")
    assert (device.device.type, device.bfloat16, device.world_size, device.is_main) == ("cpu", False, 1, True)
    assert device.sync_interval == 1
    assert find_device("cpu", "bfloat16").bfloat16
    assert find_device(None, "float32").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(InputError, match=f"device='{device}' is not usable"):
        find_device(device, "auto")


def test_randomness_comes_from_seed_and_numbers() -> None:
    device = DeviceContext(torch.device("cpu"), bfloat16=False)
    with torch.random.fork_rng():
        draws = []
        for seed, step, rank in ((0, 5, 0), (0, 5, 0), (0, 6, 0), (1, 5, 0), (0, 5, 1)):
            generator = DeviceContext(device.device, False, rank=rank, world_size=2).seed(seed, step)
            draws.append((float(torch.rand(())), float(torch.rand((), generator=generator))))
    assert draws[0] == draws[1]
    assert len({value for pair in draws for value in pair}) == 8
    assert derive_seed(1, 2) != derive_seed(2, 1)
    assert 0 <= derive_seed(0) < 2**63


def test_products_are_taken_in_bfloat16_where_asked() -> None:
    one = torch.eye(2)
    for wanted, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        with DeviceContext(torch.device("cpu"), bfloat16=wanted).autocast():
            assert (one @ one).dtype == dtype


def test_one_process_adds_up_alone() -> None:
    device = DeviceContext(torch.device("cpu"), bfloat16=False)
    numbers = torch.tensor([1.0, 2.0])
    assert torch.equal(device.all_reduce_sum(numbers), numbers)
    network = torch.nn.Linear(2, 2)
    assert device.wrap_model(network, compiled=False) is network

"""Where a network is trained: the CPU, one GPU, or several with one process each (by accelerate).

All randomness of a step comes from (seed, step, process), so that a run that is resumed needs no kept generators and
any step can be repeated exactly.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from windvane.errors import InputError

# With fewer products an image, casting costs more than a CPU gains: 0.6 times as fast at 7 million, 1.5 to 2.0
# times from 30 million on (AVX-512 BF16, two cores).
_ENOUGH_PRODUCTS = 2e7
_CPU_MEMORY, _GPU_MEMORY = 2 * 2**30, 0.25  # what images may take: bytes of the CPU's, share of the GPU's


@dataclass(frozen=True)
class DeviceContext:
    """A device and the processes that train together.

    Attributes
    ----------
    device
        Of this process.
    bfloat16
        Whether products are taken in bfloat16.
    rank, world
        Number of this process, and how many there are.
    accelerator
        Of accelerate, where there is more than one process.
    """

    device: torch.device
    bfloat16: bool
    rank: int = 0
    world: int = 1
    accelerator: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes and tells."""
        return self.rank == 0

    @property
    def look_every(self) -> int:
        """Steps between two looks at the numbers; a GPU would wait for each look."""
        return 1 if self.device.type == "cpu" else 16

    @property
    def image_bytes(self) -> float:
        """How much memory the images of a set may take on the device."""
        if self.device.type == "cuda":
            return _GPU_MEMORY * torch.cuda.get_device_properties(self.device).total_memory
        return _CPU_MEMORY

    def spread(self, network: nn.Module, compiled: bool) -> nn.Module:
        """Make the module that is called in training; its parameters are those of the network.

        Parameters
        ----------
        network
            On the device.
        compiled
            Whether to compile it.

        Returns
        -------
        Module
            The network itself, or wrapped.
        """
        module: Any = torch.compile(network) if compiled else network
        spread: nn.Module = module if self.accelerator is None else self.accelerator.prepare_model(module)
        return spread

    def seed(self, seed: int, *numbers: int) -> torch.Generator:
        """Seed torch's own generators (dropout), and give another one (augmentation).

        Parameters
        ----------
        seed
            Root of the run.
        *numbers
            What the randomness is for, as the step.

        Returns
        -------
        Generator
            Of the CPU.
        """
        first, second = derive_seed(seed, self.rank, *numbers), derive_seed(seed, self.rank, *numbers, 1)
        torch.manual_seed(first)
        return torch.Generator().manual_seed(second)

    def autocast(self) -> torch.autocast:
        """Take products in bfloat16, where the recipe and the device allow."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    def total(self, numbers: Tensor) -> Tensor:
        """Add up numbers of all processes."""
        return numbers if self.accelerator is None else self.accelerator.reduce(numbers, reduction="sum")


def find_device(device: str | None, precision: str) -> DeviceContext:
    """Find where to train.

    Parameters
    ----------
    device
        As torch names it: "cpu", "cuda", "cuda:1"; None for a GPU where there is one. Under ``accelerate launch`` or
        ``torchrun`` each process takes its own.
    precision
        Of the recipe.

    Returns
    -------
    Place
        The device, and the processes.

    Raises
    ------
    InputError
        Where there is no such device.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=device == "cpu")
        where = accelerator.device
        rank, world = accelerator.process_index, accelerator.num_processes
        return DeviceContext(where, _wants_bfloat16(precision, where), rank, world, accelerator)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    try:
        where = torch.device(name)
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={device!r} is not usable: {str(error).splitlines()[0]}") from error
    return DeviceContext(where, _wants_bfloat16(precision, where))


def with_cpu_bfloat16(place: DeviceContext, products: int) -> DeviceContext:
    """Take products in bfloat16 on a CPU that multiplies them faster, where they are enough to gain by it.

    Parameters
    ----------
    place
        As found.
    products
        Of the network, for an image (`windvane.vision.count_macs`).

    Returns
    -------
    Place
        The same, or with bfloat16.
    """
    if place.device.type != "cpu" or products < _ENOUGH_PRODUCTS:
        return place
    return replace(place, bfloat16=torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def derive_seed(*numbers: int) -> int:
    """Make one seed out of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _wants_bfloat16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"

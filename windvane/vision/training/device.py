"""Where a network is trained: the CPU, one GPU, or several with one process each (by accelerate).

All randomness of a step comes from (seed, step, process), so a resumed run needs no saved generators, and any step can
be repeated exactly.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from windvane.errors import InputError

_CPU_CACHE, _GPU_CACHE = 2 * 2**30, 0.25  # memory for images: bytes on a CPU, fraction of the memory of a GPU


@dataclass(frozen=True)
class DeviceContext:
    """A device, its precision, and the processes that train together."""

    device: torch.device
    bfloat16: bool  # whether products are taken in bfloat16
    rank: int = 0  # number of this process
    world_size: int = 1
    accelerator: Any = None  # of accelerate, if there are several processes

    @property
    def is_main(self) -> bool:
        """Whether this process writes and logs."""
        return self.rank == 0

    @property
    def sync_interval(self) -> int:
        """Steps between two checks of the numbers; a GPU has to wait for each."""
        return 1 if self.device.type == "cpu" else 16

    @property
    def image_cache_bytes(self) -> float:
        """Memory that the images of a dataset may take on the device."""
        if self.device.type == "cuda":
            return _GPU_CACHE * torch.cuda.get_device_properties(self.device).total_memory
        return _CPU_CACHE

    def wrap_model(self, network: nn.Module, compiled: bool) -> nn.Module:
        """Compile a network, or wrap it for several processes; the parameters stay those of the network."""
        module: Any = torch.compile(network) if compiled else network
        wrapped: nn.Module = module if self.accelerator is None else self.accelerator.prepare_model(module)
        return wrapped

    def seed(self, seed: int, *numbers: int) -> torch.Generator:
        """Seed torch's global generators (dropout) by a seed and, say, a step; return one of the CPU (augmentation)."""
        torch.manual_seed(derive_seed(seed, self.rank, *numbers))
        return torch.Generator().manual_seed(derive_seed(seed, self.rank, *numbers, 1))

    def fork_rng(self) -> AbstractContextManager[None]:
        """Leave the caller's random generators as they are."""
        devices = [self.device] if self.device.type == "cuda" else []
        context: AbstractContextManager[None] = torch.random.fork_rng(devices=devices)
        return context

    def autocast(self) -> torch.autocast:
        """Take products in bfloat16, if the recipe and the device allow it."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        """Sum a tensor over all processes."""
        return numbers if self.accelerator is None else self.accelerator.reduce(numbers, reduction="sum")


def find_device(device: str | None, precision: str) -> DeviceContext:
    """Return the device of a name as in torch, such as "cpu" or "cuda:1"; None for a GPU if there is one."""
    # Under ``accelerate launch`` or ``torchrun`` each process takes its own device. `precision` is that of a recipe.
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=device == "cpu")
        where = accelerator.device
        rank, world_size = accelerator.process_index, accelerator.num_processes
        return DeviceContext(where, _wants_bfloat16(precision, where), rank, world_size, accelerator)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    try:
        where = torch.device(name)
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={device!r} is not usable: {str(error).splitlines()[0]}") from error
    return DeviceContext(where, _wants_bfloat16(precision, where))


def derive_seed(*numbers: int) -> int:
    """Return one seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _wants_bfloat16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"

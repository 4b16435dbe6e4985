"""Helpers for torch networks that vision, inspection and curvature share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from windvane.errors import InputError

A = TypeVar("A")
B = TypeVar("B")


def unwrap_model(model: object) -> nn.Module:
    """Return the network inside `torch.compile`, `DataParallel` and `DistributedDataParallel`, in any nesting."""
    *_, innermost = _wrappers(check_module(model))
    return innermost


def check_module(model: object) -> nn.Module:
    """Return the argument `model`; raise `InputError` for anything but a module."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model is of type {type(model).__name__}. Allowed: a torch.nn.Module.")
    return model


def find_ddp(model: nn.Module) -> DistributedDataParallel | None:
    """Return the `DistributedDataParallel` around a network, or None if one process trains it."""
    return next((wrapper for wrapper in _wrappers(model) if isinstance(wrapper, DistributedDataParallel)), None)


def map_tensors(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """Apply a function to a tensor, or to each tensor among the values of a mapping; other values stay as they are."""
    if isinstance(batch, Tensor):
        return function(batch)
    return {key: function(value) if isinstance(value, Tensor) else value for key, value in batch.items()}


def to_device(batch: Any, device: torch.device | str) -> Any:
    """Move a tensor, or each tensor among the values of a mapping, to a device."""
    return map_tensors(lambda tensor: tensor.to(device), batch)


def map_batches(work: Callable[[A], B], batches: Sequence[A], device: torch.device) -> Iterator[B]:
    """Yield the results of work on each batch, in order; on a CPU with as many batches at once as torch has threads.

    A network that shares one batch between threads waits for the slowest of them after every layer, which takes several
    times as long where other programs use the cores.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads == 1:
        yield from map(work, batches)
        return
    pool = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, batches)
    finally:
        pool.shutdown(cancel_futures=True)


def _wrappers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a model, then what it wraps, down to the plain network."""
    inner: object = model
    while isinstance(inner, nn.Module):
        yield inner
        wraps = isinstance(inner, DataParallel | DistributedDataParallel)
        inner = inner.module if wraps else getattr(inner, "_orig_mod", None)

"""Weights drawn from separate generators, so that other threads that draw from torch's are not disturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_IN_PLACE = ("uniform_", "normal_", "random_", "exponential_", "bernoulli_", "cauchy_", "log_normal_", "geometric_")
_CREATORS = ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial")
_INIT = ("uniform_", "normal_", "kaiming_uniform_")  # of torch.nn.init, which a mode gets as one call
_RANDOM = {
    *(getattr(Tensor, name) for name in _IN_PLACE),
    *(getattr(torch, name) for name in _CREATORS),
    *(getattr(nn.init, name) for name in _INIT),
}


class DrawFrom(TorchFunctionMode):
    """Inside a ``with`` block, this thread draws its random numbers from generators with a seed.

    They are the same numbers as after ``torch.manual_seed(seed)``, which would seed the generator of all threads: a
    network that is created in the background would disturb the dropout of one that trains in the foreground.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _RANDOM and kwargs.get("generator") is None:
            given = (one.device for one in (*args, *kwargs.values()) if isinstance(one, Tensor))
            device = next(given, torch.device(kwargs.get("device") or torch.get_default_device()))
            if device.type != "meta":
                if device not in self._generators:
                    self._generators[device] = torch.Generator(device).manual_seed(self._seed)
                kwargs["generator"] = self._generators[device]
        return func(*args, **kwargs)

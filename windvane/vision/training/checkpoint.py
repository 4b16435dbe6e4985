"""The whole state of a run in one file, so that it goes on exactly as if it had not stopped.

The file is a safetensors file: weights, moving average, state of the optimizer, and the plain numbers as JSON in its
header. The randomness of a step comes from its number (see `windvane.vision.device`), so the only generators that are
kept are those of the Fisher trace and penalty (see `windvane.vision.training.fisher`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from windvane.runtime.serialization import reading

NAME = "state.safetensors"


class Stateful(Protocol):
    """What can be kept: a module, or what gives and takes tensors by name as a module does."""

    def state_dict(self) -> dict[str, Any]:
        """Give the tensors."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> object:
        """Take them."""
        ...


def save_checkpoint(
    path: Path, modules: Mapping[str, Stateful], optimizer: torch.optim.Optimizer, numbers: Mapping[str, Any]
) -> None:
    """Write a state; the file is there whole or not at all.

    Parameters
    ----------
    path
        Where; an earlier state is replaced.
    modules
        By name, as in network and average.
    optimizer
        Its tensors are kept; its settings are those of the recipe.
    numbers
        JSON values.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}:{key}": value for key, value in module.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer:{number}:{key}": value for key, value in state.items() if isinstance(value, Tensor)}
    write_tensors(path, tensors, {"numbers": json.dumps(dict(numbers))})


def load_checkpoint(path: Path, modules: Mapping[str, Stateful], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Read a state into modules and an optimizer that were made as those it was written from.

    Parameters
    ----------
    path
        What `write_state` wrote.
    modules, optimizer
        Their values are replaced.

    Returns
    -------
    dict
        The numbers.

    Raises
    ------
    ModelFileError
        Where the file is missing, damaged or of another run.
    """
    from safetensors import safe_open

    with reading(path, Exception):  # safetensors has exceptions of its own
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        for name, module in modules.items():
            mine = {key.partition(":")[2]: value for key, value in tensors.items() if key.startswith(f"{name}:")}
            module.load_state_dict(mine)
        content = optimizer.state_dict()
        content["state"] = {}
        for key, value in tensors.items():
            owner, _, rest = key.partition(":")
            if owner == "optimizer":
                number, _, which = rest.partition(":")
                content["state"].setdefault(int(number), {})[which] = value
        optimizer.load_state_dict(content)
        _lay_out(optimizer)
        return read_numbers(path)


def read_numbers(path: Path) -> dict[str, Any]:
    """Read the numbers of a state and none of its tensors.

    Parameters
    ----------
    path
        What `write_state` wrote.

    Returns
    -------
    dict
        The numbers.

    Raises
    ------
    ModelFileError
        Where the file is missing or damaged.
    """
    from safetensors import safe_open

    with reading(path, Exception), safe_open(path, framework="pt") as file:
        return dict(json.loads(file.metadata()["numbers"]))


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer's tensors the memory layout of their parameters: fused steps run over both as they lie."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all.

    Parameters
    ----------
    path
        Where; an earlier one is replaced.
    tensors
        On any device.
    header
        Texts by name.
    """
    from safetensors.torch import save_file

    part = path.with_name(path.name + ".part")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, part, metadata=None if header is None else dict(header))
    part.replace(path)

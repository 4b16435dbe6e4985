"""The state of a training run as one safetensors file, so that the run resumes exactly.

A state is nested: mappings, lists and plain values with tensors anywhere inside, such as `state_dict` of each object
returns. Tensors go into the file under dotted names, and the nesting as JSON into its header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from windvane.runtime.serialization import reading, replace_file, writing

CHECKPOINT = "checkpoint.safetensors"  # in the folder of a run

_MAPPING, _TENSOR = "mapping", "tensor"  # keys of the header that stand for what JSON does not have


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a nested state; the file appears whole or not at all."""
    tensors: dict[str, Tensor] = {}

    def outline(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            name = name if name not in tensors else f"{name}#{len(tensors)}"  # keys may contain dots themselves
            tensors[name] = value
            return {_TENSOR: name}
        if isinstance(value, Mapping):  # as pairs, since keys may be numbers
            return {
                _MAPPING: [[key, outline(one, f"{name}.{key}" if name else str(key))] for key, one in value.items()]
            }
        if isinstance(value, list | tuple):
            return [outline(one, f"{name}.{i}") for i, one in enumerate(value)]
        return value

    header = {"state": json.dumps(outline(state, ""))}
    write_tensors(path, tensors, header)


def load_checkpoint(path: Path, *, with_tensors: bool = True) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, with tensors on the CPU, or with None in their places."""
    from safetensors import safe_open

    with reading(path, Exception), safe_open(path, framework="pt") as file:  # safetensors has its own exceptions

        def restore(value: Any) -> Any:
            if isinstance(value, list):
                return [restore(one) for one in value]
            if not isinstance(value, dict):
                return value
            if _TENSOR in value:
                return file.get_tensor(value[_TENSOR]) if with_tensors else None
            return {key: restore(one) for key, one in value[_MAPPING]}

        return dict(restore(json.loads(file.metadata()["state"])))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write tensors of any device as a safetensors file, whole or not at all, safe from a power cut."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with writing(path, "An earlier file is unchanged."), replace_file(path) as part:
        save_file(plain, part, metadata=None if header is None else dict(header))

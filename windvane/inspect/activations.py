"""Activations of the layers of networks: all at once, or batch by batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import pandas as pd
import psutil
import torch
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.batches import Batch, batch_length, device_of, known_length, paired_batches, slice_batch
from windvane.inspect.hooks import BatchTooLargeError, LayerOutput, observe
from windvane.inspect.layer_selection import TRACED_IMAGES, Layer, Layers, select_layers, trace_layers
from windvane.pages.texts import counted
from windvane.torch_utils import to_device, unwrap_model

T = TypeVar("T")
BatchSize = int | Literal["auto"]
Step = tuple[Batch, ...]  # the same images for each network

AUTO_BATCH_SIZE = 64  # where "auto" begins
LISTED_LAYERS = 3  # in a message
USABLE_MEMORY = 0.8  # of the free memory


class Activations(dict[str, Tensor]):
    """Activations of layers by name, in the order of execution: tensors (n_images, ...) on the CPU.

    Examples
    --------
    >>> import torch
    >>> Activations({"head": torch.zeros(10, 5)})["head"].shape
    torch.Size([10, 5])
    """

    def __repr__(self) -> str:
        return f"Activations of {len(self)} layers\n{self.to_frame()}"

    def to_frame(self) -> pd.DataFrame:
        """Shape without the images, dtype and size in MB of each layer."""
        rows = [
            (tuple(one.shape[1:]), str(one.dtype).removeprefix("torch."), one.numel() * one.element_size() / 1e6)
            for one in self.values()
        ]
        return pd.DataFrame(rows, index=pd.Index(list(self), name="layer"), columns=["shape", "dtype", "megabytes"])


def collect_activations(
    model: nn.Module,
    data: Any,
    layers: Layers = "*",
    *,
    batch_size: BatchSize = AUTO_BATCH_SIZE,
    n_images: int | None = None,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> Activations:
    """Return the activations of layers of a network for all images.

    Parameters
    ----------
    model
        Any network. It runs where its weights are, in evaluation mode, without gradients, and is left as it was.
    data
        A tensor or array (n, ...), a data set, a `DataLoader`, or any iterable of batches. Of a batch that is a tuple
        or list the first entry is used; of a mapping everything but the labels.
    layers
        As in `layer_names`.
    batch_size
        Images at a time, if `data` is not in batches already. "auto" begins with 64 and halves every batch that does
        not fit into memory.
    n_images
        Use the first so many images; None uses all.
    reduce
        Applied to the tensor (n, ...) of a layer as soon as it has run; returns a tensor (n, ...). None keeps
        everything.

    Returns
    -------
    Activations
        Tensors (n_images, ...) by name, on the CPU.

    Examples
    --------
    ::

        tokens = collect_activations(vit, images, ["blocks.*.attn", "head"])
        means = collect_activations(resnet, loader, "block", reduce=lambda layer: layer.mean((2, 3)))
    """
    parts: defaultdict[str, list[Tensor]] = defaultdict(list)
    total = n_images or known_length(data)
    steps = iter_activations([model], data, (layers,), batch_size=batch_size, n_images=n_images, reduce=reduce)
    for (values,) in steps:
        if not parts and total is not None:
            check_fits(values, total)
        for name, value in values.items():
            parts[name].append(value.cpu())
    return Activations({name: torch.cat(values) for name, values in parts.items()})


def iter_activations(
    models: Sequence[nn.Module],
    data: Any,
    layers: Layers | tuple[Layers, ...] = "*",
    *,
    batch_size: BatchSize = AUTO_BATCH_SIZE,
    n_images: int | None = None,
    reduce: Callable[[Tensor], Any] | None = None,
) -> Iterator[tuple[dict[str, Any], ...]]:
    """Yield the activations of several networks for the same images, batch by batch.

    Parameters
    ----------
    models
        Networks, each on its own device. A network that is listed twice runs once.
    data
        As in `collect_activations`, for all networks; or a tuple with the same images in the same order for each.
    layers
        As in `layer_names`, for all networks; or a tuple with those of each.
    batch_size, n_images
        As in `collect_activations`.
    reduce
        Applied to each tensor (n, ...) as soon as the layer has run, so that the activations of all layers need not be
        in memory together; returns anything. None copies the tensor.

    Yields
    ------
    tuple of dict
        For each network its layers by name, in the order of execution, on the device of the network.

    Examples
    --------
    ::

        for of_vit, of_resnet in iter_activations([vit, resnet], images, "block"):
            print(of_vit["blocks.0"].shape, of_resnet["layer1.0"].shape)
    """
    size = AUTO_BATCH_SIZE if batch_size == "auto" else batch_size
    steps = paired_batches(data, len(models), size, n_images)
    yield from read_steps(models, steps, layers, reduce, halve_to=1 if batch_size == "auto" else None)


def read_steps(
    models: Sequence[nn.Module],
    steps: Iterable[Step],
    layers: Layers | tuple[Layers, ...],
    reduce: Callable[[Tensor], T] | None,
    *,
    halve_to: int | None,
) -> Iterator[tuple[dict[str, T], ...]]:
    """Yield the activations of paired batches; those that do not fit into memory are halved, down to `halve_to`."""
    layers = layers if isinstance(layers, tuple) else (layers,) * len(models)
    if not models or len(layers) != len(models):
        raise InputError(
            f"layers has {counted(len(layers), 'item')} for {counted(len(models), 'network')}. Allowed: one for "
            "all or for each."
        )
    networks = [unwrap_model(model) for model in models]
    selected: list[list[Layer]] = []
    for step in steps:
        parts = [step]  # the next one last
        while parts:
            part = parts.pop()
            try:
                selected = selected or _trace(networks, part, layers)
                runs = list(zip(networks, selected, part, strict=True))
                # A network that is listed twice, with the same layers and batch, runs once.
                keys = [(id(network), tuple(chosen), id(batch)) for network, chosen, batch in runs]
                distinct = dict(zip(keys, runs, strict=True))
                values = {key: _read_layers(*run, reduce) for key, run in distinct.items()}
            except BatchTooLargeError:
                length = batch_length(part[0])
                if halve_to is None or length < 2 * halve_to:
                    raise
                half = (length + 1) // 2
                parts += [_slice_step(part, half, length), _slice_step(part, 0, half)]
                continue
            yield tuple(values[key] for key in keys)
            del values  # before the next ones are computed


def _trace(networks: Sequence[nn.Module], step: Step, layers: tuple[Layers, ...]) -> list[list[Layer]]:
    """Run each network on a few images and select its layers."""
    selected = []
    for network, batch, wanted in zip(networks, _slice_step(step, 0, TRACED_IMAGES), layers, strict=True):
        traced = trace_layers(network, to_device(batch, device_of(network)))
        selected.append(select_layers(network, traced, wanted))
    return selected


def _read_layers(
    model: nn.Module, layers: Sequence[Layer], batch: Batch, reduce: Callable[[Tensor], T] | None
) -> dict[str, T]:
    """Run a network on a batch and return what `reduce` keeps of each layer, in the order of execution."""
    wanted, n_images, device = {layer.name: layer for layer in layers}, batch_length(batch), device_of(model)
    keep: Callable[[Tensor], Any] = reduce or torch.clone
    values: dict[str, T] = {}

    def on_output(output: LayerOutput, tensor: Tensor) -> None:
        layer, alias = wanted.get(output.name), output.alias_of
        if layer is None:
            return
        if alias in values and wanted[alias].image_axis == layer.image_axis:
            values[layer.name] = values[alias]
        else:
            values[layer.name] = keep(layer.batch_first(tensor, n_images))

    try:
        observe(model, to_device(batch, device), on_output)
    except BatchTooLargeError as error:
        raise batch_too_large(layers, n_images, device) from error.__cause__
    missing = [name for name in wanted if name not in values]
    if missing:
        raise InputError(f"layers: {', '.join(missing)} did not run for every batch. Allowed: those that always do.")
    return {name: values[name] for name in wanted}


def _slice_step(step: Step, start: int, stop: int) -> Step:
    """Slice the batch of every network; one object stays one object."""
    parts = {id(batch): slice_batch(batch, start, stop) for batch in step}
    return tuple(parts[id(batch)] for batch in step)


def batch_too_large(layers: Sequence[Layer], n_images: int, device: torch.device) -> BatchTooLargeError:
    """Error that names the largest layers and a batch size that fits."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    fits = max(1, min(n_images // 2, int(free // max(1, sum(layer.n_bytes for layer in layers)))))
    largest = _largest({layer.name: layer.n_bytes * n_images for layer in layers})
    return BatchTooLargeError(
        f"batch_size: a batch of {n_images} images does not fit into memory. The largest of {len(layers)} layers are "
        f'{largest}. Allowed: about {fits} images at a time, fewer layers, or batch_size="auto", which halves them.'
    )


def check_fits(layers: Mapping[str, Tensor], n_images: int) -> None:
    """Raise if the activations of all images need more memory than is free, estimated from a first batch."""
    per_image = {name: one.numel() * one.element_size() / one.shape[0] for name, one in layers.items() if one.shape[0]}
    # Concatenating the batches of one layer needs that layer twice.
    needed = sum(per_image.values()) + max(per_image.values(), default=0.0)
    fits = int(USABLE_MEMORY * psutil.virtual_memory().available // max(needed, 1.0))
    if n_images > fits:
        largest = _largest({name: size * n_images for name, size in per_image.items()})
        raise InputError(
            f"layers: {len(per_image)} of {n_images} images need {needed * n_images / 1e9:.3g} GB, more than is free."
            f" The largest are {largest}. Allowed: fewer layers, n_images up to {fits}, or reduce=, which keeps less."
        )


def _largest(sizes: Mapping[str, float]) -> str:
    """The largest layers with their sizes in bytes, as words."""
    names = sorted(sizes, key=lambda name: -sizes[name])[:LISTED_LAYERS]
    return ", ".join(f"{name} ({sizes[name] / 1e6:.3g} MB)" for name in names) or "unknown"

"""What the layers of networks hold for given images: all at once, or batch by batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import torch
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.batches import known_length, paired_batches
from windvane.inspect.hooks import Batch, LayerOutput, batch_length, is_out_of_memory, observe, slice_batch, unwrap
from windvane.inspect.layers import Layer, Layers, select_layers, trace_layers
from windvane.inspect.memory import check_fits, too_large

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
U = TypeVar("U")
BatchSize = int | Literal["auto"]

AUTO_BATCH = 64  # where "auto" begins


class Activations(Mapping[str, Tensor]):
    """Layers by name, in the order of execution: tensors (n_images, ...) on the CPU.

    Parameters
    ----------
    layers
        The tensors.
    """

    def __init__(self, layers: Mapping[str, Tensor]) -> None:
        self._layers = dict(layers)

    def __getitem__(self, name: str) -> Tensor:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return f"Activations of {len(self)} layers\n{self.to_frame()}"

    def to_frame(self) -> pd.DataFrame:
        """List the layers.

        Returns
        -------
        pandas.DataFrame
            A row for each layer: its shape without the images, type and size in MB.
        """
        import pandas as pd

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
    batch_size: BatchSize = AUTO_BATCH,
    n_images: int | None = None,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> Activations:
    """Keep what layers of a network hold.

    Parameters
    ----------
    model
        Any network; it runs where its weights are, in evaluation mode, without gradients, and is left as it was.
    data
        A tensor or array (n, ...), a data set, a `DataLoader`, or any iterable of batches.
    layers
        As in `layer_names`.
    batch_size
        Images at a time, where `data` has no batches of its own; "auto" begins with 64. With "auto" every batch that
        does not fit into memory is halved.
    n_images
        The first ones; None for all.
    reduce
        What to keep of a layer, from a tensor (n, ...) to a tensor (n, ...); None keeps all.

    Returns
    -------
    Activations
        Tensors (n_images, ...) by name, on the CPU.

    Raises
    ------
    InputError
        Where no layer matches, data has fewer images than asked, the network fails on them, or memory does not suffice.
    """
    kept: defaultdict[str, list[Tensor]] = defaultdict(list)
    total = n_images or known_length(data)
    for (layer_values,) in iter_activations(
        [model], data, layers, batch_size=batch_size, n_images=n_images, reduce=reduce
    ):
        if not kept and total is not None:
            check_fits(layer_values, total)
        for name, value in layer_values.items():
            kept[name].append(value.cpu())
    return Activations({name: torch.cat(values) for name, values in kept.items()})


@overload
def iter_activations(
    models: Sequence[nn.Module],
    data: Any,
    layers: Layers | tuple[Layers, ...] = ...,
    *,
    batch_size: BatchSize = ...,
    n_images: int | None = ...,
    reduce: None = ...,
) -> Iterator[tuple[dict[str, Tensor], ...]]: ...


@overload
def iter_activations(
    models: Sequence[nn.Module],
    data: Any,
    layers: Layers | tuple[Layers, ...] = ...,
    *,
    batch_size: BatchSize = ...,
    n_images: int | None = ...,
    reduce: Callable[[Tensor], T] | None = ...,
) -> Iterator[tuple[dict[str, T], ...]]: ...


def iter_activations(
    models: Sequence[nn.Module],
    data: Any,
    layers: Layers | tuple[Layers, ...] = "*",
    *,
    batch_size: BatchSize = AUTO_BATCH,
    n_images: int | None = None,
    reduce: Callable[[Tensor], Any] | None = None,
) -> Iterator[tuple[dict[str, Any], ...]]:
    """Give what layers of several networks hold for the same images, batch by batch.

    Parameters
    ----------
    models
        Networks, each where its weights are. One that comes twice runs once.
    data
        As in `collect_activations`, for all networks; or a tuple with the same images for each network.
    layers
        As in `layer_names`, for all networks; or a tuple with one for each.
    batch_size, n_images
        As in `collect_activations`.
    reduce
        Applied to each tensor (n, ...) as soon as the layer has run, so that the whole batch of activations need not be
        in memory together; None copies the tensor.

    Yields
    ------
    tuple of dict
        For each network its layers by name, in the order of execution, on the device of the network.

    Raises
    ------
    InputError
        As `collect_activations`.
    """
    size = AUTO_BATCH if batch_size == "auto" else batch_size
    wanted = layers if isinstance(layers, tuple) else (layers,) * len(models)
    yield from read_steps(
        models, paired_batches(data, len(models), size, n_images), wanted, reduce, batch_size == "auto"
    )


def read_steps(
    models: Sequence[nn.Module],
    steps: Iterable[tuple[Batch, ...]],
    layers: tuple[Layers, ...],
    reduce: Callable[[Tensor], T] | None,
    halves: bool,
    fewest: int = 1,
) -> Iterator[tuple[dict[str, T], ...]]:
    """Read networks for batches that are paired_batches already.

    Parameters
    ----------
    models
        Networks.
    steps
        A batch for each network.
    layers
        For each network.
    reduce
        As in `iter_activations`.
    halves
        Whether a batch that does not fit into memory is halved.
    fewest
        Images that a half must have.

    Yields
    ------
    tuple of dict
        As `iter_activations`.

    Raises
    ------
    InputError
        As `collect_activations`.
    """
    if not models or len(layers) != len(models):
        raise InputError(
            f"layers has {len(layers)} entries for {len(models)} networks. Allowed: one for all or for each."
        )
    readers: list[_Reader[T]] = []
    for step in steps:
        pieces = [step]
        while pieces:
            piece = pieces.pop()
            try:
                readers = readers or [_Reader(*one, reduce) for one in zip(models, layers, piece, strict=True)]
                values = _read(readers, piece)
            except _DoesNotFitError as error:
                n_given = batch_length(piece[0])
                if not halves or n_given < 2 * fewest:
                    raise too_large(error.taps, n_given, error.device) from error.__cause__
                pieces += [_part(piece, (n_given + 1) // 2, n_given), _part(piece, 0, (n_given + 1) // 2)]
            else:
                yield values


class _DoesNotFitError(Exception):
    """Memory did not suffice for a batch."""

    def __init__(self, taps: Sequence[Layer], device: torch.device) -> None:
        super().__init__()
        self.taps, self.device = taps, device


def _part(batch: tuple[Batch, ...], start: int, stop: int) -> tuple[Batch, ...]:
    """Cut the images of every network; what was one object stays one."""
    parts = {id(one): slice_batch(one, start, stop) for one in batch}
    return tuple(parts[id(one)] for one in batch)


def _read(readers: Sequence[_Reader[T]], batch: tuple[Batch, ...]) -> tuple[dict[str, T], ...]:
    """Read every network; those that share network, images and layers share the pass."""
    done: list[dict[str, T]] = []
    for i, reader in enumerate(readers):
        twin = next((j for j in range(i) if batch[j] is batch[i] and readers[j].reads_as(reader)), None)
        done.append(reader.read(batch[i]) if twin is None else done[twin])
    return tuple(done)


class _Reader(Generic[T]):
    """One network and the layers that are read of it."""

    def __init__(self, model: nn.Module, layers: Layers, batch: Batch, reduce: Callable[[Tensor], T] | None) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"model is {type(model).__name__}. Allowed: a torch.nn.Module.")
        self._model = unwrap(model)
        self._reduce: Callable[[Tensor], Any] = reduce or torch.clone
        self._taps: list[Layer] = []
        weight = next(self._model.parameters(), None)
        self._device = torch.device("cpu") if weight is None else weight.device
        self._taps = select_layers(
            model, self._guard(lambda: trace_layers(self._model, self._to_device(batch))), layers
        )

    def reads_as(self, other: _Reader[T]) -> bool:
        return self._model is other._model and self._taps == other._taps

    def read(self, batch: Batch) -> dict[str, T]:
        """Run the network and keep what was asked for."""
        wanted, n_images = {tap.name: tap for tap in self._taps}, batch_length(batch)
        kept: dict[str, T] = {}

        def visit(place: LayerOutput, tensor: Tensor) -> None:
            tap, twin = wanted.get(place.name), place.alias_of or ""
            if tap is not None:
                known = twin in kept and wanted[twin].axis == tap.axis
                kept[tap.name] = kept[twin] if known else self._reduce(tap.batch_first(tensor, n_images))

        self._guard(lambda: observe(self._model, self._to_device(batch), visit))
        missing = [name for name in wanted if name not in kept]
        if missing:
            raise InputError(
                f"layers: {', '.join(missing)} did not run for every batch. Allowed: those that always do."
            )
        return {name: kept[name] for name in wanted}

    def _to_device(self, batch: Batch) -> Batch:
        if isinstance(batch, Tensor):
            return batch.to(self._device)
        return {key: one.to(self._device) if isinstance(one, Tensor) else one for key, one in batch.items()}

    def _guard(self, action: Callable[[], U]) -> U:
        """Name the layers where memory does not suffice."""
        try:
            return action()
        except InputError as error:
            if not is_out_of_memory(error.__cause__):
                raise
            raise _DoesNotFitError(self._taps, self._device) from error.__cause__

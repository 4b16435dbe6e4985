"""One forward pass of any network, watched: every tensor that a module returns and every sum behind a skip connection.

Sums are no modules, so additions are seen through torch's own function protocol. Nothing is left behind in the network,
whatever happens: no hook, no gradient, no change of mode.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from windvane.errors import InputError

Batch = Tensor | Mapping[str, Any]

OUTPUT = "output"

_ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}

# What networks raise when an input does not suit them.
_UNSUITED = (
    RuntimeError,
    AssertionError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    NotImplementedError,
)


class _VisitError(Exception):
    """Carries what a visit raised out of the network, which has nothing to do with it."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


@dataclass(frozen=True)
class LayerOutput:
    """Where in a network a tensor came from.

    Attributes
    ----------
    name
        Of the layer, as in ``layer_names``.
    module
        Path of the module that returned it, or in which the sum was taken; empty for the network itself.
    is_sum
        Whether it is the sum behind a skip connection.
    alias_of
        Name of an earlier place that gave the very same tensor with the same values, as behind an identity.
    """

    name: str
    module: str
    is_sum: bool
    alias_of: str | None


Visit = Callable[[LayerOutput, Tensor], None]


def unwrap(model: nn.Module) -> nn.Module:
    """Take a network out of `torch.compile`, `DataParallel` and `DistributedDataParallel`.

    Parameters
    ----------
    model
        Any network.

    Returns
    -------
    torch.nn.Module
        What is inside, with the same weights.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def batch_length(batch: Batch) -> int:
    """Count the images of a batch."""
    tensors = [batch] if isinstance(batch, Tensor) else [one for one in batch.values() if isinstance(one, Tensor)]
    return tensors[0].shape[0]


def slice_batch(batch: Batch, start: int, stop: int) -> Batch:
    """Take the images from ``start`` to before ``stop``."""
    if isinstance(batch, Tensor):
        return batch[start:stop]
    return {key: one[start:stop] if isinstance(one, Tensor) else one for key, one in batch.items()}


def observe(model: nn.Module, inputs: Batch, visit: Visit, *, gradients: bool = False) -> None:
    """Run a network once, in evaluation mode, and show each of its tensors as it comes.

    Parameters
    ----------
    model
        The network.
    inputs
        A batch on the device of the network: a tensor, or its arguments by name.
    visit
        Takes a place and its tensor, into which later layers may write.
    gradients
        Whether the tensors keep the graph that they come from.

    Raises
    ------
    InputError
        Where the network fails on the batch; also, by its cause, where memory does not suffice.
    """
    inner = unwrap(model)
    with (
        torch.inference_mode(False),  # tensors made in inference mode do not tell whether they were written into
        explained(inner, inputs),
        _as_it_was(inner),
        torch.set_grad_enabled(gradients),
        _watching(inner, visit),
    ):
        if isinstance(inputs, Tensor):
            inner(_plain(inputs))
        else:
            inner(**{key: _plain(one) if isinstance(one, Tensor) else one for key, one in inputs.items()})


def _plain(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor


@contextmanager
def explained(model: nn.Module, inputs: Batch) -> Iterator[None]:
    """Say in words what a network fails on.

    Parameters
    ----------
    model
        The network.
    inputs
        The batch that it is given.

    Raises
    ------
    InputError
        Where the batch does not suit it, or memory does not suffice.
    """
    try:
        yield
    except InputError:
        raise
    except _VisitError as told:
        if is_out_of_memory(told.error):
            raise _too_large(inputs) from told.error
        raise told.error from None
    except (MemoryError, *_UNSUITED) as error:
        if is_out_of_memory(error):
            raise _too_large(inputs) from error
        raise _unsuited(model, inputs, error) from error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell a lack of memory from other errors.

    Parameters
    ----------
    error
        What a network raised, if anything.

    Returns
    -------
    bool
        Whether memory was lacking, on any device.
    """
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _too_large(inputs: Batch) -> InputError:
    n_images = batch_length(inputs)
    return InputError(
        f"batch_size: a batch of {n_images} images does not fit into memory. Allowed: fewer images at a time."
    )


def _unsuited(model: nn.Module, inputs: Batch, error: Exception) -> InputError:
    shape = (
        tuple(inputs.shape)
        if isinstance(inputs, Tensor)
        else {key: tuple(one.shape) if isinstance(one, Tensor) else one for key, one in inputs.items()}
    )
    config = getattr(model, "pretrained_cfg", None) or {}
    size = config.get("input_size") if isinstance(config, Mapping) else None
    hint = f" It is made for images of shape {tuple(size)}." if size else ""
    return InputError(
        f"data: {type(model).__name__} fails on a batch of shape {shape}: {type(error).__name__}: {error}{hint} "
        "Allowed: what the network takes; a tuple gives each of several networks its own."
    )


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, no compiled code or fused layers (they call no hooks); put all back."""
    modes = [(module, module.training) for module in model.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval()
        with _eager():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes:
            module.training = training


def _eager() -> AbstractContextManager[object]:
    """Run compiled code as it was written; without any, torch's compiler (seconds, 0.5 GB) is not even loaded."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def _watching(model: nn.Module, visit: Visit) -> Iterator[None]:
    running: list[str] = []
    calls: Counter[str] = Counter()
    met = _Met()

    def see(module: str, is_sum: bool, output: object) -> None:
        path = f"{module}.add".lstrip(".") if is_sum else module or OUTPUT
        calls[path] += 1
        name = path if calls[path] == 1 else f"{path}#{calls[path]}"
        for part, tensor in tensors_in(output):
            alias_of = met.name(tensor)
            try:
                visit(LayerOutput(name + part, module, is_sum, alias_of), tensor)
            except Exception as error:
                raise _VisitError(error) from error
            met.add(tensor, alias_of or name + part)

    def enter(path: str, args: object) -> None:
        running.append(path)
        for _, tensor in tensors_in(args):
            met.add(tensor, met.name(tensor))

    def leave(path: str, output: object) -> None:
        running.pop()
        see(path, False, output)

    with ExitStack() as stack:
        for path, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(lambda _, args, path=path: enter(path, args)).remove)
            stack.callback(module.register_forward_hook(lambda _, __, out, path=path: leave(path, out)).remove)
        stack.enter_context(_Sums(met, lambda total: see(running[-1], True, total)))
        yield


class _Met:
    """Tensors that modules took or gave and their names, without keeping them alive."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], int, str | None]] = {}

    def add(self, tensor: Tensor, name: str | None) -> None:
        self._known[id(tensor)] = (weakref.ref(tensor), tensor._version, name)

    def __contains__(self, tensor: Tensor) -> bool:
        known = self._known.get(id(tensor))
        return known is not None and known[0]() is tensor

    def name(self, tensor: Tensor) -> str | None:
        """Say under which name the tensor was met with the values that it has now."""
        if tensor not in self:
            return None
        _, version, name = self._known[id(tensor)]
        return name if version == tensor._version else None


class _Sums(TorchFunctionMode):
    """Tells of every skip connection while it is active.

    A skip connection is a sum of two activations of one shape, at least one of which a module took or gave: rotary
    embeddings add two products that no module has seen, and positions are parameters or have another shape.
    """

    def __init__(self, met: _Met, added: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._met = met
        self._added = added

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch, and look at it where it adds."""
        is_skip = getattr(func, "__name__", "") in _ADDITIONS and self._is_skip(args[:2])
        result = func(*args, **(kwargs or {}))
        if is_skip:
            self._added(result)
        return result

    def _is_skip(self, operands: tuple[Any, ...]) -> bool:
        if len(operands) < 2 or not all(isinstance(one, Tensor) for one in operands):
            return False
        if operands[0].shape != operands[1].shape or any(isinstance(one, nn.Parameter) for one in operands):
            return False
        return any(one in self._met for one in operands)


def tensors_in(value: object, part: str = "") -> Iterator[tuple[str, Tensor]]:
    """Find every tensor in what a module takes or returns, with its place; a single one has none.

    Parameters
    ----------
    value
        A tensor, or tuples, lists and mappings of them.
    part
        The place of the whole, as in ``[0]``.

    Yields
    ------
    tuple
        The place, as in ``[0][key]``, and the tensor.
    """
    if isinstance(value, Tensor):
        yield part, value
    elif isinstance(value, Mapping | tuple | list):
        every = value.items() if isinstance(value, Mapping) else enumerate(value)
        some = [(key, one) for key, one in every if one is not None]
        for key, one in some:
            yield from tensors_in(one, part if len(some) == 1 else f"{part}[{key}]")

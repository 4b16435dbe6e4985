"""One forward pass of a network, observed: every tensor that a module returns, and the sum of every skip connection.

A sum is no module, so additions are seen through torch's function protocol. The network is left as it was: hooks are
removed and modes restored, also after an error.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from windvane.errors import InputError
from windvane.inspect.batches import Batch, batch_length
from windvane.torch_utils import map_tensors, unwrap_model

OUTPUT = "output"  # name of what the network itself returns

# What networks raise when an input does not suit them.
INPUT_FAILURES = (RuntimeError, AssertionError, ValueError, TypeError, LookupError, AttributeError)

_ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}


@dataclass(frozen=True)
class LayerOutput:
    """Where in a network a tensor comes from."""

    name: str  # of the layer, as in `layer_names`
    module: str  # path of the module that returned it or took the sum; empty for the network itself
    is_sum: bool  # whether it is the sum of a skip connection
    alias_of: str | None  # name of an earlier output with the same tensor and values, as behind an identity


OnOutput = Callable[[LayerOutput, Tensor], None]
OnEnter = Callable[[str, nn.Module, tuple[Any, ...]], None]  # as a forward pre-hook of torch, behind the module's path
OnExit = Callable[[str, nn.Module, tuple[Any, ...], Any], None]  # as a forward hook, behind the module's path


class BatchTooLargeError(InputError):
    """A batch does not fit into memory."""


def observe(
    model: nn.Module,
    inputs: Batch,
    on_output: OnOutput | None = None,
    *,
    on_enter: OnEnter | None = None,
    on_exit: OnExit | None = None,
    gradients: bool = False,
    modes: Sequence[AbstractContextManager[Any]] = (),
) -> None:
    """Run a network once, in evaluation mode, and call back as it runs."""
    # `on_output` gets each tensor of a module and each residual sum, into which later layers may write; `on_enter` and
    # `on_exit`, of which none comes alone, get each module that runs. `inputs` are on the device of the network. With
    # `gradients` the tensors keep their graph. `modes` are entered for the pass, for example to switch fused attention
    # off.
    network = unwrap_model(model)
    with ExitStack() as stack:
        # Tensors that are made in inference mode do not record whether they are written into.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(explain_failure(network, inputs))
        stack.enter_context(_evaluation_mode(network))
        stack.enter_context(torch.set_grad_enabled(gradients))
        if on_output is not None:
            recorder = _OutputRecorder(on_output)
            stack.enter_context(_module_hooks(network, recorder.on_enter, recorder.on_exit))
            stack.enter_context(recorder)
        if on_enter is not None and on_exit is not None:
            mark = _mark_errors()
            stack.enter_context(_module_hooks(network, mark(on_enter), mark(on_exit)))
        for mode in modes:
            stack.enter_context(mode)
        arguments = map_tensors(lambda tensor: tensor.clone() if tensor.is_inference() else tensor, inputs)
        if isinstance(arguments, Tensor):
            network(arguments)
        else:
            network(**arguments)


@contextmanager
def _module_hooks(network: nn.Module, on_enter: OnEnter, on_exit: OnExit) -> Iterator[None]:
    with ExitStack() as stack:
        for path, module in network.named_modules():
            stack.callback(module.register_forward_pre_hook(partial(on_enter, path)).remove)
            stack.callback(module.register_forward_hook(partial(on_exit, path)).remove)
        yield


class _OutputRecorder(TorchFunctionMode):
    """Names each tensor of a pass, the sums of skip connections too, and recognizes those that have a name already."""

    # A skip connection is a sum of two activations of one shape, of which a module took or returned at least one:
    # rotary embeddings add two products that no module has seen, and positional embeddings are parameters or have
    # another shape.

    def __init__(self, on_output: OnOutput) -> None:
        super().__init__()
        self._on_output = on_output
        self._calls_back = False
        self._running: list[str] = []  # paths of the modules that run, the innermost last
        self._names = RepeatedNames()
        # Tensors that modules take or return, not kept alive: reference, version, name.
        self._known: dict[int, tuple[weakref.ref[Tensor], int, str | None]] = {}

    def on_enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._running.append(path)
        for _, tensor in tensors_in(args):
            self._remember(tensor, self._name_of(tensor))

    def on_exit(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._running.pop()
        name = self._names.next(path or OUTPUT)
        for key, tensor in tensors_in(output):
            alias_of = self._name_of(tensor)
            with self._calling_back():
                self._on_output(LayerOutput(name + key, path, False, alias_of), tensor)
            self._remember(tensor, alias_of or name + key)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        is_sum = getattr(func, "__name__", "") in _ADDITIONS and self._is_skip(args[:2])
        result = func(*args, **(kwargs or {}))
        if is_sum:
            module = self._running[-1]
            name = self._names.next(f"{module}.add".lstrip("."))
            with self._calling_back():
                self._on_output(LayerOutput(name, module, True, None), result)
            self._remember(result, name)
        return result

    @contextmanager
    def _calling_back(self) -> Iterator[None]:
        """Mark errors of the callback, and leave out the sums that it computes: they are none of the network."""
        self._calls_back = True
        try:
            with _mark_errors():
                yield
        finally:
            self._calls_back = False

    def _is_skip(self, operands: tuple[Any, ...]) -> bool:
        if self._calls_back or len(operands) < 2 or not all(isinstance(one, Tensor) for one in operands):
            return False
        if operands[0].shape != operands[1].shape or any(isinstance(one, nn.Parameter) for one in operands):
            return False
        return any(self._has_seen(one) for one in operands)

    def _has_seen(self, tensor: Tensor) -> bool:
        known = self._known.get(id(tensor))
        return known is not None and known[0]() is tensor

    def _name_of(self, tensor: Tensor) -> str | None:
        """Name of a tensor that has not been written into since."""
        if not self._has_seen(tensor):
            return None
        _, version, name = self._known[id(tensor)]
        return name if version == tensor._version else None

    def _remember(self, tensor: Tensor, name: str | None) -> None:
        self._known[id(tensor)] = (weakref.ref(tensor), tensor._version, name)


class RepeatedNames:
    """Names of repeated calls: ``path``, ``path#2``, ``path#3``."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    def next(self, path: str) -> str:
        self._calls[path] += 1
        return path if self._calls[path] == 1 else f"{path}#{self._calls[path]}"


def tensors_in(value: object, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor that a module takes or returns, with its key as in ``[0][name]``; empty for a single one."""
    if isinstance(value, Tensor):
        yield key, value
    elif isinstance(value, Mapping | tuple | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        present = [(index, one) for index, one in items if one is not None]
        for index, one in present:
            yield from tensors_in(one, key if len(present) == 1 else f"{key}[{index}]")


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without compiled code or fused layers, which call no hooks."""
    training = [(module, module.training) for module in model.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval()
        with _eager():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, was_training in training:
            module.training = was_training


def _eager() -> AbstractContextManager[object]:
    """Run compiled code as written; the compiler (seconds, 0.5 GB) is not loaded only for this."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


class _CallbackError(Exception):
    """Carries an error of a callback through the network, which did not cause it."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


@contextmanager
def _mark_errors() -> Iterator[None]:
    """Tell errors of a callback, which come through the network, from those of the network."""
    try:
        yield
    except Exception as error:
        raise _CallbackError(error) from error


@contextmanager
def explain_failure(model: nn.Module, inputs: Batch) -> Iterator[None]:
    """Raise an `InputError` that describes the batch where a network fails on it; a `BatchTooLargeError` for memory."""
    try:
        yield
    except InputError:
        raise
    except _CallbackError as carrier:
        if is_out_of_memory(carrier.error):
            raise _too_large(inputs) from carrier.error
        raise carrier.error from None
    except (MemoryError, *INPUT_FAILURES) as error:
        if is_out_of_memory(error):
            raise _too_large(inputs) from error
        raise _unsuited(model, inputs, error) from error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory was exhausted, on any device."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _too_large(inputs: Batch) -> BatchTooLargeError:
    return BatchTooLargeError(
        f"batch_size: a batch of {batch_length(inputs)} images does not fit into memory. Allowed: fewer images at a "
        "time."
    )


def _unsuited(model: nn.Module, inputs: Batch, error: Exception) -> InputError:
    shape = (
        tuple(inputs.shape)
        if isinstance(inputs, Tensor)
        else {key: tuple(one.shape) if isinstance(one, Tensor) else one for key, one in inputs.items()}
    )
    config = getattr(model, "pretrained_cfg", None) or {}
    size = config.get("input_size") if isinstance(config, Mapping) else None
    hint = f" It expects images of shape {tuple(size)}." if size else ""
    weights = next((one.dtype for one in model.parameters() if one.is_floating_point()), None)
    given = inputs.dtype if isinstance(inputs, Tensor) and inputs.is_floating_point() else weights
    if given != weights:
        hint += f" Its weights are {weights}, the images {given}."
    return InputError(
        f"data: {type(model).__name__} fails on a batch of shape {shape}: {type(error).__name__}: "
        f"{str(error).strip().rstrip('.')}.{hint} "
        "Allowed: inputs that the network takes; a tuple with one source for each of several networks."
    )

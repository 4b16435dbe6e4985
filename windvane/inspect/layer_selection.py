"""The layers of a network by name and by kind, in the order in which they run.

A layer is what a module returns, or the sum of a skip connection, which is no module: it is called ``<module>.add``
after the innermost module that adds. Repeated calls are named ``<name>#2``; the tensors of a tuple or mapping
``<name>[0]`` or ``<name>[key]``. What the network itself returns is ``output``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.batches import Batch, as_batch, batch_length, image_size, image_tensor, slice_batch
from windvane.inspect.hooks import LayerOutput, observe
from windvane.inspect.tokens import TokenGrid, as_tokens
from windvane.torch_utils import unwrap_model

Layers = str | Sequence[str]

KINDS = ("residual", "attention", "mlp", "norm", "block")
TRACED_IMAGES = 5  # a prime: an axis of this length is hardly anything but the images
MAX_SUGGESTIONS = 5  # names in a message

_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)
_AROUND_ATTENTION = re.compile(r"block|layer|pool|encoder|decoder|model", re.IGNORECASE)
_MLP = re.compile(r"mlp|feed_?forward|ffn|intermediate", re.IGNORECASE)
_ACTIVATION = re.compile(r"elu|silu|swish|mish|tanh|activation", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """A layer that can be read image by image."""

    output: LayerOutput
    image_axis: int  # 0, or 1 where tokens come first
    n_bytes: int  # of one image
    shape: tuple[int, ...]  # for the images of the trace

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.output.name

    def batch_first(self, tensor: Tensor, n_images: int) -> Tensor:
        """Move the images to the first axis; windows or patches that shared it get a separate axis."""
        if tensor.ndim <= self.image_axis or tensor.shape[self.image_axis] % n_images:
            raise InputError(
                f"layers: {self.name} returns {tuple(tensor.shape)} for {n_images} images. Allowed: layers that keep "
                "the images apart in every batch."
            )
        if self.image_axis == 1:
            return tensor.transpose(0, 1)
        return tensor if tensor.shape[0] == n_images else tensor.unflatten(0, (n_images, -1))


def layer_names(model: nn.Module, inputs: Batch, layers: Layers = "*") -> tuple[str, ...]:
    """List the layers of a network in the order in which they run.

    Parameters
    ----------
    model
        Any network. It runs once, on at most five images, and is left as it was.
    inputs
        A batch whose first axis is the images, or the network's arguments by name.
    layers
        A glob over the names, in which ``*`` also matches dots; a kind ("residual": sums of skip connections,
        "attention": outputs of attention, "mlp": hidden activations of MLPs, "norm": outputs of normalizations,
        "block": whole blocks); or several of these. ``"*"`` alone selects every tensor once, so that identities,
        dropout and containers do not repeat it.

    Returns
    -------
    tuple of str
        Names of layers.

    Examples
    --------
    ::

        layer_names(resnet, images, "residual")
    """
    return tuple(layer.name for layer in select_layers(model, trace_layers(model, inputs), layers))


def trace_layers(model: nn.Module, inputs: Batch) -> list[Layer]:
    """Run a network on a few images and list its floating-point outputs that have a batch dimension."""
    inputs = slice_batch(as_batch(inputs), 0, TRACED_IMAGES)
    n_images, layers = batch_length(inputs), list[Layer]()

    def on_output(output: LayerOutput, tensor: Tensor) -> None:
        axis = _image_axis(tensor, n_images)
        if axis is not None:
            n_bytes = tensor.numel() * tensor.element_size() // n_images
            layers.append(Layer(output, axis, n_bytes, tuple(tensor.shape)))

    observe(model, inputs, on_output)
    return layers


def _image_axis(tensor: Tensor, n_images: int) -> int | None:
    if not tensor.is_floating_point() or tensor.ndim == 0 or tensor.numel() == 0:
        return None
    if tensor.shape[0] == n_images:
        return 0
    if tensor.ndim > 2 and tensor.shape[1] == n_images:
        return 1
    return 0 if tensor.shape[0] % n_images == 0 else None


def select_layers(model: nn.Module, traced: Sequence[Layer], layers: Layers) -> list[Layer]:
    """Select traced layers by globs and kinds, as in `layer_names`."""
    patterns = as_patterns(layers)
    if patterns == ["*"]:
        return [layer for layer in traced if layer.output.alias_of is None]
    network, selected = unwrap_model(model), set[str]()
    for pattern in patterns:
        if pattern in KINDS:
            found = _of_kind(network, traced, pattern)
        else:
            glob = pattern.replace("[", "[[]")  # brackets stand for themselves, as names contain them
            found = {layer.name for layer in traced if fnmatchcase(layer.name, glob)}
        if not found:
            raise _no_match(pattern, network, traced)
        selected |= found
    return [layer for layer in traced if layer.name in selected]


def as_patterns(layers: Layers) -> list[str]:
    """The globs and kinds of an argument `layers`, of which there is at least one."""
    patterns = [layers] if isinstance(layers, str) else list(layers) if isinstance(layers, Iterable) else [layers]
    if not patterns:
        raise InputError("layers is empty. Allowed: a glob over the names, a kind, or several of these.")
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise InputError(
            f"layers={layers!r} is not usable. Allowed: a glob over the names, a kind, or several of these."
        )
    return patterns


def spatial_layers(
    model: nn.Module, batch: Batch, layers: Layers, counts: Sequence[int], *, min_patches: int = 1
) -> dict[str, TokenGrid]:
    """Return the layers with tokens or maps over the image, and their grids; others, such as the head, are left out."""
    # `batch` is on the device of the model; `counts` comes from `prefix_counts`. Raises where no layer is left, with
    # the reason for the first one.
    selected = select_layers(model, trace_layers(model, batch), layers)
    n_images, size = min(batch_length(batch), TRACED_IMAGES), image_size(image_tensor(batch))
    grids: dict[str, TokenGrid] = {}
    reasons: list[InputError] = []
    for layer in selected:
        try:
            if layer.shape[0] != n_images:
                raise InputError(
                    f"layer {layer.name!r} returns {layer.shape} for {n_images} images: it sees windows or folded "
                    "patches. Allowed: layers with one row for each image."
                )
            _, grid = as_tokens(torch.empty(layer.shape, device="meta"), size, counts)  # a shape without values
            if grid.n_patches < min_patches:
                raise InputError(
                    f"layer {layer.name!r} has {grid.n_patches} patches. Allowed: at least {min_patches}, as in "
                    "earlier layers or with larger images."
                )
        except InputError as error:
            reasons.append(error)
        else:
            grids[layer.name] = grid
    if not grids:
        raise reasons[0]
    return grids


def _no_match(pattern: str, model: nn.Module, traced: Sequence[Layer]) -> InputError:
    if pattern in KINDS:
        others = [kind for kind in KINDS if _of_kind(model, traced, kind)]
        return InputError(
            f"layers={pattern!r} matches nothing: {type(model).__name__} has no layer of this kind. "
            f"Allowed: {', '.join(others) or 'no kind here'}, or a glob over the names, as in {traced[0].name!r}."
        )
    names = [layer.name for layer in traced]
    word = pattern.replace("*", "").strip(".")
    nearest = get_close_matches(word, names, n=MAX_SUGGESTIONS, cutoff=0.3) or names[:MAX_SUGGESTIONS]
    return InputError(
        f"layers={pattern!r} matches none of the {len(names)} layers of {type(model).__name__}. Nearest names: "
        f"{', '.join(nearest)}. Allowed: a glob over the names, or one of {', '.join(KINDS)}."
    )


def _of_kind(model: nn.Module, traced: Sequence[Layer], kind: str) -> set[str]:
    """Names of the layers of a kind; of a module that returns several tensors the first one."""
    outputs = [layer.output for layer in traced]
    if kind == "residual":
        return {output.name for output in outputs if output.is_sum}
    modules = dict(model.named_modules())
    if kind == "attention":
        paths = {path for path, module in modules.items() if path and _is_attention(module)}
        paths = {path for path in paths if not paths & set(_parents(path))}  # the outermost
    elif kind == "norm":
        paths = {path for path, module in modules.items() if _is_norm(module)}
    elif kind == "mlp":
        paths = {path for path, module in modules.items() if _is_activation_of_mlp(path, module, modules)}
    else:
        paths = _blocks(modules, {output.module for output in outputs if output.is_sum})
    names = [output.name for output in outputs if not output.is_sum and output.module in paths]
    return {name for name in names if "[" not in name or name.endswith("[0]")}


def _is_attention(module: nn.Module) -> bool:
    name = type(module).__name__
    return bool(_ATTENTION.search(name)) and not _AROUND_ATTENTION.search(name)


def _is_norm(module: nn.Module) -> bool:
    known = isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm)
    return known or ("norm" in type(module).__name__.lower() and not list(module.children()))


def _is_activation_of_mlp(path: str, module: nn.Module, modules: Mapping[str, nn.Module]) -> bool:
    if not _ACTIVATION.search(type(module).__name__) or list(module.children()):
        return False
    return any(_MLP.search(type(modules[parent]).__name__) for parent in _parents(path))


def _blocks(modules: Mapping[str, nn.Module], adding: set[str]) -> set[str]:
    """Paths of modules in a row that hold an addition, and of their siblings of the same class, which may hold none."""
    chains = [[path for path in (inner, *_parents(inner)) if path] for inner in adding]
    first = [next((path for path in chain if _is_in_a_row(modules, path)), None) for chain in chains]
    classes = {_class_of(modules[path]) for path in first if path is not None}
    blocks: set[str] = set()
    for chain in chains:
        block = next((path for path in chain if _class_of(modules[path]) in classes), None)  # also if alone in its row
        if block is not None:
            blocks |= _siblings(modules, block)
    return blocks


def _is_in_a_row(modules: Mapping[str, nn.Module], path: str) -> bool:
    container = modules[path.rpartition(".")[0]]
    return isinstance(container, nn.Sequential | nn.ModuleList) or len(_siblings(modules, path)) > 1


def _siblings(modules: Mapping[str, nn.Module], path: str) -> set[str]:
    """Children of the same class in the same container, the module itself among them."""
    container, kind = path.rpartition(".")[0], _class_of(modules[path])
    children = modules[container].named_children()
    return {f"{container}.{name}".lstrip(".") for name, child in children if _class_of(child) is kind}


def _class_of(module: nn.Module) -> type:
    """Class of a module, or of the one that it replaces."""
    kind: type = getattr(module, "stands_for", type(module))
    return kind


def _parents(path: str) -> Iterator[str]:
    """Paths of the modules around one, the innermost first, without the network itself."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path

"""The layers of a network by name and by kind, in the order in which they run.

A layer is what a module returns, or the sum behind a skip connection, which is no module: it is called ``<module>.add``
after the innermost module that adds. What runs again is ``<name>#2``; a module that returns several tensors is read as
``<name>[0]`` or ``<name>[key]``. What the network returns is ``output``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.hooks import Batch, LayerOutput, batch_length, observe, slice_batch, unwrap

Layers = str | Sequence[str]

KINDS = ("residual", "attention", "mlp", "norm", "block")
TRACED_IMAGES = 5  # a prime: an axis of this length is hardly anything but the images
NEAREST = 5  # names in a message

_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)
_NO_ATTENTION = re.compile(r"block|layer|pool|encoder|decoder|model", re.IGNORECASE)
_MLP = re.compile(r"mlp|feed_?forward|ffn|intermediate", re.IGNORECASE)
_ACTIVATION = re.compile(r"elu|silu|swish|mish|tanh|activation", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """A place where a network can be read, image by image.

    Attributes
    ----------
    place
        Where it is.
    axis
        The axis of the images: 0, or 1 where positions come first.
    n_bytes
        Of one image.
    """

    place: LayerOutput
    axis: int
    n_bytes: int

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.place.name

    def batch_first(self, tensor: Tensor, n_images: int) -> Tensor:
        """Bring the images to the first axis.

        Parameters
        ----------
        tensor
            What was read here.
        n_images
            In the batch.

        Returns
        -------
        Tensor
            (n_images, ...); windows or patches that shared the first axis have one of their own.

        Raises
        ------
        InputError
            Where the images have no axis this time.
        """
        if tensor.ndim <= self.axis or tensor.shape[self.axis] % n_images:
            raise InputError(
                f"layers: {self.name} gives {tuple(tensor.shape)} for {n_images} images. Allowed: layers that keep the "
                "images apart in every batch."
            )
        if self.axis == 1:
            return tensor.transpose(0, 1)
        return tensor if tensor.shape[0] == n_images else tensor.unflatten(0, (n_images, -1))


def layer_names(model: nn.Module, inputs: Batch, layers: Layers = "*") -> tuple[str, ...]:
    """Name the layers of a network in the order in which they run.

    Parameters
    ----------
    model
        Any network. It is run once, on at most five images, and left as it was.
    inputs
        A batch, its first axis the images; or the network's arguments by name.
    layers
        A glob over the names, where ``*`` also matches dots; a kind ("residual": the sums behind skip connections,
        "attention": what attention returns, "mlp": what is hidden inside MLPs, "norm": behind normalisations, "block":
        whole blocks); or several of these. ``"*"`` alone takes every tensor once, so that identities, dropout and
        containers do not repeat it.

    Returns
    -------
    tuple of str
        Names.

    Raises
    ------
    InputError
        Where a glob or a kind matches nothing: says the nearest names.
    """
    return tuple(tap.name for tap in select_layers(model, trace_layers(model, inputs), layers))


def trace_layers(model: nn.Module, inputs: Batch) -> list[Layer]:
    """Run a network on a few images and list where it can be read.

    Parameters
    ----------
    model
        Any network.
    inputs
        A batch on its device, of which the first five images are taken.

    Returns
    -------
    list of Layer
        In the order of execution; floating point tensors with an axis for the images.
    """
    inputs = slice_batch(inputs, 0, TRACED_IMAGES)
    n_images, taps = batch_length(inputs), list[Layer]()

    def visit(place: LayerOutput, tensor: Tensor) -> None:
        axis = _image_axis(tensor, n_images)
        if axis is not None:
            taps.append(Layer(place, axis, tensor.numel() * tensor.element_size() // n_images))

    observe(model, inputs, visit)
    return taps


def _image_axis(tensor: Tensor, n_images: int) -> int | None:
    if not tensor.is_floating_point() or tensor.ndim == 0 or tensor.numel() == 0:
        return None
    if tensor.shape[0] == n_images:
        return 0
    if tensor.ndim > 2 and tensor.shape[1] == n_images:
        return 1
    return 0 if tensor.shape[0] % n_images == 0 else None


def select_layers(model: nn.Module, taps: Sequence[Layer], layers: Layers) -> list[Layer]:
    """Choose layers by glob or kind.

    Parameters
    ----------
    model
        The network.
    taps
        From `trace_layers`.
    layers
        As in `layer_names`.

    Returns
    -------
    list of Layer
        In the order of execution.

    Raises
    ------
    InputError
        Where a glob or a kind matches nothing.
    """
    words = [layers] if isinstance(layers, str) else list(layers)
    if not words:
        raise InputError("layers is empty. Allowed: a glob over the names, a kind, or several of these.")
    if words == ["*"]:
        return [tap for tap in taps if tap.place.alias_of is None]
    chosen: set[str] = set()
    for word in words:
        found = _of_kind(unwrap(model), taps, word) if word in KINDS else _matching(taps, word)
        if not found:
            raise _no_layer(word, unwrap(model), taps)
        chosen |= found
    return [tap for tap in taps if tap.name in chosen]


def _matching(taps: Sequence[Layer], pattern: str) -> set[str]:
    """Match names exactly or by glob; brackets stand for themselves, as names contain them."""
    literal = pattern.replace("[", "[[]")
    return {tap.name for tap in taps if fnmatchcase(tap.name, literal)}


def _no_layer(word: str, model: nn.Module, taps: Sequence[Layer]) -> InputError:
    if word in KINDS:
        others = [kind for kind in KINDS if _of_kind(model, taps, kind)]
        return InputError(
            f"layers={word!r} matches nothing: {type(model).__name__} has no layer of this kind. "
            f"Allowed: {', '.join(others) or 'no kind here'}, or a glob over the names, as in {taps[0].name!r}."
        )
    names = [tap.name for tap in taps]
    nearest = get_close_matches(word.replace("*", "").strip("."), names, n=NEAREST, cutoff=0.3) or names[:NEAREST]
    return InputError(
        f"layers={word!r} matches none of the {len(names)} layers of {type(model).__name__}. Nearest names: "
        f"{', '.join(nearest)}. Allowed: a glob over the names, or one of {', '.join(KINDS)}."
    )


def _of_kind(model: nn.Module, taps: Sequence[Layer], kind: str) -> set[str]:
    """Name the layers of a kind; of a module that returns several tensors the first."""
    if kind == "residual":
        return {tap.name for tap in taps if tap.place.is_sum}
    modules = dict(model.named_modules())
    if kind == "attention":
        paths = _outermost({path for path, module in modules.items() if path and _is_attention(module)})
    elif kind == "norm":
        paths = {path for path, module in modules.items() if _is_norm(module)}
    elif kind == "mlp":
        paths = {path for path, module in modules.items() if _is_hidden_in_mlp(path, module, modules)}
    else:
        paths = _blocks(modules, {tap.place.module for tap in taps if tap.place.is_sum})
    named = [tap.name for tap in taps if not tap.place.is_sum and tap.place.module in paths]
    return {name for name in named if "[" not in name or name.endswith("[0]")}


def _is_attention(module: nn.Module) -> bool:
    name = type(module).__name__
    return bool(_ATTENTION.search(name)) and not _NO_ATTENTION.search(name)


def _is_norm(module: nn.Module) -> bool:
    known = isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm)
    return known or ("norm" in type(module).__name__.lower() and not list(module.children()))


def _is_hidden_in_mlp(path: str, module: nn.Module, modules: Mapping[str, nn.Module]) -> bool:
    if not _ACTIVATION.search(type(module).__name__) or list(module.children()):
        return False
    return any(_MLP.search(type(modules[above]).__name__) for above in _above(path))


def _blocks(modules: Mapping[str, nn.Module], adding: set[str]) -> set[str]:
    """Find what adds inside and stands in a row, and its siblings of the same class, which may have no skip."""
    chains = [[inner for inner in (path, *_above(path)) if inner] for path in adding]
    first = [next((inner for inner in chain if _stands_in_a_row(modules, inner)), None) for chain in chains]
    kinds = {_kind(modules[inner]) for inner in first if inner is not None}
    paths: set[str] = set()
    for chain in chains:
        block = next((inner for inner in chain if _kind(modules[inner]) in kinds), None)  # alone in its row, too
        paths |= set() if block is None else _siblings(modules, block)
    return paths


def _stands_in_a_row(modules: Mapping[str, nn.Module], path: str) -> bool:
    container = modules[path.rpartition(".")[0]]
    return isinstance(container, nn.Sequential | nn.ModuleList) or len(_siblings(modules, path)) > 1


def _siblings(modules: Mapping[str, nn.Module], path: str) -> set[str]:
    """Find the children of the same class in the same container, itself among them."""
    container, kind = path.rpartition(".")[0], _kind(modules[path])
    children = modules[container].named_children()
    return {f"{container}.{key}".lstrip(".") for key, child in children if _kind(child) is kind}


def _kind(module: nn.Module) -> type:
    """Give the class of a module, or of the one that it stands for."""
    kind: type = getattr(module, "stands_for", type(module))
    return kind


def _above(path: str) -> Iterator[str]:
    """Paths of the modules around one, the innermost first, without the network itself."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _outermost(paths: set[str]) -> set[str]:
    return {path for path in paths if not paths & set(_above(path))}

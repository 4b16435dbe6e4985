"""Which layers of a network keep places."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.hooks import Batch, LayerOutput, batch_length, observe, slice_batch
from windvane.inspect.images import images_in, size_of
from windvane.inspect.layers import TRACED_IMAGES, Layers, layer_names
from windvane.inspect.tokens import as_tokens, check_by_image


def spatial_layers(
    model: nn.Module, batch: Batch, layers: Layers, counts: Sequence[int], *, fewest: int = 1
) -> tuple[str, ...]:
    """Choose the layers whose tokens or maps lie over the image.

    Parameters
    ----------
    model
        Any network; run on a few images.
    batch
        What it takes, on its device.
    layers
        As in `layer_names`.
    counts
        From `prefix_counts`.
    fewest
        Places that a layer must have.

    Returns
    -------
    tuple of str
        Names, in the order of execution. Layers that keep no places, such as a head or attention of the class token
        alone, are left out.

    Raises
    ------
    InputError
        Where no layer matches, or none of them keeps places: says why the first one does not.
    """
    names, few = layer_names(model, batch, layers), slice_batch(batch, 0, TRACED_IMAGES)
    n_images, size = batch_length(few), size_of(images_in(few))
    kept: set[str] = set()
    why: list[InputError] = []

    def visit(place: LayerOutput, tensor: Tensor) -> None:
        if place.name in names:
            try:
                check_by_image(tensor, n_images, place.name)
                _, grid = as_tokens(tensor, size, counts)
                if grid.n_patches < fewest:
                    raise InputError(
                        f"layer {place.name!r} has {grid.n_patches} places. Allowed: at least {fewest}, as in earlier "
                        "layers or with larger images."
                    )
            except InputError as error:
                why.append(error)
            else:
                kept.add(place.name)

    observe(model, few, visit)
    if not kept:
        raise why[0]
    return tuple(name for name in names if name in kept)

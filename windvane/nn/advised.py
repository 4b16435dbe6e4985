"""A recipe with what is advised for its network, its images and its schedule."""

from __future__ import annotations

from dataclasses import replace

from windvane.data.images import ImageSet
from windvane.nn.advise import Advice, advise
from windvane.nn.networks import count_parameters, create_network
from windvane.nn.recipe import Recipe

_TIMED_EPOCHS = 30.0  # what a schedule by the clock is taken for: nobody knows its speed yet


def advised(recipe: Recipe, images: ImageSet) -> tuple[Recipe, Advice]:
    """Fill in AugReg level, regularisation and weight decay.

    Parameters
    ----------
    recipe
        The rest of it counts.
    images
        To train on.

    Returns
    -------
    recipe, advice
        The same recipe with these three, and why.
    """
    steps_per_epoch = max(1, len(images) // recipe.batch)
    epochs = recipe.epochs or (recipe.steps / steps_per_epoch if recipe.steps else _TIMED_EPOCHS)
    n_params = count_parameters(create_network(recipe, len(images.classes)))
    advice = advise(len(images), n_params, epochs, recipe.weights is not None)
    fields = {"regularisation": advice.regularisation, "weight_decay": advice.weight_decay}
    return replace(recipe, augreg=advice.level, **fields), advice  # type: ignore[arg-type]

"""A recipe with what is advised for its network, its images and its schedule; and the advice as a screen to read."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from windvane.data.images import ImageSet
from windvane.nn.advise import PAPER, PARTS, Advice, advise
from windvane.nn.networks import count_parameters, create_network
from windvane.nn.recipe import Recipe

WIDTH = 80  # characters of a line
_INDENT = 4
_TIMED_EPOCHS = 30.0  # what a schedule by the clock is taken for: nobody knows its speed yet
_TITLES = dict(zip(PARTS, ("Start from", "AugReg level", "Regularisation", "Weight decay"), strict=True))


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
    n_params = count_parameters(create_network(recipe, len(images.classes)))
    advice = advise(len(images), n_params, _epochs(recipe, images), recipe.weights is not None)
    fields = {"regularisation": advice.regularisation, "weight_decay": advice.weight_decay}
    return replace(recipe, augreg=advice.level, **fields), advice  # type: ignore[arg-type]


def describe_advice(recipe: Recipe, images: ImageSet, width: int = WIDTH) -> str:
    """Write what is advised as a screen: each choice, where its rule comes from, and why.

    Parameters
    ----------
    recipe
        As for `advised`.
    images
        To train on.
    width
        Characters of a line.

    Returns
    -------
    str
        Lines.
    """
    _, advice = advised(recipe, images)
    head = f"{recipe.model}, {len(images):,} training images of {len(images.classes)} classes, "
    head += "" if recipe.seconds is None else f"{recipe.seconds:g} s, taken for "
    head += f"{_epochs(recipe, images):g} epochs"
    share = advice.regularisation
    choices = {
        "transfer": "pre-trained weights" if advice.transfer else "random weights",
        "level": advice.level,
        "regularisation": f"dropout and stochastic depth {share:g}" if share else "none",
        "weight_decay": f"{advice.weight_decay:g}",
    }
    lines = textwrap.wrap(head, width)
    for part, choice in choices.items():
        mark = "[paper]" if advice.sources[part] == PAPER else "[ours]"
        lines += ["", f"{f'{_TITLES[part]}: {choice}':{width - len(mark)}}{mark}"]
        lines += textwrap.wrap(
            advice.reasons[part], width, initial_indent=" " * _INDENT, subsequent_indent=" " * _INDENT
        )
    notes = ['[paper] shown in "How to train your ViT" (arXiv 2106.10270).']
    notes += sorted({f"[ours] {source}." for source in advice.sources.values() if source != PAPER})
    lines.append("")
    for note in notes:
        lines += textwrap.wrap(note, width, subsequent_indent=" " * (note.index("]") + 2))
    return "\n".join(lines)


def _epochs(recipe: Recipe, images: ImageSet) -> float:
    """Give the epochs of a schedule; of one by the clock a guess."""
    steps_per_epoch = max(1, len(images) // recipe.batch)
    return recipe.epochs or (recipe.steps / steps_per_epoch if recipe.steps else _TIMED_EPOCHS)

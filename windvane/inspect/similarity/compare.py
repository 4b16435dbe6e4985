"""Whether two networks see alike: one call from images to the map of similarities, and baselines for it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler, Subset

from windvane.errors import InputError, unknown
from windvane.inspect.activations import AUTO_BATCH, BatchSize, read_steps
from windvane.inspect.batches import paired_batches
from windvane.inspect.hooks import Batch, batch_length, unwrap
from windvane.inspect.layers import Layers
from windvane.inspect.similarity.accumulator import SimilarityAccumulator, average_repeats
from windvane.inspect.similarity.cca import CCAMeasure, ProcrustesMeasure
from windvane.inspect.similarity.comparison import Comparison
from windvane.inspect.similarity.measures import CKAMeasure, Measure, RSAMeasure

MEASURES: Mapping[str, Measure] = {
    "cka": CKAMeasure(),
    "cka-biased": CKAMeasure(unbiased=False),
    "cka-rbf": CKAMeasure("rbf"),
    "rsa": RSAMeasure(),
    "rsa-cosine": RSAMeasure("cosine"),
    "procrustes": ProcrustesMeasure(),
    "svcca": CCAMeasure(),
    "pwcca": CCAMeasure(weighted=True),
}


@dataclass(frozen=True)
class Sampling:
    """Which images networks are compared on.

    Attributes
    ----------
    batch_size
        Images at a time, where the data have no batches of their own; with "auto" batches that do not fit into memory
        are halved.
    n_images
        In each repeat; None for all.
    repeats
        How often; with more than one, each draws its images at random.
    shuffled
        Whether the second network sees the images of each batch in another order, so that nothing agrees but by chance.
    seed
        Root of all randomness.
    """

    batch_size: BatchSize = AUTO_BATCH
    n_images: int | None = None
    repeats: int = 1
    shuffled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise InputError(f"repeats={self.repeats} is too small. Allowed: 1 or more.")


def compare(
    model_a: nn.Module,
    model_b: nn.Module,
    data: Any,
    layers: Layers | tuple[Layers, Layers] = "*",
    measure: str | Measure = "cka",
    sampling: Sampling = Sampling(),
) -> Comparison:
    """Compare every layer of a network with every layer of another, or of itself.

    Parameters
    ----------
    model_a, model_b
        Networks; the same one twice is run once.
    data
        As in `collect_activations`, the same batch for both; or a tuple with the same images for each.
    layers
        As in `layer_names`, for both; or a tuple with those of each.
    measure
        "cka", "cka-biased", "cka-rbf", "rsa", "rsa-cosine", "procrustes", "svcca", "pwcca", or a measure with settings
        of its own.
    sampling
        Which images.

    Returns
    -------
    Comparison
        The map. Its intervals are over the batches by the jackknife; with repeats they say how much the mean over
        draws of images from `data` would vary, not how much it would for other images than these.

    Raises
    ------
    InputError
        As `collect_activations`; batches that are too small for the measure, or `data` that cannot be read again.
    """
    chosen = find_measure(measure)
    if sampling.repeats > 1 and not _draws_anew(data):
        raise InputError(
            f"repeats={sampling.repeats}, but data gives the same images each time. Allowed: a tensor, an array, a "
            "data set, or a loader that shuffles."
        )
    both = layers if isinstance(layers, tuple) else (layers, layers)
    accumulators = []
    for repeat in range(sampling.repeats):
        accumulator, random = SimilarityAccumulator(chosen), np.random.default_rng([sampling.seed, repeat])
        drawn = data if sampling.repeats == 1 else _drawn(data, random)
        steps = _steps(drawn, sampling, chosen.min_batch_size, random)
        halves = sampling.batch_size == "auto"
        for left, right in read_steps([model_a, model_b], steps, both, chosen.summarize, halves, chosen.min_batch_size):
            accumulator.add(left, right)
        accumulators.append(accumulator)
    whole = Comparison.of(
        accumulators[0], average_repeats([one.matrix() for one in accumulators]), _names(model_a, model_b)
    )
    return replace(
        whole, n_images=sum(one.n_images for one in accumulators), n_batches=sum(one.n_batches for one in accumulators)
    )


def baselines(
    model_a: nn.Module,
    model_b: nn.Module,
    data: Any,
    layers: Layers | tuple[Layers, Layers] = "*",
    measure: str | Measure = "cka",
    sampling: Sampling = Sampling(),
) -> dict[str, Comparison]:
    """Find what similarity means nothing: that of untrained networks, and that of unrelated images.

    Parameters
    ----------
    model_a, model_b, data, layers, measure, sampling
        As in `compare`.

    Returns
    -------
    dict
        "untrained": both networks with fresh random weights, the same where both are one; "shuffled": each network sees
        the images in another order. A similarity no higher than these was not learned, or is chance.
    """
    fresh_a = untrained(model_a, sampling.seed)
    fresh_b = fresh_a if unwrap(model_b) is unwrap(model_a) else untrained(model_b, sampling.seed + 1)
    names = _names(model_a, model_b)
    fresh = compare(fresh_a, fresh_b, data, layers, measure, sampling)
    shuffled = compare(model_a, model_b, data, layers, measure, replace(sampling, shuffled=True))
    return {"untrained": fresh.renamed(*(f"{name}, untrained" for name in names)), "shuffled": shuffled}


def untrained(model: nn.Module, seed: int) -> nn.Module:
    """Copy a network and draw its weights anew, as its layers do when they are made.

    Parameters
    ----------
    model
        Any network; it stays as it is.
    seed
        Of the weights.

    Returns
    -------
    torch.nn.Module
        On the same device. Parameters of modules without a `reset_parameters` are shuffled, which keeps their scale.
    """
    fresh = copy.deepcopy(unwrap(model))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for module in fresh.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    return fresh


def compare_features(X: Any, Y: Any, measure: str | Measure = "cka") -> float:
    """Compare two sets of features of the same examples.

    Parameters
    ----------
    X, Y
        Tensors or arrays (n, ...), row by row the same examples, at least four.
    measure
        As in `compare`.

    Returns
    -------
    float
        NaN where X or Y is constant or not finite.

    Raises
    ------
    InputError
        Where the numbers of examples differ or are too small.
    """
    chosen = find_measure(measure)
    accumulator = SimilarityAccumulator(chosen)
    left, right = (chosen.summarize(torch.as_tensor(one).detach().double()) for one in (X, Y))
    accumulator.add({"X": left}, {"Y": right})
    return float(accumulator.matrix().values[0, 0])


def find_measure(measure: str | Measure) -> Measure:
    """Look a measure up by its name."""
    if not isinstance(measure, str):
        return measure
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    return MEASURES[measure]


def _draws_anew(data: Any) -> bool:
    """Tell whether images can be drawn again and again: else repeats would agree without having shown anything."""
    first = data[0] if isinstance(data, tuple) else data
    if isinstance(first, DataLoader):
        return not isinstance(first.sampler, SequentialSampler)
    return isinstance(first, Tensor | np.ndarray | Dataset) and not isinstance(first, IterableDataset)


def _drawn(data: Any, random: np.random.Generator) -> Any:
    """Put images in a random order, the same for all networks; a loader draws for itself."""
    first = data[0] if isinstance(data, tuple) else data
    if isinstance(first, DataLoader) or not isinstance(first, Tensor | np.ndarray | Dataset):
        return data
    order = random.permutation(len(first))  # type: ignore[arg-type]
    if isinstance(data, tuple):
        return tuple(_taken(one, order) for one in data)
    return _taken(data, order)


def _taken(data: Any, order: np.ndarray[Any, Any]) -> Any:
    return Subset(data, order.tolist()) if isinstance(data, Dataset) else data[order]


def _steps(data: Any, sampling: Sampling, least: int, random: np.random.Generator) -> Iterator[tuple[Batch, ...]]:
    """Go through the images, without the batches that are too small for a measure."""
    size = AUTO_BATCH if sampling.batch_size == "auto" else sampling.batch_size
    n_used, n_left_out = 0, 0
    for step in paired_batches(data, 2, size, sampling.n_images):
        n_given = batch_length(step[0])
        if n_given < least:
            n_left_out += n_given
            continue
        n_used += n_given
        yield (step[0], _elsewhere(step[1], random)) if sampling.shuffled else step
    if not n_used:
        raise InputError(f"batch_size: no batch has {least} images, which comparing needs. Allowed: {least} or more.")
    if n_left_out:
        warnings.warn(f"{n_left_out} images are left out: their batches have fewer than {least}.", stacklevel=2)


def _elsewhere(batch: Batch, random: np.random.Generator) -> Batch:
    """Put each image in the place of another: along one cycle, so that none keeps its place."""
    order = random.permutation(batch_length(batch))
    places = torch.as_tensor(np.roll(order, 1)[np.argsort(order)])
    if isinstance(batch, Tensor):
        return batch[places]
    return {key: one[places] if isinstance(one, Tensor) else one for key, one in batch.items()}


def _names(model_a: nn.Module, model_b: nn.Module) -> tuple[str, str]:
    first, second = model_name(model_a), model_name(model_b)
    if first == second and unwrap(model_a) is not unwrap(model_b):
        return f"{first} (first)", f"{second} (second)"
    return first, second


def model_name(model: nn.Module) -> str:
    """Say what a network is called: its architecture in timm, else its class.

    Parameters
    ----------
    model
        Any network.

    Returns
    -------
    str
        As in "resnet50".
    """
    inner = unwrap(model)
    config = getattr(inner, "pretrained_cfg", None)
    known = config.get("architecture") if isinstance(config, Mapping) else None
    return known or type(inner).__name__

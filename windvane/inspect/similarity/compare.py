"""Compare two networks layer by layer, and measure the baselines of that comparison."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler, Subset

from windvane.errors import InputError, check_choice, check_integer
from windvane.inspect.activations import AUTO_BATCH_SIZE, BatchSize, Step, read_steps
from windvane.inspect.batches import MIN_IMAGES, Batch, batch_length, leave_out_small, paired_batches
from windvane.inspect.layer_selection import Layers
from windvane.inspect.similarity.accumulator import SimilarityAccumulator
from windvane.inspect.similarity.cca import CCAMeasure, ProcrustesMeasure
from windvane.inspect.similarity.comparison import Comparison
from windvane.inspect.similarity.measures import CKAMeasure, Measure, RSAMeasure
from windvane.torch_utils import map_tensors, unwrap_model

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

    Examples
    --------
    ::

        Sampling(batch_size=128, n_images=1024, repeats=5)
    """

    # Images at a time, if the data are not in batches already; "auto" halves batches that do not fit into memory.
    batch_size: BatchSize = AUTO_BATCH_SIZE
    n_images: int | None = None  # in each repeat; None for all
    repeats: int = 1  # with more than one, each draws its images at random
    # The second network sees the images of each batch in another order, so that all agreement is chance.
    shuffled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("repeats", self.repeats)


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
        Networks; the same one twice runs once.
    data
        As in `collect_activations`, for both networks; or a tuple with the same images for each, for example in two
        sizes.
    layers
        As in `layer_names`, for both networks; or a tuple with those of each.
    measure
        "cka", "cka-biased", "cka-rbf", "rsa", "rsa-cosine", "procrustes", "svcca", "pwcca", or a measure with its own
        settings, such as ``CKAMeasure("rbf", bandwidth=0.5)``.
    sampling
        Batch size, number of images, repeats.

    Returns
    -------
    Comparison
        Its intervals are over the batches by the jackknife. With repeats they say how much the mean over draws of
        images from `data` would vary, not how much other images would change it.

    Examples
    --------
    ::

        compare(vit, resnet, images).plot()
        compare(vit, vit, images, "residual", sampling=Sampling(repeats=5, n_images=512)).to_frame()
    """
    chosen = find_measure(measure)
    if sampling.repeats > 1 and not _can_be_drawn_again(data):
        raise InputError(
            f"repeats={sampling.repeats}, but data yields the same images each time. Allowed: a tensor, an array, a "
            "data set, or a loader that shuffles."
        )
    size, halve_to = (AUTO_BATCH_SIZE, MIN_IMAGES) if sampling.batch_size == "auto" else (sampling.batch_size, None)
    accumulators = []
    for repeat in range(sampling.repeats):
        generator = np.random.default_rng([sampling.seed, repeat])
        drawn = data if sampling.repeats == 1 else _in_random_order(data, generator)
        steps: Iterator[Step] = leave_out_small(paired_batches(drawn, 2, size, sampling.n_images))
        if sampling.shuffled:
            steps = ((first, _deranged(second, generator)) for first, second in steps)
        accumulator = SimilarityAccumulator(chosen)
        for of_both in read_steps((model_a, model_b), steps, layers, chosen.summarize, halve_to=halve_to):
            accumulator.add(*of_both)
        accumulators.append(accumulator)
    return Comparison.from_accumulators(accumulators, _names(model_a, model_b))


def baselines(
    model_a: nn.Module,
    model_b: nn.Module,
    data: Any,
    layers: Layers | tuple[Layers, Layers] = "*",
    measure: str | Measure = "cka",
    sampling: Sampling = Sampling(),
) -> dict[str, Comparison]:
    """Measure the similarity that means nothing: of untrained networks, and of unrelated images.

    Parameters
    ----------
    model_a, model_b, data, layers, measure, sampling
        As in `compare`.

    Returns
    -------
    dict
        "untrained": both networks with new random weights (the same ones if both are one network); "shuffled": each
        network sees the images in another order. A similarity no higher than these was not learned, or is chance.

    Examples
    --------
    ::

        floor = baselines(vit, resnet, images)
        floor["untrained"].matches()["similarity"].mean()
    """
    untrained_a = untrained(model_a, sampling.seed)
    same = unwrap_model(model_b) is unwrap_model(model_a)
    untrained_b = untrained_a if same else untrained(model_b, sampling.seed + 1)
    names = [f"{name}, untrained" for name in _names(model_a, model_b)]
    return {
        "untrained": compare(untrained_a, untrained_b, data, layers, measure, sampling).renamed(*names),
        "shuffled": compare(model_a, model_b, data, layers, measure, replace(sampling, shuffled=True)),
    }


def untrained(model: nn.Module, seed: int) -> nn.Module:
    """Copy a network with new random weights, drawn as its layers initialize themselves.

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

    Examples
    --------
    ::

        compare(resnet, untrained(resnet, seed=0), images).plot()
    """
    copied = copy.deepcopy(unwrap_model(model))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for module in copied.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    return copied


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

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(20, 5))
    >>> round(compare_features(X, 3 * X, "procrustes"), 6)
    1.0
    """
    chosen = find_measure(measure)
    accumulator = SimilarityAccumulator(chosen)
    of_x, of_y = (chosen.summarize(torch.as_tensor(one).detach().double()) for one in (X, Y))
    accumulator.add({"X": of_x}, {"Y": of_y})
    return float(accumulator.matrix().values[0, 0])


def find_measure(measure: str | Measure) -> Measure:
    """Measure of a name; a measure itself stays as it is."""
    if not isinstance(measure, str):
        return measure
    check_choice("measure", measure, MEASURES)
    return MEASURES[measure]


def _can_be_drawn_again(data: Any) -> bool:
    """Whether repeats get different images; otherwise they would agree without having shown anything."""
    first = data[0] if isinstance(data, tuple) else data
    if isinstance(first, DataLoader):
        return not isinstance(first.sampler, SequentialSampler)
    return isinstance(first, Tensor | np.ndarray | Dataset) and not isinstance(first, IterableDataset)


def _in_random_order(data: Any, generator: np.random.Generator) -> Any:
    """Permute images, in the same way for all networks; a loader shuffles by itself."""
    sources = data if isinstance(data, tuple) else (data,)
    if isinstance(sources[0], DataLoader):
        return data
    order = generator.permutation(len(sources[0]))
    permuted = [Subset(one, order.tolist()) if isinstance(one, Dataset) else one[order] for one in sources]
    return tuple(permuted) if isinstance(data, tuple) else permuted[0]


def _deranged(batch: Batch, generator: np.random.Generator) -> Batch:
    """Permute a batch along one cycle, so that no image keeps its index."""
    order = generator.permutation(batch_length(batch))
    indices = torch.as_tensor(np.roll(order, 1)[np.argsort(order)])
    permuted: Batch = map_tensors(lambda tensor: tensor[indices], batch)
    return permuted


def _names(model_a: nn.Module, model_b: nn.Module) -> tuple[str, str]:
    first, second = model_name(model_a), model_name(model_b)
    if first == second and unwrap_model(model_a) is not unwrap_model(model_b):
        return f"{first} (first)", f"{second} (second)"
    return first, second


def model_name(model: nn.Module) -> str:
    """Architecture of a network of timm, otherwise its class."""
    inner = unwrap_model(model)
    config = getattr(inner, "pretrained_cfg", None)
    architecture = config.get("architecture") if isinstance(config, Mapping) else None
    return architecture or type(inner).__name__

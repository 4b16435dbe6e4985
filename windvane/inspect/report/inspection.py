"""All analyses of one or two networks, for one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch import Tensor

from windvane.errors import InputError
from windvane.inspect.activations import BatchSize
from windvane.inspect.analyses.attention import attention_distance
from windvane.inspect.analyses.attention_heads import HeadSimilarity, head_similarity
from windvane.inspect.analyses.localization import localization
from windvane.inspect.analyses.probes import Examples, Probes, ProbeSettings, probe
from windvane.inspect.analyses.receptive_field import receptive_fields
from windvane.inspect.analyses.skip_connections import SkipRatios, skip_ratios
from windvane.inspect.report.inspection_page import Analysis, write_findings
from windvane.inspect.report.load_model import LoadedModel, find_images, load_model_and_images
from windvane.inspect.result import Result
from windvane.inspect.similarity.compare import Sampling, baselines, compare, untrained
from windvane.inspect.similarity.comparison import Comparison
from windvane.inspect.similarity.drift import Drift, drift
from windvane.page import check_path
from windvane.vision.device import find_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIELD_IMAGES = 32  # for receptive fields, as in the paper
SHOTS = (1, 5, 10, 25)  # examples per class of few-shot probes, where there are more

SKIPS = "what skip connections carry"


class Sizes(TypedDict, total=False):
    """What analyses are told of batches; nothing where each takes what suits it."""

    batch_size: int


_MAP = "Bright: both layers find the same images alike. Layers run from the lower left; the axes name their blocks."

ONE_NETWORK: tuple[tuple[str, str, Callable[[LoadedModel, Sizes], Result]], ...] = (
    (
        "how far attention looks",
        "Mean distance between a token and where it looks, for every head; local heads lie low.",
        lambda one, size: attention_distance(one.model, one.images, **size),
    ),
    (
        "what a unit sees",
        "How the pixels around it move the central unit of each sum behind a skip connection.",
        lambda one, size: receptive_fields(one.model, one.images, n_images=min(FIELD_IMAGES, len(one.images))),
    ),
    (
        "what attention adds to what a unit sees",
        "The same for the output of each attention, without the skip connection that passes it by.",
        lambda one, size: receptive_fields(
            one.model, one.images, "attention", n_images=min(FIELD_IMAGES, len(one.images))
        ),
    ),
    (
        SKIPS,
        "Length of what is skipped over that of what is added; high where a layer adds little.",
        lambda one, size: skip_ratios(one.model, one.images, **size),
    ),
    (
        "whether tokens keep their place",
        "Similarity of tokens at the end with patches of the input; a bright spot at its own place keeps it.",
        lambda one, size: localization(one.model, one.images, **size),
    ),
)

HOW_TO_READ: dict[type[Result], str] = {
    HeadSimilarity: "Heads of the first attention, from local to global, beside the blocks of the other network.",
    Drift: "Similarity of each block with the same block of the other state; it falls where they have parted.",
}
_COSINES = (
    "where branches point",
    "Cosine of what is added and the sum: near 1 where a layer outweighs what was there, near 0 where it does not.",
)
_PROBES = (
    "what can be read off each layer",
    "Accuracy of linear classifiers that learn from half of the images of each class, judged by the other half.",
)


@dataclass(frozen=True)
class InspectionSettings:
    """How networks are looked into.

    Attributes
    ----------
    n_images
        So many are drawn.
    layers
        Of the maps, as in `layer_names`.
    batch_size
        Images at a time; with "auto" what suits each analysis, halved for the maps where memory is short.
    repeats
        Of the maps, each on images drawn anew, for their intervals.
    device
        Where the networks run, as torch names it.
    trained
        Whether weights are fetched where no file is named.
    seed
        Root of all randomness.
    """

    n_images: int = 256
    layers: str | tuple[str, ...] = "*"
    batch_size: BatchSize = "auto"
    repeats: int = 1
    device: str = "cpu"
    trained: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_images < 4:
            raise InputError(f"n_images={self.n_images} is too small. Allowed: 4 or more.")
        if self.batch_size != "auto" and self.batch_size < 4:
            raise InputError(f"batch_size={self.batch_size} is too small. Allowed: 4 or more, or 'auto'.")

    @property
    def sampling(self) -> Sampling:
        """Of the maps."""
        drawn = None if self.repeats == 1 else max(4, self.n_images // 2)  # half: else each draw were all of them
        return Sampling(self.batch_size, drawn, self.repeats, seed=self.seed)

    @property
    def chosen(self) -> str | list[str]:
        """Layers of the maps; a tuple would be taken for those of two networks."""
        return self.layers if isinstance(self.layers, str) else list(self.layers)

    @property
    def sizes(self) -> Sizes:
        """What analyses are told of batches."""
        return {} if self.batch_size == "auto" else {"batch_size": self.batch_size}


def write_inspection_page(
    names: Sequence[str], folder: str | Path, out: Path, settings: InspectionSettings = InspectionSettings()
) -> Path:
    """Look into networks and write a page.

    Parameters
    ----------
    names
        One or two, as in `load_model_and_images`.
    folder
        Of images.
    out
        The page.
    settings
        How.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        As `load_model_and_images`, `find_images`, `compare` and `write_findings`; and where there is no such device.
    """
    check_path(out)
    device = find_device(settings.device, "float32").device
    pictures = find_images(folder, settings.n_images, settings.seed)
    networks = _apart([load_model_and_images(name, pictures, trained=settings.trained) for name in names])
    for one in networks:
        one.model.to(device)
    findings, missing = run_analyses(networks, settings, classes_of(pictures, Path(folder)))
    lead = f"{len(pictures):,} images of {Path(folder).name}." + "".join(f" Left out: {one}" for one in missing)
    return write_findings(out, f"Inside {' and '.join(one.name for one in networks)}", lead, findings)


def _apart(networks: Sequence[LoadedModel]) -> list[LoadedModel]:
    """Give two states of one architecture different names."""
    if len({one.name for one in networks}) == len(networks):
        return list(networks)
    words = ("first", "second")
    return [replace(one, name=f"{one.name} ({word})") for one, word in zip(networks, words, strict=True)]


def classes_of(pictures: Sequence[Path], root: Path) -> list[str] | None:
    """Name the class of each image: the folder within the root that it lies in.

    Parameters
    ----------
    pictures
        Files in the root or in folders of it.
    root
        A folder.

    Returns
    -------
    list of str or None
        None where an image lies in no folder of the root.
    """
    parts = [picture.relative_to(root).parts for picture in pictures]
    return [part[0] for part in parts] if all(len(part) > 1 for part in parts) else None


def run_analyses(
    networks: Sequence[LoadedModel],
    settings: InspectionSettings = InspectionSettings(),
    classes: Sequence[str] | None = None,
) -> tuple[list[Analysis], list[str]]:
    """Look into one network or two.

    Parameters
    ----------
    networks
        One or two, with the same images.
    settings
        How.
    classes
        Of the images, for probes; None where they are not known.

    Returns
    -------
    tuple
        The findings; and why others are missing, as where a network has no attention.
    """
    findings: list[Analysis] = []
    missing: list[str] = []
    if len(networks) == 2:
        findings.append(_beside(networks[0], networks[1], settings))
        more, missing = _of_both(networks[0], networks[1], settings)
        findings += more
    for one in networks:
        findings.append(_mapped(f"{one.name}: its layers beside each other", _compared(one, one, settings)))
        fresh = untrained(one.model, settings.seed)
        untaught = LoadedModel(f"{one.name}, untrained", fresh, one.images)
        findings.append(_mapped(f"{one.name}: the same without training", _compared(untaught, untaught, settings)))
        for title, how_to_read, analyse in (*ONE_NETWORK, (*_PROBES, lambda one, _: _probed(one, classes))):
            try:
                found = analyse(one, settings.sizes)
            except InputError as error:
                missing.append(f"{one.name}: {title}: {error}")
                continue
            findings.append(Analysis(f"{one.name}: {title}", how_to_read, found, draw=_drawn(found)))
            if isinstance(found, SkipRatios) and found.to_frame()["cosine"].notna().any():
                cosines = partial(found.plot, measure="cosine")
                findings.append(Analysis(f"{one.name}: {_COSINES[0]}", _COSINES[1], found, draw=cosines))
    return findings, missing


def _beside(first: LoadedModel, second: LoadedModel, settings: InspectionSettings) -> Analysis:
    """Compare two networks, and say what the same networks reach untrained or on other images."""
    found = _compared(first, second, settings)
    images, sampling = (first.images, second.images), settings.sampling
    nothing = baselines(first.model, second.model, images, settings.chosen, sampling=sampling)
    best, fresh, shuffled = (float(c.matches()["similarity"].mean()) for c in (found, *nothing.values()))
    level = (
        f"The best match of a layer of {second.name} has a similarity of {best:.2f} on average. That of untrained "
        f"networks is {fresh:.2f}, and that of the same ones on images in another order {shuffled:.2f}: so much means "
        "nothing."
    )
    return _mapped(f"{first.name} beside {second.name}", found, level)


def _of_both(first: LoadedModel, second: LoadedModel, settings: InspectionSettings) -> tuple[list[Analysis], list[str]]:
    """Look at what two networks have in common beyond the map; what does not apply is said."""
    findings, missing = [], []
    analyses = [
        (f"{a.name}: local and global heads beside {b.name}", _heads, a, b)
        for a, b in ((first, second), (second, first))
    ]
    if _are_states_of_one(first, second):
        analyses.append((f"where {second.name} has moved away from {first.name}", _moved, first, second))
    for title, analyse, a, b in analyses:
        try:
            found = analyse(a, b, settings)
        except InputError as error:
            missing.append(f"{title}: {error}")
            continue
        findings.append(Analysis(title, HOW_TO_READ[type(found)], found))
    return findings, missing


def _heads(first: LoadedModel, second: LoadedModel, settings: InspectionSettings) -> Result:
    return head_similarity((first.model, second.model), (first.images, second.images), **settings.sizes)


def _moved(first: LoadedModel, second: LoadedModel, settings: InspectionSettings) -> Result:
    return drift(first.model, {second.name: second.model}, first.images, **settings.sizes)


def _are_states_of_one(first: LoadedModel, second: LoadedModel) -> bool:
    """Whether both have the same parameters but for their heads, and see the same images."""
    names, others = (set(dict(one.model.named_parameters())) for one in (first, second))
    return names == others and torch.equal(first.images, second.images)


def _probed(one: LoadedModel, classes: Sequence[str] | None) -> Result:
    train, test = _halves(one.images, classes)
    fewest = min(np.unique(train.labels, return_counts=True)[1])
    shots = (*(shot for shot in SHOTS if shot < fewest), None)
    return probe(one.model, train, test, settings=ProbeSettings(shots=shots))


def _drawn(found: Result) -> Callable[[], Figure] | None:
    """Show all numbers of examples of a probe; other results draw themselves."""
    return partial(found.plot, shots=found.shots) if isinstance(found, Probes) else None


def _halves(images: Tensor, classes: Sequence[str] | None) -> tuple[Examples, Examples]:
    """Divide the images of each class: every second one judges what is learned from the others."""
    labels = np.array([] if classes is None else classes)
    judges = np.zeros(len(labels), bool)
    for name in np.unique(labels):
        judges[np.flatnonzero(labels == name)[1::2]] = True
    if not judges.any():
        raise InputError("there are no classes. Allowed: a folder for each class, with two images or more.")
    return Examples(images[~judges], labels[~judges]), Examples(images[judges], labels[judges])


def _compared(first: LoadedModel, second: LoadedModel, settings: InspectionSettings) -> Comparison:
    images = (first.images, second.images) if first is not second else first.images
    found = compare(first.model, second.model, images, settings.chosen, "cka", settings.sampling)
    return found.renamed(first.name, second.name)


def _mapped(title: str, found: Comparison, *more: str) -> Analysis:
    return Analysis(title, _MAP, found, [*found.describe(), *more])

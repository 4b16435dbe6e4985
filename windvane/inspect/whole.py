"""All analyses of one or two networks, for one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from windvane.errors import InputError
from windvane.inspect.attention import attention_distance
from windvane.inspect.compare import Sampling, baselines, compare, untrained
from windvane.inspect.comparison import Comparison
from windvane.inspect.localisation import localisation
from windvane.inspect.networks import Network, find_images, open_network
from windvane.inspect.page import Finding, write_findings
from windvane.inspect.probes import Examples, ProbeSettings, probe
from windvane.inspect.receptive import receptive_fields
from windvane.inspect.result import Result
from windvane.inspect.skips import skip_ratios
from windvane.page import check_path

FIELD_IMAGES = 32  # for receptive fields, as in the paper

_MAP = "Bright: both layers find the same images alike. Layers run from the lower left; the axes name their blocks."

ONE_NETWORK: tuple[tuple[str, str, Callable[[Network], Result]], ...] = (
    (
        "how far attention looks",
        "Mean distance between a token and where it looks, for every head; local heads lie low.",
        lambda one: attention_distance(one.model, one.images),
    ),
    (
        "what a unit sees",
        "How the pixels around it move the central unit of each sum behind a skip connection.",
        lambda one: receptive_fields(one.model, one.images, n_images=min(FIELD_IMAGES, len(one.images))),
    ),
    (
        "what attention adds to what a unit sees",
        "The same for the output of each attention, without the skip connection that passes it by.",
        lambda one: receptive_fields(one.model, one.images, "attention", n_images=min(FIELD_IMAGES, len(one.images))),
    ),
    (
        "what skip connections carry",
        "Length of what is skipped over that of what is added; high where a layer adds little.",
        lambda one: skip_ratios(one.model, one.images),
    ),
    (
        "whether tokens keep their place",
        "Similarity of tokens at the end with patches of the input; a bright spot at its own place keeps it.",
        lambda one: localisation(one.model, one.images),
    ),
)

_PROBES = (
    "what can be read off each layer",
    "Accuracy of linear classifiers that learn from half of the images of each class, judged by the other half.",
)


def write_inspection(
    names: Sequence[str], folder: str | Path, out: Path, n_images: int, *, trained: bool, seed: int
) -> Path:
    """Look into networks and write a page.

    Parameters
    ----------
    names
        One or two, as in `open_network`.
    folder
        Of images.
    out
        The page.
    n_images
        So many are drawn.
    trained
        Whether weights are fetched where no file is named.
    seed
        Root of all randomness.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        As `open_network`, `find_images` and `write_findings`.
    """
    check_path(out)
    pictures = find_images(folder, n_images, seed)
    networks = _apart([open_network(name, pictures, trained=trained) for name in names])
    findings, missing = findings_of(networks, Sampling("auto", seed=seed), classes_of(pictures, Path(folder)))
    lead = f"{len(pictures):,} images of {Path(folder).name}." + "".join(f" Left out: {one}" for one in missing)
    return write_findings(out, f"Inside {' and '.join(one.name for one in networks)}", lead, findings)


def _apart(networks: Sequence[Network]) -> list[Network]:
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


def findings_of(
    networks: Sequence[Network], sampling: Sampling, classes: Sequence[str] | None = None
) -> tuple[list[Finding], list[str]]:
    """Look into one network or two.

    Parameters
    ----------
    networks
        One or two, with the same images.
    sampling
        For the maps of similarity.
    classes
        Of the images, for probes; None where they are not known.

    Returns
    -------
    tuple
        The findings; and why others are missing, as where a network has no attention.
    """
    findings, missing = [], []
    if len(networks) == 2:
        findings.append(_beside(networks[0], networks[1], sampling))
    for one in networks:
        findings.append(_mapped(f"{one.name}: its layers beside each other", _compared(one, one, sampling)))
        fresh = untrained(one.model, sampling.seed)
        untaught = Network(f"{one.name}, untrained", fresh, one.images)
        findings.append(_mapped(f"{one.name}: the same without training", _compared(untaught, untaught, sampling)))
        for title, how_to_read, analyse in (*ONE_NETWORK, (*_PROBES, lambda one: _probed(one, classes))):
            try:
                findings.append(Finding(f"{one.name}: {title}", how_to_read, analyse(one)))
            except InputError as error:
                missing.append(f"{one.name}: {title}: {error}")
    return findings, missing


def _beside(first: Network, second: Network, sampling: Sampling) -> Finding:
    """Compare two networks, and say what the same networks reach untrained or on other images."""
    found = _compared(first, second, sampling)
    nothing = baselines(first.model, second.model, (first.images, second.images), sampling=sampling)
    best, fresh, shuffled = (float(c.matches()["similarity"].mean()) for c in (found, *nothing.values()))
    level = (
        f"The best match of a layer of {second.name} has a similarity of {best:.2f} on average. That of untrained "
        f"networks is {fresh:.2f}, and that of the same ones on images in another order {shuffled:.2f}: so much means "
        "nothing."
    )
    return _mapped(f"{first.name} beside {second.name}", found, level)


def _probed(one: Network, classes: Sequence[str] | None) -> Result:
    return probe(one.model, *_halves(one.images, classes), settings=ProbeSettings(shots=(None,), n_seeds=1))


def _halves(images: Tensor, classes: Sequence[str] | None) -> tuple[Examples, Examples]:
    """Divide the images of each class: every second one judges what is learned from the others."""
    labels = np.array([] if classes is None else classes)
    judges = np.zeros(len(labels), bool)
    for name in np.unique(labels):
        judges[np.flatnonzero(labels == name)[1::2]] = True
    if not judges.any():
        raise InputError("there are no classes. Allowed: a folder for each class, with two images or more.")
    return Examples(images[~judges], labels[~judges]), Examples(images[judges], labels[judges])


def _compared(first: Network, second: Network, sampling: Sampling) -> Comparison:
    images = (first.images, second.images) if first is not second else first.images
    found = compare(first.model, second.model, images, "*", "cka", sampling)
    return found.named(first.name, second.name)


def _mapped(title: str, found: Comparison, *more: str) -> Finding:
    return Finding(title, _MAP, found, [*found.describe(), *more])

"""Every analysis of one or two networks, as one list, written to one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from windvane.errors import InputError, check_integer
from windvane.inspect.activations import BatchSize
from windvane.inspect.analyses.attention_distance import attention_distance
from windvane.inspect.analyses.attention_heads import head_similarity
from windvane.inspect.analyses.localization import localization
from windvane.inspect.analyses.probes import Examples, Probes, ProbeSettings, probe
from windvane.inspect.analyses.receptive_field import ReceptiveFields, receptive_fields
from windvane.inspect.analyses.skip_connections import SkipRatios, skip_ratios
from windvane.inspect.batches import MIN_IMAGES
from windvane.inspect.report.inspection_page import Analysis, write_analyses
from windvane.inspect.report.load_model import LoadedModel, find_images, load_model_and_images
from windvane.inspect.result import Result
from windvane.inspect.similarity.compare import Sampling, baselines, compare, untrained
from windvane.inspect.similarity.comparison import Comparison
from windvane.inspect.similarity.drift import drift
from windvane.pages.html_builder import check_path
from windvane.vision.training.device import find_device

FIELD_IMAGES = 32  # for receptive fields, as in the paper
SHOTS = (1, 5, 10, 25)  # examples per class of few-shot probes, where there are more

MATRIX_CAPTION = (
    "Bright: both layers find the same images similar. Layers run from the lower left; the axes name their blocks."
)


@dataclass(frozen=True)
class InspectionSettings:
    """How networks are inspected."""

    n_images: int = 256  # drawn at random
    layers: str | list[str] = "*"  # of the similarity matrices, as in `layer_names`
    # Images at a time; "auto": the default of each analysis, halved for the matrices where memory is short.
    batch_size: BatchSize = "auto"
    repeats: int = 1  # of the matrices, each on images drawn again, for their intervals
    device: str = "cpu"
    pretrained: bool = True  # download weights where no file is named
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("n_images", self.n_images, MIN_IMAGES)
        if self.batch_size != "auto":
            check_integer("batch_size", self.batch_size, MIN_IMAGES)

    def sampling(self, n_images: int) -> Sampling:
        """How the similarity matrices are sampled from `n_images` images."""
        # With repeats half of the images, because each draw of all of them would be the same.
        drawn = None if self.repeats == 1 else max(MIN_IMAGES, n_images // 2)
        return Sampling(self.batch_size, drawn, self.repeats, seed=self.seed)

    @property
    def batching(self) -> dict[str, Any]:
        """Arguments of the other analyses; empty for their defaults."""
        return {} if self.batch_size == "auto" else {"batch_size": self.batch_size}


def write_inspection_page(
    models: Sequence[str], folder: Path, out: Path, settings: InspectionSettings, titles: Sequence[str | None] = ()
) -> Path:
    """Inspect one or two networks, named as in `load_model_and_images`, on a folder of images, and write the page.

    `titles` are the names of the networks on the page; None for their usual names.
    """
    check_path(out)
    device = find_device(settings.device, "float32").device
    paths = find_images(folder, settings.n_images, settings.seed)
    loaded = [load_model_and_images(name, paths, pretrained=settings.pretrained) for name in models]
    loaded = [replace(one, name=title or one.name) for one, title in zip_longest(loaded, titles)]
    loaded = with_distinct_names(loaded)
    for one in loaded:
        one.model.to(device)
    results, left_out = run_analyses(list_analyses(loaded, settings, folder_classes(paths, folder)))
    lead = f"{len(paths):,} images of {folder.name}." + "".join(f" Left out: {one}" for one in left_out)
    return write_analyses(out, f"Inside {' and '.join(one.name for one in loaded)}", lead, results)


def run_analyses(analyses: Sequence[Analysis]) -> tuple[list[tuple[Analysis, Result]], list[str]]:
    """Results of the analyses; and the titles of those that do not apply, each with the reason."""
    results: list[tuple[Analysis, Result]] = []
    left_out: list[str] = []
    for analysis in analyses:
        try:
            results.append((analysis, analysis.run()))
        except InputError as error:
            if analysis.required:
                raise
            left_out.append(f"{analysis.title}: {error}")
    return results, left_out


def list_analyses(
    loaded: Sequence[LoadedModel], settings: InspectionSettings, classes: Sequence[str] | None = None
) -> list[Analysis]:
    """The sections of the page in order: both networks, then each; `classes` of the images are for probes."""
    analyses = [] if len(loaded) == 1 else _analyses_of_two(loaded[0], loaded[1], settings)
    for one in loaded:
        analyses += _analyses_of_one(one, settings, classes)
    return analyses


def _analyses_of_two(first: LoadedModel, second: LoadedModel, settings: InspectionSettings) -> list[Analysis]:
    analyses = [
        Analysis(
            f"{first.name} beside {second.name}",
            MATRIX_CAPTION,
            lambda: _compare(first, second, settings),
            describe=lambda result: [*result.describe(), _baseline_sentence(result, first, second, settings)],
            required=True,
        ),
        *(
            Analysis(
                f"{one.name}: local and global heads beside {other.name}",
                "Heads of the first attention, from local to global, and the blocks of the other network.",
                partial(head_similarity, (one.model, other.model), (one.images, other.images), **settings.batching),
            )
            for one, other in ((first, second), (second, first))
        ),
    ]
    if _are_states_of_one_network(first, second):
        analyses.append(
            Analysis(
                f"where {second.name} has moved away from {first.name}",
                "Similarity of each block to the same block of the other state; low where they differ.",
                lambda: drift(first.model, {second.name: second.model}, first.images, **settings.batching),
            )
        )
    return analyses


def _analyses_of_one(
    loaded: LoadedModel, settings: InspectionSettings, classes: Sequence[str] | None
) -> list[Analysis]:
    name, model, images, batching = loaded.name, loaded.model, loaded.images, settings.batching

    def fields(layers: str) -> ReceptiveFields:
        return receptive_fields(model, images, layers, n_images=min(FIELD_IMAGES, len(images)))

    @cache  # two sections
    def ratios() -> SkipRatios:
        return skip_ratios(model, images, **batching)

    def cosines() -> SkipRatios:
        if ratios().to_frame()["cosine"].isna().all():
            raise InputError("every branch is zero.")
        return ratios()

    def compare_untrained() -> Comparison:
        fresh = LoadedModel(f"{name}, untrained", untrained(model, settings.seed), images)
        return _compare(fresh, fresh, settings)

    return [
        Analysis(
            f"{name}: its layers beside each other",
            MATRIX_CAPTION,
            lambda: _compare(loaded, loaded, settings),
            describe=Comparison.describe,
            required=True,
        ),
        Analysis(
            f"{name}: the same without training",
            MATRIX_CAPTION,
            compare_untrained,
            describe=Comparison.describe,
            required=True,
        ),
        Analysis(
            f"{name}: how far attention looks",
            "Mean distance between a token and the tokens it attends to, for every head; local heads lie low.",
            lambda: attention_distance(model, images, **batching),
        ),
        Analysis(
            f"{name}: what a unit sees",
            "How strongly the central unit of each residual sum depends on every pixel.",
            lambda: fields("residual"),
        ),
        Analysis(
            f"{name}: what attention adds to what a unit sees",
            "The same for the output of each attention, before the skip connection is added.",
            lambda: fields("attention"),
        ),
        Analysis(
            f"{name}: what skip connections carry",
            "Length of the skip over that of the branch; high where a layer adds little.",
            ratios,
        ),
        Analysis(
            f"{name}: where branches point",
            "Cosine of the branch and the sum: near 1 where a layer outweighs its input, near 0 where it does not.",
            cosines,
            plot=lambda result: result.plot(measure="cosine"),
        ),
        Analysis(
            f"{name}: whether tokens keep their place",
            "Similarity of tokens of the last block to patches of the input; bright at its own if it kept its place.",
            lambda: localization(model, images, **batching),
        ),
        Analysis(
            f"{name}: what can be read off each layer",
            "Accuracy of linear classifiers trained on half of the images of each class, evaluated on the other half.",
            lambda: _probe(loaded, classes),
            plot=lambda result: result.plot(shots=result.shots),
        ),
    ]


def _compare(first: LoadedModel, second: LoadedModel, settings: InspectionSettings) -> Comparison:
    images = (first.images, second.images) if first is not second else first.images
    sampling = settings.sampling(len(first.images))
    comparison = compare(first.model, second.model, images, settings.layers, sampling=sampling)
    return comparison.renamed(first.name, second.name)


def _baseline_sentence(
    comparison: Comparison, first: LoadedModel, second: LoadedModel, settings: InspectionSettings
) -> str:
    """What the same networks reach untrained, or on other images."""
    images, sampling = (first.images, second.images), settings.sampling(len(first.images))
    floors = baselines(first.model, second.model, images, settings.layers, sampling=sampling)
    best, fresh, shuffled = (float(one.matches()["similarity"].mean()) for one in (comparison, *floors.values()))
    return (
        f"The best match of a layer of {second.name} has a similarity of {best:.2f} on average. That of untrained "
        f"networks is {fresh:.2f}, and that of the same networks on images in another order {shuffled:.2f}: "
        "similarities up to these mean nothing."
    )


def _probe(loaded: LoadedModel, classes: Sequence[str] | None) -> Probes:
    train, test = _split_in_halves(loaded.images, classes)
    smallest_class = min(np.unique(train.labels, return_counts=True)[1])
    shots = (*(shot for shot in SHOTS if shot < smallest_class), None)
    return probe(loaded.model, train, test, settings=ProbeSettings(shots=shots))


def _split_in_halves(images: Tensor, classes: Sequence[str] | None) -> tuple[Examples, Examples]:
    """Training and test examples: every second image of each class is for the test."""
    labels = np.array([] if classes is None else classes)
    is_test = np.zeros(len(labels), bool)
    for name in np.unique(labels):
        is_test[np.flatnonzero(labels == name)[1::2]] = True
    if not is_test.any():
        raise InputError("there are no classes. Allowed: a folder for each class, with two images or more.")
    return Examples(images[~is_test], labels[~is_test]), Examples(images[is_test], labels[is_test])


def _are_states_of_one_network(first: LoadedModel, second: LoadedModel) -> bool:
    """Whether both have the same parameter names and see the same pixels."""
    names, others = (set(dict(one.model.named_parameters())) for one in (first, second))
    return names == others and torch.equal(first.images, second.images)


def with_distinct_names(loaded: Sequence[LoadedModel]) -> list[LoadedModel]:
    """Give two states of one architecture different names."""
    if len({one.name for one in loaded}) == len(loaded):
        return list(loaded)
    return [replace(one, name=f"{one.name} ({word})") for one, word in zip(loaded, ("first", "second"), strict=True)]


def folder_classes(paths: Sequence[Path], root: Path) -> list[str] | None:
    """Class of each image: its first folder within the root; None if an image lies in the root itself."""
    parts = [path.relative_to(root).parts for path in paths]
    return [part[0] for part in parts] if all(len(part) > 1 for part in parts) else None

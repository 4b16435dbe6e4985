"""What the heaviest network of an ensemble looks at, and a brief look inside it, within seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from windvane.errors import InputError
from windvane.pages.html_builder import Section, paragraph
from windvane.report.report_data import ReportData
from windvane.runtime.columns.table import PIXELS, Floats, Integers
from windvane.runtime.images import Pixels
from windvane.runtime.models.linear import FittedLinear

if TYPE_CHECKING:
    from torch import Tensor, nn

    from windvane.inspect.saliency import SaliencyMaps
    from windvane.vision.recipe import Recipe
    from windvane.vision.report.classification import EvaluatedImages

MAX_SECONDS = 8.0  # for both sections
N_EXAMPLES = 4  # wrong ones, and correct ones
N_INSPECTED = 64
MIN_PLACES = 16  # of a map: fewer show little
SIDE = 120  # of each half of a picture, in pixels
WARM = np.array([255, 120, 0])  # the color of places that count


@dataclass(frozen=True)
class _Explained:
    """A model of the ensemble as a network."""

    name: str
    scores: nn.Module  # from images to the scores of classes before the softmax
    network: nn.Module  # takes `_normalized` images; it is `scores` where the whole network was trained
    recipe: Recipe  # of the network
    size: int  # of the images that the network sees, in pixels
    reads_pixels: bool  # whether `scores` takes images as they are kept, pixels from 0 to 255


def inside_sections(data: ReportData, one: EvaluatedImages) -> list[Section]:
    """Where the heaviest network looks on some images, and what its layers are like; empty without such a network."""
    found = _heaviest(data)
    if found is None:
        return []
    from windvane.inspect.report.brief import inspect_briefly

    deadline = time.monotonic() + MAX_SECONDS
    sections = [_examples(found, one)]
    rng = np.random.default_rng(0)
    some = rng.permutation(len(one.images))[:N_INSPECTED]
    images = _normalized(found, np.stack([one.images.decode(int(i)) for i in some]))
    content = inspect_briefly(found.network, images, max(0.0, deadline - time.monotonic()))
    if content:
        about = f"{found.name}, on up to {len(images)} of the same images. windvane inspect shows more, of any network."
        sections.append(Section("Inside the network", [paragraph(about), *content]))
    return [section for section in sections if section is not None]


def _heaviest(data: ReportData) -> _Explained | None:
    """The model of the ensemble with the largest weight that is a network, or linear on features of one."""
    from windvane.vision.networks.ensemble import FeatureScores, is_expressible

    reader = data.predictor.images
    assert reader is not None
    members = zip(data.ensemble.members, data.predictor.models, strict=True)
    for member, models in sorted(members, key=lambda pair: -pair[0].weight):
        name, model = f"{member.family} #{member.number} (weight {member.weight:.0%})", models[0]
        trained = getattr(model, "model", None)
        if trained is not None and hasattr(trained, "network"):
            return _Explained(name, trained.network, trained.network, trained.recipe, trained.recipe.image_size, False)
        view = reader.views[-1]
        if isinstance(model, FittedLinear) and view.weights != PIXELS and is_expressible(model):
            if len(model.output.classes) not in (0, model.output.n_classes):
                continue  # its training set lacked a class
            frozen = reader.extractor.network(view.weights)
            *others, last = dict.fromkeys(one.weights for one in reader.views)
            listed = f"{', '.join(others)} and {last}, here of {view.weights}" if others else last
            name += f" on features of {listed}"
            return _Explained(name, FeatureScores(model, reader).eval(), frozen.network, frozen.recipe, view.size, True)
    return None


def _examples(found: _Explained, one: EvaluatedImages) -> Section | None:
    """Images beside what counts in them, wrong ones first."""
    from windvane.vision.report.gallery import gallery

    wrong, right = (one.most_confident(correct=correct, n=N_EXAMPLES, per_class=1) for correct in (False, True))
    chosen = [*wrong, *right]
    pixels = np.stack([one.images.decode(i) for i in chosen])
    try:
        maps = _saliency(found, pixels, one.predicted[chosen])
    except InputError:
        return None
    if maps.method == "Grad-CAM":
        what = f"Orange are the places that raise the score of the predicted class (Grad-CAM), in {found.name}."
    else:  # every patch counts: what counts more than the others is shown
        lowest, highest = (edge(maps.values, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
        ratio = float(np.median(highest / np.maximum(lowest, 1e-12)))
        what = (
            f"Orange are the patches that reach the output most by attention (attention rollout), {ratio:.2g} times as "
            f"much as the gray ones, whatever the class, in {found.name}."
        )
        maps = replace(maps, values=maps.values - lowest)
    heat = maps.upsampled(SIDE, SIDE)
    shots = []
    for i, image, share in zip(chosen, pixels, heat, strict=True):
        shots.append((_beside(image, share), one.caption(i), one.images.names[i]))
    size = f"{maps.grid.rows} x {maps.grid.columns}"
    words = f"{what} The most confident errors come first. {size} places an image: edges are not exact."
    title = "What the model looks at"
    return Section(title, [paragraph(words), gallery(shots, label=title, side=2 * SIDE)])


def _saliency(found: _Explained, pixels: Pixels, classes: Integers) -> SaliencyMaps:
    """Attention rollout where the network attends, else Grad-CAM."""
    import torch

    from windvane.inspect import attention_rollout, grad_cam

    normalized = _normalized(found, pixels)
    try:
        return attention_rollout(found.network, normalized)
    except InputError:
        as_kept = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        images = as_kept if found.reads_pixels else normalized
        return grad_cam(found.scores, images, classes, min_places=MIN_PLACES)


def _normalized(found: _Explained, pixels: Pixels) -> Tensor:
    """Images (n, s, s, 3) as the network takes them."""
    import torch

    from windvane.data.images import ImageDataset
    from windvane.vision.augment.batch import normalize

    dataset = ImageDataset(tuple(pixels), None, (), ("",) * len(pixels))
    squares = dataset.load_array(found.size, center=not found.reads_pixels and found.recipe.crops_center)
    device = next(found.network.parameters()).device
    return normalize(torch.from_numpy(squares).permute(0, 3, 1, 2).to(device), found.recipe)


def _beside(image: Pixels, share: Floats) -> Pixels:  # (SIDE, 2 * SIDE, 3)
    """An image, and beside it the same in gray with what counts in orange; `share` from 0 to 1 is (SIDE, SIDE)."""
    from PIL import Image

    method = Image.Resampling.NEAREST if len(image) < SIDE else Image.Resampling.BICUBIC
    large = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), method)).astype(np.float64)
    gray = large.mean(axis=2, keepdims=True)  # (SIDE, SIDE, 1)
    tint = 0.75 * share[:, :, None]
    marked = (1 - tint) * gray + tint * WARM
    return np.concatenate([large, marked], axis=1).clip(0, 255).astype(np.uint8)

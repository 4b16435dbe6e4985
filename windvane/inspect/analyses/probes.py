"""What can be read off every layer: linear probes on the class token, the average, single tokens.

As in Raghu et al. (2021), figures 13 to 15: ridge classification in closed form on frozen features, from all training
examples or a few per class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from windvane.errors import InputError, unknown
from windvane.inspect.activations import collect_activations
from windvane.inspect.analyses.ridge import ALPHAS, ridge_path
from windvane.inspect.hooks import Batch, unwrap
from windvane.inspect.images import image_batches, images_in, size_of
from windvane.inspect.layers import TRACED_IMAGES
from windvane.inspect.panels import BLUE, CYCLE, GREEN, GREY, ORANGE
from windvane.inspect.places import spatial_layers
from windvane.inspect.plots import axes_for, mark_blocks
from windvane.inspect.tokens import Pooling, as_tokens, has_class_token, pool_tokens, prefix_counts

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Classifier = Literal["ridge", "logistic"]
MOST_STEPS = 1000  # of logistic regression
COLOURS: dict[Pooling, str] = {"cls": ORANGE, "mean": BLUE, "center": GREEN}


@dataclass(frozen=True)
class Examples:
    """Images with their classes.

    Attributes
    ----------
    images
        (n, channels, height, width)
    labels
        (n,)
    """

    images: Tensor
    labels: Any

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise InputError(f"{len(self.images)} images came with {len(self.labels)} labels.")


@dataclass(frozen=True)
class ProbeSettings:
    """How probes are trained.

    Attributes
    ----------
    poolings
        What of a layer they see: "cls", "mean", "center" (the central one), or the number of a place, row by row
        from 0; the class token where there is one, the average and the central token where it is None.
    shots
        Examples per class; None is all of them.
    n_seeds
        Draws of the examples, for mean and spread.
    classifier
        "ridge", its penalty chosen by left-out error, or "logistic".
    alphas
        Of the ridge, for features of unit variance.
    batch_size
        Images at a time through the network.
    n_prefix
        Tokens without a place; asked of the network, or found from the size of the images, where it is None.
    """

    poolings: tuple[Pooling, ...] | None = None
    shots: tuple[int | None, ...] = (1, 5, 10, 25, None)
    n_seeds: int = 3
    classifier: Classifier = "ridge"
    alphas: tuple[float, ...] = ALPHAS
    batch_size: int = 64
    n_prefix: int | None = None

    def __post_init__(self) -> None:
        if self.classifier not in {"ridge", "logistic"}:
            raise unknown("classifier", self.classifier, ("ridge", "logistic"))
        if any(shot is not None and shot < 1 for shot in self.shots) or not self.shots:
            raise InputError(f"shots={self.shots!r} must be numbers of examples per class from 1, or None for all.")
        if self.n_seeds < 1:
            raise InputError(f"n_seeds={self.n_seeds} must be at least 1.")


@dataclass(frozen=True)
class Probes:
    """How well the classes can be read off each layer.

    Attributes
    ----------
    layers
        In order of execution.
    poolings
        What of a layer the probes saw.
    shots
        Examples per class; None is all of them.
    accuracy
        (layers, poolings, shots, seeds) on the test examples; with all examples the same for each seed.
    n_classes
        A blind guess is right once in so many times.
    """

    layers: tuple[str, ...]
    poolings: tuple[Pooling, ...]
    shots: tuple[int | None, ...]
    accuracy: Floats
    n_classes: int

    def to_frame(self) -> pd.DataFrame:
        """Lay it out as a table.

        Returns
        -------
        DataFrame
            A row per layer, pooling and number of examples: layer, depth, pooling, shots (missing for all), accuracy
            (mean over seeds), spread (their standard deviation).
        """
        import pandas as pd

        mean, spread = self.accuracy.mean(-1), self.accuracy.std(-1)
        rows = [
            (layer, depth, pooling, shot, mean[depth, r, s], spread[depth, r, s])
            for depth, layer in enumerate(self.layers)
            for r, pooling in enumerate(self.poolings)
            for s, shot in enumerate(self.shots)
        ]
        frame = pd.DataFrame(rows, columns=["layer", "depth", "pooling", "shots", "accuracy", "spread"])
        return frame.astype({"shots": "Int64"})

    def plot(self, ax: Axes | None = None, *, shots: Sequence[int | None] | None = None) -> Figure:
        """Draw accuracy through the network, a line per pooling and number of examples, with the spread over seeds.

        Parameters
        ----------
        ax
            Where to draw; a new figure where it is None.
        shots
            Which numbers of examples; the last one alone where it is None.

        Returns
        -------
        Figure
            That holds the picture.

        Raises
        ------
        InputError
            A number of examples that was not probed.
        """
        figure, ax = axes_for(ax)
        depth = np.arange(len(self.layers))
        for line, shot in enumerate(self.shots[-1:] if shots is None else shots):
            if shot not in self.shots:
                raise unknown("shots", shot, map(str, self.shots))
            for r, pooling in enumerate(self.poolings):
                values = self.accuracy[:, r, self.shots.index(shot)]
                mean, spread = values.mean(-1), values.std(-1)
                what = f"place {pooling}" if isinstance(pooling, int) else pooling
                label = f"{what}, {'all examples' if shot is None else f'{shot} per class'}"
                colour = COLOURS.get(pooling, CYCLE[r % len(CYCLE)])
                style = ("-", "--", ":", "-.")[line % 4]
                ax.plot(depth, mean, style, marker="o", markersize=4, color=colour, label=label)
                ax.fill_between(depth, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
        ax.axhline(1 / self.n_classes, color=GREY, linestyle=":", label="blind guess")
        mark_blocks(ax, "x", self.layers)
        ax.set(ylabel="accuracy on test examples", ylim=(0, 1), title="What linear probes read")
        ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
        return figure


def probe(
    model: nn.Module,
    train: Examples,
    test: Examples,
    layers: str | Sequence[str] = "block",
    settings: ProbeSettings = ProbeSettings(),
) -> Probes:
    """Train linear probes on the layers of a network.

    Parameters
    ----------
    model
        A network whose layers keep places; it is not trained.
    train
        The probes learn from these, or from a few of each class.
    test
        The probes are judged by these.
    layers
        Names with wildcards, or a kind: "block", "residual", "attention", "mlp", "norm". Those that keep no places are
        left out.
    settings
        What the probes see and how they learn.

    Returns
    -------
    Probes
        Accuracy by layer, pooling, number of examples and seed.

    Raises
    ------
    InputError
        No layer keeps places, one has no class token, or a class has fewer examples than asked.
    """
    counts = prefix_counts(model, settings.n_prefix)
    size = size_of(train.images)
    few, _ = next(image_batches(model, train.images, TRACED_IMAGES))
    names = list(spatial_layers(model, few, layers, counts))
    poolings = settings.poolings or _poolings(model, few, names, counts)
    if "cls" in poolings and not has_class_token(unwrap(model)):
        raise InputError("poolings has 'cls', but the network has no class token. Allowed: 'mean', 'center'.")
    labels, test_labels = np.asarray(train.labels), np.asarray(test.labels)
    draws = {shot: _draws(labels, shot, settings.n_seeds) for shot in settings.shots}
    reduce = partial(_features, poolings=poolings, image_size=size, counts=counts)
    seen = collect_activations(model, train.images, names, batch_size=settings.batch_size, reduce=reduce)
    judged = collect_activations(model, test.images, names, batch_size=settings.batch_size, reduce=reduce)
    accuracy = np.empty((len(seen), len(poolings), len(settings.shots), settings.n_seeds))
    for place, name in enumerate(seen):
        for r in range(len(poolings)):
            x, z = (part[name][:, r].double().numpy() for part in (seen, judged))
            for s, shot in enumerate(settings.shots):
                scores = [_score((x[at], labels[at]), (z, test_labels), settings) for at in draws[shot]]
                accuracy[place, r, s] = scores if len(scores) > 1 else scores[0]
    return Probes(tuple(seen), tuple(poolings), settings.shots, accuracy, len(np.unique(labels)))


def _poolings(model: nn.Module, few: Batch, names: Sequence[str], counts: Sequence[int]) -> tuple[Pooling, ...]:
    """Take what every network has, and the class token where there is one."""
    first = next(iter(collect_activations(model, [few], names[:1]).values()))
    _, grid = as_tokens(first, size_of(images_in(few)), counts)
    has_class = grid.n_prefix > 0 and has_class_token(unwrap(model))
    return ("cls", "mean", "center") if has_class else ("mean", "center")


def _features(
    output: Tensor, poolings: Sequence[Pooling], image_size: tuple[int, int], counts: Sequence[int]
) -> Tensor:
    tokens, grid = as_tokens(output, image_size, counts)
    return torch.stack([pool_tokens(tokens, grid, pooling) for pooling in poolings], dim=1)  # (n, poolings, features)


def _draws(labels: NDArray[Any], shot: int | None, n_seeds: int) -> list[NDArray[np.intp]]:
    """Positions of the examples to learn from: a few of each class by every seed, or once all of them."""
    if shot is None:
        return [np.arange(len(labels))]
    of_class = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    for label, positions in of_class.items():
        if len(positions) < shot:
            raise InputError(f"shots={shot}, but class {label} has {len(positions)} training examples only.")
    draws = [np.random.default_rng(seed) for seed in range(n_seeds)]
    return [
        np.concatenate([draw.choice(positions, shot, replace=False) for positions in of_class.values()])
        for draw in draws
    ]


def _score(train: tuple[Floats, NDArray[Any]], test: tuple[Floats, NDArray[Any]], settings: ProbeSettings) -> float:
    if settings.classifier == "ridge":
        return ridge_path(*train, settings.alphas).accuracy(*test)
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_STEPS)).fit(*train)
    return float(fitted.score(*test))

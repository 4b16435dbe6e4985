"""Linear probes: what can be read off each layer (Raghu et al. 2021, figures 13 to 15).

Ridge classification in closed form on frozen features (the class token, the mean, single tokens), from all training
examples or a few per class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from windvane.errors import InputError, check_choice, check_integer, unknown_name_error
from windvane.inspect.activations import collect_activations
from windvane.inspect.analyses.ridge import ALPHAS, ridge_path
from windvane.inspect.batches import image_batches, image_size
from windvane.inspect.layer_selection import TRACED_IMAGES, spatial_layers
from windvane.inspect.plots import BLUE, GREEN, GREY, LINE_COLORS, VERMILION, figure_and_axes, label_blocks
from windvane.inspect.result import Axes, Figure, Floats, long_frame
from windvane.inspect.tokens import Pooling, as_tokens, has_class_token, pool_tokens, prefix_counts
from windvane.pages.texts import counted

Classifier = Literal["ridge", "logistic"]
MAX_ITERATIONS = 1000  # of logistic regression
COLORS: dict[Pooling, str] = {"cls": VERMILION, "mean": BLUE, "center": GREEN}


@dataclass(frozen=True)
class Examples:
    """Images with their classes.

    Examples
    --------
    >>> import torch
    >>> len(Examples(torch.zeros(2, 3, 32, 32), ["cat", "dog"]).images)
    2
    """

    images: Tensor  # (n, channels, height, width)
    labels: Any  # (n,)

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise InputError(f"{counted(len(self.images), 'image')} came with {counted(len(self.labels), 'label')}.")


@dataclass(frozen=True)
class ProbeSettings:
    """How probes are trained.

    Examples
    --------
    >>> ProbeSettings(poolings=("mean",), shots=(10, None)).classifier
    'ridge'
    """

    # What a probe sees of a layer: "cls", "mean", "center" (the central patch), or the number of a patch, row by row
    # from 0. None: the class token where there is one, the mean and the central patch.
    poolings: tuple[Pooling, ...] | None = None
    shots: tuple[int | None, ...] = (1, 5, 10, 25, None)  # examples per class; None is all of them
    n_seeds: int = 3  # draws of the examples, for mean and standard deviation
    classifier: Classifier = "ridge"  # its penalty is chosen by leave-one-out error; or "logistic"
    alphas: tuple[float, ...] = ALPHAS  # penalties of the ridge, for features of unit variance
    batch_size: int = 64  # images at a time through the network
    n_prefix: int | None = None  # tokens without a position; None asks the network or the size of the images

    def __post_init__(self) -> None:
        check_choice("classifier", self.classifier, ("ridge", "logistic"))
        if any(shot is not None and shot < 1 for shot in self.shots) or not self.shots:
            raise InputError(f"shots={self.shots!r} must be numbers of examples per class from 1, or None for all.")
        check_integer("n_seeds", self.n_seeds)


@dataclass(frozen=True)
class Probes:
    """Accuracy of linear probes on each layer.

    Examples
    --------
    ::

        probes = probe(vit, train, test)
        probes.to_frame().query("pooling == 'cls' and shots == 10")
        probes.plot(shots=(1, 10, None))
    """

    layers: tuple[str, ...]  # in the order of execution
    poolings: tuple[Pooling, ...]  # what the probes saw of a layer
    shots: tuple[int | None, ...]  # examples per class; None is all of them
    accuracy: Floats  # (layers, poolings, shots, seeds) on the test examples; with all examples the same for each seed
    n_classes: int

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer, pooling and number of examples.

        Columns: layer, depth, pooling, shots (missing for all examples), accuracy (mean over seeds), std.
        """
        index = {"layer": self.layers, "pooling": self.poolings, "shots": self.shots}
        frame = long_frame(index, {"accuracy": self.accuracy.mean(-1), "std": self.accuracy.std(-1)})
        frame.insert(1, "depth", np.repeat(np.arange(len(self.layers)), len(self.poolings) * len(self.shots)))
        return frame.astype({"shots": "Int64"})

    def plot(self, ax: Axes | None = None, *, shots: Sequence[int | None] | None = None) -> Figure:
        """Draw accuracy through the network, one line for each pooling and number of examples.

        Parameters
        ----------
        ax
            Axes to draw on; None makes a new figure.
        shots
            Examples per class to draw; None draws the last number alone.

        Returns
        -------
        matplotlib.figure.Figure
            The figure of the axes.
        """
        figure, ax = figure_and_axes(ax)
        depth = np.arange(len(self.layers))
        for line, shot in enumerate(self.shots[-1:] if shots is None else shots):
            if shot not in self.shots:
                raise unknown_name_error("shots", shot, map(str, self.shots))
            for p, pooling in enumerate(self.poolings):
                values = self.accuracy[:, p, self.shots.index(shot)]
                mean, std = values.mean(-1), values.std(-1)
                what = f"patch {pooling}" if isinstance(pooling, int) else pooling
                label = f"{what}, {'all examples' if shot is None else f'{shot} per class'}"
                color = COLORS.get(pooling, LINE_COLORS[p % len(LINE_COLORS)])
                ax.plot(
                    depth, mean, ("-", "--", ":", "-.")[line % 4], marker="o", markersize=4, color=color, label=label
                )
                ax.fill_between(depth, mean - std, mean + std, color=color, alpha=0.15, linewidth=0)
        ax.axhline(1 / self.n_classes, color=GREY, linestyle=":", label="chance")
        label_blocks(ax, "x", self.layers)
        ax.set(ylabel="accuracy on test examples", ylim=(0, 1), title="What linear probes read off each layer")
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
        A network with spatial layers; it is not trained.
    train
        Examples to train the probes on, all or a few of each class.
    test
        Examples to evaluate the probes on.
    layers
        As in `layer_names`. Layers that are not spatial are left out.
    settings
        What the probes see and how they are trained.

    Returns
    -------
    Probes
        Accuracy for each layer, pooling, number of examples and seed.

    Examples
    --------
    ::

        probe(vit, Examples(images, labels), Examples(test_images, test_labels)).plot()
    """
    for name, given in (("train", train), ("test", test)):
        if not isinstance(given, Examples):
            raise InputError(f"{name} is {type(given).__name__}. Allowed: Examples(images, labels).")
    counts, size = prefix_counts(model, settings.n_prefix), image_size(train.images)
    few, _ = next(image_batches(model, train.images, TRACED_IMAGES))
    grids = spatial_layers(model, few, layers, counts)
    default: tuple[Pooling, ...] = ("mean", "center")
    if has_class_token(model) and next(iter(grids.values())).n_prefix:
        default = ("cls", *default)
    poolings = settings.poolings or default
    if "cls" in poolings and not has_class_token(model):
        raise InputError("poolings has 'cls', but the network has no class token. Allowed: 'mean', 'center'.")

    def pool(output: Tensor) -> Tensor:
        tokens, grid = as_tokens(output, size, counts)
        pooled = [pool_tokens(tokens, grid, pooling) for pooling in poolings]
        return torch.stack(pooled, dim=1)  # (n, poolings, channels)

    labels, test_labels = np.asarray(train.labels), np.asarray(test.labels)
    draws = {shot: _draw_examples(labels, shot, settings.n_seeds) for shot in settings.shots}
    of_train, of_test = (
        collect_activations(model, part.images, list(grids), batch_size=settings.batch_size, reduce=pool)
        for part in (train, test)
    )
    accuracy = np.empty((len(of_train), len(poolings), len(settings.shots), settings.n_seeds))
    for depth, name in enumerate(of_train):
        for p in range(len(poolings)):
            x, test_x = (part[name][:, p].double().numpy() for part in (of_train, of_test))
            for s, shot in enumerate(settings.shots):
                scores = [_score(x[drawn], labels[drawn], test_x, test_labels, settings) for drawn in draws[shot]]
                accuracy[depth, p, s] = scores if len(scores) > 1 else scores[0]
    return Probes(tuple(of_train), tuple(poolings), settings.shots, accuracy, len(np.unique(labels)))


def _draw_examples(labels: NDArray[Any], shot: int | None, n_seeds: int) -> list[NDArray[np.intp]]:
    """Indices of the training examples: a few of each class for every seed, or once all of them."""
    if shot is None:
        return [np.arange(len(labels))]
    of_class = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    for label, indices in of_class.items():
        if len(indices) < shot:
            raise InputError(
                f"shots={shot}, but class {label} has {len(indices)} training examples only. Allowed: "
                f"ProbeSettings(shots=...) up to {len(indices)}, or None for all."
            )
    generators = [np.random.default_rng(seed) for seed in range(n_seeds)]
    return [
        np.concatenate([generator.choice(indices, shot, replace=False) for indices in of_class.values()])
        for generator in generators
    ]


def _score(
    x: Floats, labels: NDArray[Any], test_x: Floats, test_labels: NDArray[Any], settings: ProbeSettings
) -> float:
    """Test accuracy of one probe."""
    if settings.classifier == "ridge":
        return ridge_path(x, labels, settings.alphas).accuracy(test_x, test_labels)
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS)).fit(x, labels)
    return float(fitted.score(test_x, test_labels))

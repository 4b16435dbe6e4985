"""What all blocks of a frozen network see of an image, in a few hundred numbers.

Low blocks see edges and textures that the last one has forgotten, which counts where images are unlike those that the
network was trained on: of each block the mean and the spread of every channel over all positions are kept, beside what
the classifier layer sees. Principal components of these thousands of numbers are the features of an image, which models
of any family read, or a classifier layer of the network itself.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor, nn

N_COMPONENTS = 512
PROJECTED_IMAGES = 1_000  # that the principal components are computed from
_SMALLEST_VARIANCE = 1e-6  # added to each: the gradient of a square root is infinite at 0
_NOISE = 1e-3  # singular values that are a smaller share of the largest are rounding errors
_HOLDS_BLOCKS = re.compile(r"blocks|stages|layers|layer\d|s\d")

_local = threading.local()  # batches run in several threads on one network


def watch_blocks(network: nn.Module) -> None:
    """Prepare a network of timm for `block_features`; done once for a network."""
    channels_last = getattr(network, "output_fmt", None) == "NHWC"
    for block in _blocks(network):
        if block is not network:
            block.register_forward_hook(partial(_keep, (1, 2) if channels_last else (2, 3)))


def pre_logits(network: nn.Module, pixels: Tensor) -> Tensor:
    """Return what the classifier layer of a timm network sees (n, d) of normalized pixels (n, 3, s, s)."""
    network_: Any = network
    features: Tensor = network_.forward_head(network_.forward_features(pixels), pre_logits=True).flatten(1)
    return features


def block_features(network: nn.Module, pixels: Tensor) -> Tensor:
    """Return what the classifier layer sees of normalized pixels (n, 3, s, s), then mean and spread in each block."""
    _local.kept = []
    try:
        return _with_kept(pre_logits(network, pixels))
    finally:
        del _local.kept


class BlockClassifier(nn.Module):
    """A classifier layer that reads the projected features of all blocks of its network."""

    matrix: Tensor
    offset: Tensor

    def __init__(self, matrix: Tensor, offset: Tensor, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)  # (p, k)
        self.register_buffer("offset", offset)  # (k,)
        self.scores = nn.Linear(matrix.shape[1], n_classes)

    def forward(self, last: Tensor) -> Tensor:
        """Return logits (n, n_classes) of the last features (n, d) and of what the hooks of the blocks kept."""
        kept = _with_kept(last.flatten(1)).float()
        # The projection is a small difference of large numbers: bfloat16 would leave little of it.
        device = kept.device.type
        with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext():
            projected = kept @ self.matrix + self.offset
        scores: Tensor = self.scores(projected)
        return scores


def add_block_classifier(network: nn.Module, projection: Projection, n_classes: int) -> None:
    """Replace the classifier layer of a network that `watch_blocks` has prepared by a `BlockClassifier`."""
    weight = next(network.parameters())
    matrix, offset = (torch.from_numpy(one).to(weight) for one in (projection.matrix, projection.offset))
    classifier = network.get_classifier()  # type: ignore[operator]
    name = next(name for name, module in network.named_modules() if module is classifier)
    network.set_submodule(name, BlockClassifier(matrix, offset, n_classes).to(weight))
    network.register_forward_pre_hook(_start_keeping)
    network.register_forward_hook(_stop_keeping, always_call=True)


def _start_keeping(network: nn.Module, inputs: Any) -> None:
    _local.kept = []


def _stop_keeping(network: nn.Module, inputs: Any, output: Any) -> None:
    _local.__dict__.pop("kept", None)


def _with_kept(last: Tensor) -> Tensor:  # (n, d) -> (n, p)
    return torch.cat([last, *_local.kept], dim=1)


def _keep(position_dims: tuple[int, ...], block: nn.Module, inputs: Any, output: Any) -> None:
    if not hasattr(_local, "kept") or not isinstance(output, Tensor):
        return
    dim = (1,) if output.ndim == 3 else position_dims  # tokens are (n, t, c)
    output = output.float()
    mean = output.mean(dim, keepdim=True)
    variance = (output - mean).square().mean(dim)  # torch.var_mean takes ten times as long
    _local.kept += [mean.squeeze(dim), (variance + _SMALLEST_VARIANCE).sqrt()]


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a network; a module that holds none is one."""
    if isinstance(module, nn.Sequential | nn.ModuleList):
        parts = list(module)
    else:
        parts = [part for name, part in module.named_children() if _HOLDS_BLOCKS.fullmatch(name)]
    if not parts:
        yield module
    for part in parts:
        yield from _blocks(part)


@dataclass(frozen=True)
class Projection:
    """Principal components of standardized features, rotated at random, as one affine map.

    The rotation gives all columns about the same variance. A model that scales each column then keeps the distances
    between images; without the rotation it would enlarge the last components, which are noise, to that of the first.
    """

    matrix: NDArray[np.float32]  # (p, k)
    offset: NDArray[np.float32]  # (k,)

    @classmethod
    def fit(cls, features: NDArray[np.float32]) -> Projection:
        """Fit it to the features (n, p) of some images."""
        center, spread = features.mean(axis=0), features.std(axis=0)
        scale = np.where(spread > 0, spread, 1)
        _, singular, directions = linalg.svd((features - center) / scale, full_matrices=False)
        n_kept = max(1, int((singular[:N_COMPONENTS] > _NOISE * singular[0]).sum()))
        rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(n_kept, n_kept)))[0]
        deviation = np.sqrt(np.mean(singular[:n_kept] ** 2) / len(features)) or 1.0  # of a rotated component
        matrix = directions[:n_kept].T @ rotation / deviation / scale[:, None]
        return cls(matrix.astype(np.float32), (-center @ matrix).astype(np.float32))

    @classmethod
    def empty(cls, network: nn.Module, image_size: int, n_components: int) -> Projection:
        """Return zeros of the shapes for a network that `watch_blocks` has prepared, to be filled from a file."""
        was_training = network.training
        with torch.no_grad():
            n_features = block_features(network.eval(), torch.zeros(1, 3, image_size, image_size)).shape[1]
        network.train(was_training)
        return cls(np.zeros((n_features, n_components), np.float32), np.zeros(n_components, np.float32))

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project features (n, p) to (n, k)."""
        return features @ self.matrix + self.offset

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        save_file({"matrix": self.matrix, "offset": self.offset}, path)

    @classmethod
    def load(cls, path: Path) -> Projection:
        from safetensors.numpy import load_file

        return cls(**load_file(path))

"""Small networks that the tests inspect."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.norm(self.conv(x)))
        out += x
        return out


class TinyResNet(nn.Module):
    """A convolution, two residual blocks that add in place, and a head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.stem(x))
        return self.head(features.mean((2, 3)))


class Odd(nn.Module):
    """Runs one module twice, returns tuples and mappings, and has an identity and a table without images."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(6, 6)
        self.idle = nn.Identity()
        self.pair = Pair()
        self.table = Table()
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        once = self.idle(self.shared(x))
        twice = self.shared(torch.relu(once))
        left, right = self.pair(twice)
        self.table()
        return {"left": left * torch.cos(x) + right * torch.sin(x), "right": left + self.scale}


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x * x


class Table(nn.Module):
    def forward(self) -> Tensor:
        return torch.ones(7, 7)


class Sequence(nn.Module):
    """Attention with the positions first, without a norm or an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.transpose(0, 1)
        return (tokens + self.attention(tokens, tokens, tokens)[0]).mean(0)


def images(n: int, size: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def seeded(make: type[nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()

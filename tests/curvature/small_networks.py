"""Networks small enough for exact answers, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """A block of self-attention, fused where torch can."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unsqueeze(1) for part in self.qkv(self.norm(x)).chunk(3, dim=-1))  # (n, 1, t, width)
        return x + self.out(functional.scaled_dot_product_attention(q, k, v).squeeze(1))


class Transformer(nn.Module):
    """Tokens in, one row of logits out; or one for each token."""

    def __init__(self, width: int = 8, classes: int = 3, *, tokens: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.position = nn.Parameter(torch.randn(5, width) / 10)
        self.block = Attention(width)
        self.head = nn.Linear(width, classes)
        self.tokens = tokens

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.embed(x) + self.position)  # (n, 5, width)
        return self.head(x if self.tokens else x.mean(dim=1))


def mlp(classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.0), nn.Linear(8, classes))


def cnn(classes: int = 3) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16, classes)),
    )


@dataclass(frozen=True)
class Network:
    """A network with a batch for it."""

    model: nn.Module
    x: Tensor
    y: Tensor

    def loss(self) -> Tensor:
        return functional.cross_entropy(self.model(self.x), self.y)


MAKERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (6,)),
    "cnn": (cnn, (2, 4, 4)),
    "transformer": (Transformer, (5, 4)),
}


def network(name: str, n: int = 8, *, dtype: torch.dtype = torch.float64, trained_steps: int = 30) -> Network:
    """Make a network that has learned for a moment, in training mode."""
    maker, shape = MAKERS[name]
    torch.manual_seed(3)
    made = Network(maker().to(dtype), torch.randn(n, *shape, dtype=dtype), torch.randint(3, (n,)))
    optimizer = torch.optim.SGD(made.model.parameters(), 0.05)
    for _ in range(trained_steps):
        optimizer.zero_grad()
        made.loss().backward()
        optimizer.step()
    optimizer.zero_grad()
    return made


def with_noise(model: nn.Module) -> nn.Module:
    """Put dropout of a half before the last layer."""
    changed = deepcopy(model)
    assert isinstance(changed, nn.Sequential)
    changed.insert(len(changed) - 1, nn.Dropout(0.5))
    return changed


def slow_trace(model: nn.Module, x: Tensor) -> float:
    """Tr(F) from its definition: for each example and class p ||grad log p||^2."""
    logits = model(x)
    total = 0.0
    for i in range(len(x)):
        log_p = logits[i].log_softmax(dim=0)
        for c in range(logits.shape[1]):
            found = torch.autograd.grad(log_p[c], list(model.parameters()), retain_graph=True)
            total += log_p[c].exp().item() * sum(g.square().sum().item() for g in found)
    return total / len(x)


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


def cosine(a: Tensor, b: Tensor) -> float:
    return (torch.dot(a.double(), b.double()) / (a.double().norm() * b.double().norm())).item()


def added(model: nn.Module, call: Callable[[], None]) -> Tensor:
    """What a call adds to gradients of zero."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    call()
    return flat([p.grad.clone() for p in model.parameters() if p.grad is not None])

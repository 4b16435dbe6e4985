"""Folding keeps what a network computes, and leaves alone what it would change."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from windvane.vision.networks.folding import fold_batch_norm


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit"])
def test_a_folded_network_sees_the_same(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(8, 3, 160, 160))  # running statistics that are not those of the first moment
    network.eval()
    folded = fold_batch_norm(network)
    n_norms = [sum(isinstance(module, nn.BatchNorm2d) for module in one.modules()) for one in (network, folded)]
    assert n_norms[1] <= n_norms[0] / 4
    assert (n_norms[0] > 0) == (folded is not network)
    images = torch.rand(4, 3, 160, 160)
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-3, atol=1e-4)


class Crossed(nn.Module):
    """Its normalization stands behind the convolution, but comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
        self.norm.running_mean = torch.tensor([1.0, -2.0, 0.5])

    def forward_features(self, images: Tensor) -> Tensor:
        found: Tensor = self.conv(self.norm(images))
        return found


def test_what_folding_would_change_stays() -> None:
    network = Crossed().eval()
    assert fold_batch_norm(network) is network

"""Which model of an ensemble is looked into, and how it is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from windvane.report.images import inside
from windvane.runtime.columns.table import FeatureView
from windvane.runtime.ensemble import Ensemble, Member
from windvane.runtime.models.linear import FittedLinear
from windvane.runtime.output import Output
from windvane.vision.networks import ensemble as expressible


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        (["small", "small"], "linear #3 (weight 75%) on features of small"),
        (["a", "b", "c"], "linear #3 (weight 75%) on features of a, b and c, here of c"),
        (["small", "large"], "linear #3 (weight 75%) on features of small and large, here of large"),
    ],
)
def test_all_networks_whose_features_are_read_are_named(
    weights: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder: Any = None
    model = FittedLinear(encoder, Output(2), np.zeros((1, 4)), np.zeros(1))
    monkeypatch.setattr(expressible, "is_expressible", lambda one: one is model)
    monkeypatch.setattr(expressible, "FeatureScores", lambda *given: torch.nn.Identity())
    views = tuple(FeatureView(one, 64, 2 * i, 2 * i + 2) for i, one in enumerate(weights))
    frozen = {one: SimpleNamespace(network=torch.nn.Identity(), recipe=None) for one in weights}
    reader = SimpleNamespace(views=views, extractor=SimpleNamespace(network=frozen.__getitem__))
    members = (Member(1, "c", "forest", 0.25), Member(3, "c", "linear", 0.75))
    data: Any = SimpleNamespace(
        ensemble=Ensemble(members, loss=0.1), predictor=SimpleNamespace(images=reader, models=[[None], [model]])
    )
    found = inside._heaviest(data)
    assert found is not None
    assert (found.name, found.network) == (name, frozen[weights[-1]].network)

"""A brief look inside: what applies to a network, within the time, with the numbers of the analyses themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from toys import check_html
from vision_toys import images, small_resnet, small_vit

from windvane.inspect import compare, receptive_fields
from windvane.inspect.report.brief import inspect_briefly
from windvane.inspect.similarity.compare import Sampling


def test_a_transformer_has_heads_and_a_residual_network_has_none() -> None:
    vit = "".join(inspect_briefly(small_vit(), images(12), 60.0))
    resnet = "".join(inspect_briefly(small_resnet(), images(12), 60.0))
    for html in (vit, resnet):
        check_html(html)
        assert "The blocks beside each other" in html and "How far a unit sees" in html
    assert "How far the heads look" in vit and "How far the heads look" not in resnet


def test_the_numbers_are_those_of_the_analyses() -> None:
    model, x = small_vit(), images(12)
    html = "".join(inspect_briefly(model, x, 60.0))
    matrix = compare(model, model, x, "block", sampling=Sampling(12)).values
    for value in np.clip(matrix, 0, 1).ravel():
        assert f">{100 * value:.0f}</td>" in html
    for sigma in receptive_fields(model, x[:8], "block", n_images=8).sigma:
        assert f"{sigma:.1f} px" in html


def test_what_the_time_or_the_images_do_not_carry_is_left_out() -> None:
    assert inspect_briefly(small_vit(), images(7), 60.0) == []
    assert inspect_briefly(small_vit(), images(12), 0.0) == []
    assert inspect_briefly(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)), images(8), 60.0) == []


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    model = small_resnet().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inspect_briefly(model, images(8), 60.0)
    assert model.training == training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from vision_toys import HEADS, images, small_resnet, small_vit

from windvane.errors import InputError
from windvane.inspect.activations import collect_activations
from windvane.inspect.analyses.attention import head_outputs
from windvane.inspect.analyses.attention_distance import attention_distance
from windvane.inspect.analyses.attention_heads import HeadGroups, head_similarity
from windvane.inspect.similarity.cka import cka


def test_equals_head_by_head() -> None:
    vit, cnn, x = small_vit(), small_resnet(), images(16)
    found = head_similarity((vit, cnn), x, "block")
    assert found.layer == "blocks.0.attn"
    assert (np.diff(found.distance) >= 0).all()
    distance = attention_distance(vit, x, "blocks.0.attn").distances[0]
    heads = head_outputs(vit, x, "blocks.0.attn")["blocks.0.attn"]
    layers = collect_activations(cnn, x, "block")
    assert found.other_layers == tuple(layers)
    assert sorted(found.heads) == [(head,) for head in range(HEADS)]
    for group, (head,) in enumerate(found.heads):
        assert found.distance[group] == pytest.approx(distance[head])
        for place, values in enumerate(layers.values()):
            assert found.similarity[group, place] == pytest.approx(cka(heads[:, head], values), abs=1e-5)


def test_groups_batches_and_picture() -> None:
    groups = HeadGroups("blocks.1.attn", n_groups=2)
    found = head_similarity((small_vit(), small_resnet()), images(16), "*layer1*", groups, batch_size=8, n_images=16)
    assert [len(group) for group in found.heads] == [2, 1]
    assert found.n_images == 16
    frame = found.to_frame()
    assert len(frame) == found.similarity.size
    assert list(frame.columns) == ["group", "distance", "other_layer", "similarity"]
    figure = found.plot()
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_ylim() == (0, 1)


def test_small_batches_are_left_out() -> None:
    vit, resnet = small_vit(), small_resnet()
    with pytest.warns(UserWarning, match="1 image is left out: batches of fewer than 4"):
        found = head_similarity((vit, resnet), images(9), batch_size=8)
    assert found.n_images == 8
    with pytest.raises(InputError, match="data has no batch of 4 images"):
        head_similarity((vit, resnet), images(3))


def test_other_layers_are_any_sequence_of_names() -> None:
    names = ("layer1.0", "layer2.0")
    assert head_similarity((small_vit(), small_resnet()), images(8), names).other_layers == names


def test_mistakes() -> None:
    with pytest.raises(InputError, match=r"n_groups=4 is not possible. Allowed: 1 to 3"):
        head_similarity((small_vit(), small_resnet()), images(), "block", HeadGroups(n_groups=4))

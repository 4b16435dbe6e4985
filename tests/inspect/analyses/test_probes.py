from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from vision_toys import DEPTH, huggingface_vit, images, output_of, small_resnet, small_vit

from windvane.errors import InputError
from windvane.inspect.analyses.probes import Examples, ProbeSettings, probe
from windvane.inspect.analyses.ridge import ridge_path


def digits(start: int, stop: int) -> Examples:
    """Real digits, enlarged to what the small networks take."""
    x, y = load_digits(return_X_y=True)
    small = torch.as_tensor(x[start:stop] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return Examples(nn.functional.interpolate(small, size=32).repeat(1, 3, 1, 1), y[start:stop])


def test_equals_a_probe_by_hand() -> None:
    model, train, test = small_vit(), digits(0, 300), digits(300, 500)
    found = probe(model, train, test, settings=ProbeSettings(shots=(3, None), n_seeds=2, batch_size=128))
    assert found.layers == tuple(f"blocks.{block}" for block in range(DEPTH))
    assert found.poolings == ("cls", "mean", "center")
    assert found.accuracy.shape == (DEPTH, 3, 2, 2)
    x, z = (output_of(model, "blocks.1", part.images).double().numpy() for part in (train, test))
    by_hand = {"cls": 0, "center": 1 + 2 * 4 + 2}
    for r, pooling in enumerate(found.poolings):
        a, b = (part[:, by_hand[pooling]] if pooling in by_hand else part[:, 1:].mean(1) for part in (x, z))
        expected = ridge_path(a, train.labels).accuracy(b, test.labels)
        assert found.accuracy[1, r, 1] == pytest.approx([expected, expected], abs=0.011)  # float32 through the network
        draw = np.random.default_rng(1)
        few = np.concatenate([draw.choice(np.flatnonzero(train.labels == c), 3, replace=False) for c in range(10)])
        expected = ridge_path(a[few], train.labels[few]).accuracy(b, test.labels)
        assert found.accuracy[1, r, 0, 1] == pytest.approx(expected, abs=0.011)
    assert found.accuracy[:, 1, 1].min() > 0.5  # even random layers tell digits apart


def test_more_examples_help_and_the_seeds_differ() -> None:
    settings = ProbeSettings(poolings=("mean",), shots=(1, 5, 20), n_seeds=3)
    found = probe(small_vit(pool="avg"), digits(0, 400), digits(400, 700), "blocks.0", settings)
    mean = found.accuracy.mean(-1)[0, 0]
    assert mean[0] < mean[1] < mean[2]
    assert found.accuracy[0, 0, 0].std() > 0
    again = probe(small_vit(pool="avg"), digits(0, 400), digits(400, 700), "blocks.0", settings)
    assert np.array_equal(found.accuracy, again.accuracy)


def test_logistic_regression() -> None:
    train, test = digits(0, 200), digits(200, 300)
    model = small_vit()
    settings = ProbeSettings(poolings=("cls",), shots=(None,), classifier="logistic", n_seeds=1)
    found = probe(model, train, test, "blocks.2", settings)
    x, z = (output_of(model, "blocks.2", part.images)[:, 0].double().numpy() for part in (train, test))
    scaler = StandardScaler().fit(x)
    expected = LogisticRegression(max_iter=1000).fit(scaler.transform(x), train.labels)
    assert found.accuracy.item() == pytest.approx(expected.score(scaler.transform(z), test.labels), abs=0.021)


@pytest.mark.parametrize("make", [small_resnet, huggingface_vit])
def test_other_networks(make: object) -> None:
    model = make()  # type: ignore[operator]
    settings = ProbeSettings(shots=(2,), n_seeds=1)
    found = probe(model, digits(0, 60), digits(60, 90), settings=settings)
    assert len(found.layers) in {2, 4}
    assert ("cls" in found.poolings) == (make is huggingface_vit)


def test_single_patches() -> None:
    settings = ProbeSettings(poolings=(10, "center", 0), shots=(None,), n_seeds=1)
    found = probe(small_vit(), digits(0, 100), digits(100, 150), "blocks.1", settings)
    assert found.accuracy[0, 0] == found.accuracy[0, 1]  # the center of 4 x 4 is place 10
    assert found.accuracy[0, 0] != found.accuracy[0, 2]
    labels = [text.get_text() for text in found.plot().axes[0].get_legend().get_texts()]
    assert labels[:2] == ["patch 10, all examples", "center, all examples"]


def test_table_and_picture() -> None:
    settings = ProbeSettings(shots=(1, None), n_seeds=2)
    found = probe(small_vit(), digits(0, 60), digits(60, 90), settings=settings)
    frame = found.to_frame()
    assert len(frame) == DEPTH * 3 * 2
    assert frame["shots"].isna().sum() == DEPTH * 3
    all_examples = frame[frame["shots"].isna()]
    assert (all_examples["std"] == 0).all()
    figure = found.plot(shots=(1, None))
    assert isinstance(figure, Figure)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "cls, 1 per class" in labels
    assert "mean, all examples" in labels
    with pytest.raises(InputError, match="shots=7 is not known"):
        found.plot(shots=(7,))


def test_mistakes() -> None:
    train, test = digits(0, 60), digits(60, 90)
    with pytest.raises(InputError, match="60 images came with 3 labels"):
        Examples(train.images, [1, 2, 3])
    with pytest.raises(InputError, match=r"test is tuple. Allowed: Examples\(images, labels\)"):
        probe(small_vit(), train, (test.images, test.labels))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="shots=50, but class"):
        probe(small_vit(), train, test, settings=ProbeSettings(shots=(50,)))
    with pytest.raises(InputError, match="class token"):
        probe(small_resnet(), train, test, settings=ProbeSettings(poolings=("cls",), shots=(None,)))
    with pytest.raises(InputError, match="choose layers before the network pools"):
        probe(small_vit(), train, test, "head", ProbeSettings(shots=(None,)))
    for wrong in ({"shots": (0,)}, {"shots": ()}, {"n_seeds": 0}, {"classifier": "tree"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ProbeSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="do not tile"):
        probe(small_vit(), train, test, settings=ProbeSettings(n_prefix=2, shots=(None,)))


def test_registers_are_no_class_token() -> None:
    model = small_vit(pool="avg", registers=2)
    x, labels = images(), np.arange(6) % 2
    whole = ProbeSettings(shots=(None,), n_seeds=1)
    assert probe(model, Examples(x, labels), Examples(x, labels), settings=whole).poolings == ("mean", "center")
    with pytest.raises(InputError, match="has no class token"):
        probe(model, Examples(x, labels), Examples(x, labels), settings=ProbeSettings(poolings=("cls",)))

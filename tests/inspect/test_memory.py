"""What does not fit is said with what would."""

from __future__ import annotations

import psutil
import pytest
import torch

from windvane.errors import InputError
from windvane.inspect.hooks import LayerOutput
from windvane.inspect.layers import Layer
from windvane.inspect.memory import check_fits, too_large


def test_largest_layers_and_a_batch_that_fits() -> None:
    free = psutil.virtual_memory().available
    taps = [
        Layer(LayerOutput(name, name, False, None), 0, size) for name, size in (("a", 8), ("b", free // 100), ("c", 80))
    ]
    message = str(too_large(taps, 10**6, torch.device("cpu")))
    assert "a batch of 1000000 images does not fit" in message
    assert message.index("b (") < message.index("c (") < message.index("a (")
    fits = int(message.split("about ")[1].split()[0])
    assert 50 <= fits <= 200


def test_keeping_too_much_is_refused() -> None:
    layers = {"small": torch.zeros(2, 3), "large": torch.zeros(2, 1000)}
    check_fits(layers, 1000)
    with pytest.raises(
        InputError, match=r"2 of 1000000000000 images need .* GB.*The largest are large \(.*n_images up to"
    ):
        check_fits(layers, 10**12)

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vision_toys import small_resnet, small_vit

from windvane.errors import InputError
from windvane.inspect.tokens import TokenGrid, as_tokens, pool_tokens, prefix_counts, token_grid


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 20), st.integers(3, 20), st.integers(1, 32), st.integers(0, 5))
def test_grid_is_found(rows: int, columns: int, patch: int, n_prefix: int) -> None:
    size = (rows * patch, columns * patch)
    told = token_grid(rows * columns + n_prefix, size, (n_prefix,))
    assert told == TokenGrid(n_prefix, rows, columns, patch, patch)
    found = token_grid(rows * columns + n_prefix, size)
    assert found.n_prefix + found.n_patches == rows * columns + n_prefix
    assert found.patch_height == found.patch_width


def test_usual_numbers_of_tokens() -> None:
    counts = {197: (1, 14), 196: (0, 14), 198: (2, 14), 201: (5, 14), 50: (1, 7), 65: (1, 8), 261: (5, 16)}
    for n_tokens, (n_prefix, side) in counts.items():
        found = token_grid(n_tokens, (224, 224))
        assert (found.n_prefix, found.rows, found.columns) == (n_prefix, side, side)


def test_tokens_that_do_not_tile() -> None:
    with pytest.raises(InputError, match=r"195 tokens .* do not tile an image of 224 x 224 .* n_prefix"):
        token_grid(195, (224, 224), (1,))
    with pytest.raises(InputError, match="up to 16 without a position"):
        token_grid(290, (300, 7))


def test_positions_and_distances() -> None:
    grid = TokenGrid(1, 2, 3, 10.0, 4.0)
    assert grid.positions().tolist() == [[5, 2], [5, 6], [5, 10], [15, 2], [15, 6], [15, 10]]
    assert grid.center == 4
    distances = grid.distances()
    for i, (y, x) in enumerate(grid.positions().tolist()):
        for j, (v, u) in enumerate(grid.positions().tolist()):
            assert distances[i, j].item() == pytest.approx(math.hypot(y - v, x - u))


def test_declared_prefix_tokens() -> None:
    assert prefix_counts(small_vit())[:2] == (1, 0)
    assert prefix_counts(small_vit(distilled=True))[0] == 2
    assert prefix_counts(small_vit(registers=4))[0] == 5
    assert prefix_counts(small_vit(pool="avg"))[0] == 0
    assert prefix_counts(small_resnet()) == tuple(range(17))
    assert prefix_counts(small_vit(), 3) == (3,)


def test_declared_prefix_tokens_may_not_hold_for_every_layer() -> None:
    """The class token may come late, as in CaiT, or be alone."""
    assert token_grid(196, (224, 224), prefix_counts(small_vit())).n_prefix == 0
    assert token_grid(197, (224, 224), prefix_counts(small_vit())).n_prefix == 1
    with pytest.raises(InputError, match=r"1 tokens .* do not tile"):
        token_grid(1, (224, 224))


def test_maps_become_tokens() -> None:
    output = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    tokens, grid = as_tokens(output, (32, 40))
    assert grid == TokenGrid(0, 4, 5, 8.0, 8.0)
    assert torch.equal(tokens[:, 2 * 5 + 3], output[:, :, 2, 3])
    last, same = as_tokens(torch.arange(2 * 4 * 5 * 48.0).reshape(2, 4, 5, 48), (32, 40))  # channels last
    assert same == grid
    assert torch.equal(last[:, 2 * 5 + 3], torch.arange(2 * 4 * 5 * 48.0).reshape(2, 4, 5, 48)[:, 2, 3])
    with pytest.raises(InputError, match=r"a layer returns \(2, 3\)"):
        as_tokens(torch.zeros(2, 3), (32, 40))


def test_poolings() -> None:
    tokens = torch.randn(2, 1 + 16, 5, generator=torch.Generator().manual_seed(0))
    grid = token_grid(17, (32, 32))
    assert torch.equal(pool_tokens(tokens, grid, "cls"), tokens[:, 0])
    assert torch.allclose(pool_tokens(tokens, grid, "mean"), sum(tokens[:, 1 + i] for i in range(16)) / 16)
    assert torch.equal(pool_tokens(tokens, grid, "center"), tokens[:, 1 + 2 * 4 + 2])
    assert torch.equal(pool_tokens(tokens, grid, 15), tokens[:, 16])
    with pytest.raises(InputError, match=r"pooling=16 is not a patch. Allowed: 0 to 15"):
        pool_tokens(tokens, grid, 16)
    with pytest.raises(InputError, match="needs a network with a class token"):
        pool_tokens(tokens[:, 1:], token_grid(16, (32, 32)), "cls")
    with pytest.raises(InputError, match="pooling='average' is not known"):
        pool_tokens(tokens, grid, "average")  # type: ignore[arg-type]

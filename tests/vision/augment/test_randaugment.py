from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from windvane.errors import InputError
from windvane.vision.augment import operations as ops
from windvane.vision.augment.augreg import AUGREG_LEVELS, AugRegLevel
from windvane.vision.augment.randaugment import operation_arguments, rand_augment


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_images(n: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.randint(256, (n, 3, height, width), dtype=torch.uint8, generator=seeded(7))


def test_levels_are_those_of_the_paper() -> None:
    paper = {
        "none": (0, 0, 0.0),
        "light1": (2, 0, 0.0),
        "light2": (2, 10, 0.2),
        "medium1": (2, 15, 0.2),
        "medium2": (2, 15, 0.5),
        "strong1": (2, 20, 0.5),
        "strong2": (2, 20, 0.8),
    }
    assert {name: (at.num_ops, at.magnitude, at.mixup_alpha) for name, at in AUGREG_LEVELS.items()} == paper
    assert list(AUGREG_LEVELS) == list(paper)


def test_amounts_at_the_size_of_the_paper() -> None:
    at = {magnitude: operation_arguments(magnitude, 224, 224) for magnitude in (0, 10, 15, 20)}
    assert len(at[10]) == 16
    expected = {
        ops.rotate: [0, 30, 45, 60],
        ops.shear_x: [0, 0.3, 0.45, 0.6],
        ops.shear_y: [0, 0.3, 0.45, 0.6],
        ops.translate_x: [0, 100, 150, 200],
        ops.translate_y: [0, 100, 150, 200],
        **{operation: [0.1, 1.9, 2.8, 3.7] for operation in (ops.color, ops.contrast, ops.brightness, ops.sharpness)},
        ops.posterize: [1, 4, 6, 8],
        ops.solarize: [0, 256, 384, 512],
        ops.solarize_add: [0, 110, 165, 220],
        ops.cutout: [0, 40, 60, 80],
    }
    for operation, values in expected.items():
        assert [at[magnitude][operation][0] for magnitude in at] == pytest.approx(values), operation
    for operation in (ops.autocontrast, ops.equalize, ops.invert):
        assert at[10][operation] == ()
    for operation in (ops.rotate, ops.shear_x, ops.shear_y, ops.translate_x, ops.translate_y):
        assert at[15][operation][1] == -at[15][operation][0]


def test_only_distances_grow_with_the_size() -> None:
    small, large = operation_arguments(14, 64, 32), operation_arguments(14, 448, 224)
    for operation, amounts in small.items():
        grows = operation in {ops.translate_x, ops.translate_y, ops.cutout}
        assert large[operation] == pytest.approx([(7 if grows else 1) * amount for amount in amounts]), operation
    assert small[ops.translate_y][0] == 2 * small[ops.translate_x][0]


def one_by_one(images: Tensor, level: AugRegLevel, generator: torch.Generator, probability: float) -> Tensor:
    """The same draws, image by image and operation by operation."""
    draws = torch.rand(5, level.num_ops, len(images), generator=generator)
    height, width = images.shape[2:]
    table = list(operation_arguments(level.magnitude, height, width).items())
    done = []
    for number, image in enumerate(images):
        one = image[None]
        for choice, sign, spared, down, right in draws[:, :, number].T.tolist():
            operation, amount = table[int(choice * 16)]
            if spared >= probability:
                continue
            if operation is ops.cutout:
                one = ops.cutout(one, int(amount[0]), torch.tensor([[int(down * height)], [int(right * width)]]))
            elif len(amount) == 2:
                one = operation(one, amount[1] if sign < 0.5 else amount[0])
            else:
                one = operation(one, *amount)
        done.append(one)
    return torch.cat(done)


@pytest.mark.parametrize("level", AUGREG_LEVELS.values(), ids=AUGREG_LEVELS)
@pytest.mark.parametrize(
    ("n", "height", "width", "probability"), [(150, 32, 32, 1.0), (9, 30, 45, 0.5), (1, 64, 64, 1)]
)
def test_a_batch_equals_its_images_one_by_one(
    level: AugRegLevel, n: int, height: int, width: int, probability: float
) -> None:
    images = draw_images(n, height, width)
    before = images.clone()
    ours = rand_augment(images, level, seeded(3), probability=probability)
    assert torch.equal(ours, one_by_one(images, level, seeded(3), probability))
    assert torch.equal(images, before)


def test_the_generator_decides() -> None:
    images, level = draw_images(20), AUGREG_LEVELS["medium1"]
    first, again, other = (rand_augment(images, level, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    rand_augment(images, level, seeded())
    assert torch.equal(torch.get_rng_state(), state)


def test_operations_and_signs_are_drawn_uniformly() -> None:
    image = draw_images(1).clamp(20, 200)  # so that every operation changes it
    results = rand_augment(image.expand(8000, -1, -1, -1), AugRegLevel(1, 7, 0.0), seeded())
    arguments = operation_arguments(7, 32, 32)
    del arguments[ops.cutout]
    counts, signs = [], []
    for operation, amount in arguments.items():
        found = [
            int((results == operation(image, *each)).flatten(1).all(1).sum())
            for each in ([(each,) for each in amount] or [()])
        ]
        counts.append(sum(found))
        signs.extend([found] if len(found) == 2 else [])
    counts.append(len(results) - sum(counts))  # cutout
    assert chisquare(counts).pvalue > 0.001
    assert len(signs) == 5 and all(chisquare(each).pvalue > 0.001 for each in signs)


def test_cutout_is_anywhere() -> None:
    grey = rand_augment(torch.zeros(4000, 3, 8, 8, dtype=torch.uint8), AugRegLevel(1, 10, 0.0), seeded()) == 128
    squares = grey.all(1).flatten(1).sum(1)
    hit = grey.all(1)[(squares > 0) & (squares <= 4)].float().mean(0)  # (8, 8)
    assert hit.min() > 0 and hit[1:-1, 1:-1].std() < 0.3 * hit.mean()


def test_probability() -> None:
    images, level = draw_images(400).clamp(20, 200), AugRegLevel(1, 7, 0.0)
    assert torch.equal(rand_augment(images, level, seeded(), probability=0.0), images)
    spared = (rand_augment(images, level, seeded(), probability=0.5) == images).flatten(1).all(1).float().mean()
    assert 0.4 < spared < 0.6


def test_no_layers_and_no_images() -> None:
    images = draw_images(2)
    assert rand_augment(images, AUGREG_LEVELS["none"], seeded()) is images
    assert rand_augment(images[:0], AUGREG_LEVELS["light2"], seeded()).shape == (0, 3, 32, 32)


@pytest.mark.parametrize(
    ("images", "probability", "message"),
    [
        (torch.zeros(2, 3, 4, 4), 1.0, r"images: torch.float32, shape \(2, 3, 4, 4\). Allowed: uint8"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), 1.0, r"shape \(2, 1, 4, 4\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), 1.0, r"shape \(3, 4, 4\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), 1.5, "probability=1.5"),
    ],
)
def test_unusable_input(images: Tensor, probability: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rand_augment(images, AUGREG_LEVELS["light1"], seeded(), probability=probability)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("level", AUGREG_LEVELS.values(), ids=AUGREG_LEVELS)
def test_a_gpu_gives_the_same(level: AugRegLevel) -> None:
    images = draw_images(200)
    ours = rand_augment(images.cuda(), level, seeded()).cpu()
    assert int((ours.int() - rand_augment(images, level, seeded()).int()).abs().max()) <= 1

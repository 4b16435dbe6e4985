"""The 16 operations of RandAugment on whole batches, as pure functions.

They take and return uint8 batches of shape (n, 3, h, w) on one device. All images of a batch share the argument (an
angle, a factor), so geometry is one table of source pixels for all images and color a few passes over the batch.
Results equal those of the code that AugReg used (big_vision, pp/archive/autoaugment.py; RandAugment is of Cubuk et al.,
arXiv 1909.13719) up to one gray level, also where an operation does something else than its name says: `contrast` and
`solarize`. Geometry uses Pillow's fixed point numbers, so that all devices agree. Some steps take a detour because
torch is slow on uint8 on a CPU: `where` takes 5 ns per value, a conversion from float32 0.5, most others 0.1.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

GRAY = 128  # uncovered borders, and the square of cutout

Affine = tuple[float, float, float, float, float, float]  # source x = a x + b y + c, source y = d x + e y + f

_FIXED_BITS = 16  # of Pillow's fixed point numbers
_LUMA = tuple(weight * 255.5 / 255 for weight in (0.2989, 0.587, 0.114))  # TensorFlow scales by 255.5 and truncates


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel so that its darkest value becomes 0 and its brightest 255."""
    low = images.amin((2, 3), keepdim=True).float()  # (n, 3, 1, 1)
    spread = images.amax((2, 3), keepdim=True).float() - low
    even = spread == 0  # one value alone stays: (v - 0) * 1 / 1
    top = torch.full_like(low, 255.0).masked_fill_(even, 1.0)
    stretched = images.sub(low.masked_fill_(even, 0.0)).mul_(top).div_(spread.masked_fill_(even, 1.0))
    return _to_uint8(stretched)


def equalize(images: Tensor) -> Tensor:
    """Equalize the histogram of each channel."""
    n, channels, height, width = images.shape
    values = images.reshape(n * channels, height * width).long()
    counts = torch.zeros(n * channels, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, values, values.new_ones(1).expand_as(values))  # (3n, 256)
    brightest = counts.gather(1, images.amax((2, 3)).view(-1, 1).long())
    step = (height * width - brightest) // 255  # (3n, 1)
    below = counts.cumsum(1) - counts
    spread = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step > 0, spread, torch.arange(256, device=images.device)).to(torch.uint8)
    return table.gather(1, values).view_as(images)


def invert(images: Tensor) -> Tensor:
    """Replace each value v by 255 - v."""
    return 255 - images


def posterize(images: Tensor, bits: int) -> Tensor:
    """Keep the upper bits, 1 to 8, of each value."""
    return images & (256 - (1 << (8 - bits)))


def solarize(images: Tensor, threshold: int) -> Tensor:
    """Invert the values of at least the threshold, which wraps at 256: the original compares it as uint8."""
    return images ^ (images.ge(threshold % 256).view(torch.uint8) * 255)


def solarize_add(images: Tensor, addition: int) -> Tensor:
    """Add a number from 0 to 255 to the values below 128."""
    gain = images.clamp(max=255 - addition) + addition - images  # modulo 256 where it will not count
    return images.lt(128).view(torch.uint8).mul_(gain).add_(images)


def color(images: Tensor, factor: float) -> Tensor:
    """Change the saturation: grayscale at factor 0, the image at 1."""
    return _blend(_luma(images), images, factor)


def contrast(images: Tensor, factor: float) -> Tensor:
    """Change the contrast: an even gray at factor 0, the image at 1."""
    # The original takes the mean of the 256 counts of the histogram for the mean gray value: pixels / 256, at most 255.
    gray = min(255, images.shape[2] * images.shape[3] // 256)
    return _blend(torch.full((), float(gray), device=images.device), images, factor)


def brightness(images: Tensor, factor: float) -> Tensor:
    """Change the brightness: black at factor 0, the image at 1."""
    return _to_uint8(images.float().mul_(factor))


def sharpness(images: Tensor, factor: float) -> Tensor:
    """Change the sharpness: smoothed at factor 0, the image at 1; the outermost pixels stay."""
    values = images.to(torch.int16)  # sums go up to 13 x 255
    inner = values[..., 1:-1, 1:-1]
    rows = values[..., :-2, :] + values[..., 1:-1, :] + values[..., 2:, :]  # (n, 3, h - 2, w)
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner  # (n, 3, h - 2, w - 2)
    smooth = sums.float().div_(13.0).floor_()
    result = images.clone()
    result[..., 1:-1, 1:-1] = _blend(smooth, inner, factor)
    return result


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Rotate the images about their centers, counterclockwise for positive angles."""
    angle = -math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    x, y = images.shape[3] / 2, images.shape[2] / 2
    return _transform(images, (cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y))


def shear_x(images: Tensor, slope: float) -> Tensor:
    """Shear along x: each row is taken from `slope` pixels further right than the row above."""
    return _transform(images, (1.0, slope, -slope / 2, 0.0, 1.0, 0.0))


def shear_y(images: Tensor, slope: float) -> Tensor:
    """Shear along y: each column is taken from `slope` pixels further down than the column to the left."""
    return _transform(images, (1.0, 0.0, 0.0, slope, 1.0, -slope / 2))


def translate_x(images: Tensor, pixels: float) -> Tensor:
    """Move the images left by the nearest whole number of pixels; right if negative."""
    return _shift(images, pixels, 3)


def translate_y(images: Tensor, pixels: float) -> Tensor:
    """Move the images up by the nearest whole number of pixels; down if negative."""
    return _shift(images, pixels, 2)


def cutout(images: Tensor, half: int, centers: Tensor) -> Tensor:
    """Paint a gray square of 2 `half` pixels a side, clipped at the border, around the center of each image."""
    # `centers` has the row and column of each center, int64 of shape (2, n); the square covers center - half to center
    # + half - 1.
    inside = []
    for size, center in zip(images.shape[2:], centers, strict=True):
        away = torch.arange(size, device=images.device) - center[:, None]  # (n, size)
        inside.append((away >= -half) & (away < half))
    return images.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], GRAY)


def _luma(images: Tensor) -> Tensor:
    """Return the grayscale images, float32 with whole numbers, shape (n, 1, h, w)."""
    red, green, blue = (images[:, channel, None].float() * weight for channel, weight in enumerate(_LUMA))
    return red.add_(green).add_(blue).floor_()


def _blend(start: Tensor, images: Tensor, factor: float) -> Tensor:
    """Interpolate from a float32 `start` (factor 0) to the images (1), and beyond."""
    return _to_uint8((images - start).mul_(factor).add_(start))


def _to_uint8(values: Tensor) -> Tensor:
    """Clamp to 0 ... 255 and drop the fractions; overwrites the values."""
    return values.clamp_(0.0, 255.0).to(torch.int16).to(torch.uint8)


def _shift(images: Tensor, pixels: float, dim: int) -> Tensor:
    """Take each pixel from `pixels` further along one dimension, gray from outside."""
    size = images.shape[dim]
    shift = max(-size, min(size, math.floor(pixels + 0.5)))
    kept = size - abs(shift)
    result = torch.full_like(images, GRAY)
    result.narrow(dim, max(0, -shift), kept).copy_(images.narrow(dim, max(0, shift), kept))
    return result


def _transform(images: Tensor, matrix: Affine) -> Tensor:
    """Take each pixel from where an affine map points, gray from outside."""
    n, channels, height, width = images.shape
    sources = _sources(matrix, height, width, images.device)
    padded = torch.cat([images.flatten(2), images.new_full((n, channels, 1), GRAY)], dim=2)  # (n, 3, h w + 1)
    # gather with an index that repeats is four to fifteen times as fast as index_select on a CPU.
    return padded.gather(2, sources.expand(n, channels, -1)).view_as(images)


@lru_cache(maxsize=16)
def _sources(matrix: Affine, height: int, width: int, device: torch.device) -> Tensor:
    """Return the index of the source of each pixel, h w for those outside; int64, shape (h w,)."""
    a, b, c, d, e, f = matrix
    # The center of the first pixel is at (0.5, 0.5).
    corner_x, corner_y = _fixed(c + 0.5 * (a + b)), _fixed(f + 0.5 * (d + e))
    x, y = torch.arange(width), torch.arange(height)[:, None]
    columns = (corner_x + _fixed(a) * x + _fixed(b) * y) >> _FIXED_BITS  # (h, w)
    rows = (corner_y + _fixed(d) * x + _fixed(e) * y) >> _FIXED_BITS  # (h, w)
    outside = (columns < 0) | (columns >= width) | (rows < 0) | (rows >= height)
    return (rows * width + columns).masked_fill_(outside, height * width).flatten().to(device)


def _fixed(value: float) -> int:
    return math.floor(value * (1 << _FIXED_BITS) + 0.5)

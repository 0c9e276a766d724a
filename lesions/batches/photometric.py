"""Change colours: float B×3×H×W in 0..1 to the same; values beyond are cut off by lesions/batches/augment.py.

A function may write into the images that it is given. Ranges and their sources: lesions/batches/augment.py.
"""

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional

from lesions.batches.feed import constant
from lesions.batches.per_image import apply_, mapped, uniform

LIGHTING = 0.2  # brightness and contrast change by up to this part
BLUR = 5  # pixels: the side of every blur kernel
LEVELS = 256


def lighting(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness and contrast by up to ±LIGHTING each, image by image."""
    draws = (torch.rand(2, len(images), generator=generator) * 2 - 1) * LIGHTING
    shift, scale = draws.to(images.device, non_blocking=True)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    moved = (images - mean) * (1 + scale[:, None, None, None]) + mean * (1 + shift[:, None, None, None])
    return moved.clamp(0, 1)


def brightness(images: Tensor, generator: torch.Generator, limit: float = 0.2) -> Tensor:
    """Add up to ±limit (albumentations' RandomBrightness)."""
    return images + uniform(images, generator, -limit, limit)


def contrast(images: Tensor, generator: torch.Generator, limit: float = 0.2) -> Tensor:
    """Multiply by 1 ± limit (albumentations' RandomContrast: about black, not about the mean as in `lighting`)."""
    return images * uniform(images, generator, 1 - limit, 1 + limit)


def hsv_shifted(images: Tensor, hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Add each of the three (B×1×1×1) in HSV: hue in turns, saturation and value in 0..1 and cut off there."""
    high, low = images.amax(dim=1, keepdim=True), images.amin(dim=1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    span = (high - low).clamp(min=1e-8)
    sector = torch.where(high == green, 2 + (blue - red) / span, 4 + (red - green) / span)
    sector = torch.where(high == red, (green - blue) / span, sector) + 6 * hue
    strength = ((high - low) / high.clamp(min=1e-8) + saturation).clamp(0, 1)
    level = (high + value).clamp(0, 1)
    away = (constant((5.0, 3.0, 1.0), images)[:, None, None] + sector) % 6
    return level * (1 - strength * torch.minimum(away, 4 - away).clamp(0, 1))


def hsv(
    images: Tensor,
    generator: torch.Generator,
    hue: float = 20 / 360,
    saturation: float = 20 / 255,
    value: float = 10 / 255,
) -> Tensor:
    """Change hue by ±hue turns (OpenCV's 10 of 180), saturation and value by up to ± theirs."""
    return hsv_shifted(images, *(uniform(images, generator, -limit, limit) for limit in (hue, saturation, value)))


@cache
def shared_out(device: torch.device) -> Tensor:
    """Return how CLAHE in OpenCV shares r counts left over among the bins, float LEVELS×LEVELS.

    Row r, column b: how many of the r counts the bins 0 to b get together.
    """
    bins = torch.arange(LEVELS, device=device)
    rest = bins[:, None]
    step = LEVELS // rest.clamp(min=1)
    return ((bins % step == 0) & (bins // step < rest)).cumsum(dim=1).float()


def tile_tables(level: Tensor, clip: Tensor, tiles: int) -> Tensor:
    """Return CLAHE's tables, float B×(tiles²·256), of int64 levels B×H×W: each equalises a tile's clipped histogram.

    A bin keeps at most `clip` (B×1×1) times the mean count; what is above is shared out among all bins, as in OpenCV.
    """
    height, width = (-(-size // tiles) for size in level.shape[1:])
    beyond = (0, width * tiles - level.shape[2], 0, height * tiles - level.shape[1])
    cells = functional.pad(level[:, None].float(), beyond, mode="reflect").long()
    cells = cells.view(-1, tiles, height, tiles, width).transpose(2, 3).reshape(-1, height * width)
    index = (torch.arange(len(cells), device=level.device)[:, None] * LEVELS + cells).flatten()
    counts = torch.zeros(len(cells) * LEVELS, dtype=torch.int32, device=level.device)
    counts.scatter_add_(0, index, torch.ones_like(index, dtype=counts.dtype))  # bincount would wait for the GPU
    limit = (clip * (height * width / LEVELS)).int().clamp(min=1)
    found = counts.view(-1, tiles**2, LEVELS).clamp_(max=limit).cumsum_(dim=-1)
    excess, below = height * width - found[..., -1:], found.float()
    if height * width > LEVELS:
        below.addcmul_((excess // LEVELS).float(), torch.arange(1.0, LEVELS + 1, device=level.device))
    below += shared_out(level.device).index_select(0, (excess % LEVELS).flatten()).view_as(below)
    return below.mul_((LEVELS - 1) / (height * width)).round_().flatten(1)


def equalised(level: Tensor, clip: Tensor, tiles: int = 8) -> Tensor:
    """Equalise adaptively with limited contrast (CLAHE, Zuiderveld 1994): float B×H×W in 0..255.

    level: int64 B×H×W in 0..255. clip: B×1×1. Between the centres of the tiles² tiles their tables are interpolated.
    """
    tables = tile_tables(level, clip, tiles)
    corners, weights = [], []
    for size in level.shape[1:]:
        place = torch.arange(size, device=level.device) / -(-size // tiles) - 0.5
        corners.append([(place.floor().long() + one).clamp(0, tiles - 1) for one in (0, 1)])
        weights.append([1 - place % 1, place % 1])
    found = torch.zeros(level.shape, device=level.device)
    for row, row_weight in zip(corners[0], weights[0], strict=True):
        for column, column_weight in zip(corners[1], weights[1], strict=True):
            index = (row[:, None] * tiles + column) * LEVELS + level
            found += tables.gather(1, index.flatten(1)).view_as(found).mul_(row_weight[:, None] * column_weight)
    return found


XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))  # of linear sRGB
EDGE = 6 / 29  # CIE Lab's f(t) = ∛t above EDGE³, a line below


def joined(x: Tensor, edge: float, below: Callable[[Tensor], Tensor], above: Callable[[Tensor], Tensor]) -> Tensor:
    """Return below(x) where x is under `edge`, above(x) elsewhere; quicker on a CPU than torch.where.

    The two must agree at `edge`, and may write into what they are given.
    """
    joint = float(above(torch.tensor(edge)))
    return above(x.clamp(min=edge)).add_(below(x.clamp(max=edge))).sub_(joint)


def power_(x: Tensor, exponent: float) -> Tensor:
    """Raise x > 0 to the exponent in place, with a relative error of 1e-6, in a third of pow's time."""
    return x.log_().mul_(exponent).exp_()


def lightened(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Increase CIE L* (B×H×W, 0..100) of `images` by change(L*); a* and b* stay.

    L* = 116 f(Y) − 16, a* and b* are differences of f(X), f(Y), f(Z): the same amount is added to all three.
    """
    xyz = torch.tensor(XYZ)
    xyz = (xyz / xyz.sum(dim=1, keepdim=True)).mT[None]  # white is (1, 1, 1)
    xyz, back = (matrix.to(images.device, non_blocking=True) for matrix in (xyz, xyz.inverse()))
    linear = joined(images, 0.04045, lambda x: x.div_(12.92), lambda x: power_(x.add_(0.055).div_(1.055), 2.4))
    t = mapped(linear, xyz)
    f = joined(t, EDGE**3, lambda t: t.div_(3 * EDGE**2).add_(4 / 29), lambda t: power_(t, 1 / 3))
    f += change(116 * f[:, 1] - 16)[:, None] / 116
    t = joined(f, EDGE, lambda f: f.sub_(4 / 29).mul_(3 * EDGE**2), lambda f: f.pow_(3))
    linear = mapped(t, back).clamp_(0, 1)
    return joined(linear, 0.0031308, lambda x: x.mul_(12.92), lambda x: power_(x, 1 / 2.4).mul_(1.055).sub_(0.055))


def clahe(images: Tensor, generator: torch.Generator, limit: float = 4.0) -> Tensor:
    """Equalise L* in 8×8 tiles (CLAHE), with a clip limit from 1 to `limit`."""
    clip = uniform(images, generator, 1, limit)[:, 0]

    def change(lightness: Tensor) -> Tensor:
        level = (lightness * 2.55).round().clamp(0, 255).long()
        return (equalised(level, clip) - level) / 2.55

    return lightened(images, change)


def convolved(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel, B×1×k×k, scaled to a sum of 1; the border is reflected."""
    count, channels, size = *images.shape[:2], kernels.shape[-1]
    weights = (kernels / kernels.sum(dim=(2, 3), keepdim=True)).repeat_interleave(channels, dim=0)
    padded = functional.pad(images, [size // 2] * 4, mode="reflect").flatten(0, 1)[None]
    return functional.conv2d(padded, weights, groups=count * channels).view(images.shape)


def offsets(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return rows and columns of a blur kernel, counted from its centre."""
    axis = torch.arange(BLUR, device=device) - BLUR // 2.0
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    return rows, columns


def motion_blur(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur along a line in any direction, 3 or 5 pixels long."""
    angle = uniform(images, generator, 0, math.pi)
    reach = 1 + torch.floor(uniform(images, generator, 0, 2))
    y, x = offsets(images.device)
    along, beside = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    return convolved(images, (1 - beside.abs()).clamp(min=0) * (along.abs() < reach + 0.5))


def gaussian_blur(images: Tensor, generator: torch.Generator, low: float = 0.8, high: float = 1.1) -> Tensor:
    """Blur with σ from `low` to `high` pixels, which are OpenCV's σ for kernels of 3 and of 5."""
    sigma = uniform(images, generator, low, high)
    y, x = offsets(images.device)
    return convolved(images, torch.exp(-(x.square() + y.square()) / (2 * sigma.square())))


def median(images: Tensor, size: int) -> Tensor:
    """Return the median of size×size pixels; the border is reflected.

    Among more than half of the values, the lowest and the highest cannot be the median: drop both, add the next value,
    and go on until one is left. This works on whole planes and is 5 to 17 times as quick on a CPU as unfold and median.
    """
    height, width = images.shape[-2:]
    padded = functional.pad(images, [size // 2] * 4, mode="reflect")
    planes = [padded[..., y : y + height, x : x + width] for y in range(size) for x in range(size)]
    held, waiting = planes[: size**2 // 2 + 2], planes[size**2 // 2 + 2 :]
    while len(held) > 1:
        for place in range(1, len(held)):  # the lowest to the front
            held[0], held[place] = torch.minimum(held[0], held[place]), torch.maximum(held[0], held[place])
        for place in range(1, len(held) - 1):  # the highest to the back
            held[place], held[-1] = torch.minimum(held[place], held[-1]), torch.maximum(held[place], held[-1])
        held = held[1:-1] + waiting[:1]
        waiting = waiting[1:]
    return held[0]


def median_blur(images: Tensor, generator: torch.Generator) -> Tensor:
    """Take the median of 3×3 or of 5×5 pixels."""
    large = torch.rand(len(images), generator=generator) < 0.5
    for size, chosen in ((3, ~large), (BLUR, large)):
        images = apply_(partial(median, size=size), images, chosen.nonzero()[:, 0])
    return images


def gaussian_noise(images: Tensor, generator: torch.Generator, low: float = 5, high: float = 30) -> Tensor:
    """Add normal noise to every value, its variance `low` to `high` squared levels of 255; drawn on the device."""
    sigma = uniform(images, generator, low, high).sqrt() / 255
    seed = int(torch.randint(2**62, (), generator=generator))
    there = torch.Generator(images.device).manual_seed(seed)
    return images + sigma * torch.randn(images.shape, generator=there, device=images.device)


def cutout(images: Tensor, generator: torch.Generator, part: float = 0.375) -> Tensor:
    """Blacken a box of `part` of each side about a random pixel, cut off at the border (arXiv 1708.04552)."""
    inside = []
    for axis in (2, 3):
        size = images.shape[axis]
        place = torch.arange(size, device=images.device).view([-1 if a == axis else 1 for a in range(4)])
        first = uniform(images, generator, 0, size).floor() - int(part * size) // 2
        inside.append((place >= first) & (place < first + int(part * size)))
    return images.masked_fill(inside[0] & inside[1], 0)


PHOTOMETRIC: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "lighting": lighting,
    "brightness": brightness,
    "contrast": contrast,
    "motion_blur": motion_blur,
    "median_blur": median_blur,
    "gaussian_blur": gaussian_blur,
    "gaussian_noise": gaussian_noise,
    "clahe": clahe,
    "hsv": hsv,
    "cutout": cutout,
}

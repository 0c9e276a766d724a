"""Warp images: say where in the source each point of the result lies.

A warp takes and returns a grid, float B×2×H×W: a plane of x and one of y, −1..1 from border to border (grid_sample
wants them last, but a CPU is several times as fast in planes). So warps compose, and an image is resampled once for all
of its warps. Ranges and their sources: lesions/batches/augment.py.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from lesions.batches.per_image import mapped, uniform


def still(count: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return the grid that leaves images as they are: the centres of their pixels."""
    y, x = ((2 * torch.arange(size, device=device) + 1) / size - 1 for size in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).repeat(count, 1, 1, 1)


def turned(grid: Tensor, angle: Tensor) -> Tensor:
    """Turn the image clockwise by `angle` (radians, B×1×1×1); the aspect keeps right angles in pixels."""
    cos, sin, aspect = angle.cos(), angle.sin(), grid.shape[3] / grid.shape[2]
    return mapped(grid, torch.cat([cos, -sin * aspect, sin / aspect, cos], dim=-1).view(-1, 2, 2))


def rotate(grid: Tensor, generator: torch.Generator, limit: float) -> Tensor:
    """Turn by up to ±limit degrees."""
    return turned(grid, uniform(grid, generator, -math.radians(limit), math.radians(limit)))


def zoom(grid: Tensor, generator: torch.Generator, limit: float) -> Tensor:
    """Zoom into any region of the image, 1 to `limit` times as large."""
    scale = uniform(grid, generator, 1, limit)
    region = torch.cat([uniform(grid, generator, -1, 1) for _ in range(2)], dim=1)
    return grid / scale + region * (1 - 1 / scale)


def shift_scale_rotate(
    grid: Tensor, generator: torch.Generator, shift: float = 0.1, scale: float = 0.1, rotation: float = 15
) -> Tensor:
    """Turn by ±rotation degrees and enlarge by 1 ± scale about the centre, then move by ±shift of each side."""
    angle = uniform(grid, generator, -math.radians(rotation), math.radians(rotation))
    factor = uniform(grid, generator, 1 - scale, 1 + scale)
    moved = torch.cat([uniform(grid, generator, -2 * shift, 2 * shift) for _ in range(2)], dim=1)
    return turned(grid - moved, angle) / factor


def bent(grid: Tensor, k: Tensor) -> Tensor:
    """Bend by OpenCV's lens model: a point at p (1 = a whole side) lies in the source at p (1 + k r² + k r⁴)."""
    square = (grid / 2).square().sum(dim=1, keepdim=True)
    return grid * (1 + k * square + k * square.square())


def optical(grid: Tensor, generator: torch.Generator, limit: float = 1.0) -> Tensor:
    """Distort as a lens with k in ±limit does: barrel or pincushion."""
    return bent(grid, uniform(grid, generator, -limit, limit))


def grid_distortion(grid: Tensor, generator: torch.Generator, cells: int = 5, limit: float = 1.0) -> Tensor:
    """Show in each of `cells` columns and rows a strip of the source 1 ± limit times as wide as itself."""
    widths = 1 + limit * (2 * torch.rand(len(grid), 2, cells, generator=generator) - 1)
    starts = widths.cumsum(dim=2) - widths
    place = (grid + 1) / 2 * cells
    cell = place.floor().clamp(0, cells - 1)
    index = cell.long().flatten(2)
    width, start = (x.to(grid.device, non_blocking=True).gather(2, index).view_as(grid) for x in (widths, starts))
    return (start + (place - cell) * width) / cells * 2 - 1


def elastic(
    grid: Tensor, generator: torch.Generator, affine: float = 50 / 512, field: float = 3 / 512, lattice: int = 8
) -> Tensor:
    """Move three corners of the middle by ±affine of a side, affinely, and all points by a smooth field of ±field.

    albumentations' ElasticTransform with the winners' alpha 3 and the default alpha_affine 50 and sigma 50, in pixels
    of 512. There the field is blurred noise, which at these values leaves hundredths of a pixel; here the points of a
    lattice move by up to alpha, bicubic in between (ours).
    """
    noise = 4 * torch.rand(len(grid), 3 + lattice**2, 2, generator=generator) - 2
    corners, points = noise.to(grid.device, non_blocking=True).split((3, lattice**2), dim=1)
    a, b, c = (affine * corners).unbind(dim=1)  # B×2 at (r, r), (r, −r), (−r, −r)
    matrix = torch.stack([b - c, a - b], dim=1) * 3 / 4  # in parts of 2 r, r = 2/3
    moves, places = (field * points).view(-1, lattice, lattice, 2).permute(0, 3, 1, 2), grid.permute(0, 2, 3, 1)
    smooth = functional.grid_sample(moves, places, mode="bicubic", padding_mode="reflection", align_corners=True)
    return mapped(grid, matrix).add_(grid).add_((a + c)[..., None, None] / 2).add_(smooth)


WARPS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "rotate180": partial(rotate, limit=180),  # study C, 4.1.2
    "rotate44": partial(rotate, limit=44),  # study D, II-B
    "rotate35": partial(rotate, limit=35),  # study D, III-B
    "zoom": partial(zoom, limit=1.3),  # study C, 4.1.2: up to 30 %, in different regions
    "zoom105": partial(zoom, limit=1.05),  # study D, II-B and III-B
    "optical": optical,
    "grid": grid_distortion,
    "elastic": elastic,
    "shift_scale_rotate": shift_scale_rotate,
}
BLACK = ("shift_scale_rotate",)  # what it brings in from outside is black, as the winners have it; else the reflection

"""Draw for each image of a batch alone, and change some of them."""

from collections.abc import Callable

import torch
from torch import Tensor


def uniform(like: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    """Draw a value for each image: float B×1×1×1 on the device of `like` (B×…)."""
    values = low + (high - low) * torch.rand(len(like), generator=generator)
    return values.to(like.device, non_blocking=True)[:, None, None, None]


def mapped(planes: Tensor, matrix: Tensor) -> Tensor:
    """Multiply B×K×H×W by the matrix of its image, or of all, B×K×C or 1×K×C: B×C×H×W. For a small K, where a CPU's bmm
    takes 2 to 9 times as long."""
    first, *others = planes.split(1, dim=1)
    row, *rows = matrix[..., None, None].unbind(dim=1)
    found = first * row
    for plane, row in zip(others, rows, strict=True):
        found.addcmul_(plane, row)
    return found


def selected(x: Tensor, index: Tensor) -> Tensor:
    """Return x[index] of B×C×H×W dense in memory, channels last too, where a CPU takes 2 to 20 times as long."""
    if x.is_contiguous():
        return x.index_select(0, index)
    return x.movedim(1, -1).index_select(0, index).movedim(-1, 1)


def apply_(function: Callable[[Tensor], Tensor], x: Tensor, index: Tensor) -> Tensor:
    """Put function(x[index]) in the place of x[index]; `x` itself is changed, unless all of it is replaced."""
    if len(index) == len(x):
        return function(x)
    if len(index) == 0:
        return x
    index = index.to(x.device, non_blocking=True)
    return x.index_copy_(0, index, function(selected(x, index)))

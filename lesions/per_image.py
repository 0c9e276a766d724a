"""What augmentation draws and does for each image of a batch alone."""

from collections.abc import Callable

import torch
from torch import Tensor


def uniform(like: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    """float B×1×1×1 on the device of `like` (B×…): a draw for each image."""
    values = low + (high - low) * torch.rand(len(like), generator=generator)
    return values.to(like.device, non_blocking=True)[:, None, None, None]


def applied(function: Callable[[Tensor], Tensor], x: Tensor, index: Tensor) -> Tensor:
    """`x` with function(x[index]) in the place of x[index]."""
    if len(index) == len(x):
        return function(x)
    if len(index) == 0:
        return x
    index = index.to(x.device, non_blocking=True)
    return x.index_copy(0, index, function(x[index]))

"""Augmentation on the batch, on the device, with parameters drawn for each image alone.

Geometric names turn images and masks alike; `lighting` changes images only. An unknown name is an error of params.yaml.
"""

import torch
from torch import Tensor

from lesions.errors import InputError

LIGHTING = 0.2  # brightness and contrast change by up to this part
GEOMETRIC = {
    "hflip": lambda x: x.flip(-1),
    "vflip": lambda x: x.flip(-2),
    "transpose": lambda x: x.transpose(-1, -2),
}


def chosen(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """bool B×1×1×1: a fair coin for each image."""
    return (torch.rand(count, generator=generator) < 0.5).to(device, non_blocking=True)[:, None, None, None]


def geometric(names: tuple[str, ...], batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """The same flips for the tensors of a batch, each B×C×H×W; hflip, vflip and transpose make the dihedral group."""
    first = batch[0]
    if "transpose" in names and first.shape[-1] != first.shape[-2]:
        raise InputError(f"params.yaml: augment: transpose needs square images, not {tuple(first.shape[-2:])}")
    for name in names:
        if name in GEOMETRIC:
            coin = chosen(len(first), generator, first.device)
            batch = tuple(torch.where(coin, GEOMETRIC[name](x), x) for x in batch)
    return batch


def lighting(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness and contrast of float B×3×H×W in 0..1, each changed by up to ±LIGHTING, image by image."""
    shift, scale = ((torch.rand(2, len(images), generator=generator) * 2 - 1) * LIGHTING).to(images.device)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    moved = (images - mean) * (1 + scale[:, None, None, None]) + mean * (1 + shift[:, None, None, None])
    return moved.clamp(0, 1)

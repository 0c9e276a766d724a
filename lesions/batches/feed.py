"""Bring images from arrays to the device as uint8, and normalise them there."""

import numpy as np
import torch
from torch import Tensor


class Feed:
    """A source of uint8 batches on the device: one or more arrays N×H×W×C, indexed as if they were one.

    On a GPU the arrays are moved there whole if they take at most half of its free memory; otherwise each batch is
    gathered from the memmap. The host never waits for the GPU here, nor in augmentation: so it stays a step ahead.
    """

    def __init__(self, arrays: list[np.ndarray], device: torch.device) -> None:
        self.arrays, self.device = [a for a in arrays if len(a)], device
        self.starts = np.cumsum([0, *(len(a) for a in self.arrays)])
        self.resident = None
        if device.type == "cuda":
            needed = sum(a.nbytes for a in self.arrays)
            if needed <= torch.cuda.mem_get_info(device)[0] / 2:
                parts = [torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in self.arrays]
                self.resident = torch.cat(parts) if len(parts) > 1 else parts[0]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def batch(self, index: np.ndarray) -> Tensor:
        """Return the images of int (B,), uint8 B×C×H×W (channels last in memory)."""
        if self.resident is not None:
            return self.resident[torch.from_numpy(index).to(self.device, non_blocking=True)].permute(0, 3, 1, 2)
        shape = (len(index), *self.arrays[0].shape[1:])
        found = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        for array, start in zip(self.arrays, self.starts, strict=False):
            here = (index >= start) & (index < start + len(array))
            found.numpy()[here] = array[index[here] - start]
        return found.to(self.device, non_blocking=True).permute(0, 3, 1, 2)


def unit(images: Tensor) -> Tensor:
    """Return uint8 as float in 0..1."""
    return images.float().div_(255)


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Bring float B×3×H×W in 0..1 to a network's `mean` and `std`, a value a channel each."""
    return (images - constant(mean, images)[:, None, None]) / constant(std, images)[:, None, None]


def constant(values: tuple, like: Tensor) -> Tensor:
    """Return float `values` on the device of `like`; the host does not wait for the transfer."""
    return torch.tensor(values).to(like.device, non_blocking=True)

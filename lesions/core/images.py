"""Resize small images that are already in an array, and draw masks beside them."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

Size = tuple[int, int]  # height, width
HIGH = 240  # pixels of a row of masks_beside, as far as whole steps bring it there


def squeezed(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize uint8 H×W×3 to `size`: bicubic with antialiasing."""
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def resized(images: np.ndarray, size: Size) -> np.ndarray:
    """Resize uint8 N×H×W×3 to `size`; return the same array if it has that size."""
    if images.shape[1:3] == tuple(size):
        return images
    return np.array([squeezed(image, size) for image in images], np.uint8).reshape(-1, *size, 3)


def masks_beside(rows: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Image.Image:
    """Draw rows of image uint8 H×W×3, true mask and predicted mask (bool H×W) side by side, white gaps between."""
    lines: list[np.ndarray] = []
    for image, *masks in rows:
        panels = [image, *(np.repeat(255 * mask[..., None], 3, axis=-1).astype(np.uint8) for mask in masks)]
        gap = np.full((image.shape[0], max(2, image.shape[0] // 40), 3), 255, np.uint8)
        line = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
        lines += [np.full((gap.shape[1], *line.shape[1:]), 255, np.uint8)] * bool(lines) + [line]
    found = Image.fromarray(np.concatenate(lines))
    scale = max(1, HIGH // line.shape[0])
    return found.resize((found.width * scale, found.height * scale), Image.Resampling.NEAREST)

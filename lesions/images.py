"""Small images already in an array: resized, and shown beside each other."""

import numpy as np
from PIL import Image

Size = tuple[int, int]  # height, width


def squeezed(image: np.ndarray, size: Size) -> np.ndarray:
    """uint8 H×W×3 at `size`: bicubic with antialiasing."""
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def resized(images: np.ndarray, size: Size) -> np.ndarray:
    """uint8 N×H×W×3 at `size`; the same array where that is its size."""
    if images.shape[1:3] == tuple(size):
        return images
    return np.array([squeezed(image, size) for image in images], np.uint8).reshape(-1, *size, 3)


def before_after(before: np.ndarray, after: np.ndarray, shown: int = 12) -> Image.Image:
    """`shown` images, evenly spread, in two rows, before above after; uint8 N×H×W×3 each, 96 pixels high at least."""
    rows = np.linspace(0, len(before) - 1, shown).astype(int)
    sheet = Image.fromarray(np.concatenate([np.concatenate(list(x[rows]), axis=1) for x in (before, after)], axis=0))
    scale = max(1, 96 // before.shape[1])
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.BICUBIC)

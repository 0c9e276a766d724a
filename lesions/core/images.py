"""Resize small images that are already in an array."""

import numpy as np
from PIL import Image

Size = tuple[int, int]  # height, width


def squeezed(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize uint8 H×W×3 to `size`: bicubic with antialiasing."""
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def resized(images: np.ndarray, size: Size) -> np.ndarray:
    """Resize uint8 N×H×W×3 to `size`; return the same array if it has that size."""
    if images.shape[1:3] == tuple(size):
        return images
    return np.array([squeezed(image, size) for image in images], np.uint8).reshape(-1, *size, 3)

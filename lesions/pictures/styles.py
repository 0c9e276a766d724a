"""Apply a lesion's mask: take the colour from its surroundings, or cut them away."""

from collections.abc import Callable

import numpy as np

from lesions.core.images import squeezed

FLAT = 128
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's mode L


def grey_outside(image: np.ndarray, mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Keep colour inside the mask, put luma outside (study C, section 4.1). uint8 H×W×3; mask uint8 H×W of 0 and 1."""
    grey = np.rint(image @ GREY).astype(np.uint8)[..., None]
    return np.where(mask[..., None] > 0, image, grey) if mask.any() else image


def flat_outside(image: np.ndarray, mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Keep colour inside the mask, put 128 outside."""
    return np.where(mask[..., None] > 0, image, np.uint8(FLAT)) if mask.any() else image


def crop(image: np.ndarray, mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Squeeze the box (top, left, bottom, right; ends exclusive) to the image's size (study D, CropBest)."""
    top, left, bottom, right = box
    return squeezed(image[top:bottom, left:right], image.shape[:2])


STYLES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "grey": grey_outside,
    "flat": flat_outside,
    "crop": crop,
}

"""Estimate the light's colour and take it out (colour constancy), so that skin looks as under white light.

The illuminant e has unit length and gives gains 1 / (√3 e_c) (study C, section 3.2): 1 for grey. It is estimated on the
pixels that are neither saturated nor black border, since both tell nothing of the light. Results are rounded and
clipped to uint8. A uint8 channel has 256 levels: the estimate comes from its histogram, and the correction is a table.
The stage works on resized images: that hardly changes the means, and takes a hundredth of the work.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

SATURATED = 254  # a channel at this level or above may have been cut off
BLACK = 12  # a border pixel is below this in all channels
LEVELS = np.arange(256)


def histogram(image: np.ndarray) -> np.ndarray:
    """Count the pixels of each level in each channel, int64 3×256, of uint8 H×W×3: those that tell of the light, or all
    if none do."""
    red, green, blue = np.moveaxis(image, -1, 0)
    brightest = np.maximum(np.maximum(red, green), blue)
    telling = (brightest >= BLACK) & (brightest < SATURATED)
    chosen = Image.fromarray(telling.view(np.uint8)) if telling.any() else None
    return np.reshape(Image.fromarray(image).histogram(chosen), (3, 256))


def shades_of_gray(image: np.ndarray, p: float) -> np.ndarray:
    """Return the illuminant as the Minkowski p-mean of each channel, unit length, float64 (3,). p = 1 is gray world."""
    counts = histogram(image)
    return normalised((counts @ (LEVELS / 255) ** p / counts[0].sum()) ** (1 / p))


def max_rgb(image: np.ndarray) -> np.ndarray:
    """Return the illuminant as each channel's maximum (p → ∞), unit length, float64 (3,)."""
    return normalised(np.where(histogram(image), LEVELS, 0).max(axis=1) / 255)


def normalised(illuminant: np.ndarray) -> np.ndarray:
    illuminant = np.maximum(illuminant, 1e-6)  # a channel without any light: black stays black
    return illuminant / np.linalg.norm(illuminant)


def corrected(image: np.ndarray, illuminant: np.ndarray) -> np.ndarray:
    """Return the image as under white light, uint8 H×W×3, by one 256-entry table a channel. Black stays black."""
    gains = 1 / (np.sqrt(3) * illuminant)
    tables = np.clip(np.rint(LEVELS * gains[:, None]), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(image).point(tables.ravel().tolist()))


def ben_graham(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return 4 (I − G_σ * I) + 128, uint8 H×W×3; σ is a part of the image's height (study C: 0.1)."""
    values = image.astype(np.float64)
    width = sigma * image.shape[0]
    blurred = ndimage.gaussian_filter(values, sigma=(width, width, 0), mode="reflect")
    return np.clip(np.rint(4 * (values - blurred) + 128), 0, 255).astype(np.uint8)


def method(name: str, setting) -> Callable[[np.ndarray], np.ndarray]:
    """Return the named method, a function from uint8 H×W×3 to the same; `setting` is its section of params.yaml."""
    return {
        "max_rgb": lambda image: corrected(image, max_rgb(image)),
        "gray_world": lambda image: corrected(image, shades_of_gray(image, 1)),
        "shades_of_gray": lambda image: corrected(image, shades_of_gray(image, setting.p)),
        "ben_graham": lambda image: ben_graham(image, setting.sigma),
    }[name]

"""Say how far a picture lies from those that a classifier has learnt on: a Mahalanobis distance.

A photograph of something else, a screenshot or a black picture gets probabilities as any other; its features lie far
out (Lee et al., 2018). They are brought to few coordinates first: the leading principal components, and the norm of
what they leave over. A network that has learnt skin is blind to much else, so the picture's own colours, contrast and
grain stand beside them: the sky over a pagoda is not what skin looks like (docs/results/real.md has what each finds).
Whoever measures needs NumPy alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from sklearn.covariance import LedoitWolf

from lesions.core.files import replacing

VARIANCE = 0.99  # that the components make
MOST = 128  # components
LOOKED_AT = 5000  # training images
NUMBERS = 400_000  # of the components, two bytes each: the file stays below a megabyte
SHARE = 0.99  # of the validation part's pictures that are familiar
OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]], np.float32).T / 3 / 255  # lightness, red-green, yellow-blue
CELLS = 4  # a side, whose mean colours count
TOGETHER = 256  # images


@dataclass(frozen=True)
class Familiarity:
    """mean float32 (F,), components float16 (K, F); of the K + 1 + 54 coordinates: scale, center, precision float32."""

    mean: np.ndarray
    components: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    precision: np.ndarray

    def distance(self, features: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Return float (N,) of features (N, F) and images uint8 N×H×W×3: 0 at the centre of the training images, about
        the root of the number of coordinates among them."""
        off = coordinates(features, images, self.mean, self.components) / self.scale - self.center
        return np.sqrt(np.einsum("nk,kl,nl->n", off, self.precision.astype(float), off, optimize=True))

    def save(self, path: Path) -> None:
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})


def surface(images: np.ndarray) -> np.ndarray:
    """Return float32 (N, 54) of uint8 N×H×W×3: opponent colours' mean in 4×4 cells, and the logarithms of their
    standard deviation (contrast) and of their mean step from row to row (grain)."""
    colours = images.astype(np.float32) @ OPPONENT
    rows, columns = (side // CELLS for side in colours.shape[1:3])
    cells = colours[:, : rows * CELLS, : columns * CELLS].reshape(-1, CELLS, rows, CELLS, columns, 3).mean(axis=(2, 4))
    contrast, grain = colours.std(axis=(1, 2)), np.abs(np.diff(colours, axis=1)).mean(axis=(1, 2))
    return np.concatenate([cells.reshape(len(cells), -1), np.log(contrast + 0.01), np.log(grain + 0.001)], axis=1)


def coordinates(features: np.ndarray, images: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Return float (N, K + 1 + 54): features (N, F) along the components (K, F), the norm of what is left over, and the
    surface of the images."""
    centred, axes = features.astype(float) - mean, components.astype(float)
    along = centred @ axes.T
    left = np.linalg.norm(centred - along @ axes, axis=1, keepdims=True)
    seen = [surface(images[start : start + TOGETHER]) for start in range(0, len(images), TOGETHER)]
    return np.concatenate([along, left, np.concatenate(seen)], axis=1)


def fit(features: np.ndarray, images: np.ndarray) -> Familiarity:
    """Fit to training images uint8 N×H×W×3 and features (N, F), its covariance shrunk as by Ledoit and Wolf."""
    mean = features.mean(axis=0, dtype=float).astype(np.float32)
    centred = features.astype(float) - mean
    _, deviations, axes = np.linalg.svd(centred, full_matrices=False)
    shares = np.cumsum(deviations**2)
    enough = int(np.searchsorted(shares, VARIANCE * shares[-1])) + 1
    count = min(enough, MOST, NUMBERS // features.shape[1])
    components = axes[:count].astype(np.float16)
    found = coordinates(features, images, mean, components)
    scale = np.maximum(found.std(axis=0), 1e-6).astype(np.float32)
    shrunk = LedoitWolf().fit(found / scale)
    return Familiarity(
        mean, components, scale, shrunk.location_.astype(np.float32), shrunk.precision_.astype(np.float32)
    )


def learnt(
    features: Callable[[np.ndarray], np.ndarray], images: np.ndarray, rows: dict[str, np.ndarray]
) -> tuple[Familiarity, float]:
    """Fit to the training images and return, too, the distance up to which a picture is familiar: the validation part's
    ninety-ninth percentile.

    features: rows (n,) of `images`, uint8 N×H×W×3, -> (n, F). rows: those of train, of which 5,000 are looked at,
    spread evenly, and val.
    """
    train, val = rows["train"][:: -(-len(rows["train"]) // LOOKED_AT)], rows["val"]
    known = fit(features(train), images[train])
    return known, float(np.quantile(known.distance(features(val), images[val]), SHARE))

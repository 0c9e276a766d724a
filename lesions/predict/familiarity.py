"""Say how far a picture lies from those that a classifier has learnt on: Mahalanobis distance of its features.

A photograph of something else, a screenshot or a black picture gets probabilities as any other; its features lie far
out (Lee et al., 2018). Features are brought to few coordinates first: the leading principal components, and the norm
of what they leave over. Whoever measures needs NumPy alone.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from lesions.core.errors import InputError
from lesions.core.files import replacing

VARIANCE = 0.99  # that the components make
MOST = 128  # components
NUMBERS = 400_000  # of the components, two bytes each: the file stays below a megabyte
SHARE = 0.99  # of the validation part's pictures that are familiar


@dataclass(frozen=True)
class Familiarity:
    """mean float32 (F,), components float16 (K, F), center float32 (K + 1,), precision float32 (K + 1, K + 1)."""

    mean: np.ndarray
    components: np.ndarray
    center: np.ndarray
    precision: np.ndarray

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return float (N,) of features (N, F): 0 at the centre of the training images, about √K among them."""
        off = coordinates(features, self.mean, self.components) - self.center
        return np.sqrt(np.einsum("nk,kl,nl->n", off, self.precision.astype(float), off, optimize=True))

    def save(self, path: Path) -> None:
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})


def coordinates(features: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Return float (N, K + 1): features (N, F) along the components (K, F), and the norm of what is left over."""
    centred, axes = features.astype(float) - mean, components.astype(float)
    along = centred @ axes.T
    left = np.linalg.norm(centred - along @ axes, axis=1, keepdims=True)
    return np.concatenate([along, left], axis=1)


def fit(features: np.ndarray) -> Familiarity:
    """Fit to the features (N, F) of training images. Its covariance is shrunk as Ledoit and Wolf do."""
    from sklearn.covariance import LedoitWolf  # here: serving does without

    mean = features.mean(axis=0, dtype=float).astype(np.float32)
    centred = features.astype(float) - mean
    _, deviations, axes = np.linalg.svd(centred, full_matrices=False)
    shares = np.cumsum(deviations**2)
    enough = int(np.searchsorted(shares, VARIANCE * shares[-1])) + 1
    count = min(enough, MOST, NUMBERS // features.shape[1])
    components = axes[:count].astype(np.float16)
    found = LedoitWolf().fit(coordinates(features, mean, components))
    return Familiarity(mean, components, found.location_.astype(np.float32), found.precision_.astype(np.float32))


def threshold(distances: np.ndarray) -> float:
    """Return the distance up to which a picture is familiar, from the validation part's distances (N,)."""
    return float(np.quantile(distances, SHARE))


def load(path: Path) -> Familiarity:
    """Read what `save` wrote; nothing is unpickled. Raises InputError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return Familiarity(**{field.name: file[field.name] for field in fields(Familiarity)})
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path}: not a familiarity.npz ({error}); run python -m stages.export") from None

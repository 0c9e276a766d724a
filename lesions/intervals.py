"""Confidence intervals: the normal approximation that study A prints, and the bootstrap over whole lesions.

Images of one lesion are alike, so that they are drawn together or not at all: an interval over single images would
be too narrow.
"""

from statistics import NormalDist

import numpy as np

RESAMPLES = 1000
CHUNK = 100  # resamples at a time: bounds the memory to CHUNK × lesions counts


def normal(share: float, count: int, confidence: float) -> tuple[float, float]:
    """share ± z·sqrt(share·(1 − share) / count), kept within 0 and 1."""
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * np.sqrt(share * (1 - share) / count)
    return float(max(0.0, share - half)), float(min(1.0, share + half))


def resample(values: np.ndarray, groups: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """float (resamples, K): column sums of float (N, K) over bootstrap samples of whole groups (N labels).

    Each resample draws as many groups as there are, with replacement. The same groups and seed give the same
    draws whatever the values, so that two classifiers on the same images are compared pair by pair.
    """
    names, index = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, index, values)
    rng, even = np.random.default_rng(seed), np.full(len(names), 1 / len(names))
    parts = []
    for start in range(0, resamples, CHUNK):
        drawn = rng.multinomial(len(names), even, size=min(CHUNK, resamples - start))
        parts.append(drawn @ sums)
    return np.concatenate(parts)


def percentile(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The middle `confidence` of the resampled values; those that do not exist (no image of a class) are left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)

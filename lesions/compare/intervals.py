"""Compute confidence intervals: normal (study A's), bootstrapped over lesions or over seeds, Student's t over seeds.

Images of one lesion are alike, so that they are drawn together or not at all: an interval over single images would
be too narrow.
"""

from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy import stats

RESAMPLES = 1000
FEWEST = 3  # seeds, below which nothing is said of others
CHUNK = 100  # resamples at a time: bounds the memory to CHUNK × lesions counts


def normal(share: float, count: int, confidence: float) -> tuple[float, float]:
    """Return share ± z·sqrt(share·(1 − share) / count), kept within 0 and 1."""
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * np.sqrt(share * (1 - share) / count)
    return float(max(0.0, share - half)), float(min(1.0, share + half))


def student(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the mean of float (n,), one value a seed, ± t(n − 1)·std/√n; nan for fewer than FEWEST.

    It says where the mean over seeds lies, for the same images: not what other images would give.
    """
    if len(values) < FEWEST:
        return np.nan, np.nan
    half = stats.sem(values) * stats.t.ppf(0.5 + confidence / 2, len(values) - 1)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def over_seeds(values: np.ndarray, statistic: Callable[..., np.ndarray], confidence: float) -> tuple[float, float]:
    """Bootstrap statistic(float (n,), axis), one value a seed, by percentiles; nan for fewer than FEWEST.

    A resample of few seeds has fewer different values than they have: a deviation comes out a little small.
    """
    if len(values) < FEWEST:
        return np.nan, np.nan
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return percentile(statistic(values[drawn], axis=-1), confidence)


def around(value: float | np.floating | np.ndarray, drawn: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """Return the value and the percentile interval of its resampled ones."""
    return float(value), *percentile(drawn, confidence)


def draws(count: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield int (≤ CHUNK, count) until there are `resamples` rows: how often each of `count` groups is drawn.

    Each resample draws as many groups as there are, with replacement. The same count gives the same draws, so that
    two classifiers on the same images are compared pair by pair.
    """
    rng, even = np.random.default_rng(0), np.full(count, 1 / count)
    for start in range(0, resamples, CHUNK):
        yield rng.multinomial(count, even, size=min(CHUNK, resamples - start))


def resample(values: np.ndarray, groups: np.ndarray, resamples: int | None = None) -> np.ndarray:
    """Return float (resamples or RESAMPLES, K): column sums of float (N, K) over bootstrap samples of whole groups."""
    sums = pd.DataFrame(values).groupby(groups).sum().to_numpy()
    return np.concatenate([drawn @ sums for drawn in draws(len(sums), resamples or RESAMPLES)])


def percentile(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the middle `confidence` of resampled values; those that are not there (no image of a class) left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)

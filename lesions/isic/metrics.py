"""Score classifiers and masks as the official scorer does (tests/test_metrics.py compares the two)."""

import numpy as np

TIE = -1


def predicted(probabilities: np.ndarray) -> np.ndarray:
    """Return the likeliest class, int (N,), of float (N, C); TIE for a tie, which the official scorer counts wrong."""
    best = probabilities.max(axis=1, keepdims=True)
    tie = (probabilities == best).sum(axis=1) != 1
    return np.where(tie, TIE, probabilities.argmax(axis=1))


def accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    return float(np.mean(truth == guess))


def balanced_accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    """Return BMA: the mean over classes of correct_c / n_c (study A, formula 4.2.1, printed upside down there).

    Classes without an image are left out.
    """
    return float(np.mean([np.mean(guess[truth == c] == c) for c in np.unique(truth)]))


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean cross-entropy in nats; probabilities (N, C) below 1e-7 count as 1e-7."""
    return float(-np.log(np.clip(probabilities[np.arange(len(truth)), truth], 1e-7, 1)).mean())


def classification(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return loss, accuracy and bma of true classes int (N,) and probabilities float (N, C)."""
    guess = predicted(probabilities)
    return {
        "loss": log_loss(truth, probabilities),
        "accuracy": accuracy(truth, guess),
        "bma": balanced_accuracy(truth, guess),
    }


def aucs(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return float (R,): the area under the ROC curve of bool (N,) by float (N,); image i counts weights[i, r] times.

    The share of pairs, one positive and one negative, in which the positive scores higher; a tie counts half.
    """
    negative = np.flatnonzero(~positive)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    below = np.concatenate([np.zeros_like(weights[:1]), np.cumsum(weights[negative], axis=0, dtype=weights.dtype)])
    left, right = (np.searchsorted(scores[negative], scores[positive], side) for side in ("left", "right"))
    won = (weights[positive] * (below[left] + below[right])).sum(axis=0) / 2
    return ratio(won, weights[positive].sum(axis=0) * below[-1].astype(float), np.nan)


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve of bool (N,) by float (N,), where every image counts once.

    It equals scikit-learn's, whose import would take much of the time of a short stage.
    """
    return float(aucs(positive, scores, np.ones((len(scores), 1), int))[0])


def roc(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ROC curve of bool (N,) by float (N,): false and true positive rates, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)  # the last of equal scores
    true, false = (np.append(0, np.cumsum(of[order])[ends]) for of in (positive, ~positive))
    return false / false[-1], true / true[-1]


def ratio(above: np.ndarray, below: np.ndarray, empty: float) -> np.ndarray:
    """Return above / below, and `empty` where below is 0."""
    return np.where(below > 0, above / np.maximum(below, 1e-300), empty)


def jaccard(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Return the Jaccard index of each image (study A, formula 4.2.2); 1 for two empty masks."""
    return ratio(intersection, union, 1.0)


def thresholded(jaccards: np.ndarray, threshold: float = 0.65) -> np.ndarray:
    """Return `jaccards` with 0 for those below the threshold: ISIC 2018 Task 1 ranks by their mean."""
    return np.where(jaccards >= threshold, jaccards, 0.0)


def dice(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    return ratio(2 * intersection, intersection + union, 1.0)  # below: |A| + |B|

"""Scores of classifiers and masks, equal to the official scorer's (tests/test_metrics.py holds them to it)."""

import numpy as np

TIE = -1


def predicted(probabilities: np.ndarray) -> np.ndarray:
    """int (N,): the class of the highest probability of float (N, C); a tie is no class (TIE), as officially scored."""
    best = probabilities.max(axis=1, keepdims=True)
    tie = (probabilities == best).sum(axis=1) != 1
    return np.where(tie, TIE, probabilities.argmax(axis=1))


def accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    return float(np.mean(truth == guess))


def balanced_accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    """BMA: the mean over classes of correct_c / n_c (study A, formula 4.2.1, printed upside down there).

    Classes without an image are left out.
    """
    return float(np.mean([np.mean(guess[truth == c] == c) for c in np.unique(truth)]))


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean cross-entropy in nats; probabilities (N, C) are kept off 0 by 1e-7."""
    return float(-np.log(np.clip(probabilities[np.arange(len(truth)), truth], 1e-7, 1)).mean())


def classification(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """loss, accuracy and bma of int (N,) against float (N, C)."""
    guess = predicted(probabilities)
    return {
        "loss": log_loss(truth, probabilities),
        "accuracy": accuracy(truth, guess),
        "bma": balanced_accuracy(truth, guess),
    }


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve of bool (N,) by float (N,): pairs that are ranked right, a tie counts half.

    As scikit-learn's, without its import, which takes longer than a stage of the sample has to spare.
    """
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[index]
    found = positive.sum()
    return float((ranks[positive].sum() - found * (found + 1) / 2) / (found * (len(positive) - found)))


def roc(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ROC curve of bool (N,) by float (N,): false and true positive rates, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)  # the last of equal scores
    true, false = (np.append(0, np.cumsum(of[order])[ends]) for of in (positive, ~positive))
    return false / false[-1], true / true[-1]


def jaccard(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Formula 4.2.2 of study A, image by image; two empty masks agree wholly."""
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


def thresholded(jaccards: np.ndarray, threshold: float = 0.65) -> np.ndarray:
    """The ranking score of ISIC 2018 Task 1: an image below the threshold counts 0."""
    return np.where(jaccards >= threshold, jaccards, 0.0)


def dice(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    total = intersection + union  # = |A| + |B|
    return np.where(total > 0, 2 * intersection / np.maximum(total, 1), 1.0)

"""Calibrate probabilities on the validation part, and say how far they can be trusted.

Two outputs come of one network. The calibrated one says how likely each class is where classes are as frequent as in
validation: it is what people are shown. The balanced one divides by those shares, as if every class were as frequent:
its likeliest class is what the balanced accuracy (BMA) rewards.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from lesions.isic import metrics

SMALLEST = 1e-7  # of a probability, before its logarithm
BINS = 15  # of equal width, for the expected calibration error (Guo et al., 2017)


@dataclass(frozen=True)
class Calibration:
    """What makes probabilities (N, C) calibrated: softmax(log p / temperature + bias). shares: validation's of classes.

    The bias makes good that training drew some classes more often than they are (bias-corrected temperature scaling,
    Alexandari et al., 2020).
    """

    temperature: float
    bias: np.ndarray
    shares: np.ndarray

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        return softmax(_logs(probabilities) / self.temperature + self.bias, axis=1)

    def balanced(self, probabilities: np.ndarray) -> np.ndarray:
        found = self.calibrated(probabilities) / self.shares
        return found / found.sum(axis=1, keepdims=True)


def _logs(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.clip(np.asarray(probabilities, float), SMALLEST, 1))


def fit(truth: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """Fit to true classes int (N,) and probabilities float (N, C) by maximum likelihood; each class needs an image.

    Each bias has a normal prior of variance 1, so that a class of few images does not run away.
    """
    logs, count = _logs(probabilities), probabilities.shape[1]
    hot = np.eye(count)[truth]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        slope, bias = np.exp(values[0]), values[1:]
        found = log_softmax(slope * logs + bias, axis=1)
        wrong = (np.exp(found) - hot) / len(truth)
        value = -(hot * found).sum() / len(truth) + (bias**2).sum() / 2 / len(truth)
        return value, np.append(slope * (wrong * logs).sum(), wrong.sum(axis=0) + bias / len(truth))

    best = minimize(loss, np.zeros(1 + count), jac=True, method="L-BFGS-B").x
    return Calibration(float(np.exp(-best[0])), best[1:], hot.mean(axis=0))


def reliability(truth: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return confidence, accuracy, images: a line for each bin of the likeliest class's probability that has images."""
    confidence, right = probabilities.max(axis=1), metrics.predicted(probabilities) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    table = pd.DataFrame({"confidence": confidence, "accuracy": right.astype(float), "images": 1})
    grouped = table.groupby(bins)
    return grouped.mean().assign(images=grouped["images"].sum()).reset_index(drop=True)


def ece(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the expected calibration error: the mean over images of |confidence − accuracy| of their bin."""
    table = reliability(truth, probabilities)
    return float(np.average((table["confidence"] - table["accuracy"]).abs(), weights=table["images"]))


def risk_coverage(truth: np.ndarray, probabilities: np.ndarray, points: int = 50) -> pd.DataFrame:
    """Return coverage, risk: the share of errors among the share of images whose likeliest class is surest."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    wrong = np.cumsum(metrics.predicted(probabilities)[order] != truth[order])
    kept = np.unique(np.ceil(np.linspace(1 / points, 1, points) * len(truth)).astype(int))
    return pd.DataFrame({"coverage": kept / len(truth), "risk": wrong[kept - 1] / kept})

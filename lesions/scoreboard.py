"""Our scores with their intervals, from predictions alone: rows that lesions.scorecard joins to what was published.

A row has the keys study, table, run and metric, by which published/numbers.csv knows the same number.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lesions import intervals, metrics
from lesions.errors import InputError
from lesions.files import read_csv

KEYS = ["study", "table", "run", "metric"]
COLUMNS = [*KEYS, "ours", "low", "high", "n", "reason"]
HEADLINE = "bma"  # the checkpoint of study A's Tables 6.1 to 6.5, and of studies D and E, which name none
FIVE_EIGHTHS = 5 / 8  # study A, 5.3: from the BMA of five classes to that of eight
RUNS = 10  # study C: seeds of each configuration


@dataclass(frozen=True)
class Tested:
    """The test part of a run under one checkpoint: int (N,), float (N, C), and the lesion of each image."""

    classes: tuple[str, ...]
    images: np.ndarray
    lesions: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray

    @property
    def guess(self) -> np.ndarray:
        return metrics.predicted(self.probabilities)

    def cells(self) -> np.ndarray:
        """float (N, C·(C+1)): which cell of the confusion matrix an image falls into; the last column is for ties."""
        count = len(self.classes)
        guess = np.where(self.guess == metrics.TIE, count, self.guess)
        return np.eye(count * (count + 1))[self.truth * (count + 1) + guess]

    def confusion(self) -> np.ndarray:
        """int (C, C+1): true class by predicted one; the last column counts ties."""
        return self.cells().sum(axis=0).astype(int).reshape(len(self.classes), -1)

    def resampled(self) -> tuple[np.ndarray, np.ndarray]:
        """Bootstrap by lesion: confusion matrices (resamples, C, C+1) and mean losses (resamples,)."""
        truth = self.probabilities[np.arange(len(self.truth)), self.truth]
        losses = -np.log(np.clip(truth, 1e-7, 1))  # as metrics.log_loss
        drawn = intervals.resample(np.column_stack([self.cells(), losses]), self.lesions)
        matrices = drawn[:, :-1].reshape(len(drawn), len(self.classes), -1)
        return matrices, drawn[:, -1] / matrices.sum(axis=(1, 2))


def read_runs(
    path: Path, lesions: pd.Series, stage: str, classes: tuple[str, ...] | None = None, split: str = "test"
) -> dict[tuple[int, str], Tested]:
    """One part of a prediction file by seed and checkpoint. `lesions`: image -> lesion; `stage`: what writes the file.

    `classes`: which must be there, in this order; None: those of the header.
    """
    table = read_csv(path, ["image", "split", "seed", "checkpoint", "label"], stage)
    classes = classes or tuple(c.removeprefix("p_") for c in table if c.startswith("p_"))
    names = [f"p_{c}" for c in classes]
    for name in sorted(set(names) - set(table)):
        raise InputError(f"{path}: no column {name}; run python -m {stage}")
    table = table[table["split"] == split]
    if table.empty:
        raise InputError(f"{path}: no {split} images; run python -m {stage}")
    truth = table["label"].map({c: i for i, c in enumerate(classes)})
    lesion = table["image"].map(lesions)
    probabilities = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    for wrong, what in (
        (truth.isna(), f"has a label outside {', '.join(classes)}"),
        (lesion.isna(), "is not in the sorted table"),
        (~np.isfinite(probabilities).all(axis=1), "has no probabilities"),
        (table.duplicated(["image", "seed", "checkpoint"]), "stands twice under a checkpoint"),
    ):
        for image in table["image"][np.asarray(wrong)]:
            raise InputError(f"{path}: {image} {what}; run python -m {stage} again")
    of = [s.to_numpy() for s in (table["image"], lesion, truth.astype(int))]
    groups = table.groupby(["seed", "checkpoint"], sort=False).indices
    return {run: Tested(classes, *(s[rows] for s in of), probabilities[rows]) for run, rows in groups.items()}


def read_tested(
    path: Path, classes: tuple[str, ...] | None, lesions: pd.Series, stage: str, split: str = "test"
) -> dict[str, Tested]:
    """As read_runs, by checkpoint alone; of several seeds, the first."""
    runs = read_runs(path, lesions, stage, classes, split)
    first = next(iter(runs))[0]
    return {checkpoint: tested for (seed, checkpoint), tested in runs.items() if seed == first}


def of_checkpoint(found: dict[str, Tested], checkpoint: str, path: Path) -> Tested:
    if checkpoint not in found:
        raise InputError(f"{path}: no checkpoint {checkpoint}; there is {', '.join(found)}")
    return found[checkpoint]


def on_same_images(members: list[Tested], where: str) -> None:
    """Raises InputError unless all are of the same images and classes, in one order. `where`: begins the message."""
    for other in members[1:]:
        if other.classes != members[0].classes or not np.array_equal(other.images, members[0].images):
            raise InputError(f"{where}: predictions of different test images or classes; run their stages again")


def ensemble(members: list[Tested]) -> Tested:
    """The mean of the members' probabilities, on the same images (study D: SnapEnsemble, KFoldCrop)."""
    on_same_images(members, "ensemble")
    return replace(members[0], probabilities=np.mean([m.probabilities for m in members], axis=0))


def ratio(above: np.ndarray, below: np.ndarray, empty: float) -> np.ndarray:
    return np.where(below > 0, above / np.maximum(below, 1e-300), empty)


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Of confusion matrices (…, C, C+1), as all that follows."""
    return np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum(axis=(-2, -1))


def balanced_accuracy(matrix: np.ndarray) -> np.ndarray:
    """BMA; classes without an image anywhere are left out, and nan where one matrix of several lacks a class."""
    recall = ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), np.nan)
    seen = ~np.isnan(recall).reshape(-1, recall.shape[-1]).all(axis=0)
    return recall[..., seen].mean(axis=-1)


def report(matrix: np.ndarray, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """scikit-learn's classification report: '<class|macro|weighted> <precision|recall|f1>' and accuracy; 0 for 0/0."""
    hits, support = np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1)
    called = matrix[..., : len(classes)].sum(axis=-2)
    share, found = support / support.sum(axis=-1, keepdims=True), {}
    scores = {"precision": (hits, called), "recall": (hits, support), "f1": (2 * hits, support + called)}
    for name, (above, below) in scores.items():
        score = ratio(above, below, 0.0)
        found |= {f"{c} {name}": score[..., i] for i, c in enumerate(classes)}
        found |= {f"macro {name}": score.mean(axis=-1), f"weighted {name}": (share * score).sum(axis=-1)}
    return found | {"accuracy": accuracy(matrix)}


def shuffled(matrix: np.ndarray) -> np.ndarray:
    """What the same predictions give, on average, beside labels in a random order: study B's report."""
    return matrix.sum(axis=1, keepdims=True) * matrix.sum(axis=0, keepdims=True) / matrix.sum()


def auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float (R,): the area under the ROC curve of bool (N,) by float (N,), where image i counts weights[i, r] times.

    The share of pairs, one positive and one negative, in which the positive scores higher; a tie counts half.
    """
    negative = np.flatnonzero(~positive)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    below = np.concatenate([np.zeros_like(weights[:1]), np.cumsum(weights[negative], axis=0, dtype=weights.dtype)])
    left, right = (np.searchsorted(scores[negative], scores[positive], side) for side in ("left", "right"))
    won = (weights[positive] * (below[left] + below[right])).sum(axis=0) / 2
    return ratio(won, weights[positive].sum(axis=0) * below[-1].astype(float), np.nan)


def macro_auc(tested: Tested, weights: np.ndarray | None = None) -> np.ndarray:
    """float (R,): the mean over classes of each against the rest. `weights`: int (N, R); None: every image once.

    Classes that no image has, or all have, are left out; nan where resampled weights leave one of the others empty.
    """
    weights = np.ones((len(tested.truth), 1), int) if weights is None else weights
    present = [c for c in range(len(tested.classes)) if 0 < (tested.truth == c).mean() < 1]
    areas = [auc(tested.truth == c, tested.probabilities[:, c], weights) for c in present]
    return np.mean(areas, axis=0) if areas else np.full(weights.shape[1], np.nan)


def melanoma_auc(tested: Tested) -> float:
    """Study C's AUROC: melanoma against the rest, by its probability."""
    melanoma = tested.classes.index("MEL")
    scores = tested.probabilities[:, melanoma]
    return float(auc(tested.truth == melanoma, scores, np.ones((len(scores), 1), int))[0])


def share_right(tested: Tested) -> float:
    return metrics.accuracy(tested.truth, tested.guess)


def resampled_auc(tested: Tested) -> np.ndarray:
    """float (resamples,): macro_auc over bootstrap samples of whole lesions, the draws of intervals.resample."""
    names, index = np.unique(tested.lesions, return_inverse=True)
    chunks = intervals.draws(len(names), intervals.RESAMPLES)
    return np.concatenate([macro_auc(tested, drawn.T[index].astype(np.int32)) for drawn in chunks])


def over_seeds(values: np.ndarray, confidence: float) -> dict[str, tuple[float, ...]]:
    """Study C's columns, of float (n,) in 0..1, one value a seed: mean with its t interval, std, quartiles and maximum.

    Std and quartiles are bootstrapped over the seeds. The maximum has no interval: a resample's is never above it.

    As pandas.describe, whose column names the paper prints: n − 1 below the std (the printed ones fit no other, their
    accuracies being multiples of 1/150), quartiles interpolated linearly.
    """
    found = {"mean": (np.mean(values), *np.clip(intervals.student(values, confidence), 0, 1))}
    others = {f"q{q}": partial(np.quantile, q=q / 100) for q in (25, 50, 75)}
    if len(values) > 1:
        others = {"std": partial(np.std, ddof=1)} | others
    for name, statistic in others.items():
        found[name] = (statistic(values), *intervals.over_seeds(values, statistic, confidence))
    return found | {"max": (np.max(values),)}


def scored(
    study: str, table: str, run: str, n: int, scores: dict[str, tuple[float, ...]], reason: str = ""
) -> list[dict]:
    """Rows for the scorecard. `scores`: metric -> (value, low, high) or (value,); `reason`: why none compares."""
    full = {m: (*map(float, s), *(np.nan,) * (3 - len(s))) for m, s in scores.items()}
    return [
        dict(zip(COLUMNS, (study, table, run, metric, *score, n, reason), strict=True))
        for metric, score in full.items()
    ]


def classification(tested: Tested, confidence: float) -> dict[str, tuple[float, ...]]:
    """loss, accuracy and bma, each with its interval."""
    matrices, losses = tested.resampled()
    drawn = {"loss": losses, "accuracy": accuracy(matrices), "bma": balanced_accuracy(matrices)}
    values = metrics.classification(tested.truth, tested.probabilities)
    return {m: (v, *intervals.percentile(drawn[m], confidence)) for m, v in values.items()}


def five_eighths(scores: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    """Table 6.2: accuracy and BMA after the 5/8 rule; accuracy5 and bma5 are those before."""
    kept = {"loss": scores["loss"]}
    for metric in ("accuracy", "bma"):
        kept |= {metric: tuple(FIVE_EIGHTHS * s for s in scores[metric]), f"{metric}5": scores[metric]}
    return kept


def cross_validation(
    run: str, folds: dict[int, Tested], images: int, confidence: float, reason: str = ""
) -> list[dict]:
    """Tables 6.3 to 6.5. Accuracy over all images out of their fold; BMA fold by fold and the mean of the folds.

    Table 6.3's interval is the paper's normal approximation; accuracy_by_lesion has the bootstrap's. Where the folds
    do not hold all of the `images`, there is no accuracy and no mean: those of some folds are other numbers.
    """
    names = np.concatenate([fold.images for fold in folds.values()])
    for image in names[pd.Series(names).duplicated()]:
        raise InputError(f"{run}: {image} is in the test part of two folds; run its cross_validate stages again")
    rows, means, resampled = [], [], []
    for number, fold in sorted(folds.items()):
        means.append(metrics.balanced_accuracy(fold.truth, fold.guess))
        resampled.append(balanced_accuracy(fold.resampled()[0]))
        score = (means[-1], *intervals.percentile(resampled[-1], confidence))
        rows += scored("A", "Table 6.4", run, len(fold.truth), {f"fold_{number}": score}, reason)
    if len(names) != images:
        return rows
    # The folds share no lesion, so their resamples are independent but for the seed: drawn against each other.
    rng = np.random.default_rng(0)
    together = np.mean([rng.choice(r[~np.isnan(r)], intervals.RESAMPLES) for r in resampled], axis=0)
    mean = (np.mean(means), *intervals.percentile(together, confidence))
    right = np.concatenate([fold.guess == fold.truth for fold in folds.values()])
    drawn = intervals.resample(
        np.column_stack([right, np.ones(images)]), np.concatenate([fold.lesions for fold in folds.values()])
    )
    by_lesion = intervals.percentile(drawn[:, 0] / drawn[:, 1], confidence)
    share = float(right.mean())
    accuracies = {
        "accuracy": (share, *intervals.normal(share, images, confidence)),
        "accuracy_by_lesion": (share, *by_lesion),
    }
    for table, scores in (("Table 6.4", {"mean": mean}), ("Table 6.3", accuracies), ("Table 6.5", {"bma": mean})):
        rows += scored("A", table, run, images, scores, reason)
    return rows


def segmentation(table: pd.DataFrame, confidence: float) -> dict[str, tuple[float, ...]]:
    """Mean Jaccard, thresholded Jaccard and Dice over the test images of one checkpoint, bootstrapped by image."""
    found = table[["jaccard", "dice"]].astype(float)
    found.insert(1, "jaccard_thresholded", metrics.thresholded(found["jaccard"].to_numpy()))
    drawn = intervals.resample(found.assign(count=1.0).to_numpy(), table["image"].to_numpy())
    shares = drawn[:, :-1] / drawn[:, -1:]
    return {m: (found[m].mean(), *intervals.percentile(shares[:, i], confidence)) for i, m in enumerate(found)}


def base_model(tested: Tested, confidence: float) -> dict[str, tuple[float, ...]]:
    """Study B's report, with intervals, the support of each class and the BMA."""
    values, drawn = report(tested.confusion(), tested.classes), report(tested.resampled()[0], tested.classes)
    scores = {m: (v, *intervals.percentile(drawn[m], confidence)) for m, v in values.items()}
    support = tested.confusion().sum(axis=1)
    scores |= {f"{c} support": (support[i],) for i, c in enumerate(tested.classes)}
    return scores | {"bma": classification(tested, confidence)["bma"]}


def difference(first: Tested, second: Tested, confidence: float) -> dict[str, tuple[float, ...]]:
    """second − first on the same images, lesion by lesion: what the generated images changed."""
    on_same_images([first, second], "base_models")
    before, after = (report(t.confusion(), t.classes) for t in (first, second))
    drawn = [report(t.resampled()[0], t.classes) for t in (first, second)]
    return {m: (after[m] - before[m], *intervals.percentile(drawn[1][m] - drawn[0][m], confidence)) for m in before}

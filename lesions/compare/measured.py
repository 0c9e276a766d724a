"""Score predictions, with intervals: rows that scorecard.py joins to what was published.

A row has the keys study, table, run and metric, by which published/numbers.csv knows the same number.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lesions.compare import intervals
from lesions.core.errors import InputError
from lesions.core.files import read_csv
from lesions.isic import metrics

KEYS = ["study", "table", "run", "metric"]
COLUMNS = [*KEYS, "ours", "low", "high", "n", "reason"]
HEADLINE = "bma"  # the checkpoint of study A's Tables 6.1 to 6.5, and of studies D and E, which name none
FIVE_EIGHTHS = 5 / 8  # study A, 5.3: from the BMA of five classes to that of eight
RUNS = 10  # study C: seeds of each configuration

Scores = Mapping[str, tuple[float, ...]]  # metric -> value, or value, low and high


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
        """Return float (N, C·(C+1)): the cell of the confusion matrix of each image; the last column is for ties."""
        count = len(self.classes)
        guess = np.where(self.guess == metrics.TIE, count, self.guess)
        return np.eye(count * (count + 1))[self.truth * (count + 1) + guess]

    def confusion(self) -> np.ndarray:
        """Return int (C, C+1): true class by predicted one; the last column counts ties."""
        return self.cells().sum(axis=0).astype(int).reshape(len(self.classes), -1)

    def resampled(self) -> tuple[np.ndarray, np.ndarray]:
        """Bootstrap by lesion: confusion matrices (resamples, C, C+1) and mean losses (resamples,)."""
        truth = self.probabilities[np.arange(len(self.truth)), self.truth]
        losses = -np.log(np.clip(truth, 1e-7, 1))  # as metrics.log_loss
        drawn = intervals.resample(np.column_stack([self.cells(), losses]), self.lesions)
        matrices = drawn[:, :-1].reshape(len(drawn), len(self.classes), -1)
        return matrices, drawn[:, -1] / matrices.sum(axis=(1, 2))


@dataclass(frozen=True)
class Predicted:
    """One part of a prediction file: checkpoint -> seed -> its images."""

    path: Path
    runs: dict[str, dict[int, Tested]]

    def seeds(self, checkpoint: str) -> dict[int, Tested]:
        if checkpoint not in self.runs:
            raise InputError(f"{self.path}: no checkpoint {checkpoint}; there is {', '.join(self.runs)}")
        return self.runs[checkpoint]

    def first(self, checkpoint: str = HEADLINE) -> Tested:
        """Return the run of the first of several seeds."""
        return next(iter(self.seeds(checkpoint).values()))


@dataclass(frozen=True)
class Runs:
    """The prediction files, and what is known of their images (image -> lesion) and their runs (-> why it falls short
    of the paper's, see lesions/compare/shortfalls.py)."""

    folder: Path
    lesions: pd.Series
    short: dict[str, str]
    confidence: float

    def reason(self, name: str) -> str:
        return self.short.get(name, "")

    def read(self, stage: str, name: str, classes: tuple[str, ...] | None = None, split: str = "test") -> Predicted:
        """Read one part of a stage's predictions. classes: which must be there, in this order; None: the header's."""
        path, remedy = self.folder / stage / f"{name}.csv", f"run python -m stages.{stage} {name}"
        table = read_csv(path, ["image", "split", "seed", "checkpoint", "label"], f"stages.{stage} {name}")
        classes = classes or tuple(str(c)[2:] for c in table if str(c).startswith("p_"))
        names = [f"p_{c}" for c in classes]
        for column in sorted(set(names) - set(table)):
            raise InputError(f"{path}: no column {column}; {remedy}")
        table = table[table["split"] == split].reset_index(drop=True)
        if table.empty:
            raise InputError(f"{path}: no {split} images; {remedy}")
        truth = table["label"].map({c: i for i, c in enumerate(classes)})
        lesion = table["image"].map(self.lesions)
        probabilities = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(float)
        for wrong, what in (
            (truth.isna(), f"has a label outside {', '.join(classes)}"),
            (lesion.isna(), "is not in the sorted table"),
            (~np.isfinite(probabilities).all(axis=1), "has no probabilities"),
            (table.duplicated(["image", "seed", "checkpoint"]), "stands twice under a checkpoint"),
        ):
            for image in table["image"][np.asarray(wrong)]:
                raise InputError(f"{path}: {image} {what}; {remedy} again")
        whole = Tested(classes, table["image"].to_numpy(), lesion.to_numpy(), truth.to_numpy(int), probabilities)
        runs: dict[str, dict[int, Tested]] = {}
        for (checkpoint, seed), rows in table.groupby(["checkpoint", "seed"], sort=False):
            runs.setdefault(checkpoint, {})[seed] = part(whole, rows.index)
        return Predicted(path, runs)


def on_same_images(members: list[Tested], where: str) -> None:
    """Raise InputError unless all are of the same images and classes, in one order. `where`: begins the message."""
    for other in members[1:]:
        if other.classes != members[0].classes or not np.array_equal(other.images, members[0].images):
            raise InputError(f"{where}: predictions of different test images or classes; run their stages again")


def ensemble(members: list[Tested]) -> Tested:
    """Return the mean of the members' probabilities, on the same images (study D: SnapEnsemble, KFoldCrop)."""
    on_same_images(members, "ensemble")
    return replace(members[0], probabilities=np.mean([m.probabilities for m in members], axis=0))


def part(tested: Tested, chosen: np.ndarray | pd.Index) -> Tested:
    """Return the images that bool (N,) or int (n,) chooses."""
    columns = (tested.images, tested.lesions, tested.truth, tested.probabilities)
    return Tested(tested.classes, *(column[chosen] for column in columns))


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the accuracy of confusion matrices (…, C, C+1), as all that follows."""
    return np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum(axis=(-2, -1))


def balanced_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the BMA; classes without an image anywhere left out, nan where one matrix of several lacks a class."""
    recall = metrics.ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), np.nan)
    seen = ~np.isnan(recall).reshape(-1, recall.shape[-1]).all(axis=0)
    return recall[..., seen].mean(axis=-1)


def report(matrix: np.ndarray, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return scikit-learn's report: '<class|macro|weighted> <precision|recall|f1>' and accuracy; 0 for 0/0."""
    hits, support = np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1)
    called = matrix[..., : len(classes)].sum(axis=-2)
    share = support / support.sum(axis=-1, keepdims=True)
    found: dict[str, np.ndarray] = {}
    scores = {"precision": (hits, called), "recall": (hits, support), "f1": (2 * hits, support + called)}
    for name, (above, below) in scores.items():
        score = metrics.ratio(above, below, 0.0)
        found |= {f"{c} {name}": score[..., i] for i, c in enumerate(classes)}
        found |= {f"macro {name}": score.mean(axis=-1), f"weighted {name}": (share * score).sum(axis=-1)}
    return found | {"accuracy": accuracy(matrix)}


def shuffled(matrix: np.ndarray) -> np.ndarray:
    """Return what the same predictions give, on average, beside labels in a random order: study B's report."""
    return matrix.sum(axis=1, keepdims=True) * matrix.sum(axis=0, keepdims=True) / matrix.sum()


def macro_auc(tested: Tested, weights: np.ndarray | None = None) -> np.ndarray:
    """Return float (R,): the mean over classes of each against the rest. `weights`: int (N, R); None: every image once.

    Classes that no image has, or all have, are left out; nan where resampled weights leave one of the others empty.
    """
    weights = np.ones((len(tested.truth), 1), int) if weights is None else weights
    present = [c for c in range(len(tested.classes)) if 0 < (tested.truth == c).mean() < 1]
    areas = [metrics.aucs(tested.truth == c, tested.probabilities[:, c], weights) for c in present]
    return np.mean(areas, axis=0) if areas else np.full(weights.shape[1], np.nan)


def melanoma_auc(tested: Tested) -> float:
    """Return study C's AUROC: melanoma against the rest, by its probability."""
    melanoma = tested.classes.index("MEL")
    return metrics.auc(tested.truth == melanoma, tested.probabilities[:, melanoma])


def share_right(tested: Tested) -> float:
    return metrics.accuracy(tested.truth, tested.guess)


def resampled_auc(tested: Tested) -> np.ndarray:
    """Return float (resamples,): macro_auc over bootstrap samples of whole lesions, the draws of intervals.resample."""
    names, index = np.unique(tested.lesions, return_inverse=True)
    chunks = intervals.draws(len(names), intervals.RESAMPLES)
    return np.concatenate([macro_auc(tested, drawn.T[index].astype(np.int32)) for drawn in chunks])


def over_seeds(values: np.ndarray, confidence: float) -> Scores:
    """Return study C's columns, of float (n,), a value a seed: mean with its t interval, std, quartiles, maximum.

    Std and quartiles are bootstrapped over the seeds. The maximum has no interval: a resample's is never above it.

    As pandas.describe, whose column names the paper prints: n − 1 below the std (the printed ones fit no other, their
    accuracies being multiples of 1/150), quartiles interpolated linearly.
    """
    found = {"mean": (float(np.mean(values)), *np.clip(intervals.student(values, confidence), 0, 1))}
    others: dict[str, Callable[..., Any]] = {"std": partial(np.std, ddof=1)} if len(values) > 1 else {}
    others |= {f"q{q}": partial(np.quantile, q=q / 100) for q in (25, 50, 75)}
    for name, statistic in others.items():
        found[name] = (float(statistic(values)), *intervals.over_seeds(values, statistic, confidence))
    return found | {"max": (float(np.max(values)),)}


def scored(study: str, table: str, run: str, n: int, scores: Scores, reason: str = "") -> list[dict]:
    """Return rows for the scorecard. `reason`: why none compares."""
    full = {metric: (*map(float, score), *(np.nan,) * (3 - len(score))) for metric, score in scores.items()}
    return [dict(zip(COLUMNS, (study, table, run, m, *full[m], n, reason), strict=True)) for m in full]


def classification(tested: Tested, confidence: float) -> Scores:
    """Return loss, accuracy and bma, each with its interval."""
    matrices, losses = tested.resampled()
    drawn = {"loss": losses, "accuracy": accuracy(matrices), "bma": balanced_accuracy(matrices)}
    values = metrics.classification(tested.truth, tested.probabilities)
    return {m: intervals.around(v, drawn[m], confidence) for m, v in values.items()}


def five_eighths(scores: Scores) -> Scores:
    """Return those of Table 6.2: accuracy and BMA after the 5/8 rule; accuracy5 and bma5 are those before."""
    kept = {"loss": scores["loss"]}
    for metric in ("accuracy", "bma"):
        kept |= {metric: tuple(FIVE_EIGHTHS * s for s in scores[metric]), f"{metric}5": scores[metric]}
    return kept


def cross_validation(
    run: str, folds: dict[int, Tested], images: int, confidence: float, reason: str = ""
) -> list[dict]:
    """Return Tables 6.3 to 6.5: accuracy over all images out of their fold; BMA fold by fold and the mean of the folds.

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
        score = intervals.around(means[-1], resampled[-1], confidence)
        rows += scored("A", "Table 6.4", run, len(fold.truth), {f"fold_{number}": score}, reason)
    if len(names) != images:
        return rows
    # The folds share no lesion, so their resamples are independent but for the seed: drawn against each other.
    rng = np.random.default_rng(0)
    together = np.mean([rng.choice(r[~np.isnan(r)], intervals.RESAMPLES) for r in resampled], axis=0)
    mean = intervals.around(float(np.mean(means)), together, confidence)
    right = np.concatenate([fold.guess == fold.truth for fold in folds.values()])
    lesions = np.concatenate([fold.lesions for fold in folds.values()])
    drawn = intervals.resample(np.column_stack([right, np.ones(images)]), lesions)
    share = float(right.mean())
    accuracies = {
        "accuracy": (share, *intervals.normal(share, images, confidence)),
        "accuracy_by_lesion": intervals.around(share, drawn[:, 0] / drawn[:, 1], confidence),
    }
    for table, scores in (("Table 6.4", {"mean": mean}), ("Table 6.3", accuracies), ("Table 6.5", {"bma": mean})):
        rows += scored("A", table, run, images, scores, reason)
    return rows


def segmentation(table: pd.DataFrame, confidence: float) -> Scores:
    """Return mean Jaccard, thresholded Jaccard and Dice over one checkpoint's test images, bootstrapped by image."""
    jaccard, dice = (table[name].to_numpy(float) for name in ("jaccard", "dice"))
    found = {"jaccard": jaccard, "jaccard_thresholded": metrics.thresholded(jaccard), "dice": dice}
    drawn = intervals.resample(np.column_stack([*found.values(), np.ones(len(table))]), table["image"].to_numpy())
    shares = zip(found.items(), (drawn[:, :-1] / drawn[:, -1:]).T, strict=True)
    return {name: intervals.around(values.mean(), share, confidence) for (name, values), share in shares}


def base_model(tested: Tested, confidence: float) -> Scores:
    """Return study B's report, with intervals, the support of each class and the BMA."""
    values, drawn = report(tested.confusion(), tested.classes), report(tested.resampled()[0], tested.classes)
    scores: dict[str, tuple[float, ...]] = {m: intervals.around(v, drawn[m], confidence) for m, v in values.items()}
    support = tested.confusion().sum(axis=1)
    scores |= {f"{c} support": (float(support[i]),) for i, c in enumerate(tested.classes)}
    return scores | {"bma": classification(tested, confidence)["bma"]}


def difference(first: Tested, second: Tested, confidence: float) -> Scores:
    """Return second − first on the same images, lesion by lesion: what the generated images changed."""
    on_same_images([first, second], "base_models")
    before, after = (report(t.confusion(), t.classes) for t in (first, second))
    drawn = [report(t.resampled()[0], t.classes) for t in (first, second)]
    return {m: intervals.around(after[m] - before[m], drawn[1][m] - drawn[0][m], confidence) for m in before}

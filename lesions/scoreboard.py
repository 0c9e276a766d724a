"""Our scores with their intervals, from predictions alone, beside what the studies published.

Everything is kept in one tidy table with the keys study, table, run, metric; `beside` joins the two sides of it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lesions import intervals, metrics
from lesions.errors import InputError
from lesions.files import read_csv
from lesions.isic import CLASSES

KEYS = ["study", "table", "run", "metric"]
COLUMNS = [*KEYS, "ours", "low", "high", "n"]
HEADLINE = "bma"  # the checkpoint of Tables 6.1 to 6.5
FIVE_EIGHTHS = 5 / 8  # study A, 5.3: from the BMA of five classes to that of eight
ISIC_2019 = dict(zip(CLASSES, (4522, 12875, 3323, 867, 2624, 239, 253, 628), strict=True))


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


def read_tested(path: Path, classes: tuple[str, ...], lesions: pd.Series, stage: str) -> dict[str, Tested]:
    """The test part of a prediction file by checkpoint. `lesions`: image -> lesion; `stage`: what writes the file."""
    names = [f"p_{c}" for c in classes]
    table = read_csv(path, ["image", "split", "checkpoint", "label", *names], stage)
    table = table[table["split"] == "test"]
    if table.empty:
        raise InputError(f"{path}: no test images; run python -m {stage}")
    truth = table["label"].map({c: i for i, c in enumerate(classes)})
    lesion = table["image"].map(lesions)
    probabilities = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    for wrong, what in (
        (truth.isna(), f"has a label outside {', '.join(classes)}"),
        (lesion.isna(), "is not in the sorted table"),
        (~np.isfinite(probabilities).all(axis=1), "has no probabilities"),
        (table.duplicated(["image", "checkpoint"]), "stands twice under a checkpoint"),
    ):
        for image in table["image"][np.asarray(wrong)]:
            raise InputError(f"{path}: {image} {what}; run python -m {stage} again")
    found = {}
    for checkpoint in table["checkpoint"].unique():
        rows = np.flatnonzero(table["checkpoint"] == checkpoint)
        of = (table["image"], lesion, truth.astype(int))
        found[checkpoint] = Tested(classes, *(s.to_numpy()[rows] for s in of), probabilities[rows])
    return found


def of_checkpoint(found: dict[str, Tested], checkpoint: str, path: Path) -> Tested:
    if checkpoint not in found:
        raise InputError(f"{path}: no checkpoint {checkpoint}; there is {', '.join(found)}")
    return found[checkpoint]


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


def scored(study: str, table: str, run: str, n: int, scores: dict[str, tuple[float, ...]]) -> list[dict]:
    """Rows of the tidy table. `scores`: metric -> (value, low, high) or (value,)."""
    full = {m: (*map(float, s), *(np.nan,) * (3 - len(s))) for m, s in scores.items()}
    return [dict(zip(COLUMNS, (study, table, run, metric, *score, n), strict=True)) for metric, score in full.items()]


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


def cross_validation(run: str, folds: dict[int, Tested], images: int, confidence: float) -> list[dict]:
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
        rows += scored("A", "Table 6.4", run, len(fold.truth), {f"fold_{number}": score})
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
    rows += scored("A", "Table 6.4", run, images, {"mean": mean}) + scored("A", "Table 6.3", run, images, accuracies)
    return rows + scored("A", "Table 6.5", run, images, {"bma": mean})


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
    if not np.array_equal(first.images, second.images):
        raise InputError("base_models: predictions of different test images; run the base_model stages again")
    before, after = (report(t.confusion(), t.classes) for t in (first, second))
    drawn = [report(t.resampled()[0], t.classes) for t in (first, second)]
    return {m: (after[m] - before[m], *intervals.percentile(drawn[1][m] - drawn[0][m], confidence)) for m in before}


def data_kind(source: str, labels: pd.Series) -> str:
    """'sample data'; '' if the images are ISIC 2019's, class by class; else 'other data'."""
    if source == "sample":
        return "sample data"
    return "" if labels.value_counts().to_dict() == ISIC_2019 else "other data"


def beside(published: Path, ours: list[dict], kind: str) -> pd.DataFrame:
    """The tidy table: what was published in its order, then what nobody published. See stages.compare for the columns.

    `inside` is blank where the pair is not comparable.
    """
    numbers = pd.read_csv(published / "numbers.csv", keep_default_na=False)
    boards = pd.read_csv(published / "leaderboards.csv", keep_default_na=False)
    boards = boards.assign(
        study="leaderboard", table=boards["challenge"], row=boards["team"], run="", note=boards["entry"]
    )
    both = pd.concat([numbers, boards]).reindex(columns=numbers.columns).rename(
        columns={"value": "published", "low": "published_low", "high": "published_high"}
    )  # fmt: skip
    scores = ["published", "published_low", "published_high"]
    both[scores] = both[scores].apply(pd.to_numeric)
    table = both.merge(pd.DataFrame(ours, columns=COLUMNS), on=KEYS, how="left", validate="many_to_one")
    alone = pd.DataFrame(ours, columns=COLUMNS).merge(both[KEYS].drop_duplicates(), on=KEYS, how="left", indicator=True)
    alone = alone[alone["_merge"] == "left_only"].drop(columns="_merge")
    row_of = dict(zip(numbers["run"], numbers["row"], strict=True))
    alone["row"] = [row_of.get(run, run) for run in alone["run"]]
    table = pd.concat([table, alone.reindex(columns=table.columns)], ignore_index=True)
    table[["reason", "note"]] = table[["reason", "note"]].fillna("")
    short = pd.read_csv(published / "reasons.csv", keep_default_na=False).set_index("reason")["short"]
    comparable = table["reason"].map(short).where(table["reason"] != "", kind or "yes")
    comparable = comparable.where((kind == "") | (table["study"] == "leaderboard"), kind)
    comparable = comparable.where(table["published"].notna() | table["published_low"].notna(), "")
    table["comparable"] = comparable.where(table["ours"].notna() | (table["run"] == ""), "not run")
    within = (table["published"] >= table["low"]) & (table["published"] <= table["high"])
    judged = (table["comparable"] == "yes") & table[["published", "ours", "low"]].notna().all(axis=1)
    table["inside"] = np.where(judged, np.where(within, "yes", "no"), "")
    table["n"] = table["n"].astype("Int64")
    order = ["study", "table", "row", "run", "metric", "published", "published_low", "published_high"]
    return table[[*order, "ours", "low", "high", "n", "inside", "comparable", "reason", "note"]]

"""Score official test sets by the challenges' own rules, and find our places on the leaderboards.

A place counts the entries above ours among those that published/leaderboards.csv knows: ten of sixty-four, say.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.compare import intervals
from lesions.compare.measured import Scores, segmentation
from lesions.core.files import read_csv
from lesions.isic import official
from lesions.isic.names import UNKNOWN

# Test set -> its leaderboard, and how many images it has.
BOARDS = {
    "isic2017_test": ("ISIC 2017 Part 3", 600),
    "isic2018_val": ("ISIC 2018 Task 3 validation", 193),
    "isic2018_test": ("ISIC 2018 Task 3", 1511),  # without the one that the official scorer leaves out
    "isic2019_test": ("ISIC 2019 Task 1", 8238),
    "isic2018_task1_val": ("ISIC 2018 Task 1 validation", 100),
    "isic2018_task1_test": ("ISIC 2018 Task 1", 1000),
}
WITHOUT_UNKNOWN = "bma of eight classes"  # as if no picture of 2019's test set were of another
NOT_RUN = "not run: archive"
COLUMNS = ["challenge", "test", "metric", "model", "ours", "low", "high", "n", "place", "place_low", "place_high",
           "known", "comparable"]  # fmt: skip


def why_not(test: str, metric: str, rows: pd.DataFrame, sample: bool) -> str:
    """Return why a score on these rows does not compare with the leaderboard's; '' if it does."""
    whole, seen = BOARDS[test][1], int(rows["seen"].astype(bool).sum()) if "seen" in rows else 0
    reasons = ["drawn sample"] * sample
    if len(rows) != whole and not sample:
        reasons.append(f"{len(rows):,} of {whole:,} images")
    if metric == WITHOUT_UNKNOWN:
        reasons.append("without the class UNK")
    if seen:
        reasons.append(f"{seen} images seen in training")
    return "; ".join(reasons)


def places(board: pd.DataFrame, challenge: str, metric: str, score: tuple[float, ...]) -> list:
    """Return the places of a score, of its upper and its lower bound, and among how many entries."""
    entries = board.loc[(board["challenge"] == challenge) & (board["metric"] == metric), "value"].to_numpy()
    value, low, high = score
    return [*(int(1 + (entries > s).sum()) if len(entries) else None for s in (value, high, low)), len(entries)]


def classified(test: str, rows: pd.DataFrame, confidence: float) -> Scores:
    """Return the official scores of one model's predictions on one test set, bootstrapped by image."""
    p = rows.filter(regex="^p_").rename(columns=lambda name: name.removeprefix("p_"))
    drawn = np.concatenate(list(intervals.draws(len(rows), intervals.RESAMPLES))).T
    found, kinds = {}, {"": official.in_terms(test, p)}
    if test == official.HAS_UNKNOWN:
        kinds = {WITHOUT_UNKNOWN: kinds[""], "": official.in_terms(test, p, rows["unfamiliarity"])}
    for name, terms in kinds.items():
        assert terms is not None  # stages.score writes no other
        resampled = official.scores(test, rows["label"], terms, drawn)
        for metric, value in official.scores(test, rows["label"], terms).items():
            found[name or metric] = intervals.around(value[0], resampled[metric], confidence)
    return found


def read(predictions: Path, classifiers: Iterable[str], ensembles: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Return what each model said of the test sets; of ensembles the balanced output, which is what they submit."""
    keys = ["set", "image", "label", "seen", "unfamiliarity"]
    found = {name: read_csv(predictions / f"tests/{name}.csv", keys, f"stages.score {name}") for name in classifiers}
    for name in ensembles:
        both = read_csv(predictions / f"ensemble/{name}_tests.csv", [*keys, "checkpoint"], f"stages.ensemble {name}")
        found[f"ensemble {name}"] = both[both["checkpoint"] == "balanced"]
    tests = {name: of[of["set"].isin(list(BOARDS))].rename(columns={"set": "test"}) for name, of in found.items()}
    return {
        name: of.assign(unfamiliarity=pd.to_numeric(of["unfamiliarity"], errors="coerce")) for name, of in tests.items()
    }


def table(
    models: dict[str, pd.DataFrame], masks: pd.DataFrame, published: Path, sample: bool, confidence: float
) -> pd.DataFrame:
    """Return the scores of all models on all test sets, and a line for each test set that nothing was scored on.

    models: as `read` returns them. masks: what stages.score_masks wrote. sample: whether the test sets are drawn.
    """
    board = pd.read_csv(published / "leaderboards.csv", keep_default_na=False)
    scored = [
        (test, model, rows, classified(str(test), rows, confidence))
        for model, found in models.items()
        for test, rows in found.groupby("test", sort=False)
    ]
    for (test, model), rows in masks.groupby(["test", "model"], sort=False):
        found = segmentation(rows, confidence)
        scored.append((test, model, rows, {m: found[m] for m in ("jaccard_thresholded", "jaccard")}))
    lines = []
    for test, model, rows, scores in scored:
        challenge = BOARDS[test][0]
        for metric, ours in scores.items():
            place = places(board, challenge, metric, ours)
            compares = why_not(test, metric, rows, sample) or "yes"
            n = int((rows["label"] != UNKNOWN).sum()) if metric == WITHOUT_UNKNOWN else len(rows)
            lines.append([challenge, test, metric, model, *ours, n, *place, compares])
    known = {found[1] for found in lines}
    blank = [None] * (len(COLUMNS) - 3)
    lines += [[name, test, "", *blank[:-1], NOT_RUN] for test, (name, _) in BOARDS.items() if test not in known]
    whole = dict.fromkeys(["n", "place", "place_low", "place_high", "known"], "Int64")
    return pd.DataFrame(lines, columns=COLUMNS).astype(whole)

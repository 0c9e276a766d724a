"""Official test sets: our scores by the challenges' own rules, and their places on the leaderboards.

A place counts the entries above ours among those that published/leaderboards.csv knows: ten of sixty-four, say.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.compare import intervals
from lesions.core.files import read_csv
from lesions.isic import official
from lesions.isic.names import UNKNOWN

# Test set -> its leaderboard, and how many images it has.
BOARDS = {
    "isic2017_test": ("ISIC 2017 Part 3", 600),
    "isic2018_val": ("ISIC 2018 Task 3 validation", 193),
    "isic2018_test": ("ISIC 2018 Task 3", 1511),  # without the one that the official scorer leaves out
    "isic2019_test": ("ISIC 2019 Task 1", 8238),
}
NOT_RUN = "not run: archive"
COLUMNS = ["challenge", "test", "metric", "model", "ours", "low", "high", "n", "place", "place_low", "place_high",
           "known", "comparable"]  # fmt: skip


def why_not(test: str, rows: pd.DataFrame, classes: Iterable[str], sample: bool) -> str:
    """Return why scores on these rows do not compare with the leaderboard's; '' if they do."""
    whole, seen = BOARDS[test][1], int(rows["seen"].astype(bool).sum())
    reasons = ["drawn sample"] * sample
    if len(rows) != whole and not sample:
        reasons.append(f"{len(rows):,} of {whole:,} images")
    if test == "isic2019_test" and UNKNOWN not in classes:
        reasons.append("without the class UNK")
    if seen:
        reasons.append(f"{seen} images seen in training")
    return "; ".join(reasons)


def scored(test: str, model: str, rows: pd.DataFrame, board: pd.DataFrame, sample: bool, confidence: float) -> list:
    """Return lines of COLUMNS for one model's predictions on one test set; intervals are bootstrapped by image."""
    p = rows.filter(regex="^p_").dropna(axis=1, how="all").rename(columns=lambda name: name.removeprefix("p_"))
    terms = official.in_terms(test, p)
    assert terms is not None  # stages.score writes no other
    drawn = np.concatenate(list(intervals.draws(len(rows), intervals.RESAMPLES))).T
    resampled, lines = official.scores(test, rows["label"], terms, drawn), []
    for metric, found in official.scores(test, rows["label"], terms).items():
        value, low, high = intervals.around(found[0], resampled[metric], confidence)
        line = [BOARDS[test][0], test, metric, model, value, low, high, len(rows)]
        entries = board.loc[(board["challenge"] == BOARDS[test][0]) & (board["metric"] == metric), "value"].to_numpy()
        places = [int(1 + (entries > score).sum()) if len(entries) else None for score in (value, high, low)]
        lines.append([*line, *places, len(entries), why_not(test, rows, terms, sample) or "yes"])
    return lines


def read(predictions: Path, classifiers: Iterable[str], ensembles: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Return what each model said of the test sets; of ensembles the balanced output, which is what they submit."""
    keys = ["test", "image", "label", "seen"]
    found = {name: read_csv(predictions / f"tests/{name}.csv", keys, f"stages.score {name}") for name in classifiers}
    for name in ensembles:
        both = read_csv(predictions / f"ensemble/{name}_tests.csv", [*keys, "checkpoint"], f"stages.ensemble {name}")
        found[f"ensemble {name}"] = both[both["checkpoint"] == "balanced"]
    return found


def table(models: dict[str, pd.DataFrame], published: Path, sample: bool, confidence: float) -> pd.DataFrame:
    """Return the scores of all models on all test sets, and a line for each test set that nothing was scored on.

    sample: whether the test sets are drawn.
    """
    board = pd.read_csv(published / "leaderboards.csv", keep_default_na=False)
    lines = []
    for model, found in models.items():
        for test, rows in found.groupby("test", sort=False):
            lines += scored(str(test), model, rows.reset_index(drop=True), board, sample, confidence)
    known = {line[1] for line in lines}
    blank = [None] * (len(COLUMNS) - 3)
    lines += [[name, test, "", *blank[:-1], NOT_RUN] for test, (name, _) in BOARDS.items() if test not in known]
    whole = dict.fromkeys(["n", "place", "place_low", "place_high", "known"], "Int64")
    return pd.DataFrame(lines, columns=COLUMNS).astype(whole)

"""Train, validation and test parts: stratified by class, grouped by lesion.

No lesion carries two labels, so the classes are dealt out one by one: lesions from the largest to the smallest, ties
in a seeded random order, each to the part that it fills least. Images without a lesion id are lesions of their own.
"""

import numpy as np
import pandas as pd

from lesions.errors import InputError
from lesions.isic import BALANCED_CLASSES, CLASSES, MERGED, RARE

SPLITS = "standard, holdout, balanced, cv<fold>"


def deal(lesions: pd.Series, fractions: tuple[float, ...], rng: np.random.Generator) -> pd.Series:
    """Deal images out to parts 0..len(fractions)-1, whole lesions at a time.

    `lesions` holds the lesion id of each image; the result has its index. A part's share of the images comes within
    one lesion of its fraction, for large and small lesions alike, because the next lesion goes to the part whose
    quota it would fill least (the Jefferson method of apportionment). No part stays empty if there are lesions enough.
    """
    sizes = lesions.value_counts(sort=False)
    sizes = sizes.iloc[rng.permutation(len(sizes))].sort_values(ascending=False, kind="stable")
    filled, part_of = np.zeros(len(fractions)), {}
    for left, (lesion, size) in zip(range(len(sizes), 0, -1), sizes.items(), strict=True):
        share = (filled + size) / np.asarray(fractions)
        empty = filled == 0
        part = int(np.argmin(np.where(empty, share, np.inf) if empty.sum() >= left else share))
        filled[part] += size
        part_of[lesion] = part
    return lesions.map(part_of)


def folds(table: pd.DataFrame, count: int, validation: float, rng: np.random.Generator) -> pd.DataFrame:
    """The columns cv0 … cv<count-1>: each image's role (train, val or test) when that fold is the test part.

    `validation` is the part of the remaining images that validates (study A: 12.5 %, so 70/10/20).
    Raises InputError for a class with fewer lesions than folds.
    """
    roles = pd.DataFrame("train", index=table.index, columns=[f"cv{k}" for k in range(count)])
    for label, rows in table.groupby("label", sort=True):
        lesions = rows["lesion"]
        if lesions.nunique() < count:
            raise InputError(
                f"class {label}: {lesions.nunique()} lesions for {count} folds; expected one a fold at least: "
                "use more images or a smaller sort.folds"
            )
        fold = deal(lesions, (1.0,) * count, rng)
        for k in range(count):
            rest = lesions[fold != k]
            dealt = deal(rest, (1 - validation, validation), rng)
            roles.loc[fold.index[fold == k], f"cv{k}"] = "test"
            roles.loc[dealt.index[dealt == 1], f"cv{k}"] = "val"
    return roles


def balanced(table: pd.DataFrame, validation: float, test: float, rng: np.random.Generator) -> pd.Series:
    """Study A's balanced set: the four rarest classes as one, an equal number of images each (1,987 at full size).

    A role for the chosen images, an empty string for the rest.
    """
    merged = merge_rare(table["label"])
    count = int(merged.value_counts().reindex(list(BALANCED_CLASSES), fill_value=0).min())
    roles = pd.Series("", index=table.index)
    for label in BALANCED_CLASSES:
        chosen = rng.permutation(table.index[merged == label])[:count]
        dealt = deal(
            table.loc[np.sort(chosen), "lesion"], ((1 - test) * (1 - validation), (1 - test) * validation, test), rng
        )
        roles[dealt.index] = dealt.map({0: "train", 1: "val", 2: "test"})
    return roles


def merge_rare(labels: pd.Series) -> pd.Series:
    return labels.where(~labels.isin(RARE), MERGED)


def classes(split: str) -> tuple[str, ...]:
    return BALANCED_CLASSES if split == "balanced" else CLASSES


def labels(table: pd.DataFrame, split: str) -> pd.Series:
    """The class of each image under `split`: eight classes, five where the split is `balanced`."""
    return merge_rare(table["label"]) if split == "balanced" else table["label"]


def roles(table: pd.DataFrame, split: str) -> pd.Series:
    """train, val, test or '' for each row of a sorted table.

    standard: 70/10/20, which is fold 0 (study A's Tables 6.1 and 6.4 agree on it). holdout: the same test part,
    all else train (study B's 80/20). balanced: see `balanced`. cv<k>: fold k is the test part.
    """
    if split == "balanced":
        return table["balanced"].fillna("")
    if split == "holdout":
        return table["cv0"].replace("val", "train")
    column = "cv0" if split == "standard" else split
    if column not in table:
        raise InputError(f"no split {split!r}; expected one of {SPLITS}")
    return table[column]

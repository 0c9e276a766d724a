"""Split images into train, validation and test parts, stratified by class and grouped by lesion.

No lesion has two labels, so the classes are dealt out one by one: lesions from the largest to the smallest, ties in a
seeded random order, each to the part that it fills least. An image without a lesion id is a lesion of its own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lesions.core.errors import InputError
from lesions.isic.names import AKIEC, BALANCED_CLASSES, CLASSES, HAM_CLASSES, MELANOMA_CLASSES, MERGED, RARE, SETS

SPLITS = "standard, holdout, balanced, eighty, ham, ham_1, ham_2, melanoma, cv<fold>"
HAM_SPLITS = ("ham", "ham_1", "ham_2")
CLASSES_OF = dict.fromkeys(HAM_SPLITS, HAM_CLASSES) | {"balanced": BALANCED_CLASSES, "melanoma": MELANOMA_CLASSES}
MERGES = {
    "balanced": dict.fromkeys(RARE, MERGED),
    "melanoma": {label: "OTHER" for label in CLASSES if label != "MEL"},
} | {split: dict.fromkeys(("AK", "SCC"), AKIEC) for split in HAM_SPLITS}


def deal(lesions: pd.Series, fractions: Mapping[Any, float], rng: np.random.Generator) -> pd.Series:
    """Deal images out to parts, by their names, whole lesions at a time.

    `lesions` holds the lesion id of each image; the result has its index. A part's share of the images comes within
    one lesion of its fraction, for large and small lesions alike, because the next lesion goes to the part whose
    quota it would fill least (the Jefferson method of apportionment). No part stays empty if there are lesions enough.
    """
    sizes = lesions.value_counts(sort=False)
    sizes = sizes.iloc[rng.permutation(len(sizes))].sort_values(ascending=False, kind="stable")
    parts, filled, part_of = list(fractions), np.zeros(len(fractions)), {}
    for left, (lesion, size) in zip(range(len(sizes), 0, -1), sizes.items(), strict=True):
        share = (filled + size) / np.array(list(fractions.values()))
        empty = filled == 0
        part = int(np.argmin(np.where(empty, share, np.inf) if empty.sum() >= left else share))
        filled[part] += size
        part_of[lesion] = parts[part]
    return lesions.map(part_of)


def folds(table: pd.DataFrame, count: int, validation: float, rng: np.random.Generator) -> pd.DataFrame:
    """Return columns cv0 … cv<count-1>: each image's role (train, val or test) when that fold is the test part.

    `validation` is the share of the other images that validates (study A: 12.5 %, so 70/10/20).
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
        fold = deal(lesions, dict.fromkeys(range(count), 1.0), rng)
        for k in range(count):
            dealt = deal(lesions[fold != k], {"train": 1 - validation, "val": validation}, rng)
            roles.loc[fold.index[fold == k], f"cv{k}"] = "test"
            roles.loc[dealt.index[dealt == "val"], f"cv{k}"] = "val"
    return roles


def shares(validation: float, test: float) -> dict[str, float]:
    """Return the fraction of each part, of which `validation` is a share of what is not test."""
    return {"train": (1 - test) * (1 - validation), "val": (1 - test) * validation, "test": test}


def balanced(table: pd.DataFrame, validation: float, test: float, rng: np.random.Generator) -> pd.Series:
    """Return each image's role in study A's balanced set, '' for an image outside it.

    The four rarest classes are one, and all classes have as many images as the smallest (1,987 at full size).
    """
    merged = labels(table, "balanced")
    count = int(merged.value_counts().reindex(list(BALANCED_CLASSES), fill_value=0).min())
    roles = pd.Series("", index=table.index)
    for label in BALANCED_CLASSES:
        chosen = rng.permutation(table.index[merged == label])[:count]
        dealt = deal(table.loc[np.sort(chosen), "lesion"], shares(validation, test), rng)
        roles[dealt.index] = dealt
    return roles


def eighty(table: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    """Return each image's role in study E's split, 80/10/10."""
    parts = {"train": 0.8, "val": 0.1, "test": 0.1}
    dealt = [deal(rows["lesion"], parts, rng) for _, rows in table.groupby("label", sort=True)]
    return pd.concat(dealt).reindex(table.index)


def filled(roles: pd.Series, table: pd.DataFrame, donors: tuple[str, ...]) -> pd.Series:
    """Give a part that lacks a class the smallest lesion of that class, from the donor that has most lesions of it.

    Only small sets need it: folds are dealt over all of ISIC 2019, so a part can miss one of HAM's classes.
    """
    roles, merged = roles.copy(), labels(table, "ham")
    for label in HAM_CLASSES:
        rows = table.index[(merged == label) & (roles != "")]
        for part in sorted({"train", "val", "test"} - set(roles[rows])):
            given = rows[roles[rows].isin(donors)]
            counts = table.loc[given, "lesion"].groupby(roles[given]).nunique()
            if counts.max() > 1:
                sizes = table.loc[given[roles[given] == counts.idxmax()], "lesion"].value_counts(sort=False)
                roles[table["lesion"] == sizes.idxmin()] = part
    return roles


def ham(table: pd.DataFrame, fold: int = 0) -> pd.Series:
    """Return each image's role in HAM10000 (ISIC 2018 Task 3's training set): as in cv0, '' for an image outside it.

    Folds from 1 on (study D's KFoldCrop) have the same test part; what cv<fold> tests on validates, all else is train.
    """
    roles = filled(table["cv0"].where(table["lesion"].str.startswith("HAM_"), ""), table, ("train", "val", "test"))
    if fold == 0:
        return roles
    dealt = table[f"cv{fold}"].map({"test": "val"}).fillna("train")
    return filled(roles.where(roles.isin(["", "test"]), dealt), table, ("train", "val"))


def classes(of: str, split: str, labels: pd.Series) -> tuple[str, ...]:
    """Return the classes of a set under a split: most splits have all eight; a set of one's own has its `labels`."""
    if of in SETS:
        return CLASSES_OF.get(split, CLASSES)
    return tuple(sorted(labels.replace(MERGES.get(split, {})).unique()))


def labels(table: pd.DataFrame, split: str) -> pd.Series:
    """Return the class of each image under `split`, one of `classes(split)`."""
    return table["label"].replace(MERGES.get(split, {}))


def roles(table: pd.DataFrame, split: str) -> pd.Series:
    """Return train, val, test or '' for each row of a sorted table.

    standard: 70/10/20, which is fold 0 (study A's Tables 6.1 and 6.4 agree on it). holdout: the same test part, all
    else train (study B's 80/20). cv<k>: fold k is the test part. balanced, eighty, ham, ham_1, ham_2: functions above.
    melanoma (isic2017.csv, study C): the official training part is train, the official validation part val.
    """
    if split == "balanced":
        return table["balanced"].fillna("")
    if split == "holdout":
        return table["cv0"].replace("val", "train")
    if split in HAM_SPLITS and f"cv{HAM_SPLITS.index(split)}" in table:
        return ham(table, HAM_SPLITS.index(split))
    column = {"standard": "cv0", "melanoma": "split"}.get(split, split)
    if column not in table:
        raise InputError(f"no split {split!r}; expected one of {SPLITS}")
    return table[column]

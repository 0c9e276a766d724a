"""Make one prediction of several classifiers': the mean of their probabilities."""

import numpy as np
import pandas as pd

from lesions.core.errors import InputError

ROWS = ["set", "image", "label"]
OWN = ["val", "test"]  # sets that are a classifier's own parts


def columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of probabilities, in their order."""
    return [str(name) for name in table if str(name).startswith("p_")]


def numbers(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Return columns as float (N, C), blanks as nan."""
    return table[names].apply(pd.to_numeric, errors="coerce").to_numpy(float)


def alike(members: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return set, image, label, seen (by any member), and the mean of members that speak of the same images.

    Raises InputError naming who differs, and for an image that stands twice or has no probabilities.
    """
    (first, table), *_ = members.items()
    names = ["unfamiliarity", *columns(table)]
    total, seen = np.zeros((len(table), len(names))), np.zeros(len(table), bool)
    for name, other in members.items():
        if columns(other) != names[1:]:
            raise InputError(f"ensembles: {name}: its classes are not those of {first}; expected one split")
        if other.duplicated(ROWS).any() or not np.isfinite(numbers(other, names[1:])).all():
            raise InputError(f"ensembles: {name}: an image stands twice or has no probabilities; score it again")
        matched = table[ROWS].merge(other, on=ROWS, how="left", indicator=True)
        if len(other) != len(table) or (matched["_merge"] != "both").any():
            raise InputError(f"ensembles: {name}: its images and parts are not those of {first}; expected one split")
        total, seen = total + numbers(matched, names), seen | matched["seen"].astype(bool).to_numpy()
    return table[ROWS].assign(seen=seen, **dict(zip(names, (total / len(members)).T, strict=True)))


def mean(members: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the mean of classifiers of one split, or of folds: `<classifier>-<fold>`, and the classifier, fold 0.

    All speak of the official sets. Of val and test, which are other images in each fold, only those speak that have
    not learnt from an image's lesion, nor were chosen by it. What is val for one fold is test for another: it stays in
    val alone, where calibration is fitted. Raises InputError as `alike`, and for folds that share test images.
    """
    folds: dict[str, dict[str, pd.DataFrame]] = {}
    for name, table in members.items():
        folds.setdefault(name.partition("-")[2], {})[name] = table
    means = {next(iter(of)): alike(of).assign(members=len(of)) for of in folds.values()}
    (first, table), *others = means.items()
    if not others:
        return table.drop(columns="members")
    official = ~table["set"].isin(OWN)
    for name, other in others:
        alike({first: table[official], name: other[~other["set"].isin(OWN)]})
    said, names = pd.concat(means.values(), ignore_index=True), ["unfamiliarity", *columns(table)]
    if (said["set"].eq("test") & said.duplicated(ROWS)).any():
        raise InputError(f"ensembles: {first}: its folds share test images; expected folds of one cross-validation")
    said[names] = said[names].mul(said["members"], axis=0)
    rows = said.groupby(ROWS, sort=False)
    whole = rows["seen"].any().to_frame().join(rows[names].sum(min_count=1).div(rows["members"].sum(), axis=0))
    whole = whole.reset_index()
    tuned = whole["set"].eq("test") & whole["image"].isin(whole["image"][whole["set"] == "val"])
    if tuned.sum() == whole["set"].eq("test").sum():
        raise InputError(f"ensembles: {first}: each of its test images validates another fold; expected fewer folds")
    return whole[~tuned].reset_index(drop=True)

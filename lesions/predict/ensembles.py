"""Make one prediction of several classifiers': the mean of their probabilities."""

import numpy as np
import pandas as pd

from lesions.core.errors import InputError

KEYS = ["set", "image", "label", "seen"]


def columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of probabilities, in their order."""
    return [str(name) for name in table if str(name).startswith("p_")]


def numbers(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Return columns as float (N, C), blanks as nan."""
    return table[names].apply(pd.to_numeric, errors="coerce").to_numpy(float)


def mean(members: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return set, image, label, seen (by any member), and the mean of what members say: unfamiliarity and p_….

    All members speak of the official sets. Of the sets val and test, classifiers of one split speak of the same images;
    folds of a cross-validation each of their own, so that no image is judged by a model that learnt from its lesion or
    was chosen by it. What is val for one fold may be test for another: it stays in val alone, on which calibration is
    fitted. Raises InputError naming a member whose classes or images are of another split.
    """
    first, names = next(iter(members)), ["unfamiliarity", *columns(next(iter(members.values())))]
    for name, table in members.items():
        if columns(table) != names[1:]:
            raise InputError(f"ensembles: {name}: its classes are not those of {first}; expected one split")
    said = pd.concat([table.assign(seen=table["seen"].astype(bool)) for table in members.values()])
    said[names] = numbers(said, names)
    rows = said.groupby(["set", "image", "label"], sort=False)
    whole = rows[names].mean().assign(seen=rows["seen"].any(), members=rows.size()).reset_index()
    for name, table in members.items():
        of = table[["set", "image", "label"]].merge(whole, on=["set", "image", "label"])
        counts = of.groupby(of["set"].where(of["set"].isin(["val", "test"]), ""))["members"]
        if counts.nunique().get("test", 1) > 1 or counts.min().get("", len(members)) < len(members):
            raise InputError(f"ensembles: {name}: its images and parts are not those of {first}, nor another fold's")
    chosen = whole["set"].eq("val"), whole["set"].eq("test")
    tuned = chosen[1] & whole["image"].isin(whole["image"][chosen[0]])
    if chosen[1].any() and tuned.sum() == chosen[1].sum():
        raise InputError(f"ensembles: {first}: each of its test images validates another fold; expected fewer folds")
    return whole.loc[~tuned, [*KEYS, *names]].reset_index(drop=True)

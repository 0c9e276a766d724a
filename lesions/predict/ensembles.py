"""Make one prediction of several classifiers': the mean of their probabilities, on the same images."""

import numpy as np
import pandas as pd

from lesions.core.errors import InputError


def columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of probabilities, in their order."""
    return [str(name) for name in table if str(name).startswith("p_")]


def numbers(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Return columns as float (N, C), blanks as nan."""
    return table[names].apply(pd.to_numeric, errors="coerce").to_numpy(float)


def mean(members: dict[str, pd.DataFrame], keys: list[str]) -> pd.DataFrame:
    """Return the first member's `keys` and the mean of all members' unfamiliarity and probabilities.

    Members must have the same rows of `keys` in any order, and the same classes. Raises InputError naming who differs.
    """
    (first, table), *others = members.items()
    names = ["unfamiliarity", *columns(table)]
    total = numbers(table, names)
    for name, other in others:
        if columns(other) != names[1:]:
            raise InputError(f"ensembles: {name}: its classes are not those of {first}; expected one split")
        matched = table[keys].merge(other, on=keys, how="left", validate="one_to_one", indicator=True)
        if len(other) != len(table) or (matched["_merge"] != "both").any():
            raise InputError(f"ensembles: {name}: its images and parts are not those of {first}; expected one split")
        total = total + numbers(matched, names)
    return table[keys].assign(**dict(zip(names, (total / len(members)).T, strict=True)))

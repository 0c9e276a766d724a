"""Make one prediction of several classifiers': the mean of their probabilities, on the same images."""

import pandas as pd

from lesions.core.errors import InputError


def columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of probabilities, in their order."""
    return [str(name) for name in table if str(name).startswith("p_")]


def mean(members: dict[str, pd.DataFrame], keys: list[str]) -> pd.DataFrame:
    """Return the first member's `keys` and the mean of all members' probabilities.

    Members must have the same rows of `keys` in any order, and the same classes. Raises InputError naming who differs.
    """
    (first, table), *others = members.items()
    names = columns(table)
    total = table[names].to_numpy(float)
    for name, other in others:
        if columns(other) != names:
            raise InputError(f"ensembles: {name}: its classes are not those of {first}; expected one split")
        matched = table[keys].merge(other, on=keys, how="left", validate="one_to_one", indicator=True)
        if len(other) != len(table) or (matched["_merge"] != "both").any():
            raise InputError(f"ensembles: {name}: its images and parts are not those of {first}; expected one split")
        total = total + matched[names].to_numpy(float)
    return table[keys].assign(**dict(zip(names, (total / len(members)).T, strict=True)))

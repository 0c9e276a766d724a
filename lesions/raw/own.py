"""Read the table of a set of one's own, and whom the images of any set show."""

import re
import sys
from pathlib import Path

import pandas as pd

from lesions.core.errors import InputError
from lesions.raw import tables
from lesions.raw.config import Own
from lesions.raw.zips import PICTURES

SEXES = dict.fromkeys((*tables.MISSING, "unknown"), "") | {"f": "female", "m": "male"}
ROLES = {"train": "train training", "val": "val valid validation dev", "test": "test testing"}  # as tables write them
CLASS = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")  # names of columns and files are made of it


def read_people(path: Path, image: str, sex: str | None, age: str | None) -> pd.DataFrame:
    """Read columns image, sex (a word in small letters) and age (years) of whom each image shows; NaN where unknown.

    image, sex, age: columns of `path`; sex and age may be missing. An age that is no number is told on stderr.
    """
    there = [column for column in (sex, age) if column in tables.lines_of(path, (image,))[0][1]]
    table = tables.read_rows(path, tuple(dict.fromkeys((image, *there))))
    blank = pd.Series("", table.index)
    sexes = table[sex].str.lower().replace(SEXES) if sex in there else blank
    said = table[age].where(~table[age].str.lower().isin(tables.MISSING), "") if age in there else blank
    ages = pd.to_numeric(said, errors="coerce")
    unread = said[ages.isna() & (said != "")]
    if len(unread):
        first = unread.iloc[0]
        print(
            f"{path}: {len(unread)} of {age} are no numbers of years and left out, {first!r} the first", file=sys.stderr
        )
    found = pd.DataFrame({"image": table["image"].map(stem), "sex": sexes.where(sexes != ""), "age": ages})
    return found.drop_duplicates("image")


def stem(picture: str) -> str:
    """Return a picture's name without the folder before it and without its ending, if that is a picture's."""
    name = picture.replace("\\", "/").rpartition("/")[2]
    start, _, ending = name.rpartition(".")
    return start if start and f".{ending.lower()}" in PICTURES else name


def together(path: Path, table: pd.DataFrame) -> pd.Series:
    """Return one name for all rows of `table`, read from `path`, that lesions and patients hold together, in a chain
    too: the patient or, without one, the lesion or the image."""
    ids = {column: tables.lesion_ids(path, table, column) for column in ("lesion", "patient") if column in table}
    if len(ids) < 2:
        return next(iter(ids.values()), table["image"])
    found = ("patient " + ids["patient"]).where(table["patient"] != "", "lesion " + ids["lesion"])
    before = None
    while not found.equals(before):
        before = found
        for column in ids.values():
            found = found.groupby(column).transform("max")  # a patient's name comes after a lesion's
    return found


def read_own(path: Path, own: Own, images: dict[str, str]) -> pd.DataFrame:
    """Read columns image, archive, lesion, label and, where there is one, split (train, val or test) of a set of one's
    own, in its order. lesion: what stays in one part, as `together` has it.

    images: the archive of each picture there is; one without a row is told on stderr and left out, as are rows of
    labels that `own.labels` does not name. Raises InputError for a row without picture, a blank or unusable label, a
    word that is no part, and a lesion in two parts.
    """
    found = tables.read_rows(path, tuple(dict.fromkeys(own.columns))).rename(columns={"image": own.image})
    roles = {"image": own.image, "label": own.label, "lesion": own.lesion, "patient": own.patient, "split": own.split}
    table = pd.DataFrame({role: found[column] for role, column in roles.items() if column})
    table["image"] = table["image"].map(stem)
    for line in table.index[table["image"].duplicated()]:
        raise InputError(f"{path}: line {line}: image {table['image'][line]} stands twice; expected one row an image")
    if own.labels:
        named = table["label"].isin(own.labels)
        if not named.all():
            others = ", ".join(sorted(set(table["label"][~named])))
            print(
                f"{path}: left out {(~named).sum()} images of labels without a name in labels: {others}",
                file=sys.stderr,
            )
        table = table[named].assign(label=table["label"].map(own.labels))
    for line in table.index[~table["label"].map(lambda label: bool(CLASS.fullmatch(label)))]:
        raise InputError(
            f"{path}: line {line}: label {table['label'][line]!r}; expected letters, digits, spaces and ._+-"
        )
    for image in table["image"][~table["image"].isin(list(images))]:
        raise InputError(
            f"{path}: image {image}: not in {', '.join(own.pictures)}; mend either and, if the folder has it, say "
            f"python -m stages.download --accept {own.pictures[0]}"
        )
    if more := sorted(set(images) - set(table["image"])):
        print(f"{path}: left out {len(more)} pictures without a row, {more[0]} the first", file=sys.stderr)
    table = table.assign(lesion=together(path, table), archive=table["image"].map(images))
    if not own.split:
        return table[["image", "archive", "lesion", "label"]].reset_index(drop=True)
    known = {word: role for role, words in ROLES.items() for word in words.split()}
    words, table["split"] = table["split"], table["split"].str.lower().map(known)
    for line in table.index[table["split"].isna()]:
        raise InputError(f"{path}: line {line}: {own.split} {words[line]!r}; expected train, val or test")
    for lesion in table.groupby("lesion")["split"].nunique().loc[lambda parts: parts > 1].index:
        raise InputError(f"{path}: {lesion} is in two parts of {own.split}; expected a lesion or a patient in one")
    return table[["image", "archive", "lesion", "label", "split"]].reset_index(drop=True)

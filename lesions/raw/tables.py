"""Read the official CSVs into one table a set; check every row against the archive and the other tables."""

import csv
import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from lesions.core.errors import InputError
from lesions.isic.names import CLASSES, DIAGNOSES, HAM_CLASSES, TESTS, TWINS, UNKNOWN, canonical
from lesions.raw.zips import members, open_archive

TRUTH_COLUMNS = ("image", *CLASSES, UNKNOWN)
UNSCORED = ("ISIC_0035068",)  # of ISIC 2018 Task 3: the official scorer leaves it out
METADATA_COLUMNS = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
MISSING = ("nan", "na", "n/a", "none", "null")  # how other programs write a blank
TRUTH_2017_COLUMNS = {"image_id": "image", "melanoma": "MEL", "seborrheic_keratosis": "BKL"}  # -> 2019's terms
TRUTH_2020_COLUMNS = ("image_name", "lesion_id", "diagnosis")
PAIRED = {"ISIC_id": "image_name_1", "ISIC_id_paired": "image_name_2"}  # other names in the list of duplicates


def content(path: Path) -> bytes:
    """Return the bytes of a table, which some ground truth has in a zip under the zip's name."""
    if path.suffix != ".zip":
        return path.read_bytes()
    found = members(path, (".csv",))
    if path.stem not in found:
        raise InputError(f"{path}: no {path.stem}.csv in it; expected the official archive of this name")
    with open_archive(path) as archive:
        return archive.read(found[path.stem])


def lines_of(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Return line number and stripped fields of each line of a CSV that is not blank, the header first, without a BOM.

    Raises InputError, which names the expected `columns`, for anything else than a CSV in UTF-8.
    """
    try:
        text = content(Path(path)).decode("utf-8-sig")
        delimiter = max(",;\t", key=text.lstrip().partition("\n")[0].count)  # as spreadsheets of some countries have it
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, [field.strip() for field in fields]) for fields in reader]
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run the download stage") from None
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not a CSV in UTF-8: {error}; expected {', '.join(columns)}; from a spreadsheet: save as CSV UTF-8"
        ) from None
    lines = [(line, fields) for line, fields in lines if any(fields)]  # no blank ones
    if not lines:
        raise InputError(f"{path}: not a CSV: no line in it; expected {', '.join(columns)}")
    return lines


def read_rows(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return the named columns of a CSV as strings, indexed by line; other columns, a BOM and blank lines are ignored.

    The first column has the images' names, with or without .jpg; the result calls it image. A blank field is ''. Raises
    InputError for a line with more or fewer fields than the header, and a column that stands twice.
    """
    lines = lines_of(path, columns)
    renamed = PAIRED if "image_name_1" in columns else {}
    header = [renamed.get(name, name) for name in lines.pop(0)[1]]
    for name in columns:
        if header.count(name) != 1:
            what = f"column {name} stands twice" if name in header else f"no column {name}"
            raise InputError(f"{path}: {what}; expected {', '.join(columns)}")
    places, rows = [header.index(name) for name in columns], {}
    for line, fields in lines:
        if len(fields) != len(header):
            raise InputError(f"{path}: line {line}: {len(fields)} fields; expected {len(header)}, as in the header")
        image, *others = (fields[place] for place in places)
        image = image.removesuffix(".jpg")
        if not image:
            raise InputError(f"{path}: line {line}: no image name")
        rows[line] = [image, *others]
    return pd.DataFrame(rows.values(), rows.keys(), ["image", *columns[1:]], dtype=str)


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table with one row an image, as `read_rows` does. Raises InputError for an image that stands twice."""
    table = read_rows(path, columns)
    ids = table["image"].map(canonical)
    for line in table.index[ids.duplicated()]:
        raise InputError(f"{path}: line {line}: image {table['image'][line]} stands twice; expected one row an image")
    return table


def read_scores(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the class columns of `table` as 0.0 and 1.0. Raises InputError for any other value."""
    scores = table[list(columns)].apply(pd.to_numeric, errors="coerce")
    for line in table.index[~scores.isin([0.0, 1.0]).all(axis=1)]:
        raise InputError(f"{path}: line {line} ({table['image'][line]}): expected 0.0 or 1.0 in each class column")
    return scores


def read_labels(path: Path, columns: Sequence[str] = TRUTH_COLUMNS) -> pd.DataFrame:
    """Read ground truth with a column a class as columns image, label. Raises InputError unless a row has one label."""
    table = read_csv(path, columns)
    scores = read_scores(path, table, columns[1:])
    chosen = scores.sum(axis=1)
    for line in table.index[chosen != 1]:
        raise InputError(
            f"{path}: line {line} ({table['image'][line]}): {int(chosen[line])} labels; expected exactly one"
        )
    return pd.DataFrame({"image": table["image"], "label": scores.idxmax(axis=1)})


def lesion_ids(path: Path, table: pd.DataFrame, column: str = "lesion_id") -> pd.Series:
    """Return the lesion of each row of `table`, read from `path`; an image without one is a lesion of its own.

    Raises InputError for what other programs write for a blank: it would be one large lesion.
    """
    for line in table.index[table[column].str.lower().isin(MISSING)]:
        raise InputError(f"{path}: line {line}: {column} {table[column][line]}; expected an id, or nothing")
    return table[column].where(table[column] != "", table["image"].map(canonical))


def read_lesions(path: Path) -> pd.DataFrame:
    """Read 2019's metadata as columns image, lesion; an image without lesion_id is a lesion of its own."""
    table = read_csv(path, METADATA_COLUMNS)
    ids, lesion = table["image"].map(canonical), lesion_ids(path, table)
    of_image = dict(zip(ids, lesion, strict=True))
    for twin, first in TWINS.items():
        if twin in of_image and first in of_image:
            lesion = lesion.replace(of_image[twin], of_image[first])
    return pd.DataFrame({"image": table["image"], "lesion": lesion})


def read_2019(truth: Path, metadata: Path, images: Iterable[str]) -> pd.DataFrame:
    """Read columns image, lesion, label of 2019, in the ground truth's order; `images` are the names in the archive.

    Raises InputError for a row without image, an image without row, and a lesion with two labels.
    """
    table = read_labels(truth)
    for line in table.index[table["label"] == UNKNOWN]:
        raise InputError(f"{truth}: line {line} ({table['image'][line]}): label UNK; expected one of the eight classes")
    agree(truth, table["image"], images, "the archive")
    lesions = read_lesions(metadata)
    agree(metadata, lesions["image"], table["image"], truth.name)
    table = table.merge(lesions, on="image", validate="one_to_one")[["image", "lesion", "label"]]
    several = table.groupby("lesion")["label"].nunique()
    for lesion in several.index[several > 1]:
        labels = ", ".join(sorted(table.loc[table["lesion"] == lesion, "label"].unique()))
        raise InputError(f"{truth}: lesion {lesion} has the labels {labels}; expected one label a lesion")
    return table


def read_2017(truth: Path, images: Iterable[str]) -> pd.DataFrame:
    """Read the ground truth of 2017 Part 3 as columns image, label (in 2019's terms), in its order.

    A melanoma is MEL, a seborrheic keratosis BKL, any other image (a naevus) NV; `images` are the names in the archive.
    Raises InputError for a row with both labels, a row without image and an image without row.
    """
    table = read_csv(truth, tuple(TRUTH_2017_COLUMNS)).rename(columns=TRUTH_2017_COLUMNS)
    agree(truth, table["image"], images, "the archive")
    scores = read_scores(truth, table, ("MEL", "BKL"))
    for line in table.index[scores.sum(axis=1) > 1]:
        raise InputError(f"{truth}: line {line} ({table['image'][line]}): 2 labels; expected one at most")
    labels = scores.assign(NV=1 - scores.sum(axis=1)).idxmax(axis=1)
    return pd.DataFrame({"image": table["image"], "label": labels})


def read_test(raw: Path, name: str, images: Iterable[str]) -> pd.DataFrame:
    """Read the ground truth of an official test set as columns image, label, in the challenge's own terms.

    2017's are those of `read_2017`, 2018 Task 3's HAM_CLASSES, 2019's have UNK. Images that the official scorer gives
    no weight are left out. Raises InputError for a row without image and an image without row.
    """
    truth = raw / TESTS[name][1]
    if name.startswith("isic2017"):
        return read_2017(truth, images).reset_index(drop=True)
    table = read_labels(truth, TRUTH_COLUMNS if name.startswith("isic2019") else ("image", *HAM_CLASSES))
    agree(truth, table["image"], images, "the archive")
    scored = ~table["image"].isin(UNSCORED)
    with suppress(InputError):  # a column that only 2019's whole table has
        scored &= read_csv(truth, ("image", "score_weight"))["score_weight"].astype(float) > 0
    return table[scored].reset_index(drop=True)


def read_2020(truth: Path, duplicates: Path, images: Iterable[str]) -> pd.DataFrame:
    """Read columns image, lesion, label of the images of 2020 that study E uses, in the ground truth's order.

    Their diagnosis is one of DIAGNOSES, and they are not the second of a pair of duplicates; `images` are the names in
    the archive. Raises InputError for a row without image, an image without row, and if none is left.
    """
    table = read_csv(truth, TRUTH_2020_COLUMNS)
    agree(truth, table["image"], images, "the archive")
    table["lesion"] = lesion_ids(truth, table)
    table["label"] = table["diagnosis"].map(DIAGNOSES)
    second = read_rows(duplicates, ("image_name_2", "image_name_1"))["image"]
    table = table[table["label"].notna() & ~table["image"].isin(second)]
    if table.empty:
        raise InputError(f"{truth}: no image with a diagnosis among {', '.join(DIAGNOSES)}; expected thousands")
    return table[["image", "lesion", "label"]].reset_index(drop=True)


def agree(path: Path, rows: Iterable[str], images: Iterable[str], where: str) -> None:
    """Raise InputError unless the rows of `path` and `images` name the same images."""
    rows, images = set(rows), set(images)
    for name in sorted(rows - images)[:1]:
        raise InputError(f"{path}: {len(rows - images)} rows without image in {where}, {name} the first; mend either")
    for name in sorted(images - rows)[:1]:
        raise InputError(f"{path}: {len(images - rows)} images of {where} without row, {name} the first; mend either")

"""Sort: make one table a set of the official CSVs, with each image's label, lesion and part.

    python -m stages.sort

Reads the tables of 2019, 2017 and 2020 in data/raw and the names in the image archives; writes
  data/sorted/isic2019.csv  image, lesion, label, cv0 … cv4, balanced, eighty (each train, val or test; see
                            lesions/isic/splits.py; '' for lesions of the test sets that sort.leave_out names)
  data/sorted/isic2018.csv  image, mask, split, fold: an image that is in the 2019 set too plays the part it has there,
                            and a lesion of which ISIC 2017 validates an image is test, so that the U-Net has never
                            seen the lesions that classifiers are scored on; fold: 0, 1 or 2, study D's three folds
  data/sorted/isic2017.csv  image, archive (train or validation), lesion, label (MEL, BKL or NV), split (train or val:
                            the official parts, though two lesions of the real set are in both)
  data/sorted/merged.csv    image, archive (isic2019, isic2020, train or validation), lesion, label, eighty: study E's
                            set, which is 2019's, what of 2017 is not there (nothing, in the whole archives) and, if
                            data.isic2020 says so, what of 2020 has one of its labels
  data/sorted/counts.csv    set, column, part, label, images: how many of each class each part of these tables has
  metrics/sort.json         images: of ISIC 2019
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.core.files import write_csv, write_json
from lesions.isic import names as isic
from lesions.isic import splits
from lesions.raw import tables
from lesions.raw.config import Sort
from lesions.raw.zips import PICTURES, masks, members

STUDY_D_FOLDS = 3
EIGHTY_STREAM, FOLD_STREAM = 1, 2  # random streams, so that one column's draws do not change another's


def ids(table: pd.DataFrame) -> pd.Series:
    return table["image"].map(isic.canonical)


def playing(table: pd.DataFrame, raw: Path, sort: Sort) -> pd.DataFrame:
    """Return the rows of lesions of which no image is in a test set that `sort.leave_out` names: the others play no
    part in any split."""
    tests = (members(raw / isic.TESTS[name][0], PICTURES) for name in sort.leave_out)
    left_out = {isic.canonical(image) for images in tests for image in images}
    return table[~table["lesion"].isin(table["lesion"][ids(table).isin(left_out)])]


def sort_2019(raw: Path, sort: Sort) -> pd.DataFrame:
    rng = np.random.default_rng(sort.seed)
    images = members(raw / isic.IMAGES_2019, PICTURES)
    table = tables.read_2019(raw / isic.TRUTH_2019, raw / isic.METADATA_2019, images)
    for label in sorted(set(isic.CLASSES) - set(table["label"])):
        raise InputError(f"{raw / isic.TRUTH_2019}: class {label}: no image; expected {sort.folds} lesions at least")
    dealt = playing(table, raw, sort)
    roles = splits.folds(dealt, sort.folds, sort.validation, rng)
    roles["balanced"] = splits.balanced(dealt, sort.validation, 1 / sort.folds, rng)
    roles["eighty"] = splits.eighty(dealt, np.random.default_rng([sort.seed, EIGHTY_STREAM]))
    return table.join(roles).fillna(dict.fromkeys(roles, ""))


def sort_merged(
    raw: Path, classified: pd.DataFrame, melanoma: pd.DataFrame, sort: Sort, isic2020: bool
) -> pd.DataFrame:
    """Return study E's set: `classified`, the 2019 set, then what it lacks of `melanoma`, the 2017 set, then the
    labelled images of 2020; all dealt out 80/10/10.

    A lesion is dealt out under its first label, so that it stays whole even if its images have two labels.
    """
    parts = [classified.assign(archive="isic2019"), melanoma[~melanoma["image"].isin(ids(classified))]]
    if isic2020:
        found = members(raw / isic.IMAGES_2020, PICTURES)
        more = tables.read_2020(raw / isic.TRUTH_2020, raw / isic.DUPLICATES_2020, found)
        parts.append(more[~more["image"].isin(ids(classified))].assign(archive="isic2020"))
    table = pd.concat(parts, ignore_index=True)[["image", "archive", "lesion", "label"]]
    whole = table.assign(label=table.groupby("lesion")["label"].transform("first"))
    dealt = playing(whole, raw, sort)
    return table.assign(eighty=splits.eighty(dealt, np.random.default_rng([sort.seed, EIGHTY_STREAM]))).fillna("")


def lesions(images: pd.Series, classified: pd.DataFrame) -> pd.Series:
    """Return the lesion that each image has in the 2019 set; an image that is not there is a lesion of its own."""
    names = images.map(isic.canonical)
    known = dict(zip(ids(classified), classified["lesion"], strict=True))
    return names.map(known).fillna(names)


def sort_2017(raw: Path, classified: pd.DataFrame) -> pd.DataFrame:
    """Return the official training and validation parts of Part 3, labelled in 2019's terms."""
    parts = []
    for archive, truth in isic.TRUTH_2017.items():
        part = tables.read_2017(raw / truth, members(raw / isic.IMAGES_2017[archive], PICTURES))
        for label in sorted(set(isic.MELANOMA_CLASSES) - set(splits.labels(part, "melanoma"))):
            raise InputError(f"{raw / truth}: class {label}: no image; expected images with and without melanoma")
        parts.append(part.assign(archive=archive, split={"train": "train", "validation": "val"}[archive]))
    table = pd.concat(parts, ignore_index=True)
    for name in table.loc[table["image"].duplicated(), "image"]:
        raise InputError(
            f"{raw / isic.TRUTH_2017['validation']}: image {name} is in the training part too; expected it in one"
        )
    table["lesion"] = lesions(table["image"], classified)
    return table[["image", "archive", "lesion", "label", "split"]]


def sort_2018(raw: Path, classified: pd.DataFrame, melanoma: pd.DataFrame, sort: Sort) -> pd.DataFrame:
    """Return pairs of image and mask, with the part and the fold of each.

    A pair has the part that its image has in fold 0 of `classified`, the 2019 set; images outside it are dealt out at
    random. Lesions that `melanoma`, the 2017 set, validates on are test whatever they are in 2019, because the U-Net
    makes study C's masks. Study D's folds are dealt among all pairs, whole lesions at a time.
    """
    images = members(raw / isic.IMAGES_2018, PICTURES)
    mask_of = masks(raw / isic.MASKS_2018)
    names = sorted(images)
    tables.agree(raw / isic.MASKS_2018, mask_of, names, "the images")
    part = dict(zip(ids(classified), classified["cv0"], strict=True))
    pairs = pd.DataFrame({"image": names, "mask": [Path(mask_of[name]).stem for name in names]})
    pairs["split"] = ids(pairs).map(part).replace("", None)
    alone = pairs["split"].isna()
    test = 1 / sort.folds
    dealt = splits.deal(
        pairs.loc[alone, "image"],
        ((1 - test) * (1 - sort.validation), (1 - test) * sort.validation, test),
        np.random.default_rng(sort.seed),
    )
    pairs.loc[alone, "split"] = dealt.map({0: "train", 1: "val", 2: "test"})
    lesion = lesions(pairs["image"], classified)
    pairs.loc[lesion.isin(melanoma.loc[melanoma["split"] == "val", "lesion"]), "split"] = "test"
    for role in ("train", "val", "test"):
        if role not in set(pairs["split"]):
            raise InputError(f"{raw / isic.IMAGES_2018}: no image falls into the {role} part; expected more images")
    rng = np.random.default_rng([sort.seed, FOLD_STREAM])
    return pairs.assign(fold=splits.deal(lesion, (1.0,) * STUDY_D_FOLDS, rng))


def count(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return set, column, part, label, images: the images of each class in each part that a column of a table deals."""
    found = []
    for name, table in tables.items():
        for column in table.columns.drop(["image", "lesion", "label"]):
            part, label = table[column].rename("part"), splits.labels(table, column).rename("label")
            counted = table.groupby([part, label])["image"].count().rename("images").reset_index()
            found.append(counted.assign(set=name, column=column))
    return pd.concat(found).query("part != ''")[["set", "column", "part", "label", "images"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--out", type=Path, default=Path("data/sorted"))
    parser.add_argument("--metrics", type=Path, default=Path("metrics/sort.json"))
    args = parser.parse_args()
    sort, isic2020 = config.read("sort", Sort), config.read("data.isic2020", bool)
    classified = sort_2019(args.raw, sort)
    melanoma = sort_2017(args.raw, classified)
    pairs = sort_2018(args.raw, classified, melanoma, sort)
    merged = sort_merged(args.raw, classified, melanoma, sort, isic2020)
    write_csv(args.out / "isic2019.csv", classified)
    write_csv(args.out / "isic2018.csv", pairs)
    write_csv(args.out / "isic2017.csv", melanoma)
    write_csv(args.out / "merged.csv", merged)
    write_csv(args.out / "counts.csv", count({"isic2019": classified, "isic2017": melanoma, "merged": merged}))
    write_json(args.metrics, {"images": len(classified)})
    print(
        f"{len(classified)} images of {classified['lesion'].nunique()} lesions, {len(pairs)} image and mask pairs, "
        f"{len(melanoma)} images of ISIC 2017, {(merged['archive'] == 'isic2020').sum()} of ISIC 2020"
    )


if __name__ == "__main__":
    run(main)

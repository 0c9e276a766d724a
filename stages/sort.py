"""Sort: make one table a set of the official CSVs, or of one's own, with each image's label, lesion and part.

    python -m stages.sort isic2019

Reads tables and names of images in data/raw; writes
  data/sorted/<set>.csv         a line an image
  data/sorted/counts/<set>.csv  set, column, part, label, images: how many of each class each part has
  data/sorted/people/<set>.csv  image, sex, age of whom it shows, as far as the official metadata or one's table say
  metrics/sort/<set>.json       images
The columns:
  isic2019  image, lesion, label, cv0 … cv4, balanced, eighty (each train, val or test; see lesions/isic/splits.py; ''
            for lesions of the test sets that sort.leave_out names)
  isic2018  image, mask, split, fold: an image that is in the 2019 set too plays the part it has there, and a lesion of
            which ISIC 2017 validates an image is test, so that the U-Net has never seen the lesions that classifiers
            are scored on; fold: 0, 1 or 2, study D's three folds
  isic2017  image, archive (train or validation), lesion, label (MEL, BKL or NV), split (train or val: the official
            parts, though two lesions of the real set are in both)
  merged    image, archive (isic2019, isic2020, train or validation), lesion, label, eighty: study E's set, which is
            2019's, what of 2017 is not there (nothing, in the whole archives) and, if data.isic2020 says so, what of
            2020 has one of its labels
  a set of one's own: image, archive (its path in data/raw), lesion (the patient where the table has one), label, cv0 …
A set that data.sets does not name is not there: what the others would take from it they do without.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.core import config
from lesions.core.errors import InputError, nearest, run
from lesions.core.files import write_csv, write_json
from lesions.isic import names as isic
from lesions.isic import splits
from lesions.raw import tables
from lesions.raw.config import Own, Sets, Sort
from lesions.raw.own import read_own, read_people
from lesions.raw.zips import PICTURES, masks, members

STUDY_D_FOLDS = 3
FEW = "expected lesions of each class in each part: more images, a smaller sort.folds, or labels without the class"
NONE = pd.DataFrame(columns=["image", "lesion", "label", "cv0", "split"])  # a set that is not there
EIGHTY_STREAM, FOLD_STREAM = 1, 2  # random streams, so that one column's draws do not change another's


def ids(table: pd.DataFrame) -> pd.Series:
    return table["image"].map(isic.canonical)


def playing(table: pd.DataFrame, raw: Path, sort: Sort) -> pd.DataFrame:
    """Return the rows of lesions of which no image is in a test set that `sort.leave_out` names: the others play no
    part in any split."""
    tests = (members(raw / isic.TESTS[name][0], PICTURES) for name in sort.leave_out)
    left_out = {isic.canonical(image) for images in tests for image in images}
    return table[~table["lesion"].isin(table["lesion"][ids(table).isin(left_out)])]


def in_folds(path: Path, table: pd.DataFrame, sort: Sort, rng: np.random.Generator) -> pd.DataFrame:
    """Return the folds of the rows of `path`. Raises InputError, naming it, for a class with too few lesions."""
    try:
        return splits.folds(table, sort.folds, sort.validation, rng)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def sort_2019(raw: Path, sort: Sort) -> pd.DataFrame:
    rng = np.random.default_rng(sort.seed)
    images = members(raw / isic.IMAGES_2019, PICTURES)
    table = tables.read_2019(raw / isic.TRUTH_2019, raw / isic.METADATA_2019, images)
    for label in sorted(set(isic.CLASSES) - set(table["label"])):
        raise InputError(f"{raw / isic.TRUTH_2019}: class {label}: no image; expected {sort.folds} lesions at least")
    dealt = playing(table, raw, sort)
    roles = in_folds(raw / isic.TRUTH_2019, dealt, sort, rng)
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
    shares = splits.shares(sort.validation, 1 / sort.folds)
    dealt = splits.deal(pairs.loc[alone, "image"], shares, np.random.default_rng(sort.seed))
    pairs.loc[alone, "split"] = dealt
    lesion = lesions(pairs["image"], classified)
    pairs.loc[lesion.isin(melanoma.loc[melanoma["split"] == "val", "lesion"]), "split"] = "test"
    for role in ("train", "val", "test"):
        if role not in set(pairs["split"]):
            raise InputError(f"{raw / isic.IMAGES_2018}: no image falls into the {role} part; expected more images")
    rng = np.random.default_rng([sort.seed, FOLD_STREAM])
    return pairs.assign(fold=splits.deal(lesion, dict.fromkeys(range(STUDY_D_FOLDS), 1.0), rng))


def sort_own(raw: Path, own: Own, sort: Sort) -> pd.DataFrame:
    """Return a set of one's own, dealt into folds or, where its table has a split, as it says.

    A lesion, or a patient, stays whole: it is dealt out under the rarest of its labels or, if that has fewer than
    `sort.folds` of them, under the commonest of these. Where the table has no validation part, `sort.validation` of its
    training part becomes one.
    """
    images: dict[str, str] = {}
    for file in own.pictures:
        for name in members(raw / file, PICTURES):
            if name in images:
                raise InputError(f"{raw / file}: picture {name} is in {images[name]} too; expected it in one of them")
            images[name] = file
    path = raw / own.table
    table, rng = read_own(path, own, images), np.random.default_rng(sort.seed)
    classes = sorted(table["label"].unique())
    if len(classes) < 2:
        raise InputError(
            f"{path}: {own.label} has {len(classes)} of the classes that are asked for; expected two at least"
        )
    often = table["label"].map(table["label"].value_counts())
    rarest = table.loc[often.groupby(table["lesion"]).idxmin()].set_index("lesion")["label"]
    few = rarest.map(rarest.value_counts()) < sort.folds
    dealt = playing(table.assign(label=table["lesion"].map(rarest.mask(few, rarest.mode()[0]))), raw, sort)
    if own.split:
        roles = dealt[["split"]].rename(columns={"split": "cv0"})
        if "val" not in set(roles["cv0"]):
            for _, of in dealt[roles["cv0"] == "train"].groupby("label"):
                part = splits.deal(of["lesion"], {"train": 1 - sort.validation, "val": sort.validation}, rng)
                roles.loc[part.index[part == "val"], "cv0"] = "val"
    else:
        roles = in_folds(path, dealt, sort, rng)
    for column in roles:
        for part in ("train", "val", "test"):
            there = set(table["label"][roles.index[roles[column] == part]])
            for label in sorted(set(classes) - there):
                where = f"{own.split} has no {part} image" if own.split else f"no image in the {part} part of {column}"
                raise InputError(f"{path}: class {label}: {where}; {FEW}")
    return table.drop(columns="split", errors="ignore").join(roles).fillna("")


def sorted_set(name: str, raw: Path, sort: Sort, sets: Sets, isic2020: bool) -> pd.DataFrame:
    """Return the table of a set, with what it takes from the studies' others, as far as they are there."""
    if isinstance(own := sets[name], Own):
        return sort_own(raw, own, sort)
    classified = sort_2019(raw, sort) if "isic2019" in sets else NONE
    if name == "isic2019":
        return classified
    melanoma = sort_2017(raw, classified) if "isic2017" in sets else NONE
    if name == "isic2017":
        return melanoma
    if name == "isic2018":
        return sort_2018(raw, classified, melanoma, sort)
    return sort_merged(raw, classified, melanoma, sort, isic2020)


def people(name: str, raw: Path, images: pd.Series, sets: Sets, isic2020: bool) -> pd.DataFrame:
    """Return image, sex, age of those of `images` of which tables in `raw` have them."""
    found = [pd.DataFrame(columns=["image", "sex", "age"])]
    if isinstance(own := sets[name], Own):
        found.append(read_people(raw / own.table, own.image, own.sex, own.age))
    elif "isic2019" in sets:
        found.append(read_people(raw / isic.METADATA_2019, "image", "sex", "age_approx"))
    if name == "merged" and isic2020:
        found.append(read_people(raw / isic.TRUTH_2020, "image_name", "sex", "age_approx"))
    key = (lambda image: image) if isinstance(own, Own) else isic.canonical
    known = pd.concat([of for of in found if len(of)] or found)
    known = known.assign(image=known["image"].map(key)).drop_duplicates("image").set_index("image")
    return known.reindex(images.map(key)).set_axis(images).rename_axis("image").dropna(how="all").reset_index()


def count(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return set, column, part, label, images: the images of each class in each part that a column of a table deals."""
    found = [pd.DataFrame(columns=["part", "label", "images", "set", "column"])]
    for column in table.columns.drop(["image", "lesion", "label"], errors="ignore") if "label" in table else ():
        part, label = table[column].rename("part"), splits.labels(table, column).rename("label")
        counted = table.groupby([part, label])["image"].count().rename("images").reset_index()
        found.append(counted.assign(set=name, column=column))
    return pd.concat(found).query("part != ''")[["set", "column", "part", "label", "images"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", help="a set of params.yaml: data.sets")
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--out", type=Path, default=Path("data/sorted"))
    args = parser.parse_args()
    sort, sets, isic2020 = config.read("sort", Sort), config.read("data.sets", Sets), config.read("data.isic2020", bool)
    if args.set not in sets:
        raise InputError(f"params.yaml: data.sets: no {args.set!r}{nearest(args.set, sets)}")
    table = sorted_set(args.set, args.raw, sort, sets, isic2020)
    write_csv(args.out / f"{args.set}.csv", table)
    write_csv(args.out / f"counts/{args.set}.csv", count(args.set, table))
    write_csv(args.out / f"people/{args.set}.csv", people(args.set, args.raw, table["image"], sets, isic2020))
    write_json(Path(f"metrics/sort/{args.set}.json"), {"images": len(table)})
    of = f" of {table['lesion'].nunique()} lesions" if "lesion" in table else " with masks"
    print(f"{args.set}: {len(table)} images{of}")


if __name__ == "__main__":
    run(main)

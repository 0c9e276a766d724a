"""Sort: the official CSVs become one table a set, with label, lesion and the part each image plays.

    python -m stages.sort

Reads data/raw/2019/*.csv and the names in the image archives; writes
  data/sorted/isic2019.csv  image, lesion, label, cv0 … cv4, balanced (each train, val or test; see lesions/splits.py)
  data/sorted/isic2018.csv  image, mask, split: an image that is in the 2019 set too plays the part it has there, so
                            that the U-Net has never seen the lesions that classifiers are tested on
  metrics/sort.json         images of each class: in all, in the test part, in the balanced set
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lesions import isic, params, splits, tables
from lesions.archive import members
from lesions.errors import InputError, run
from lesions.files import write_csv, write_json

PICTURES = (".jpg", ".jpeg", ".png")


def sort_2019(raw: Path, sort: params.Sort) -> pd.DataFrame:
    rng = np.random.default_rng(sort.seed)
    images = members(raw / isic.IMAGES_2019, PICTURES)
    table = tables.read_2019(raw / isic.TRUTH_2019, raw / isic.METADATA_2019, images)
    for label in sorted(set(isic.CLASSES) - set(table["label"])):
        raise InputError(f"{raw / isic.TRUTH_2019}: class {label}: no image; expected {sort.folds} lesions at least")
    table = table.join(splits.folds(table, sort.folds, sort.validation, rng))
    return table.assign(balanced=splits.balanced(table, sort.validation, 1 / sort.folds, rng))


def sort_2018(raw: Path, classified: pd.DataFrame, sort: params.Sort) -> pd.DataFrame:
    """Pairs of image and mask. Images outside the 2019 set are dealt out at random."""
    images = members(raw / isic.IMAGES_2018, PICTURES)
    masks = members(raw / isic.MASKS_2018, (".png",))
    names = sorted(images)
    tables.agree(raw / isic.MASKS_2018, (name.removesuffix("_segmentation") for name in masks), names, "the images")
    part = dict(zip(classified["image"].map(isic.canonical), classified["cv0"], strict=True))
    pairs = pd.DataFrame({"image": names, "mask": [f"{name}_segmentation" for name in names]})
    pairs["split"] = pairs["image"].map(isic.canonical).map(part)
    alone = pairs["split"].isna()
    test = 1 / sort.folds
    dealt = splits.deal(
        pairs.loc[alone, "image"],
        ((1 - test) * (1 - sort.validation), (1 - test) * sort.validation, test),
        np.random.default_rng(sort.seed),
    )
    pairs.loc[alone, "split"] = dealt.map({0: "train", 1: "val", 2: "test"})
    for role in ("train", "val", "test"):
        if role not in set(pairs["split"]):
            raise InputError(f"{raw / isic.IMAGES_2018}: no image falls into the {role} part; expected more images")
    return pairs


def count(table: pd.DataFrame) -> dict:
    merged = splits.merge_rare(table["label"])
    return {
        "images": {label: int((table["label"] == label).sum()) for label in isic.CLASSES},
        "lesions": int(table["lesion"].nunique()),
        "test": {label: int(((table["label"] == label) & (table["cv0"] == "test")).sum()) for label in isic.CLASSES},
        "balanced": {c: int(((merged == c) & (table["balanced"] != "")).sum()) for c in isic.BALANCED_CLASSES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--out", type=Path, default=Path("data/sorted"))
    parser.add_argument("--metrics", type=Path, default=Path("metrics/sort.json"))
    args = parser.parse_args()
    sort = params.read("sort").sort
    classified = sort_2019(args.raw, sort)
    pairs = sort_2018(args.raw, classified, sort)
    write_csv(args.out / "isic2019.csv", classified)
    write_csv(args.out / "isic2018.csv", pairs)
    write_json(args.metrics, count(classified))
    print(f"{len(classified)} images of {classified['lesion'].nunique()} lesions, {len(pairs)} image and mask pairs")


if __name__ == "__main__":
    run(main)

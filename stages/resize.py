"""Resize: decode every photograph once and write it in each size that the studies ask for, a uint8 array a size.

    python -m stages.resize isic2019

Reads the set's table in data/sorted and its archives in data/raw, straight from the zip; writes
  data/resized/<set>/<array>.npy        uint8 N×H×W×3, row i = line i of the table
  data/resized/<set>/<array>_masks.npy  uint8 N×H×W of 0 and 1, for a set with masks
All cores decode, and each writes what it made, so memory stays flat however many images there are.
"""

import argparse
import sys
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lesions.core import config
from lesions.core.errors import InputError, at_least_one, run
from lesions.core.files import array_of_rows, read_csv, replacing_folder
from lesions.core.workers import in_order, usable
from lesions.isic import names as isic
from lesions.raw import photographs
from lesions.raw.config import Resize
from lesions.raw.zips import PICTURES, members

# Set -> its archives of images, by the table's column `archive` where there can be several.
IMAGES = {
    "isic2019": {"": isic.IMAGES_2019},
    "isic2018": {"": isic.IMAGES_2018},
    "isic2017": isic.IMAGES_2017,
    "merged": {"isic2019": isic.IMAGES_2019, "isic2020": isic.IMAGES_2020} | isic.IMAGES_2017,
}
MASKS = {"isic2018": isic.MASKS_2018}

Job = tuple[int, str, str, str | None]  # row of the arrays, key of the archive, member names of an image and its mask
Put = Callable[[int, np.ndarray], None]


def preparing(
    image_zips: dict[str, Path], mask_zip: Path | None, resize: Resize, put: dict[str, Put]
) -> Callable[[Job], dict[str, float]]:
    """Return a function that puts an image and its mask, if any, in place and returns each mask's share of lesion.

    put: by array, the function that writes rows.
    """
    torch.set_num_threads(1)  # the processes share the cores out
    images = {key: zipfile.ZipFile(path) for key, path in image_zips.items()}
    masks = zipfile.ZipFile(mask_zip) if mask_zip else None

    def prepare(job: Job) -> dict[str, float]:
        row, archive, member, mask_member = job
        image, mask = photographs.decode(*photographs.read(images[archive], member)), None
        if mask_member and masks:
            mask = photographs.decode_mask(*photographs.read(masks, mask_member), image.shape[:2])
        ready = photographs.prepare(image, mask, resize)
        for name, pixels in ready.items():
            put[name](row, pixels)
        return {name: pixels.mean() for name, pixels in ready.items() if name.endswith("_masks")}

    return prepare


def find(table: pd.DataFrame, image_zips: dict[str, Path], mask_zip: Path | None) -> list[Job]:
    """Return the archive and members of each row. Raises InputError for an image or mask that its archive lacks."""
    image_of = {key: members(path, PICTURES) for key, path in image_zips.items()}
    mask_of = members(mask_zip, (".png",)) if mask_zip else {}
    jobs = []
    for number, row in enumerate(table.itertuples()):
        key = "" if "" in image_zips else row.archive
        if row.image not in image_of.get(key, {}):
            where = image_zips.get(key, f"archive {key!r}")
            raise InputError(f"{where}: no image {row.image!r}; run the sort stage on these archives again")
        if mask_zip and row.mask not in mask_of:
            raise InputError(f"{mask_zip}: no mask {row.mask!r}; run the sort stage on these archives again")
        jobs.append((number, key, image_of[key][row.image], mask_of[row.mask] if mask_zip else None))
    return jobs


def told(which: str, name: str, members: pd.Series, area: np.ndarray) -> None:
    """Say on stderr which masks have no lesion (area 0) or nothing else (1): possible, but most likely a mistake.

    Raises InputError where all are so.
    """
    for what, found in (("no lesion", members[area == 0]), ("nothing but lesion", members[area == 1])):
        if len(found) == len(members):
            raise InputError(
                f"{which}: {name}: all {len(found)} masks have {what}; expected 255 for lesion, 0 for the rest"
            )
        if len(found):
            print(f"{which}: {name}: {len(found)} masks with {what}, {found.iloc[0]} the first", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", help="a set of params.yaml: data.sets")
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--sorted", type=Path, default=Path("data/sorted"))
    parser.add_argument("--out", type=Path, default=Path("data/resized"))
    parser.add_argument("--workers", type=at_least_one, default=usable())
    args = parser.parse_args()
    resize = config.read(f"resize.{args.set}", Resize)
    mask_zip = args.raw / MASKS[args.set] if args.set in MASKS else None
    archives = IMAGES.get(args.set)
    columns = ["image"] + ["mask"] * (mask_zip is not None) + ["archive"] * (archives is None or "" not in archives)
    table = read_csv(args.sorted / f"{args.set}.csv", columns, f"stages.sort {args.set}")
    named = {"", *table.get("archive", ())}  # the merged set can be without images of 2020
    archives = archives or {name: name for name in sorted(named - {""})}  # of a set of one's own: their paths
    image_zips = {key: args.raw / name for key, name in archives.items() if key in named}
    jobs = find(table, image_zips, mask_zip)

    shapes = {name: (len(jobs), *array.shape, 3) for name, array in resize.arrays.items()}
    if mask_zip:
        shapes |= {f"{name}_masks": (len(jobs), *array.shape) for name, array in resize.arrays.items()}
    areas: dict[str, list[float]] = {name: [] for name in shapes if name.endswith("_masks")}
    with replacing_folder(args.out / args.set) as folder, ExitStack() as stack:
        put = {name: stack.enter_context(array_of_rows(folder / f"{name}.npy", of)) for name, of in shapes.items()}
        ready = in_order(partial(preparing, image_zips, mask_zip, resize, put), jobs, args.workers)
        for area in tqdm(ready, total=len(jobs), desc=args.set, unit="image"):
            for name, found in areas.items():
                found.append(area[name])
        for name, found in areas.items():
            told(args.set, name, table["mask"], np.array(found))


if __name__ == "__main__":
    run(main)

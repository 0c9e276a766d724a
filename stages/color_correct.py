"""Colour-correct: apply one method of colour constancy to every image of a set.

    python -m stages.color_correct isic2019 shades_of_gray

Methods: max_rgb, gray_world, shades_of_gray, ben_graham (lesions/pictures/color.py). Reads
data/resized/<set>/classify.npy; writes data/color/<set>-<method>.npy (same shape, uint8) and
plots/color/<set>-<method>.png (before above after).
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesions.core import config
from lesions.core.errors import at_least_one, run
from lesions.core.files import array_of_rows, read_array, rows
from lesions.core.workers import in_order, usable
from lesions.pictures import color
from lesions.pictures.config import Methods
from lesions.pictures.sheets import before_after

PART = 8  # images that a process takes at a time


def correcting(source: Path, method: str, setting, put: Callable[[int, np.ndarray], None]) -> Callable[[int], int]:
    """Return a function that corrects PART images from a number on, puts them in place and returns how many."""
    images, corrected = read_array(source), color.method(method, setting)

    def correct(first: int) -> int:
        part = np.array([corrected(image) for image in rows(images, first, first + PART)])
        put(first, part)
        return len(part)

    return correct


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", help="a set of params.yaml: data.sets")
    parser.add_argument("method")
    parser.add_argument("--workers", type=at_least_one, default=usable())
    args = parser.parse_args()
    raw = config.section(f"color_correct.methods.{args.method}")
    methods = config.validated(Methods, {args.method: raw}, config.PARAMS, "color_correct.methods")
    setting = getattr(methods, args.method)
    source, made = Path(f"data/resized/{args.set}/classify.npy"), Path(f"data/color/{args.set}-{args.method}.npy")
    images = read_array(source)
    with array_of_rows(made, images.shape) as put, tqdm(total=len(images), desc=args.method, unit="image") as progress:
        make = partial(correcting, source, args.method, setting, put)
        for count in in_order(make, range(0, len(images), PART), args.workers):
            progress.update(count)
    before_after(images, read_array(made), Path(f"plots/color/{args.set}-{args.method}.png"))


if __name__ == "__main__":
    run(main)

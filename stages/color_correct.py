"""Colour-correct: one method on every image of a set; each is an output of its own.

    python -m stages.color_correct isic2019 shades_of_gray

Methods: max_rgb, gray_world, shades_of_gray, ben_graham (lesions/color.py). Reads data/resized/<set>/classify.npy;
writes data/color/<set>-<method>.npy (same shape, uint8) and plots/color/<set>-<method>.png (before above after).
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesions import color, params
from lesions.cores import in_order, usable
from lesions.errors import run
from lesions.files import new_array, read_array, replacing, rows
from lesions.images import before_after

PART = 8  # images that a process takes at a time
worker: dict = {}  # what each process opens once


def start(images: Path, method: str, setting) -> None:
    worker.update(images=read_array(images), correct=color.method(method, setting))


def correct(first: int) -> np.ndarray:
    """The corrected images from number `first` on, uint8 n×H×W×3, n = PART but for the last."""
    return np.array([worker["correct"](image) for image in rows(worker["images"], first, first + PART)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("method")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--plots", type=Path, default=Path("plots/color"))
    parser.add_argument("--workers", type=int, default=usable())
    args = parser.parse_args()
    setting = params.read(f"color_correct.methods.{args.method}").color_correct
    source, made = args.data / f"resized/{args.set}/classify.npy", args.data / f"color/{args.set}-{args.method}.npy"
    images = read_array(source)
    firsts, given = range(0, len(images), PART), (source, args.method, setting)
    with new_array(made, images.shape) as write, tqdm(total=len(images), desc=args.method, unit="image") as progress:
        for part in in_order(correct, firsts, args.workers, start, given):
            write(part)
            progress.update(len(part))
    with replacing(args.plots / f"{args.set}-{args.method}.png") as part:
        before_after(images, read_array(made)).save(part, "PNG")


if __name__ == "__main__":
    run(main)

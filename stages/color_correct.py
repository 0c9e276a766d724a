"""Colour-correct: one method on every image of a set; each is an output of its own.

    python -m stages.color_correct isic2019 shades_of_gray

Methods: max_rgb, gray_world, shades_of_gray, ben_graham (lesions/color.py). Reads data/resized/<set>/classify.npy;
writes data/color/<set>-<method>.npy (same shape, uint8) and plots/color/<set>-<method>.png (before above after).
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from lesions import color, params
from lesions.errors import run
from lesions.files import new_array, read_array, replacing
from lesions.images import before_after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("method")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--plots", type=Path, default=Path("plots/color"))
    args = parser.parse_args()
    setting = params.read(f"color_correct.methods.{args.method}").color_correct
    correct = color.method(args.method, setting)

    images = read_array(args.data / f"resized/{args.set}/classify.npy")
    with new_array(args.data / f"color/{args.set}-{args.method}.npy", images.shape) as out:
        for row, image in enumerate(tqdm(images, desc=args.method, unit="image")):
            out[row] = correct(image)
        with replacing(args.plots / f"{args.set}-{args.method}.png") as part:
            before_after(images, out).save(part, "PNG")


if __name__ == "__main__":
    run(main)

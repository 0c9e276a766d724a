"""Colour-correct: one method on every image of the 2019 set; each method is an output of its own.

    python -m stages.color_correct shades_of_gray

Methods: max_rgb, gray_world, shades_of_gray, ben_graham (lesions/color.py). Reads data/resized/isic2019/classify.npy;
writes data/color/isic2019-<method>.npy (same shape, uint8) and plots/color/<method>.png (before above after).
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from lesions import color, params
from lesions.errors import run
from lesions.files import new_array, read_array, replacing

SHOWN = 12


def contact_sheet(before: np.ndarray, after: np.ndarray) -> Image.Image:
    """Two rows of images, uint8 n×H×W×3 each, at least 96 pixels high."""
    sheet = Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in (before, after)], axis=0))
    scale = max(1, 96 // before.shape[1])
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.BICUBIC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("--images", type=Path, default=Path("data/resized/isic2019/classify.npy"))
    parser.add_argument("--out", type=Path, default=Path("data/color"))
    parser.add_argument("--plots", type=Path, default=Path("plots/color"))
    args = parser.parse_args()
    setting = params.read(f"color_correct.{args.method}").color_correct
    correct = color.method(args.method, setting)

    images = read_array(args.images)
    with new_array(args.out / f"isic2019-{args.method}.npy", images.shape) as out:
        for row, image in enumerate(tqdm(images, desc=args.method, unit="image")):
            out[row] = correct(image)
        shown = np.linspace(0, len(images) - 1, SHOWN).astype(int)
        with replacing(args.plots / f"{args.method}.png") as part:
            contact_sheet(images[shown], out[shown]).save(part, "PNG")


if __name__ == "__main__":
    run(main)

"""Masked: apply the U-Net's masks to the images of a set (study C, experiment 1; study D, CropBest).

    python -m stages.masked isic2017_grey

grey: colour inside the lesion, grey-scale outside; flat: 128 outside; crop: the lesion's box, squeezed to the size of
the image. An image without a found lesion stays as it is. Reads data/resized/<set>/classify.npy and
data/masks/<set>.npy and .csv; writes
  data/masked/<name>.npy         uint8 N×H×W×3
  plots/masked/<name>.png        before above after
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.core.files import new_array, read_array, read_csv, replacing
from lesions.pictures import styles
from lesions.pictures.config import Masked
from lesions.pictures.sheets import before_after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of params.yaml: masked")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--plots", type=Path, default=Path("plots/masked"))
    args = parser.parse_args()
    chosen = config.read(f"masked.{args.name}", Masked)

    images = read_array(args.data / f"resized/{chosen.set}/classify.npy")
    masks = read_array(args.data / f"masks/{chosen.set}.npy")
    sides = ("top", "left", "bottom", "right")
    boxes = read_csv(args.data / f"masks/{chosen.set}.csv", sides, "stages.predict_masks")[list(sides)].to_numpy()
    if not images.shape[:3] == masks.shape or len(boxes) != len(images):
        raise InputError(
            f"data/masks/{chosen.set}.npy: {masks.shape}; expected {images.shape[:3]}; run stages.predict_masks"
        )
    apply = styles.STYLES[chosen.style]
    made = args.data / f"masked/{args.name}.npy"
    with new_array(made, images.shape) as write:
        for image, mask, box in zip(tqdm(images, desc=args.name, unit="image"), masks, boxes, strict=True):
            write(apply(image, mask, box))
    with replacing(args.plots / f"{args.name}.png") as part:
        before_after(images, read_array(made)).save(part, "PNG")


if __name__ == "__main__":
    run(main)

"""Masked: apply the U-Net's masks to the images of a set (study C, experiment 1; study D, CropBest).

    python -m stages.masked isic2017_grey

An image without a found lesion stays as it is. Reads data/resized/<set>/classify.npy and
data/masks/<set>.npy and .csv; writes
  data/masked/<name>.npy         uint8 N×H×W×3
  plots/masked/<name>.png        before above after
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.core.files import array_of_rows, read_array, read_csv
from lesions.core.images import squeezed
from lesions.pictures.config import Masked
from lesions.pictures.sheets import before_after

SIDES = ["top", "left", "bottom", "right"]
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's mode L


def styled(style: str, image: np.ndarray, mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the image, uint8 H×W×3, in a style of its mask, uint8 H×W of 0 and 1; as it is where the mask is empty.

    grey: luma outside the mask (study C, section 4.1). flat: 128 outside. crop: the box (top, left, bottom, right; ends
    exclusive), squeezed to the image's size (study D, CropBest).
    """
    if style == "crop":
        top, left, bottom, right = box
        return squeezed(image[top:bottom, left:right], image.shape[:2])
    outside = np.rint(image @ GREY).astype(np.uint8)[..., None] if style == "grey" else np.uint8(128)
    return np.where(mask[..., None] > 0, image, outside) if mask.any() else image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of params.yaml: masked")
    name = parser.parse_args().name
    chosen = config.read(f"masked.{name}", Masked)

    found, made = Path(f"data/masks/{chosen.set}.npy"), Path(f"data/masked/{name}.npy")
    images, masks = read_array(Path(f"data/resized/{chosen.set}/classify.npy")), read_array(found)
    boxes = read_csv(found.with_suffix(".csv"), SIDES, "stages.predict_masks")[SIDES].to_numpy()
    if images.shape[:3] != masks.shape or len(boxes) != len(images):
        raise InputError(f"{found}: {masks.shape}; expected {images.shape[:3]}; run stages.predict_masks")
    with array_of_rows(made, images.shape) as put:
        for row, image in enumerate(tqdm(images, desc=name, unit="image")):
            put(row, styled(chosen.style, image, masks[row], boxes[row]))
    before_after(images, read_array(made), Path(f"plots/masked/{name}.png"))


if __name__ == "__main__":
    run(main)

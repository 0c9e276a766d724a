"""Predict masks: find the lesion's mask and box in every image of a set, with the U-Nets that predict_masks.sets names.

    python -m stages.predict_masks isic2019

Reads models/segment (study A's U-Net) or models/unet34 (the mean of study D's folds), data/sorted/<set>.csv and
data/resized/<set>/classify.npy; writes
  data/masks/<set>.npy   uint8 N×H×W of 0 and 1, at the size of classify.npy
  data/masks/<set>.csv   image, top, left, bottom, right (pixels, end exclusive), area (part of the image)
An image without a found lesion gets the whole picture as its box and area 0.

The U-Nets have learnt on whole photographs, squeezed to their size. A squeezed image is squeezed to that size too; a
crop is enlarged with its aspect kept and placed where it was in such a photograph; its border is repeated to both
sides.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from lesions.batches.feed import Feed
from lesions.core import config
from lesions.core.errors import InputError, nearest, run
from lesions.core.files import array_of_rows, read_array, read_csv, write_csv
from lesions.segment import unet
from lesions.segment.config import PredictMasks, Segment, Unet34
from lesions.training import hardware
from lesions.training.config import Compute

BATCH = 32
KINDS: dict[str, type[Segment] | type[Unet34]] = {"segment": Segment, "unet34": Unet34}


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right of a uint8 H×W mask; the whole picture for an empty one."""
    if not mask.any():
        return (0, 0, *mask.shape)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def framed(images: Tensor, frame: tuple[int, ...], crops: bool) -> tuple[Tensor, tuple[slice, ...]]:
    """Place images in the `frame` of photographs that the U-Net learnt on: float B×3×`frame`, and the box they fill."""
    size = frame
    if crops:
        scale = min(outer / inner for outer, inner in zip(frame, images.shape[2:], strict=True))
        size = tuple(round(scale * inner) for inner in images.shape[2:])
    placed = functional.interpolate(images, size=size, mode="bilinear", antialias=True)
    before = [(outer - inner) // 2 for outer, inner in zip(frame, size, strict=True)]
    after = [outer - inner - first for outer, inner, first in zip(frame, size, before, strict=True)]
    placed = functional.pad(placed, (before[1], after[1], before[0], after[0]), mode="replicate")
    return placed, tuple(slice(first, first + inner) for first, inner in zip(before, size, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", help="a set of params.yaml: data.sets")
    name = parser.parse_args().set
    setting, compute = config.read("predict_masks", PredictMasks), config.read("compute", Compute)
    fit = config.read(f"resize.{name}.arrays.classify.fit", str)
    if name not in setting.sets:
        raise InputError(f"params.yaml: predict_masks.sets: no {name}{nearest(name, setting.sets)}")
    which = setting.sets[name]
    nets = config.read(which, KINDS[which])
    states = nets.states(setting.checkpoint) if isinstance(nets, Segment) else nets.states()
    trained_at = tuple(config.section("resize.isic2018.arrays")[nets.array]["shape"])

    device = hardware.prepare(compute, 0)
    table = read_csv(Path(f"data/sorted/{name}.csv"), ("image",), f"stages.sort {name}")[["image"]]
    pixels = read_array(Path(f"data/resized/{name}/classify.npy"), len(table))
    models = unet.trained(nets.decoder, nets.encoder, trained_at, states, device)
    images, rows = Feed([pixels], device), np.arange(len(table))

    boxes = []
    with array_of_rows(Path(f"data/masks/{name}.npy"), pixels.shape[:3]) as put:
        for start in tqdm(range(0, len(rows), BATCH), desc="mask", unit="batch"):
            index = rows[start : start + BATCH]
            batch, (down, across) = framed(images.batch(index).float(), trained_at, crops=fit == "crop")
            p = unet.mean(models, batch.round().clamp(0, 255).byte(), compute)[:, None, down, across]
            p = functional.interpolate(p, size=pixels.shape[1:3], mode="bilinear", antialias=True)[:, 0]
            masks = (p > setting.threshold).cpu().numpy()
            put(start, masks)
            boxes += [(*box(mask), mask.mean()) for mask in masks]
    found = pd.DataFrame(boxes, columns=["top", "left", "bottom", "right", "area"])
    write_csv(Path(f"data/masks/{name}.csv"), pd.concat([table, found], axis=1))


if __name__ == "__main__":
    run(main)

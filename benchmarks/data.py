"""Write small stand-ins for what the stages before training write: a sorted table and its array."""

from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.classify.config import Classifier
from lesions.isic.names import CLASSES
from lesions.pictures.config import size_of
from lesions.tools.check import Params

Size = tuple[int, int]  # height, width

# Replaces keys of a classifier's block: one epoch from random weights, no layer frozen, on the images of `write` alone.
SHORT = {"epochs": 1, "phases": (), "cycles": 1, "generated": "none", "weights": "data/weights/none"}


def distinct(chosen: Params, names: Container[str], *what: str) -> Iterator[tuple[str, Classifier, Size]]:
    """Yield the name, block and image size of each classifier among `names` (none: all) that differs from those before
    it in network, size, batch or a key of `what`."""
    seen = set()
    for name, block in chosen.classifiers.items():
        pixels = size_of(block.images, chosen)
        key = block.family, block.network, pixels, block.batch, *(getattr(block, key) for key in what)
        if key not in seen and (not names or name in names):
            yield name, block, pixels
            seen.add(key)


def pixels(count: int, size: Size, channels: tuple[int, ...] = (3,)) -> np.ndarray:
    """Return random images, uint8 count×height×width×channels."""
    return np.random.default_rng(0).integers(0, 256, (count, *size, *channels), np.uint8)


def write(folder: Path, block: Classifier, images: np.ndarray) -> np.ndarray:
    """Write what `block` reads below `folder`: the classes in turn, the last 16 images to validate and to test, none
    generated. `images`: uint8 N×H×W×3. Returns the labels, str (N,)."""
    labels, roles = np.resize(CLASSES, len(images)), np.repeat(["train", "val", "test"], [len(images) - 16, 8, 8])
    names = [f"HAM_{number}" for number in range(len(images))]
    table = pd.DataFrame({"image": names, "lesion": names, "label": labels})
    table = table.assign(**dict.fromkeys(("cv0", "cv1", "cv2", "balanced", "eighty", "split"), roles))
    csv = folder / f"sorted/{block.set}.csv"
    arrays = {folder / f"{block.images}.npy": images, folder / "generated/none.npy": images[:0]}
    for path in (csv, *arrays):
        path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(csv, index=False)
    for path, array in arrays.items():
        np.save(path, array)
    return labels

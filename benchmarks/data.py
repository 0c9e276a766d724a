"""Small stand-ins for what the stages before training write: a sorted table and its array."""

from collections.abc import Container, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.isic import CLASSES
from lesions.params import Classifier, Params, size_of

# Over a classifier's block: one epoch from random weights, all of it training, on `write`'s images alone.
SHORT = {"epochs": 1, "phases": (), "cycles": 1, "generated": "none", "weights": "data/weights/none"}


def distinct(chosen: Params, names: Container[str], *what: str) -> Iterator[tuple[str, Classifier, tuple[int, int]]]:
    """The name, block and image size of each classifier among `names` (none: all) that differs from those before it in
    architecture, size, batch or a key of `what`."""
    seen = set()
    for name, block in chosen.classifiers.items():
        pixels = size_of(chosen, block.images)
        key = block.architecture, pixels, block.batch, *(getattr(block, key) for key in what)
        if key not in seen and (not names or name in names):
            yield name, block, pixels
            seen.add(key)


def write(folder: Path, block: Classifier, pixels: np.ndarray) -> np.ndarray:
    """The table and the array that `block` reads below `folder`: the classes in turn, the last 16 images to validate
    and to test, no generated ones. `pixels`: uint8 N×H×W×3. Returns the labels, str (N,)."""
    count = len(pixels)
    labels = np.resize(CLASSES, count)
    roles = np.array(["train"] * (count - 16) + ["val"] * 8 + ["test"] * 8)
    table = pd.DataFrame({"image": [f"ISIC_{n:07d}" for n in range(count)], "label": labels})
    table["lesion"] = [f"HAM_{n}" for n in range(count)]
    table = table.assign(**dict.fromkeys(("cv0", "cv1", "cv2", "balanced", "eighty", "split"), roles))
    files = {f"{block.images}.npy": pixels, "generated/none.npy": pixels[:0]}
    for path in (folder / name for name in (f"sorted/{block.set}.csv", *files)):
        path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / f"sorted/{block.set}.csv", index=False)
    for name, array in files.items():
        np.save(folder / name, array)
    return labels


def repeated(batch, steps: int):
    """`batches` of training.fit: the same batch `steps` times."""
    return lambda epoch, start: (steps, islice(iter(lambda: batch, None), steps))

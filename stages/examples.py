"""Examples: draw what networks are shown: every colour method and every augmentation, beside the pictures as they are.

    python -m stages.examples

Reads data/augmented.json (which classifier augments how), data/sorted and data/resized; writes
  plots/examples/colours_<set>.png     melanomas and other lesions under each method of color_correct
  plots/examples/<augmentation>.png    images of the first classifier that is augmented so, as they are and as drawn
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from lesions.batches import augment
from lesions.core import config
from lesions.core.errors import run
from lesions.core.files import read_array, read_csv, replacing_folder
from lesions.pictures import color
from lesions.pictures.config import ColorCorrect
from lesions.pictures.sheets import Rows, beside

SHOWN = 6  # pictures of a row


def spread(rows: np.ndarray) -> np.ndarray:
    """Return SHOWN of the rows, evenly spread; all where there are fewer."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, SHOWN).astype(int))]


def colours(name: str, setting: ColorCorrect) -> Rows:
    """Return melanomas and others of a set as they are, and under each method that is run."""
    labels = read_csv(Path(f"data/sorted/{name}.csv"), ("label",), f"stages.sort {name}")["label"]
    images, found = read_array(Path(f"data/resized/{name}/classify.npy"), len(labels)), {}
    for kind, chosen in (("melanomas", labels == "MEL"), ("others", labels != "MEL")):
        if not chosen.any():
            continue
        shown = images[spread(np.flatnonzero(chosen))]
        found[f"{kind}, as they are"] = shown
        for method in sorted(setting.methods.model_fields_set):
            corrected = color.method(method, getattr(setting.methods, method))
            found[f"{kind}, {method}"] = np.array([corrected(image) for image in shown])
    return found


def augmented(array: str, names: tuple[str, ...]) -> Rows:
    """Return images of an array as they are, and twice as the augmentation `names` draws them."""
    images = read_array(Path(f"data/{array}.npy"))
    shown, found = images[spread(np.arange(len(images)))], {}
    batch = torch.from_numpy(shown).permute(0, 3, 1, 2).contiguous()
    found["as they are"] = shown
    for draw in (1, 2):
        pixels, _ = augment.augmented(names, batch, None, torch.Generator().manual_seed(draw))
        found[f"drawn, {draw}"] = (255 * pixels).round().byte().permute(0, 2, 3, 1).numpy()
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    setting = config.read("color_correct", ColorCorrect)
    sheets = {f"colours_{name}": (name, colours(name, setting)) for name in setting.sets}
    for file, one in config.read_yaml(Path("data/augmented.json")).items():
        names = tuple(one["augment"])
        title = f"{', '.join(names)}: of {one['classifier']} and classifiers like it"
        sheets[file] = (title, augmented(one["images"], names))
    with replacing_folder(Path("plots/examples")) as folder:
        for file, (title, rows) in sheets.items():
            beside(title, rows).savefig(folder / f"{file}.png", dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    run(main)

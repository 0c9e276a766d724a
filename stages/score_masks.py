"""Score masks: predict the official test sets of Task 1 that data.tests names with the U-Nets of studies A and D.

    python -m stages.score_masks

Reads models/segment/jaccard.pt, the folds of models/unet34 and the test archives in data/raw; writes
  data/predictions/tests_masks.csv            test, model (segment, unet34: the mean of its folds), image, jaccard, dice
  data/submissions/masks/<model>/<test>.zip   the file that the challenge asked for: a PNG an image
Each mask is brought back to its photograph's size and scored there, as the challenge did.
"""

import argparse
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.core.files import replacing_folder, write_csv
from lesions.isic import metrics
from lesions.isic.names import TESTS, Test
from lesions.raw import photographs, tables
from lesions.raw.config import Resize
from lesions.raw.zips import members
from lesions.segment import unet
from lesions.segment.config import Segment, Unet34
from lesions.training import checkpoints, loop
from lesions.training.config import Compute

RAW = Path("data/raw")
COLUMNS = ["test", "model", "image", "jaccard", "dice"]
Pair = tuple[str, np.ndarray, np.ndarray]  # name, uint8 H×W×3, uint8 H×W of 0 and 255


def pairs(test: str) -> Iterator[Pair]:
    """Yield name, photograph and true mask of a test set. Raises InputError unless each image has a mask."""
    archives = [RAW / file for file in TESTS[test]]
    images, masks = members(archives[0], (".jpg", ".jpeg", ".png")), members(archives[1], (".png",))
    tables.agree(archives[1], (name.removesuffix("_segmentation") for name in masks), images, "the images")
    with zipfile.ZipFile(archives[0]) as of_images, zipfile.ZipFile(archives[1]) as of_masks:
        for name, member in tqdm(images.items(), desc=test, unit="image"):
            image = photographs.decode(*photographs.read(of_images, member))
            mask = photographs.read(of_masks, masks[f"{name}_segmentation"])
            yield name, image, photographs.decode_mask(*mask, image.shape[:2])


def predicted(models: list[nn.Module], image: np.ndarray, resize: Resize, array: str, compute: Compute) -> np.ndarray:
    """Return bool H×W: the mean of the models' masks of a photograph, at its own size."""
    ready = torch.from_numpy(photographs.prepare(image, None, resize)[array]).permute(2, 0, 1)[None]
    device = next(models[0].parameters()).device
    p = torch.stack([unet.probabilities(model, ready.to(device), compute) for model in models]).mean(dim=0)[None]
    return (functional.interpolate(p, size=image.shape[:2], mode="bilinear")[0, 0] > 0.5).cpu().numpy()


def loaded(setting: Segment | Unet34, paths: list[Path], resize: Resize, array: str, device: torch.device) -> list:
    """Return U-Nets for whole pictures of an array's size. Raises InputError for an array of parts of pictures."""
    if resize.crop_border or resize.arrays[array].fit != "squeeze":
        raise InputError(f"params.yaml: resize.isic2018: {array}: expected whole pictures (squeeze, no crop_border)")
    found = []
    for path in paths:
        model = unet.build(setting.decoder, setting.encoder, resize.arrays[array].size)
        checkpoints.load_into(model, path)
        found.append(model.to(device).to(memory_format=torch.channels_last))
    return found


def png(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(255 * mask.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    segment, unet34 = config.read("segment", Segment), config.read("unet34", Unet34)
    compute, resize = config.read("compute", Compute), config.read("resize.isic2018", Resize)
    tests = [test for test in config.read("data.tests", tuple[Test, ...]) if "task1" in test]
    device = loop.prepare(compute, 0)
    folds = [Path(f"models/unet34/{fold}.pt") for fold in unet34.folds]
    nets = {
        "segment": (segment, [Path("models/segment/jaccard.pt")], "segment"),
        "unet34": (unet34, folds, unet34.phases[-1].array),
    }
    found = []
    with replacing_folder(Path("data/submissions/masks")) as submissions:
        for name, (setting, paths, array) in nets.items():
            models = loaded(setting, paths, resize, array, device) if tests else []
            (submissions / name).mkdir()
            for test in tests:
                with zipfile.ZipFile(submissions / name / f"{test}.zip", "w") as archive:
                    for image, pixels, truth in pairs(test):
                        guess, true = predicted(models, pixels, resize, array, compute), truth > 0
                        both, either = np.array([(guess & true).sum()]), np.array([(guess | true).sum()])
                        score = [metrics.jaccard(both, either)[0], metrics.dice(both, either)[0]]
                        found.append([test, name, image, *score])
                        entry = zipfile.ZipInfo(f"{image}_segmentation.png")  # dated 1980: the same bytes each time
                        archive.writestr(entry, png(guess))
    write_csv(Path("data/predictions/tests_masks.csv"), pd.DataFrame(found, columns=COLUMNS))


if __name__ == "__main__":
    run(main)

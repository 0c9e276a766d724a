"""Score masks: predict the official test sets of Task 1 that data.tests names with the U-Nets of studies A and D.

    python -m stages.score_masks

Sets of one's own that have masks are test sets too, without the lesions of which the U-Nets have learnt an image. Reads
models/segment/jaccard.pt, the folds of models/unet34, tables in data/sorted and the archives in data/raw; writes
  data/predictions/tests_masks.csv            test, model (segment, unet34: the mean of its folds), image, jaccard, dice
  data/submissions/masks/<model>/<test>.zip   the file that the challenge asked for: a PNG an image
Each mask is brought back to its photograph's size and scored there, as the challenge did.
"""

import argparse
import io
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.core.files import read_csv, replacing_folder, write_csv
from lesions.isic import metrics
from lesions.isic.names import TESTS, Test
from lesions.raw import photographs, tables
from lesions.raw.config import Own, Resize, Sets
from lesions.raw.zips import PICTURES, masks, members
from lesions.segment import unet
from lesions.segment.config import Segment, Unet34
from lesions.training import hardware
from lesions.training.config import Compute

RAW, SORTED = Path("data/raw"), Path("data/sorted")
COLUMNS = ["test", "model", "image", "jaccard", "dice"]
Pair = tuple[str, np.ndarray, np.ndarray]  # name, uint8 H×W×3, uint8 H×W of 0 and 255


def official(test: str) -> dict[str, Path]:
    """Return the archive of each image of an official test set. Raises InputError unless each has a mask."""
    images, of_masks = (RAW / file for file in TESTS[test])
    found = dict.fromkeys(members(images, PICTURES), images)
    tables.agree(of_masks, masks(of_masks), found, "the images")
    return found


def unseen(name: str, of_masks: Path) -> dict[str, Path]:
    """Return the archive of each image of one's own set that has a mask and of whose lesion no U-Net has learnt."""
    table = read_csv(SORTED / f"{name}.csv", ("image", "archive", "lesion"), f"stages.sort {name}")
    learnt = read_csv(SORTED / "isic2018.csv", ("image", "split"), "stages.sort isic2018").query("split != 'test'")
    seen = table["lesion"].isin(table["lesion"][table["image"].isin(learnt["image"])])
    there = table["image"].isin(list(masks(of_masks)))
    if not there.any():
        raise InputError(
            f"{of_masks}: no mask of an image of {name}; expected <image>.png, _segmentation or _mask behind it"
        )
    rows = table[~seen & there]
    print(f"{name}: {len(rows)} of {there.sum()} masks are of lesions that no U-Net has learnt")
    return {row.image: RAW / row.archive for row in rows.itertuples()}


def pairs(test: str, archive_of: dict[str, Path], of_masks: Path) -> Iterator[Pair]:
    """Yield name, photograph and true mask of each image."""
    mask_of = masks(of_masks)
    with ExitStack() as stack:
        zips = {path: stack.enter_context(zipfile.ZipFile(path)) for path in {*archive_of.values(), of_masks}}
        member_of = {path: members(path, PICTURES) for path in set(archive_of.values())}
        for name, path in tqdm(archive_of.items(), desc=test, unit="image"):
            image = photographs.decode(*photographs.read(zips[path], member_of[path][name]))
            mask = photographs.read(zips[of_masks], mask_of[name])
            yield name, image, photographs.decode_mask(*mask, image.shape[:2])


class Net(NamedTuple):
    """A U-Net, or the folds that are averaged, and the array of isic2018 that it takes its pictures like."""

    models: list[nn.Module]
    array: str

    def mask(self, ready: dict[str, np.ndarray], size: tuple[int, int], compute: Compute) -> np.ndarray:
        """Return bool of `size`: the mean of the models' masks. ready: a photograph by array, uint8 h×w×3."""
        device = next(self.models[0].parameters()).device
        pixels = torch.from_numpy(ready[self.array]).permute(2, 0, 1)[None].to(device)
        p = unet.mean(self.models, pixels, compute)[None]
        return (functional.interpolate(p, size=size, mode="bilinear")[0, 0] > 0.5).cpu().numpy()


def loaded(setting: Segment | Unet34, resize: Resize, device: torch.device) -> Net:
    """Return U-Nets for whole pictures of their array's size. Raises InputError for an array of parts of pictures."""
    array = resize.arrays[setting.array]
    if resize.crop_border or array.fit != "squeeze":
        raise InputError(
            f"params.yaml: resize.isic2018: {setting.array}: expected whole pictures (squeeze, no crop_border)"
        )
    models = unet.trained(setting.decoder, setting.encoder, array.shape, setting.states(), device)
    return Net(models, setting.array)


def scores(guess: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return Jaccard and Dice of two masks, bool H×W."""
    counts = np.array([(guess & truth).sum()]), np.array([(guess | truth).sum()])
    return float(metrics.jaccard(*counts)[0]), float(metrics.dice(*counts)[0])


def png(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(255 * mask.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    segment, unet34 = config.read("segment", Segment), config.read("unet34", Unet34)
    compute, resize = config.read("compute", Compute), config.read("resize.isic2018", Resize)
    sets = config.read("data.sets", Sets).items()
    tests = {test: RAW / TESTS[test][1] for test in config.read("data.tests", tuple[Test, ...]) if "task1" in test}
    own = {name: RAW / of.masks for name, of in sets if isinstance(of, Own) and of.masks}
    device = hardware.prepare(compute, 0)
    settings: dict[str, Segment | Unet34] = {"segment": segment, "unet34": unet34} if tests or own else {}
    nets = {name: loaded(setting, resize, device) for name, setting in settings.items()}
    needed = resize.model_copy(update={"arrays": {net.array: resize.arrays[net.array] for net in nets.values()}})
    found: dict[str, list] = {name: [] for name in nets}
    with replacing_folder(Path("data/submissions/masks")) as submissions:
        for name in ("segment", "unet34"):
            (submissions / name).mkdir()
        for test, of_masks in (tests | own).items():
            archive_of = unseen(test, of_masks) if test in own else official(test)
            with ExitStack() as stack:
                archives = {
                    name: stack.enter_context(zipfile.ZipFile(submissions / name / f"{test}.zip", "w")) for name in nets
                }
                for image, pixels, truth in pairs(test, archive_of, of_masks):
                    ready = photographs.prepare(pixels, None, needed)
                    for name, net in nets.items():
                        guess = net.mask(ready, pixels.shape[:2], compute)
                        found[name].append([test, name, image, *scores(guess, truth > 0)])
                        entry = zipfile.ZipInfo(f"{image}_segmentation.png")  # dated 1980: the same bytes each time
                        archives[name].writestr(entry, png(guess))
    lines = [line for of in found.values() for line in of]
    write_csv(Path("data/predictions/tests_masks.csv"), pd.DataFrame(lines, columns=COLUMNS))


if __name__ == "__main__":
    run(main)

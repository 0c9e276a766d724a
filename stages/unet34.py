"""Unet34 (study D): train a U-Net on small images, then on larger ones, and validate it on one of three folds.

    python -m stages.unet34 0

Every phase of `unet34` in params.yaml (array of images, what learns, epochs) begins with a learning-rate range test and
goes on under one-cycle at the rate it suggests; the weights pass from phase to phase. Reads data/sorted/isic2018.csv
(its test part is held out from all folds), data/resized/isic2018 and data/weights/<weights>; writes
  models/unet34/<fold>.pt                 the state of the highest Jaccard at the last phase's size
  data/predictions/unet34/<fold>.csv      image, jaccard, dice of the fold's images, which this model never saw
  data/predictions/unet34/<fold>.npy      uint8 n×H×W, probabilities × 255 of the held-out test part, for the ensemble
  metrics/unet34/<fold>.json              mean Jaccard, thresholded Jaccard, Dice and loss of the fold
  plots/unet34/<fold>/history.csv, range_<phase>.png
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from lesions.batches import augment
from lesions.core import config, errors, resume
from lesions.core.files import array_of_rows, read_array, read_csv, replacing_folder, write_csv, write_json
from lesions.segment import unet
from lesions.segment.config import Unet34
from lesions.segment.pairs import Pairs, summary
from lesions.training import checkpoints, hardware, loop, range_test
from lesions.training.config import Compute, Optimisation, Phase

SORTED, RESIZED = Path("data/sorted/isic2018.csv"), Path("data/resized/isic2018")
PREDICTIONS = Path("data/predictions/unet34")


def parts(table: pd.DataFrame, fold: int) -> dict[str, np.ndarray]:
    """Return the rows to train on, to validate on (the fold), and of the test part that no fold sees."""
    test, mine = table["split"] == "test", table["fold"] == fold
    chosen = {"train": ~test & ~mine, "val": ~test & mine, "test": test}
    return {role: np.flatnonzero(of) for role, of in chosen.items()}


def grow(
    model: nn.Module, pairs: Pairs, number: int, setting: Unet34, compute: Compute, stage: str, run: resume.Run
) -> loop.Fit:
    """Train the phase of that number, at the rate that a range test finds."""
    phase = setting.phases[number - 1]
    recipe = Optimisation(
        epochs=phase.epochs, batch=setting.batch, optimizer=setting.optimizer, lr=1.0, schedule="onecycle",
        phases=(Phase(epochs=phase.epochs, lr="range", train=phase.train),), range_steps=setting.range_steps,
        weight_decay=setting.weight_decay, augment=setting.augment, seed=setting.seed + 100 * number,
    )  # fmt: skip
    return pairs.fit(model, recipe, setting.loss, compute, ("jaccard",), f"{stage}-{number}", run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fold", type=int)
    fold = parser.parse_args().fold
    setting, compute = config.read("unet34", Unet34), config.read("compute", Compute)
    augment.known(setting.augment)

    if fold not in setting.folds:
        known = ", ".join(map(str, setting.folds))
        raise errors.InputError(f"params.yaml: unet34.folds: no fold {fold}; there is {known}")
    device = hardware.prepare(compute, setting.seed)
    table = read_csv(SORTED, ("image", "split", "fold"), "stages.sort isic2018")
    rows, weights = parts(table, fold), Path("data/weights", setting.weights)
    arrays = [RESIZED / f"{phase.array}.npy" for phase in setting.phases]
    sizes, start = [read_array(array).shape[1:3] for array in arrays], None if setting.weights == "none" else weights
    model = unet.build(setting.decoder, setting.encoder, *sizes, weights=start)
    model.to(device).to(memory_format=torch.channels_last)
    stage, grown = f"unet34-{fold}", []
    with resume.begin(stage, [setting, compute], [SORTED, RESIZED, weights], hardware.device_name(compute)) as run:
        for number, array in enumerate(arrays, start=1):
            pairs = Pairs(array, rows, len(table), device, setting.encoder)
            grown.append(grow(model, pairs, number, setting, compute, stage, run))

    _, state = grown[-1].best["jaccard"]
    model.load_state_dict(state)
    mean, jaccards, dices = pairs.score(model, "val", setting.batch, setting.loss, compute)

    checkpoints.save_one(Path(f"models/unet34/{fold}.pt"), state)
    scored = table[["image"]].iloc[rows["val"]].assign(jaccard=jaccards, dice=dices)
    write_csv(PREDICTIONS / f"{fold}.csv", scored)
    with array_of_rows(PREDICTIONS / f"{fold}.npy", (len(rows["test"]), *sizes[-1])) as put:
        for first in range(0, len(rows["test"]), setting.batch):
            p = unet.probabilities(model, pairs.images.batch(rows["test"][first : first + setting.batch]), compute)
            put(first, (255 * p).round().byte().cpu().numpy())
    write_json(Path(f"metrics/unet34/{fold}.json"), summary(mean, jaccards, dices))
    with replacing_folder(Path(f"plots/unet34/{fold}")) as folder:
        histories = []
        for number, found in enumerate(grown, start=1):
            histories.append(found.history.assign(phase=number))
            range_test.draw({number: found.curves[1]}, folder)
        history = pd.concat(histories, ignore_index=True)
        write_csv(folder / "history.csv", history.assign(epoch=np.arange(1, len(history) + 1)))


if __name__ == "__main__":
    errors.run(main)

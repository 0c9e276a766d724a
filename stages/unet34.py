"""Unet34 (study D): train a U-Net on small images, then on larger ones, and validate it on one of three folds.

    python -m stages.unet34 0

Every phase of `unet34` in params.yaml (array of images, what learns, epochs) begins with a learning-rate range test and
goes on under one-cycle at the rate it suggests; the weights pass from phase to phase. Reads data/sorted/isic2018.csv
(its test part is held out from all folds), data/resized/isic2018 and data/weights/<weights>; writes
  models/unet34/<fold>.pt                 the state of the highest Jaccard at the last phase's size
  data/predictions/unet34/<fold>.csv      image, jaccard, dice of the fold's images, which this model never saw
  data/predictions/unet34/<fold>.npy      uint8 n×H×W, probabilities × 255 of the held-out test part, for the ensemble
  metrics/unet34/<fold>.json              mean Jaccard, thresholded Jaccard, Dice and loss of the fold
  plots/unet34/<fold>/history.csv, range_<phase>.png; column `lr`: the rate that each phase found
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from lesions.batches import augment
from lesions.core import config, errors, resume
from lesions.core.files import new_array, read_array, read_csv, replacing_folder, write_csv, write_json
from lesions.segment import unet
from lesions.segment.config import ArrayPhase, Unet34
from lesions.segment.pairs import Pairs, loss_of, summary
from lesions.training import checkpoints, loop, range_test
from lesions.training.config import Compute, Optimisation, Phase
from lesions.training.freezing import freeze

CHECKPOINTS = ("jaccard",)


def parts(table: pd.DataFrame, fold: int) -> dict[str, np.ndarray]:
    """Return the rows to train on, to validate on (the fold), and of the test part that no fold sees."""
    test, mine = table["split"] == "test", table["fold"] == fold
    return {
        "train": np.flatnonzero(~test & ~mine),
        "val": np.flatnonzero(~test & mine),
        "test": np.flatnonzero(test),
    }


def grow(
    model: nn.Module, pairs: Pairs, phase: ArrayPhase, recipe: Optimisation, setting: Unet34,
    compute: Compute, device: torch.device, name: str, run: resume.Run,
) -> tuple[loop.Fit, pd.DataFrame, float]:  # fmt: skip
    """Train one phase: freeze, find the rate, train at it. Returns the training, the range test's curve, the rate."""
    freeze(model, phase.train)
    loss = loss_of(setting.loss)
    curve, rate = range_test.find(
        model, recipe, compute, device, lambda: pairs.batches(recipe, 0)[1], loss, steps=setting.range_steps
    )
    at_rate = Phase(epochs=phase.epochs, lr=rate, train=phase.train)
    found = loop.fit(
        model, recipe.model_copy(update={"phases": (at_rate,)}), loop.switches(compute, device), device,
        batches=partial(pairs.batches, recipe), loss_of=loss, keep=CHECKPOINTS, name=name, run=run,
        validate=lambda model: pairs.validate(model, recipe, setting.loss, compute),
    )  # fmt: skip
    return found, curve, rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fold", type=int)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("models/unet34"))
    parser.add_argument("--metrics", type=Path, default=Path("metrics/unet34"))
    parser.add_argument("--plots", type=Path, default=Path("plots/unet34"))
    args = parser.parse_args()
    setting, compute = config.read("unet34", Unet34), config.read("compute", Compute)
    augment.known(setting.augment)

    if args.fold not in setting.folds:
        known = ", ".join(map(str, setting.folds))
        raise errors.InputError(f"params.yaml: unet34.folds: no fold {args.fold}; there is {known}")
    device = loop.prepare(compute, setting.seed)
    table_path, weights = args.data / "sorted/isic2018.csv", args.data / "weights" / setting.weights
    table = read_csv(table_path, ("image", "split", "fold"), "stages.sort")
    rows = parts(table, args.fold)
    arrays = [args.data / f"resized/isic2018/{phase.array}.npy" for phase in setting.phases]
    sizes, start = [read_array(array).shape[1:3] for array in arrays], None if setting.weights == "none" else weights
    model = unet.build(setting.decoder, setting.encoder, *sizes, weights=start)
    model.to(device).to(memory_format=torch.channels_last)
    stage, sources = f"unet34-{args.fold}", [table_path, args.data / "resized/isic2018", weights]
    histories, curves, rates = [], [], []
    with resume.begin(stage, [setting, compute], sources, loop.device_name(compute)) as run:
        for number, (phase, array) in enumerate(zip(setting.phases, arrays, strict=True), start=1):
            pairs = Pairs(array, rows, len(table), device, setting.encoder)
            recipe = Optimisation(
                epochs=phase.epochs, batch=setting.batch, optimizer=setting.optimizer, lr=1.0, schedule="onecycle",
                weight_decay=setting.weight_decay, augment=setting.augment, seed=setting.seed + 100 * number,
            )  # fmt: skip
            name = f"{stage}-{number}"
            found, curve, rate = grow(model, pairs, phase, recipe, setting, compute, device, name, run)
            histories.append(found.history.assign(phase=number, lr=rate))
            curves.append(curve)
            rates.append(rate)

    _, state = found.best["jaccard"]
    model.load_state_dict(state)
    mean, jaccards, dices = pairs.score(model, "val", recipe, setting.loss, compute)
    history = pd.concat(histories, ignore_index=True)
    history["epoch"] = np.arange(1, len(history) + 1)

    checkpoints.save_one(args.models / f"{args.fold}.pt", state)
    scored = table[["image"]].iloc[rows["val"]].assign(jaccard=jaccards, dice=dices)
    write_csv(args.data / f"predictions/unet34/{args.fold}.csv", scored)
    shape = (len(rows["test"]), *pairs.pixels.shape[1:3])
    with new_array(args.data / f"predictions/unet34/{args.fold}.npy", shape) as write:
        for start in range(0, shape[0], setting.batch):
            batch = pairs.images.batch(rows["test"][start : start + setting.batch])
            p = unet.probabilities(model, batch, compute)
            write((255 * p).round().byte().cpu().numpy())
    write_json(args.metrics / f"{args.fold}.json", summary(mean, jaccards, dices))
    with replacing_folder(args.plots / str(args.fold)) as folder:
        write_csv(folder / "history.csv", history)
        for number, (curve, rate) in enumerate(zip(curves, rates, strict=True), start=1):
            range_test.figure(curve, rate).savefig(folder / f"range_{number}.png", dpi=100)


if __name__ == "__main__":
    errors.run(main)

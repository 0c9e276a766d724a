"""Ensemble masks (study D): average the folds' probabilities on the test part that none of them saw.

    python -m stages.ensemble_masks

Reads data/predictions/unet34/<fold>.{csv,npy} of the folds in params.yaml, data/sorted/isic2018.csv and the masks at
the last phase's size; writes
  data/predictions/unet34.csv   image, fold (0 …: the fold's own images; ensemble: the test part), jaccard, dice
  metrics/unet34.json           mean Jaccard, thresholded Jaccard and Dice of the ensemble
  plots/unet34.png              its three best and its three worst masks: image, true mask, predicted mask
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.core.files import read_array, read_csv, replacing, write_csv, write_json
from lesions.core.images import masks_beside
from lesions.isic import metrics
from lesions.segment.config import Unet34

PREDICTIONS, SHOWN = Path("data/predictions/unet34"), 3


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    setting = config.read("unet34", Unet34)

    table = read_csv(Path("data/sorted/isic2018.csv"), ("image", "split"), "stages.sort isic2018")
    test = np.flatnonzero(table["split"] == "test")
    arrays = Path("data/resized/isic2018", setting.phases[-1].array)
    truth = read_array(arrays.with_name(f"{arrays.name}_masks.npy"), len(table))[test] > 0
    images = read_array(arrays.with_suffix(".npy"), len(table))
    tables, total = [], np.zeros(truth.shape, np.uint32)
    for fold in setting.folds:
        path = PREDICTIONS / f"{fold}.npy"
        found = read_array(path)
        if found.shape != truth.shape:
            raise InputError(f"{path}: {found.shape}; expected {truth.shape}: run stages.unet34 {fold}")
        total += found
        scored = read_csv(path.with_suffix(".csv"), ("image", "jaccard", "dice"), f"stages.unet34 {fold}")
        tables.append(scored.assign(fold=str(fold)))
    guess = 2 * total > 255 * len(setting.folds)
    both, either = (guess & truth).sum(axis=(1, 2)), (guess | truth).sum(axis=(1, 2))
    jaccards, dices = metrics.jaccard(both, either), metrics.dice(both, either)
    tables.append(table[["image"]].iloc[test].assign(fold="ensemble", jaccard=jaccards, dice=dices))
    write_csv(PREDICTIONS.with_suffix(".csv"), pd.concat(tables)[["image", "fold", "jaccard", "dice"]])
    means = {"jaccard": jaccards, "jaccard_thresholded": metrics.thresholded(jaccards), "dice": dices}
    order = np.argsort(-jaccards, kind="stable")
    shown = dict.fromkeys([*order[:SHOWN], *order[-SHOWN:]])  # once, where there are few
    with replacing(Path("plots/unet34.png")) as part:
        masks_beside((images[test[row]], truth[row], guess[row]) for row in shown).save(part, "PNG")
    write_json(Path("metrics/unet34.json"), {name: round(float(values.mean()), 6) for name, values in means.items()})


if __name__ == "__main__":
    run(main)

"""Ensemble masks (study D): average the folds' probabilities on the test part that none of them saw.

    python -m stages.ensemble_masks

Reads data/predictions/unet34/<fold>.{csv,npy} of the folds in params.yaml, data/sorted/isic2018.csv and the masks at
the last phase's size; writes
  data/predictions/unet34.csv   image, fold (0 …: the fold's own images; ensemble: the test part), jaccard, dice
  metrics/unet34.json           mean Jaccard, thresholded Jaccard and Dice of the ensemble
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.core.files import read_array, read_csv, write_csv, write_json
from lesions.isic import metrics
from lesions.segment.config import Unet34


def overlaps(guess: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Jaccard and Dice of bool N×H×W masks, image by image."""
    both, either = (guess & truth).sum(axis=(1, 2)), (guess | truth).sum(axis=(1, 2))
    return metrics.jaccard(both, either), metrics.dice(both, either)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--metrics", type=Path, default=Path("metrics/unet34.json"))
    args = parser.parse_args()
    setting = config.read("unet34", Unet34)

    table = read_csv(args.data / "sorted/isic2018.csv", ("image", "split"), "stages.sort")
    test = np.flatnonzero(table["split"] == "test")
    truth = read_array(args.data / f"resized/isic2018/{setting.phases[-1].array}_masks.npy", len(table))[test] > 0
    folder, tables, total = args.data / "predictions/unet34", [], np.zeros(truth.shape, np.uint32)
    for fold in setting.folds:
        found = read_array(folder / f"{fold}.npy")
        if found.shape != truth.shape:
            raise InputError(
                f"{folder / f'{fold}.npy'}: {found.shape}; expected {truth.shape}: run stages.unet34 {fold}"
            )
        total += found
        scored = read_csv(folder / f"{fold}.csv", ("image", "jaccard", "dice"), f"stages.unet34 {fold}")
        tables.append(scored.assign(fold=str(fold)))
    jaccards, dices = overlaps(2 * total > 255 * len(setting.folds), truth)
    ensemble = pd.DataFrame(
        {"image": table["image"].iloc[test], "jaccard": jaccards, "dice": dices, "fold": "ensemble"}
    )
    folds = pd.concat(tables)
    write_csv(args.data / "predictions/unet34.csv", pd.concat([folds, ensemble])[["image", "fold", "jaccard", "dice"]])
    means = {"jaccard": jaccards, "jaccard_thresholded": metrics.thresholded(jaccards), "dice": dices}
    write_json(args.metrics, {name: round(float(values.mean()), 6) for name, values in means.items()})


if __name__ == "__main__":
    run(main)

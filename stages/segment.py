"""Segment (study A): train a U-Net on ISIC 2018 Task 1; test its states of lowest loss and of highest Jaccard.

    python -m stages.segment

Reads data/sorted/isic2018.csv, data/resized/isic2018/segment{,_masks}.npy and data/weights/<weights>; writes
  models/segment/{loss,jaccard}.pt       state dicts; scores.csv: the epoch of each and its means over the test images;
                                         range_<phase>.png: the range test of a phase
  data/predictions/segment.csv           image, checkpoint, jaccard, dice of every test image
  metrics/segment.json                   mean Jaccard, thresholded Jaccard (0 below .65, the leaderboard's), Dice and
                                         loss of the checkpoint of the highest Jaccard
  plots/segment/history.csv, good.png, bad.png   study A's Figures 6.1 and 6.2: image, true mask, predicted mask
Scored on the resized masks, as in study A.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.batches import augment
from lesions.core import config, errors, resume
from lesions.core.files import read_csv, replacing_folder, write_csv, write_json
from lesions.core.images import masks_beside
from lesions.segment import unet
from lesions.segment.config import Segment
from lesions.segment.pairs import Pairs, summary
from lesions.training import checkpoints, hardware, range_test
from lesions.training.config import Compute

SORTED, RESIZED, MODELS = Path("data/sorted/isic2018.csv"), Path("data/resized/isic2018"), Path("models/segment")
CHECKPOINTS = ("loss", "jaccard")  # the last is the one that is reported


def examples(jaccards: np.ndarray) -> dict[str, int]:
    """Return the rows of a good image (the median above .8, or the best) and a bad one (below .4, or the worst)."""
    order = np.argsort(jaccards, kind="stable")
    good, bad = order[jaccards[order] > 0.8], order[jaccards[order] < 0.4]
    return {
        "good": int(good[len(good) // 2] if len(good) else order[-1]),
        "bad": int(bad[len(bad) // 2] if len(bad) else order[0]),
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    recipe, compute = config.read("segment", Segment), config.read("compute", Compute)
    augment.known(recipe.augment)

    device = hardware.prepare(compute, recipe.seed)
    table = read_csv(SORTED, ("image", "mask", "split"), "stages.sort isic2018")
    rows = {role: np.flatnonzero(table["split"] == role) for role in ("train", "val", "test")}
    pairs = Pairs(RESIZED / "segment.npy", rows, len(table), device, recipe.encoder)

    weights = Path("data/weights", recipe.weights)
    start = None if recipe.weights == "none" else weights
    model = unet.build(recipe.decoder, recipe.encoder, pairs.pixels.shape[1:3], weights=start)
    sources = [SORTED, RESIZED, weights]
    with resume.begin("segment", [recipe, compute], sources, hardware.device_name(compute)) as run:
        found = pairs.fit(model, recipe, recipe.loss, compute, CHECKPOINTS, "segment", run)

    scores, tables = [], []
    for checkpoint in CHECKPOINTS:
        epoch, state = found.best[checkpoint]
        model.load_state_dict(state)
        loss, jaccards, dices = pairs.score(model, "test", recipe.batch, recipe.loss, compute)
        tested = table[["image"]].iloc[rows["test"]]
        tables.append(tested.assign(checkpoint=checkpoint, jaccard=jaccards, dice=dices))
        scores.append({"checkpoint": checkpoint, "epoch": epoch} | summary(loss, jaccards, dices))

    checkpoints.save(MODELS, found.best)
    write_csv(MODELS / "scores.csv", pd.DataFrame(scores))
    range_test.draw(found.curves, MODELS)
    write_csv(Path("data/predictions/segment.csv"), pd.concat(tables))
    write_json(Path("metrics/segment.json"), summary(loss, jaccards, dices))
    with replacing_folder(Path("plots/segment")) as folder:
        write_csv(folder / "history.csv", found.history)
        for name, row in examples(jaccards).items():
            index = rows["test"][row : row + 1]
            guess = unet.probabilities(model, pairs.images.batch(index), compute)[0].cpu().numpy() > 0.5
            picture = masks_beside([(pairs.pixels[index[0]], pairs.truth[index[0]] > 0, guess)])
            picture.save(folder / f"{name}.png")


if __name__ == "__main__":
    errors.run(main)

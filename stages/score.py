"""Score: what one classifier or fold says of its validation and test part, and of the official test sets of data.tests.

    python -m stages.score lite0

Reads the classifier's state of the highest BMA in validation, what that predicted, its sorted table and images, and the
test archives in data/raw; writes
  data/predictions/tests/<name>.csv      set (val, test or an official one that its classes fit), image, label (in the
                                         challenge's terms), seen (whether training or validation had an image of an
                                         official set), unfamiliarity, p_<class> … (the classifier's; of val and test
                                         the seeds' mean)
  data/submissions/<name>/<test>.csv     the file that the challenge asked for
2019's test set has pictures of none of the eight classes. Unfamiliarity, of that set alone, is how far a picture lies
from the training images (lesions/predict/familiarity.py), divided by the ninety-ninth percentile of validation; above 1
it is called UNK. The stage compare sets the scores beside the leaderboards.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.batches.feed import Feed
from lesions.classify import experiment
from lesions.classify.config import classifier
from lesions.core import config
from lesions.core.errors import run
from lesions.core.files import read_array, read_csv, replacing_folder, write_csv
from lesions.isic import official, splits
from lesions.isic.names import TESTS, Test, canonical
from lesions.networks import build
from lesions.pictures.config import Methods
from lesions.predict import familiarity
from lesions.predict.config import Score
from lesions.predict.features import features
from lesions.predict.scoring import prepared, preparing
from lesions.raw import tables
from lesions.raw.config import Resize
from lesions.raw.zips import PICTURES, members
from lesions.training import checkpoints, hardware
from lesions.training.config import Compute

RAW, CHECKPOINT = Path("data/raw"), "bma"
KEYS = ["set", "image", "label", "seen", "unfamiliarity"]


def own_parts(stage: str, name: str, names: list[str]) -> pd.DataFrame:
    """Return what the classifier that `stage` trained said of its validation and test part: the mean of its seeds."""
    path = Path(f"data/predictions/{stage}/{name}.csv")
    table = read_csv(path, ("image", "split", "checkpoint", "label"), f"stages.{stage} {name}")
    table = table.rename(columns={"split": "set"})
    table = table[(table["checkpoint"] == CHECKPOINT) & table["set"].isin(["val", "test"])]
    mean = table.groupby(["set", "image", "label"], sort=False)[names].mean().reset_index()
    return mean.assign(seen=False, unfamiliarity=np.nan)[[*KEYS, *names]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of params.yaml: score")
    name = parser.parse_args().name
    one = config.read(f"score.{name}", Score)
    block, compute = classifier(one.classifier), config.read("compute", Compute)
    split = block.split if one.trained == "train" else f"cv{name.rpartition('-')[2]}"
    resize, methods = config.read(f"resize.{block.set}", Resize), config.read("color_correct.methods", Methods)
    tests, prepare = config.read("data.tests", tuple[Test, ...]), preparing(block.images, resize, methods)
    device = hardware.prepare(compute, block.seed)

    table = read_csv(Path(f"data/sorted/{block.set}.csv"), ("image", "label"), f"stages.sort {block.set}")
    images = read_array(Path(f"data/{block.images}.npy"), len(table))
    classes, parts = splits.classes(block.set, split, table["label"]), splits.roles(table, split)
    learnt = set(table["image"][parts.isin(["train", "val"])].map(canonical))
    model = build.build(block.family, block.network, len(classes), images.shape[1:3], None, block.dropout)
    checkpoints.load_into(model.to(device), Path(f"models/{one.trained}/{name}/{CHECKPOINT}.pt"))
    predictor = experiment.Predictor(block, hardware.switches(compute, device))

    def features_of(feed: Feed) -> Callable[[np.ndarray], np.ndarray]:
        return lambda rows: features(model, partial(predictor, model, feed), rows)

    fitting = [test for test in official.CLASSIFIED if test in tests]
    fitting = [test for test in fitting if official.in_terms(test, pd.DataFrame(columns=classes)) is not None]
    if official.HAS_UNKNOWN in fitting:
        rows_of = {part: np.flatnonzero(parts == part) for part in ("train", "val")}
        known, limit = familiarity.learnt(features_of(Feed([images], device)), images, rows_of)
    names = [f"p_{c}" for c in classes]
    found = [own_parts(one.trained, name, names)]
    with replacing_folder(Path(f"data/submissions/{name}")) as submissions:
        for test in fitting:
            archive = RAW / TESTS[test][0]
            rows = tables.read_test(RAW, test, members(archive, PICTURES))
            pixels = prepared(archive, rows["image"], prepare)
            feed, everything = Feed([pixels], device), np.arange(len(rows))
            p = predictor(model, feed, everything, block.tta)
            rows = rows.assign(set=test, seen=rows["image"].map(canonical).isin(learnt), unfamiliarity=np.nan)
            if test == official.HAS_UNKNOWN:
                rows["unfamiliarity"] = (known.distance(features_of(feed)(everything), pixels) / limit).round(6)
            found.append(rows[KEYS].join(pd.DataFrame(p, columns=names)))
            terms = official.in_terms(test, pd.DataFrame(p, columns=classes), rows["unfamiliarity"])
            write_csv(submissions / f"{test}.csv", official.submission(test, rows["image"], terms))
    write_csv(Path(f"data/predictions/tests/{name}.csv"), pd.concat(found, ignore_index=True))


if __name__ == "__main__":
    run(main)

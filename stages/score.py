"""Score: what one classifier says of its validation and test part, and of the official test sets of data.tests.

    python -m stages.score lite0

Reads the classifier's state of the highest BMA in validation, what that predicted, its sorted table and the test
archives in data/raw; writes
  data/predictions/tests/<name>.csv      set (val, test or an official one that its classes fit), image, label (in the
                                         challenge's terms), seen (whether training or validation had an image of an
                                         official set), p_<class> … (the classifier's; of val and test the seeds' mean)
  data/submissions/<name>/<test>.csv     the file that the challenge asked for
The stage compare sets the scores beside the leaderboards.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.batches.feed import Feed
from lesions.classify import experiment
from lesions.classify.config import classifier
from lesions.core import config
from lesions.core.errors import run
from lesions.core.files import read_csv, replacing_folder, write_csv
from lesions.isic import official, splits
from lesions.isic.names import TESTS, Test, canonical
from lesions.networks import build
from lesions.pictures.config import Methods
from lesions.predict.scoring import prepared, preparing
from lesions.raw import tables
from lesions.raw.config import Resize
from lesions.raw.zips import PICTURES, members
from lesions.training import checkpoints, loop
from lesions.training.config import Compute

RAW, CHECKPOINT = Path("data/raw"), "bma"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of params.yaml: classifiers")
    name = parser.parse_args().name
    block, compute = classifier(name), config.read("compute", Compute)
    resize, methods = config.read(f"resize.{block.set}", Resize), config.read("color_correct.methods", Methods)
    tests, prepare = config.read("data.tests", tuple[Test, ...]), preparing(block.images, resize, methods)
    device = loop.prepare(compute, block.seed)

    table = read_csv(Path(f"data/sorted/{block.set}.csv"), ("image", "label"), f"stages.sort {block.set}")
    classes = splits.classes(block.set, block.split, table["label"])
    learnt = set(table["image"][splits.roles(table, block.split).isin(["train", "val"])].map(canonical))
    size = prepare(np.zeros((64, 64, 3), np.uint8)).shape[:2]
    model = build.build(block.family, block.network, len(classes), size, None, block.dropout)
    checkpoints.load_into(model, Path(f"models/train/{name}/{CHECKPOINT}.pt"))
    predictor = experiment.Predictor(block, loop.switches(compute, device))

    names, keys = [f"p_{c}" for c in classes], ["set", "image", "label", "seen"]
    own = read_csv(
        Path(f"data/predictions/train/{name}.csv"), ("image", "split", "checkpoint", "label"), "stages.train"
    )
    own = own[(own["checkpoint"] == CHECKPOINT) & own["split"].isin(["val", "test"])].rename(columns={"split": "set"})
    own = own.groupby(keys[:3], sort=False)[names].mean().reset_index().assign(seen=False)
    found = [own[[*keys, *names]]]
    with replacing_folder(Path(f"data/submissions/{name}")) as submissions:
        fitting = [test for test in official.CLASSIFIED if test in tests]
        for test in (t for t in fitting if official.in_terms(t, pd.DataFrame(columns=classes)) is not None):
            archive = RAW / TESTS[test][0]
            rows = tables.read_test(RAW, test, members(archive, PICTURES))
            feed = Feed([prepared(archive, rows["image"], prepare)], device)
            p = predictor(model.to(device), feed, np.arange(len(rows)), block.tta)
            seen = rows["image"].map(canonical).isin(learnt)
            rows = rows.assign(set=test, seen=seen)[keys]
            found.append(rows.join(pd.DataFrame(p, columns=names)))
            terms = official.in_terms(test, pd.DataFrame(p, columns=classes))
            write_csv(submissions / f"{test}.csv", official.submission(test, rows["image"], terms))
    write_csv(Path(f"data/predictions/tests/{name}.csv"), pd.concat(found, ignore_index=True))


if __name__ == "__main__":
    run(main)

"""Score: predict the official test sets that data.tests names with one classifier, as far as its classes fit.

    python -m stages.score lite0

Reads the classifier's state of the highest BMA in validation, its sorted table and the test archives in data/raw;
writes
  data/predictions/tests/<name>.csv      test, image, label (in the challenge's terms), seen, p_<class> … (the
                                         classifier's); seen: whether training or validation had that image
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
from lesions.pictures.config import ColorCorrect
from lesions.predict.scoring import PICTURES, prepared, preparing
from lesions.raw import tables
from lesions.raw.config import Resize
from lesions.raw.zips import members
from lesions.training import checkpoints, loop
from lesions.training.config import Compute

RAW = Path("data/raw")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of params.yaml: classifiers")
    name = parser.parse_args().name
    block, compute = classifier(name), config.read("compute", Compute)
    resize, colors = config.read("resize", dict[str, Resize]), config.read("color_correct", ColorCorrect)
    tests, prepare = config.read("data.tests", tuple[Test, ...]), preparing(block.images, resize, colors.methods)
    classes, device = splits.classes(block.split), loop.prepare(compute, block.seed)

    table = read_csv(Path(f"data/sorted/{block.set}.csv"), ("image", "label"), "stages.sort")
    learnt = set(table["image"][splits.roles(table, block.split).isin(["train", "val"])].map(canonical))
    size = prepare(np.zeros((64, 64, 3), np.uint8)).shape[:2]
    model = build.build(block.family, block.network, len(classes), size, None, block.dropout)
    checkpoints.load_into(model, Path(f"models/train/{name}/bma.pt"))
    predictor = experiment.Predictor(block, loop.switches(compute, device))

    found = [pd.DataFrame(columns=["test", "image", "label", "seen", *(f"p_{c}" for c in classes)])]
    with replacing_folder(Path(f"data/submissions/{name}")) as submissions:
        for test in (test for test in tests if official.in_terms(test, pd.DataFrame(columns=classes)) is not None):
            archive = RAW / TESTS[test][0]
            rows = tables.read_test(RAW, test, members(archive, PICTURES))
            feed = Feed([prepared(archive, rows["image"], prepare)], device)
            p = predictor(model.to(device), feed, np.arange(len(rows)), block.tta)
            seen = rows["image"].map(canonical).isin(learnt)
            rows = rows.assign(test=test, seen=seen)[["test", "image", "label", "seen"]]
            found.append(rows.join(pd.DataFrame(p, columns=[f"p_{c}" for c in classes])))
            terms = official.in_terms(test, pd.DataFrame(p, columns=classes))
            write_csv(submissions / f"{test}.csv", official.submission(test, rows["image"], terms))
    write_csv(Path(f"data/predictions/tests/{name}.csv"), pd.concat(found[1:] or found, ignore_index=True))


if __name__ == "__main__":
    run(main)

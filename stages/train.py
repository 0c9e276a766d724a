"""Train: train one classifier on its split, as its block in params.yaml says; keep and test its best states.

    python -m stages.train vgg16

Reads the block's table, images, generated images and the weights it starts from; writes
  models/train/<name>/<checkpoint>.pt            state dicts: loss, accuracy, bma; auroc (studies C and E), snapshot_1 …
  data/predictions/train/<name>.csv              the parts that the block's `predict` names, under each checkpoint
  models/train/<name>/scores.csv                 epoch and scores of each checkpoint on the test part (ISIC 2017:
                                                 validation); range_<phase>.png: the range test of a phase
  metrics/train/<name>.json                      bma, auc, accuracy and loss there of the checkpoint of the highest BMA
  plots/train/<name>/{history,confusion,roc}.csv
A block with several runs trains once a seed: predictions and history are of all runs, scores are their mean, state
dicts are the first run's.
TensorBoard logs go to runs/ (not cached: they carry times).
"""

import argparse
from pathlib import Path

import pandas as pd

from lesions.classify import experiment
from lesions.classify.config import classifier
from lesions.core import config, errors, resume
from lesions.core.files import replacing_folder, write_csv, write_json
from lesions.training import checkpoints, hardware, range_test
from lesions.training.config import Compute

DATA, MODELS = Path("data"), Path("models/train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of params.yaml: classifiers")
    name = parser.parse_args().name
    block, compute = classifier(name), config.read("compute", Compute)

    fits, tables = [], []
    stage, sources = f"train-{name}", experiment.inputs(block, DATA)
    with resume.begin(stage, [block, compute], sources, hardware.device_name(compute)) as run:
        for seed in range(block.seed, block.seed + block.runs):
            seeded = block.model_copy(update={"seed": seed})
            trial = experiment.Experiment(seeded, block.split, compute, DATA)
            model, found = trial.fit(f"{stage}-{seed}" if block.runs > 1 else stage, run)
            tables.append(trial.predict(model, found.best))
            fits.append(found)
    predictions, first = pd.concat(tables, ignore_index=True), fits[0]
    scores = experiment.summary(trial.classes, trial.scored, predictions, first.best)

    checkpoints.save(MODELS / name, first.best)
    write_csv(MODELS / name / "scores.csv", scores)
    range_test.draw(first.curves, MODELS / name)
    write_csv(DATA / f"predictions/train/{name}.csv", predictions)
    write_json(Path(f"metrics/train/{name}.json"), experiment.headline(scores))
    with replacing_folder(Path("plots/train", name)) as folder:
        histories = [fit.history.assign(seed=block.seed + run) for run, fit in enumerate(fits)]
        write_csv(folder / "history.csv", pd.concat(histories) if block.runs > 1 else first.history)
        write_csv(folder / "confusion.csv", experiment.confusion(trial.scored, predictions))
        write_csv(folder / "roc.csv", experiment.roc(trial.scored, predictions))


if __name__ == "__main__":
    errors.run(main)

"""Train: one classifier on its split, as its block in params.yaml says; three checkpoints kept, each tested.

    python -m stages.train vgg16

Reads data/sorted/isic2019.csv and the block's images, generated images and pretrained weights below data/; writes
  models/train/<name>/{loss,accuracy,bma}.pt     state dicts
  data/predictions/train/<name>.csv              validation and test images under each checkpoint
  metrics/train/<name>.json                      test scores of each checkpoint
  plots/train/<name>/{history,confusion,roc}.csv
TensorBoard logs go to runs/ (not cached: they carry times).
"""

import argparse
from pathlib import Path

from lesions import checkpoints, experiment, params
from lesions.errors import run
from lesions.files import replacing_folder, write_csv, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of params.yaml: classifiers")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("models/train"))
    parser.add_argument("--metrics", type=Path, default=Path("metrics/train"))
    parser.add_argument("--plots", type=Path, default=Path("plots/train"))
    args = parser.parse_args()
    chosen = params.read("train", f"classifiers.{args.name}", "compute")
    block = chosen.classifiers

    trial = experiment.Experiment(block, block.split, chosen.compute, args.data)
    weights = None if block.weights == "none" else args.data / "weights" / block.weights
    model, found = trial.fit(weights, f"train-{args.name}")
    predictions = trial.predict(model, found.best)

    checkpoints.save(args.models / args.name, found.best)
    write_csv(args.data / f"predictions/train/{args.name}.csv", predictions)
    write_json(args.metrics / f"{args.name}.json", trial.summary(found, predictions))
    with replacing_folder(args.plots / args.name) as folder:
        write_csv(folder / "history.csv", found.history)
        write_csv(folder / "confusion.csv", experiment.confusion(predictions))
        write_csv(folder / "roc.csv", experiment.roc(predictions))


if __name__ == "__main__":
    run(main)

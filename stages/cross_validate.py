"""Cross-validate: train one classifier as stages.train does, and test it on one fold.

    python -m stages.cross_validate residual-1

Fold 0 is the standard split, so stages.train is its run. Reads what stages.train reads for the classifier; writes
  data/predictions/cross_validate/<name>-<fold>.csv   out-of-fold predictions (and the validation part's)
  metrics/cross_validate/<name>-<fold>.json           bma, of the checkpoint of the highest in validation
  plots/cross_validate/<name>-<fold>.csv              history
  models/cross_validate/<name>-<fold>/                scores.csv and range_<phase>.png as train's; and, where the block
                                                      says keep: true, bma.pt, the state
"""

import argparse
from pathlib import Path

from lesions.classify import experiment
from lesions.classify.config import CrossValidation, classifier
from lesions.core import config, errors, resume
from lesions.core.files import replacing_folder, write_csv, write_json
from lesions.training import checkpoints, hardware, range_test
from lesions.training.config import Compute

DATA = Path("data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a block of params.yaml: cross_validate")
    name = parser.parse_args().run
    one = config.read(f"cross_validate.{name}", CrossValidation)
    block, compute = classifier(one.classifier), config.read("compute", Compute)

    stage, sources = f"cross_validate-{name}", experiment.inputs(block, DATA)
    with resume.begin(stage, [one, block, compute], sources, hardware.device_name(compute)) as run:
        trial = experiment.Experiment(block, f"cv{one.fold}", compute, DATA)
        model, found = trial.fit(stage, run)
    predictions = trial.predict(model, found.best)
    scores = experiment.summary(trial.classes, "test", predictions, found.best)

    with replacing_folder(Path("models/cross_validate", name)) as folder:
        write_csv(folder / "scores.csv", scores)
        range_test.draw(found.curves, folder)
        if one.keep:
            checkpoints.save_one(folder / "bma.pt", found.best["bma"][1])
    write_csv(DATA / f"predictions/cross_validate/{name}.csv", predictions)
    write_json(Path(f"metrics/cross_validate/{name}.json"), {"bma": experiment.headline(scores)["bma"]})
    write_csv(Path(f"plots/cross_validate/{name}.csv"), found.history)


if __name__ == "__main__":
    errors.run(main)

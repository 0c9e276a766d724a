"""Ensemble: average classifiers of one split, calibrate the mean on validation, and say how far it can be trusted.

    python -m stages.ensemble best

Reads what the members said of their validation and test parts and of official test sets
(data/predictions/tests/<member>.csv); writes
  data/predictions/ensemble/<name>.csv        image, split, label, seed, checkpoint (calibrated, balanced), p_…
  data/predictions/ensemble/<name>_tests.csv  the same of the official test sets, with `set`, `seen` and `unfamiliarity`
  data/submissions/ensemble/<name>/<test>.csv  the challenge's own file, of the balanced output
  models/ensemble/<name>.json                 members, temperature, bias and shares (lesions/predict/calibration.py);
                                              expected calibration error on the test part, before and after
  metrics/ensemble/<name>.json                bma and accuracy of the balanced output on the test part; auc and loss of
                                              the calibrated one
  plots/ensemble/<name>/reliability.csv, risk.csv, trust.png
Members are classifiers of one split, or folds: what those say of the parts val and test is of single folds, each image
by one that has not learnt its lesion, and the mean of all folds is scored on official sets alone, by the calibration of
single ones.
The calibrated output says how likely a class is at validation's shares of classes; the balanced one is divided by them.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.core import config
from lesions.core.errors import run
from lesions.core.files import read_csv, replacing_folder, write_csv, write_json
from lesions.isic import metrics, official
from lesions.predict import calibration, drawing, ensembles
from lesions.predict.config import Ensemble

PREDICTIONS = Path("data/predictions")


def outputs(table: pd.DataFrame, fitted: calibration.Calibration) -> pd.DataFrame:
    """Return the rows of `table` twice: calibrated, and balanced."""
    names, both = ensembles.columns(table), []
    for checkpoint in ("calibrated", "balanced"):
        p = getattr(fitted, checkpoint)(table[names].to_numpy(float))
        both.append(table.assign(seed=0, checkpoint=checkpoint, **dict(zip(names, p.T, strict=True))))
    return pd.concat(both, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of params.yaml: ensembles")
    name = parser.parse_args().name
    members = config.read(f"ensembles.{name}", Ensemble).members
    said = {
        member: read_csv(
            PREDICTIONS / f"tests/{member}.csv", [*ensembles.ROWS, "seen", "unfamiliarity"], "stages.score"
        )
        for member in members
    }
    everything = ensembles.mean(said).round({"unfamiliarity": 6})
    own = everything["set"].isin(ensembles.OWN)
    mean = everything[own].rename(columns={"set": "split"})
    names = ensembles.columns(mean)
    classes = [column.removeprefix("p_") for column in names]
    truth = mean["label"].map({c: i for i, c in enumerate(classes)}).to_numpy()
    val, test = ((mean["split"] == part).to_numpy() for part in ("val", "test"))
    raw = mean[names].to_numpy(float)
    fitted = calibration.fit(truth[val], raw[val])
    calibrated, balanced = fitted.calibrated(raw[test]), fitted.balanced(raw[test])

    eces = [calibration.ece(truth[test], p) for p in (raw[test], calibrated)]
    found = metrics.classification(truth[test], balanced)
    found["loss"] = metrics.log_loss(truth[test], calibrated)
    aucs = [metrics.auc(truth[test] == i, calibrated[:, i]) for i in range(len(classes))]
    found["auc"] = float(np.mean(aucs))
    write_json(Path(f"metrics/ensemble/{name}.json"), {key: round(float(value), 6) for key, value in found.items()})
    write_csv(PREDICTIONS / f"ensemble/{name}.csv", outputs(mean.drop(columns=["seen", "unfamiliarity"]), fitted))
    settings = {"members": members, "temperature": fitted.temperature}
    settings |= {"bias": dict(zip(classes, fitted.bias, strict=True))}
    settings |= {"shares": dict(zip(classes, fitted.shares, strict=True))}
    settings["expected_calibration_error"] = dict(zip(("before", "after"), eces, strict=True))
    write_json(Path(f"models/ensemble/{name}.json"), settings)
    with replacing_folder(Path(f"plots/ensemble/{name}")) as folder:
        before, after = (calibration.reliability(truth[test], p) for p in (raw[test], calibrated))
        risk = calibration.risk_coverage(truth[test], calibrated)
        write_csv(folder / "reliability.csv", after)
        write_csv(folder / "risk.csv", risk)
        drawing.trust(before, after, eces, risk).savefig(folder / "trust.png", dpi=120)

    tests = outputs(everything[~own], fitted)
    with replacing_folder(Path(f"data/submissions/ensemble/{name}")) as submissions:
        for official_set, of in tests[tests["checkpoint"] == "balanced"].groupby("set", sort=False):
            terms = official.in_terms(str(official_set), of[names].set_axis(classes, axis=1), of["unfamiliarity"])
            write_csv(submissions / f"{official_set}.csv", official.submission(str(official_set), of["image"], terms))
    write_csv(PREDICTIONS / f"ensemble/{name}_tests.csv", tests)


if __name__ == "__main__":
    run(main)

"""Compare: our numbers with intervals beside the published ones and the leaderboards; reads predictions alone.

    python -m stages.compare

Reads published/*.csv, data/sorted/isic2019.csv and, by the names in params.yaml, data/predictions/train/<name>.csv,
cross_validate/<name>-<fold>.csv (fold 0 is the train run), base_model/<name>.csv and segment.csv; writes
  metrics/compare.json   what `dvc metrics diff` shows
  metrics/compare.csv    one line a number: study, table, row, run, metric, published, ours, low, high, n; inside (is
                         the published number in our interval?); comparable (yes, why not, or not run); note
  metrics/compare.md     Tables 6.1 to 6.6 and Figure 6.1 of the studies, and the leaderboards with our place
  plots/compare/*.png    the same as pictures, with confusion matrices and ROC curves
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lesions import figures, params, report, scoreboard, splits
from lesions.errors import run
from lesions.files import replacing_folder, write_csv, write_json, write_text
from lesions.isic import CLASSES
from lesions.scoreboard import HEADLINE, Tested, of_checkpoint, read_tested, scored

SEGMENTATION = "jaccard"  # the headline checkpoint of Table 6.6
PAIR = ("base_64", "base_64_ak")  # the two reports of study B's Figure 6.1

Rows = list[dict]


def train(folder: Path, blocks: dict, lesions: pd.Series, confidence: float) -> tuple[dict[str, Tested], Rows]:
    """Tables 6.1 and 6.2, and every checkpoint."""
    found, rows = {}, []
    for name, block in blocks.items():
        path = folder / f"{name}.csv"
        by_checkpoint = read_tested(path, splits.classes(block.split), lesions, f"stages.train {name}")
        found[name] = of_checkpoint(by_checkpoint, HEADLINE, path)
        for checkpoint, tested in by_checkpoint.items():
            scores = scoreboard.classification(tested, confidence)
            n, where = (
                len(tested.truth),
                f"{name}, lowest loss" if checkpoint == "loss" else f"{name}, best {checkpoint}",
            )
            rows += scored("A", "checkpoints", where, n, scores)
            if checkpoint == HEADLINE and block.split == "balanced":
                rows += scored("A", "Table 6.2", name, n, scoreboard.five_eighths(scores))
            elif checkpoint == HEADLINE:
                rows += scored("A", "Table 6.1", name, n, scores)
    return found, rows


def cross_validate(folder: Path, chosen: dict, first: dict[str, Tested], lesions: pd.Series, confidence: float) -> Rows:
    """Tables 6.3 to 6.5."""
    folds: dict[str, dict[int, Tested]] = {}
    for name, one in chosen.items():
        path = folder / f"{name}.csv"
        by_checkpoint = read_tested(path, CLASSES, lesions, f"stages.cross_validate {name}")
        found = folds.setdefault(one.classifier, {0: first[one.classifier]})
        found[one.fold] = of_checkpoint(by_checkpoint, HEADLINE, path)
    rows = []
    for name, found in folds.items():
        rows += scoreboard.cross_validation(name, found, len(lesions), confidence)
    return rows


def segment(path: Path, confidence: float) -> Rows:
    """Table 6.6."""
    table = scoreboard.read_csv(path, ["image", "checkpoint", "jaccard", "dice"], "stages.segment")
    table = table[table["checkpoint"] == SEGMENTATION]
    return scored("A", "Table 6.6", "unet", len(table), scoreboard.segmentation(table, confidence))


def base_models(
    folder: Path, names: list[str], lesions: pd.Series, confidence: float
) -> tuple[dict[str, Tested], Rows]:
    """Chapter 5 and Figure 6.1 of study B."""
    found, rows = {}, []
    for name in names:
        path = folder / f"{name}.csv"
        found[name] = of_checkpoint(read_tested(path, CLASSES, lesions, f"stages.base_model {name}"), "last", path)
        n, scores = len(found[name].truth), scoreboard.base_model(found[name], confidence)
        guessed = scoreboard.report(scoreboard.shuffled(found[name].confusion()), CLASSES)
        rows += scored("B", "Chapter 5", name, n, {"accuracy": scores["accuracy"]})
        rows += scored("B", "Figure 6.1", name, n, scores)
        rows += scored("B", "Figure 6.1", f"{name} shuffled", n, {m: (v,) for m, v in guessed.items()})
    if set(PAIR) <= set(found):
        changed = scoreboard.difference(*(found[name] for name in PAIR), confidence)
        kept = {m: changed[m] for m in ("AK precision", "AK recall", "AK f1", "macro f1", "weighted f1", "accuracy")}
        rows += scored("B", "Figure 6.1", "difference", len(found[PAIR[0]].truth), kept)
    return found, rows


def summary(rows: Rows) -> dict:
    """The nested numbers of compare.json."""
    found: dict = {"standard": {}, "balanced": {}, "cross_validation": {}, "segmentation": {}, "gan": {}}
    for row in rows:
        where, metric, value = (row["study"], row["table"]), row["metric"], round(row["ours"], 6)
        block = {("A", "Table 6.1"): "standard", ("A", "Table 6.2"): "balanced", ("B", "Figure 6.1"): "gan"}.get(where)
        if block and not row["run"].endswith("shuffled"):
            if block != "gan" or metric in ("accuracy", "bma") or metric.split()[0] in ("AK", "macro", "weighted"):
                found[block].setdefault(row["run"], {})[metric.replace(" ", "_").lower()] = value
        elif where == ("A", "Table 6.3"):
            bounds = {f"{metric}_{side}": round(row[side], 6) for side in ("low", "high")}
            found["cross_validation"].setdefault(row["run"], {}).update({metric: value} | bounds)
        elif where == ("A", "Table 6.4"):
            found["cross_validation"].setdefault(row["run"], {})["bma" if metric == "mean" else metric] = value
        elif where == ("A", "Table 6.6"):
            found["segmentation"][metric] = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--published", type=Path, default=Path("published"))
    parser.add_argument("--metrics", type=Path, default=Path("metrics"))
    parser.add_argument("--plots", type=Path, default=Path("plots/compare"))
    args = parser.parse_args()
    chosen = params.read("data.source", "classifiers", "cross_validate", "base_models", "compare")
    confidence, predictions = chosen.compare.confidence, args.data / "predictions"

    images = scoreboard.read_csv(args.data / "sorted/isic2019.csv", ["image", "lesion", "label"], "stages.sort")
    lesions = images.set_index("image")["lesion"].astype(str)
    trained, rows = train(predictions / "train", chosen.classifiers, lesions, confidence)
    rows += cross_validate(predictions / "cross_validate", chosen.cross_validate, trained, lesions, confidence)
    rows += segment(predictions / "segment.csv", confidence)
    bases, more = base_models(predictions / "base_model", list(chosen.base_models), lesions, confidence)
    rows += more

    kind = scoreboard.data_kind(chosen.data, images["label"])
    table = scoreboard.beside(args.published, rows, kind)
    collapsed = [name for name, tested in trained.items() if len(np.unique(tested.guess)) == 1]
    of = {
        "sample data": "the embedded sample (drawn pictures)",
        "other data": f"{chosen.data}, not ISIC 2019 as published",
    }
    head = (
        f"Data: {of.get(kind, 'ISIC 2019 and ISIC 2018 Task 1')}; {len(images)} images of {lesions.nunique()} lesions. "
        f"Checkpoints: {HEADLINE} (the highest BMA in validation) for classifiers, {SEGMENTATION} for the U-Net, "
        "the last for study B."
    )
    write_json(args.metrics / "compare.json", summary(rows))
    write_csv(args.metrics / "compare.csv", table)
    write_text(
        args.metrics / "compare.md", report.Report(table, args.published, kind, confidence, collapsed).text(head)
    )
    with replacing_folder(args.plots) as folder:
        figures.draw(folder, table, trained, bases, kind, confidence)
    judged = table["inside"].isin(["yes", "no"]).sum()
    print(f"{(table['inside'] == 'yes').sum()} of {judged} comparable published numbers lie in our intervals")


if __name__ == "__main__":
    run(main)

"""Compare: every published number of the five studies, and the leaderboards, beside ours; reads predictions alone.

    python -m stages.compare

Reads published/*.csv, data/sorted/*.csv, how params.yaml trains what a paper prints and, by the names there,
data/predictions/train/<name>.csv (split melanoma is study C's, ham … study D's, eighty study E's, the rest study A's),
cross_validate/<name>-<fold>.csv (fold 0 is the train run), base_model/<name>.csv, segment.csv and unet34.csv; writes
  metrics/compare.json       studies A and B, for `dvc metrics diff`
  metrics/compare.csv        the scorecard, one line a number: study, table, row, run, metric, published, ours,
                             difference, low, high, n; inside (is the published number in our interval?); comparable
                             (yes, why not, or not run); note. After what was published comes what is ours alone
  metrics/compare.md         the same as the studies' tables, and the leaderboards with our place
  metrics/scorecard.json     by study: how many numbers were published, reproduced, not comparable, not run …; and ours
  metrics/scorecard.html     the same as one page that needs nothing else
  metrics/significance.csv   tests between classifiers, and of study C's choices over seeds
  plots/compare/*.png        the same as pictures, with confusion matrices and ROC curves
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lesions import figures, page, params, report, scoreboard, scorecard, shortfalls, significance, studies
from lesions.errors import run
from lesions.files import read_csv, replacing_folder, write_csv, write_json, write_text

STUDY_OF = {"melanoma": "C", "ham": "D", "eighty": "E"}  # by split


def known_lesions(*tables: pd.DataFrame) -> pd.Series:
    """image -> lesion by sorted tables, of which the first that has an image counts."""
    found = pd.concat([table.set_index("image")["lesion"] for table in tables])
    return found[~found.index.duplicated()].astype(str)


def by_study(blocks: dict) -> dict[str, dict]:
    """The blocks of `classifiers` by what they are tested on: study C's, D's and E's splits, and study A's."""
    found: dict[str, dict] = {study: {} for study in "ACDE"}
    for name, block in blocks.items():
        found[STUDY_OF.get(block.split.partition("_")[0], "A")][name] = block
    return found


def head(images: pd.DataFrame, source: str, kinds: dict[str, str]) -> str:
    """What the numbers were made from."""
    of = {
        scorecard.SAMPLE: "the embedded sample (drawn pictures)",
        scorecard.OTHER: f"{source}, not ISIC 2019 as published",
    }
    return (
        f"Data: {of.get(kinds['A'], 'ISIC 2019 and ISIC 2018 Task 1')}; {len(images)} images of "
        f"{images['lesion'].nunique()} lesions. Checkpoints: {scoreboard.HEADLINE} (the highest BMA in validation) for "
        f"classifiers, {studies.SEGMENTATION} for the U-Net, the last for study B, the highest accuracy in validation "
        "for study C."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--published", type=Path, default=Path("published"))
    parser.add_argument("--metrics", type=Path, default=Path("metrics"))
    parser.add_argument("--plots", type=Path, default=Path("plots/compare"))
    args = parser.parse_args()
    chosen = params.read(
        "data.source", "classifiers", "train", "recipes", "cross_validate", "base_models", "base_model", "segment",
        "resize", "masked", "compare",
    )  # fmt: skip
    confidence, predictions = chosen.compare.confidence, args.data / "predictions"
    blocks = by_study(chosen.classifiers)

    images, older, merged = (
        read_csv(args.data / f"sorted/{name}.csv", ["image", "lesion", "label"], "stages.sort")
        for name in ("isic2019", "isic2017", "merged")
    )
    added = len(merged) - len(images)  # of ISIC 2020
    pairs = read_csv(args.data / "sorted/isic2018.csv", ["image"], "stages.sort")
    own, lesions = known_lesions(images), known_lesions(merged, older)
    folder, sorted_tables = predictions / "train", {"isic2019": images, "isic2017": older, "merged": merged}
    needed = shortfalls.read(args.published)
    short = shortfalls.classifiers(needed, chosen, sorted_tables)
    trained, rows = studies.train(folder, blocks["A"], lesions, short, confidence)
    folds, reason = predictions / "cross_validate", shortfalls.segment(needed, chosen)
    rows += studies.cross_validate(folds, chosen.cross_validate, trained, own, short, confidence)
    rows += studies.segment(predictions / "segment.csv", reason, confidence)
    names, reasons = list(chosen.base_models), shortfalls.base_models(needed, chosen)
    bases, more = studies.base_models(predictions / "base_model", names, own, reasons, confidence)
    tables = scorecard.places(args.published, "C")
    seeds, melanoma, of_c = studies.preprocessing(folder, list(blocks["C"]), tables, lesions, short, confidence)
    ensembles, of_d = studies.ensembles(folder, list(blocks["D"]), lesions, confidence)
    rows += more + of_c + studies.unet34(predictions / "unet34.csv", confidence) + of_d
    schedules, of_e = studies.schedules(folder, blocks["E"], lesions, added, short, confidence)
    rows += of_e

    kinds = scorecard.data_kinds(chosen.data, images["label"], len(pairs), melanoma, added)
    table = scorecard.beside(args.published, rows, kinds)
    numbers = pd.read_csv(args.published / "numbers.csv", keep_default_na=False)
    lines = significance.seeds(seeds, numbers, confidence)
    for study, found in (("A", trained), ("D", ensembles), ("E", schedules)):
        lines += significance.pairs(study, found, confidence)
    tests = significance.corrected(lines)
    collapsed = [name for name, tested in trained.items() if len(np.unique(tested.guess)) == 1]
    said = head(images, chosen.data, kinds)
    text = report.Report(table, args.published, kinds, confidence, collapsed, tests).text(said)
    write_json(args.metrics / "compare.json", studies.summary(rows))
    write_json(args.metrics / "scorecard.json", scorecard.summary(table))
    write_csv(args.metrics / "compare.csv", table)
    write_csv(args.metrics / "significance.csv", tests)
    write_text(args.metrics / "compare.md", text)
    with replacing_folder(args.plots) as drawn:
        figures.draw(drawn, table, trained, bases, kinds, confidence)
    write_text(args.metrics / "scorecard.html", page.html(table, tests, args.published, args.plots, kinds, said))
    counts = scorecard.counts(table).sum()
    print(f"{counts['reproduced']} of {counts['published']} published numbers lie in our intervals")


if __name__ == "__main__":
    run(main)

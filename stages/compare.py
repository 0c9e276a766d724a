"""Compare: every published number of the five studies, and the leaderboards, beside ours.

    python -m stages.compare

Reads published/*.csv, data/sorted/*.csv, data/chosen.json (how params.yaml trains) and, by the names there,
data/predictions/train/<name>.csv (split melanoma is study C's, ham … study D's, eighty study E's, the rest study A's;
sets of one's own have tables of their own), cross_validate/<name>-<fold>.csv (fold 0 is the train run),
base_model/<name>.csv, segment.csv and unet34.csv, what training said by epoch (plots/train/<name>/history.csv,
plots/base_model/<name>.csv), and for ensembles data/sorted/people/<set>.csv; writes
  metrics/compare.csv        the scorecard, one line a number: study, table, row, run, metric, published, ours,
                             difference, low, high, n; inside (is the published number in our interval?); comparable
                             (yes, why not, or not run); note. After what was published comes what is ours alone
  metrics/compare.md         the same as the studies' tables, and the leaderboards with our place
  metrics/compare.json       how many numbers were published, stand beside one of ours, lie in our interval, out of it
  metrics/scorecard.html     the same as one page that needs nothing else
  metrics/leaderboards.csv   our scores on official test sets, and their places among the entries that we know
  metrics/significance.csv   tests between classifiers, and of study C's choices over seeds
  plots/compare/*.png        the same as pictures, with classes, losses and rates by epoch, confusions and ROC curves
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lesions.compare import boards, figures, measured, pages, scorecard, shortfalls, significance, studies
from lesions.compare.config import Chosen
from lesions.core import config
from lesions.core.errors import run
from lesions.core.files import read_csv, replacing_folder, write_csv, write_json, write_text
from lesions.isic.names import SETS

DATA, PUBLISHED, PLOTS, METRICS = map(Path, ("data", "published", "plots", "metrics"))
KEYS = ["image", "lesion", "label"]
NONE = pd.DataFrame(columns=KEYS)  # a set that is not there
KERAS = ["loss", "accuracy"]  # its names of what training says
STUDY_OF = {"melanoma": "C", "ham": "D", "eighty": "E"}  # by split


def by_study(blocks: dict, own: list[str]) -> dict[str, dict]:
    """Return the blocks of `classifiers` by what they are tested on: study C's, D's and E's splits, study A's, and sets
    of one's own."""
    found: dict[str, dict] = {study: {} for study in (*"ACDE", *own)}
    for name, block in blocks.items():
        study = block.set if block.set in own else STUDY_OF.get(block.split.partition("_")[0], "A")
        found[study][name] = block
    return found


def lesions_of(tables: list[pd.DataFrame]) -> pd.Series:
    """Return the lesion of each image, by its name."""
    return pd.concat(tables).drop_duplicates("image").set_index("image")["lesion"].astype(str)


def histories(blocks: dict[str, dict], base_models: dict) -> dict[str, dict[str, pd.DataFrame]]:
    """Return, by study and run, epoch, lr, train_loss, val_loss and seed; of study B accuracies in place of lr."""
    files = [
        (study, name, PLOTS / f"train/{name}/history.csv", f"stages.train {name}", ["lr", "train_loss"])
        for study, of in blocks.items()
        for name in of
    ] + [("B", name, PLOTS / f"base_model/{name}.csv", f"stages.base_model {name}", KERAS) for name in base_models]
    found: dict[str, dict[str, pd.DataFrame]] = {study: {} for study in ("A", "B", *blocks)}
    for study, name, path, stage, columns in files:
        table = read_csv(path, ["epoch", *columns, "val_loss"], stage)
        table = table.rename(columns={column: f"train_{column}" for column in KERAS})
        found[study][name] = table if "seed" in table else table.assign(seed=0)
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    path = DATA / "chosen.json"
    chosen = config.validated(Chosen, config.read_yaml(path), path)
    source, confidence = chosen.source, chosen.compare.confidence
    own = [name for name in chosen.sets if name not in SETS]
    blocks = by_study(chosen.classifiers, own)

    tables = {
        name: read_csv(DATA / f"sorted/{name}.csv", KEYS, f"stages.sort {name}")
        for name in chosen.sets
        if name != "isic2018"
    }
    images, older, merged = (tables.get(name, NONE) for name in ("isic2019", "isic2017", "merged"))
    added = max(0, len(merged) - len(images))  # of ISIC 2020
    pairs = read_csv(DATA / "sorted/isic2018.csv", ["image"], "stages.sort isic2018") if chosen.unets else NONE
    short = shortfalls.reasons(PUBLISHED, chosen, tables)
    runs = measured.Runs(DATA / "predictions", lesions_of([merged, images, older]), short, confidence)
    set_of = {name: chosen.score[one.members[0]].set for name, one in chosen.ensembles.items()}
    curves = histories(blocks, chosen.base_models)
    numbers = pd.read_csv(PUBLISHED / "numbers.csv", keep_default_na=False)

    trained, rows = studies.train(runs, blocks["A"])
    folds = {key: one for key, one in chosen.cross_validate.items() if one.classifier in trained}
    rows += studies.classes(images["label"])
    rows += studies.cross_validate(runs, folds, trained, len(images))
    rows += studies.segment(runs) + studies.unet34(runs) if chosen.unets else []
    an_epoch = chosen.base_model.steps * chosen.base_model.batch  # images
    bases, of_b = studies.base_models(runs, chosen.base_models, curves["B"], an_epoch)
    seeds, melanoma, of_c = studies.preprocessing(runs, blocks["C"], numbers)
    ensembles, of_d = studies.ensembles(runs, blocks["D"])
    schedules, of_e = studies.schedules(runs, blocks["E"], added)
    rows += of_b + of_c + of_d + of_e
    for name in dict.fromkeys(set_of.values()):
        people = read_csv(DATA / f"sorted/people/{name}.csv", ["image", "sex", "age"], f"stages.sort {name}")
        of_set = replace(runs, lesions=lesions_of([tables[name]]))
        chosen_of = [ensemble for ensemble, of in set_of.items() if of == name]
        rows += studies.calibrated(of_set, chosen_of, people.set_index("image"), name in SETS)
    mine = {}
    for name in own:
        of_set = replace(runs, lesions=lesions_of([tables[name]]))
        mine[name], of_own = studies.own(of_set, name, blocks[name], chosen.cross_validate, len(tables[name]))
        rows += of_own
    models = boards.read(DATA / "predictions", chosen.score, chosen.ensembles)
    columns = ["test", "model", "image", "jaccard", "dice"]
    masks = pd.DataFrame(columns=columns)
    if chosen.unets:
        masks = read_csv(DATA / "predictions/tests_masks.csv", columns, "stages.score_masks")
    for name in own:
        rows += studies.own_masks(name, masks[masks["test"] == name], confidence)
    masks = masks[masks["test"].isin(list(boards.BOARDS))]
    places = boards.table(models, masks, PUBLISHED, source == "sample", confidence)

    kinds = scorecard.data_kinds(source, images["label"], len(pairs), melanoma, added)
    table = scorecard.beside(PUBLISHED, rows, kinds)
    lines = significance.seeds(seeds, numbers, confidence)
    for study, found in (("A", trained), ("D", ensembles), ("E", schedules), *mine.items()):
        lines += significance.pairs(study, found, confidence)
    tests = significance.corrected(lines)
    collapsed = [name for name, tested in trained.items() if len(np.unique(tested.guess)) == 1]
    counted = images if "isic2019" in tables else pd.concat([NONE, *tables.values()])
    data = {"source": source, "images": len(counted), "lesions": counted["lesion"].nunique(), "own": own}
    write_json(METRICS / "compare.json", scorecard.headline(table))
    write_csv(METRICS / "compare.csv", table)
    write_csv(METRICS / "significance.csv", tests)
    write_csv(METRICS / "leaderboards.csv", places)
    level = f"{100 * confidence:g} %"
    write_text(METRICS / "compare.md", pages.text(table, tests, places, PUBLISHED, kinds, data, level, collapsed))
    tested = trained | bases | {run: one for of in mine.values() for run, one in of.items()}
    with replacing_folder(PLOTS / "compare") as drawn:
        figures.draw(drawn, table, tables, tested, curves, kinds, confidence)
    write_text(METRICS / "scorecard.html", pages.html(table, tests, PUBLISHED, PLOTS / "compare", kinds, data))
    counts = scorecard.counts(table).sum()
    print(f"{counts['reproduced']} of {counts['published']} published numbers lie in our intervals")


if __name__ == "__main__":
    run(main)

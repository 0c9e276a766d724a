"""Make each study's tables from predictions: rows of lesions.compare.measured, named as in published/numbers.csv."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lesions.compare import intervals, measured
from lesions.compare.measured import Runs, Tested, scored
from lesions.core.errors import InputError
from lesions.core.files import read_csv
from lesions.isic import splits
from lesions.isic.names import CLASSES

SEGMENTATION = "jaccard"  # the headline checkpoint of Table 6.6
PAIR = ("base_64", "base_64_ak")  # the two reports of study B's Figure 6.1
KFOLD = re.compile(r"d_(crop|kfold)(_\d+)?")  # study D's KFoldCrop: d_crop (its fold 0) and the blocks that repeat it
GROUPS = {"e_m0_m3": range(4), "e_m4_m7": range(4, 8)}  # study E's Table 3: mean and deviation over models in a row
SPLITS = ("train", "val", "test")  # of study E
AGES = 40, 60  # years at which the next group begins

Blocks = Mapping[str, Any]  # of a section of params.yaml
Found = dict[str, Tested]
Rows = list[dict[str, Any]]
Seeds = dict[str, dict[str, pd.Series]]  # metric -> run -> float by seed


def classes(labels: pd.Series) -> Rows:
    """Return Table 5.1 of study A and 3.2 of B: images of each class of ISIC 2019, and their share as printed."""
    rows = []
    for label, count in labels.value_counts().items():
        share = round(count / len(labels), 4)
        rows += scored("A", "Table 5.1", str(label), len(labels), {"images": (count,)})
        rows += scored("B", "Table 3.2", str(label), len(labels), {"share": (share,)})
    return rows


def train(runs: Runs, blocks: Blocks) -> tuple[Found, Rows]:
    """Return the runs of study A's Tables 6.1 and 6.2, and every checkpoint of them."""
    found, rows = {}, []
    for name, block in blocks.items():
        predicted = runs.read("train", name, splits.CLASSES_OF.get(block.split, CLASSES))
        found[name] = predicted.first()
        for checkpoint in predicted.runs:
            tested = predicted.first(checkpoint)
            n, scores = len(tested.truth), measured.classification(tested, runs.confidence)
            what = "lowest loss" if checkpoint == "loss" else f"best {checkpoint}"
            rows += scored("A", "checkpoints", f"{name}, {what}", n, scores)
            if checkpoint == measured.HEADLINE:
                balanced = block.split == "balanced"
                scores = measured.five_eighths(scores) if balanced else scores
                rows += scored("A", f"Table 6.{1 + balanced}", name, n, scores, runs.reason(name))
    return found, rows


def cross_validate(runs: Runs, chosen: Blocks, first: Found, images: int) -> Rows:
    """Return Tables 6.3 to 6.5. `first`: fold 0, by run; `images`: of all folds."""
    folds: dict[str, dict[int, Tested]] = {}
    for name, one in chosen.items():
        found = folds.setdefault(one.classifier, {0: first[one.classifier]})
        found[one.fold] = runs.read("cross_validate", name, CLASSES).first()
    rows = []
    for name, found in folds.items():
        rows += measured.cross_validation(name, found, images, runs.confidence, runs.reason(name))
    return rows


def segment(runs: Runs) -> Rows:
    """Return Table 6.6, and what study C says of its own U-Net."""
    table = read_csv(runs.folder / "segment.csv", ["image", "checkpoint", "jaccard", "dice"], "stages.segment")
    table = table[table["checkpoint"] == SEGMENTATION]
    scores = measured.segmentation(table, runs.confidence)
    rows = scored("A", "Table 6.6", "unet", len(table), scores, runs.reason("unet"))
    return rows + scored("C", "Section 3.2", "unet", len(table), {"dice": scores["dice"]})


def base_models(runs: Runs, names: Blocks, histories: dict[str, pd.DataFrame], images: int) -> tuple[Found, Rows]:
    """Return Chapter 5 and Figure 6.1 of study B. histories: each run's accuracy by epoch, of `images` drawn ones."""
    found: Found = {}
    rows: Rows = []
    for name in names:
        found[name] = runs.read("base_model", name, CLASSES).first("last")
        n, scores = len(found[name].truth), measured.base_model(found[name], runs.confidence)
        guessed = measured.report(measured.shuffled(found[name].confusion()), CLASSES)
        learnt = float(histories[name]["train_accuracy"].iloc[-1])  # as Keras sums it up over an epoch
        rows += scored("B", "Chapter 5", name, images, {"train accuracy": (learnt,)}, runs.reason(name))
        rows += scored("B", "Chapter 5", name, n, {"accuracy": scores["accuracy"]}, runs.reason(name))
        rows += scored("B", "Figure 6.1", name, n, scores, runs.reason(name))
        rows += scored("B", "Figure 6.1", f"{name} shuffled", n, {m: (float(v),) for m, v in guessed.items()})
    if set(PAIR) <= set(found):
        before, after = (found[name] for name in PAIR)
        changed = measured.difference(before, after, runs.confidence)
        kept = {m: changed[m] for m in ("AK precision", "AK recall", "AK f1", "macro f1", "weighted f1", "accuracy")}
        rows += scored("B", "Figure 6.1", "difference", len(before.truth), kept)
    return found, rows


def preprocessing(runs: Runs, names: Blocks, numbers: pd.DataFrame) -> tuple[Seeds, dict[str, int] | None, Rows]:
    """Return study C's Tables 4.1 to 4.6, a value a seed on the validation part; and the images of each class there.

    The figure of a run is that of its best epoch on these very images, as in the paper: the checkpoint `accuracy`, for
    the AUROC the checkpoint `auroc` where there is one. `numbers`: published ones, with the tables they are in.
    """
    tables = {(line.run, line.metric): line.table for line in numbers[numbers["study"] == "C"].itertuples()}
    values: Seeds = {"accuracy": {}, "auroc": {}}
    images, rows = None, []
    for name in names:
        predicted = runs.read("train", name, split="val")
        own_epoch = "auroc" in predicted.runs
        for metric, checkpoint, score in (
            ("accuracy", "accuracy", measured.share_right),
            ("auroc", "auroc" if own_epoch else "accuracy", measured.melanoma_auc),
        ):
            scores = {seed: score(tested) for seed, tested in predicted.seeds(checkpoint).items()}
            found = values[metric][name] = pd.Series(scores).sort_index()
            where = tables.get((name, f"{metric} mean")) or tables.get((name, "accuracy mean"), "other runs")
            for statistic, value in measured.over_seeds(found.to_numpy(), runs.confidence).items():
                few = "seeds" if statistic == "max" and len(found) != measured.RUNS else ""
                reason = runs.reason(name) or ("epoch" if metric == "auroc" and not own_epoch else few)
                rows += scored("C", where, name, len(found), {f"{metric} {statistic}": value}, reason)
        one = predicted.first("accuracy")
        images = {label: int((one.truth == number).sum()) for number, label in enumerate(one.classes)}
    return values, images, rows


def unet34(runs: Runs) -> Rows:
    """Return study D's section II: the ensemble on images that no fold saw, and each fold on its own."""
    table = read_csv(runs.folder / "unet34.csv", ["image", "fold", "jaccard", "dice"], "stages.ensemble_masks")
    rows = []
    for fold, part in table.groupby(table["fold"].astype(str)):
        name = "d_unet34" if fold == "ensemble" else f"d_unet34, fold {fold}"
        rows += scored("D", "Section II-E", name, len(part), measured.segmentation(part, runs.confidence))
    return rows


def ensembles(runs: Runs, names: Blocks) -> tuple[Found, Rows]:
    """Return study D's section III: SnapEnsemble, CropBest and KFoldCrop, and what they are made of.

    KFoldCrop takes its members' last snapshots: their best epochs are chosen on images of which d_snap, from which
    they start, has seen most.
    """
    found: Found = {}
    members, rows = [], []
    for name in names:
        predicted = runs.read("train", name)
        found[name] = predicted.first()
        snapshots = [predicted.first(checkpoint) for checkpoint in predicted.runs if checkpoint.startswith("snapshot_")]
        if name == "d_snap":
            if not snapshots:
                wanted = "set classifiers.d_snap.snapshots in params.yaml"
                raise InputError(f"{predicted.path}: no checkpoint snapshot_1; {wanted}")
            found |= {"d_snap, best epoch": found[name], "d_snap": measured.ensemble(snapshots)}
        if KFOLD.fullmatch(name):
            members.append(snapshots[-1] if snapshots else found[name])
    if len(members) > 1:
        found["d_kfold"] = measured.ensemble(members)
    for name, tested in found.items():
        scores = measured.classification(tested, runs.confidence)
        rows += scored("D", "Section III-E", name, len(tested.truth), scores)
    return found, rows


def schedules(runs: Runs, blocks: Blocks, added: int) -> tuple[Found, Rows]:
    """Return study E's Table 3: the macro AUC of each model on each part, at the epoch of the highest AUC in validation
    as its author has it, and of the test part precision and recall; and what the models say of the test part.

    `added`: images of ISIC 2020 in the merged set. A model on ISIC 2019 alone compares with none of the paper's.
    """
    found, rows = dict[str, Tested](), list[dict[str, Any]]()
    reasons = {n: runs.reason(n) if block.set == "merged" and added else "merged" for n, block in blocks.items()}
    for split in SPLITS:
        found = {name: runs.read("train", name, split=split).first("auroc") for name in blocks}
        areas = {name: float(measured.macro_auc(tested)[0]) for name, tested in found.items()}
        drawn = {name: measured.resampled_auc(tested) for name, tested in found.items()}
        for name, tested in found.items():
            score = intervals.around(areas[name], drawn[name], runs.confidence)
            rows += scored("E", "Table 3", name, len(tested.truth), {f"{split} auc": score}, reasons[name])
        for group, numbers in GROUPS.items():
            members = [f"e_m{number}" for number in numbers]
            if not set(members) <= set(found) or len({blocks[name].set for name in members}) > 1:
                continue
            measured.on_same_images([found[name] for name in members], group)
            four, together = [areas[name] for name in members], np.stack([drawn[name] for name in members])
            mean = intervals.around(np.mean(four), together.mean(axis=0), runs.confidence)
            deviation = intervals.around(np.std(four, ddof=1), together.std(axis=0, ddof=1), runs.confidence)
            reason = next(filter(None, (reasons[name] for name in members)), "")
            scores = {f"{split} auc mean": mean, f"{split} auc sd": deviation}
            rows += scored("E", "Table 3", group, len(found[members[0]].truth), scores, reason)
        for name, tested in found.items() if split == "test" else ():
            report = measured.base_model(tested, runs.confidence)
            kept = {metric: report[f"macro {metric}"] for metric in ("precision", "recall")}
            rows += scored("E", "Test part", name, len(tested.truth), kept)
    return found, rows  # of the test part, the last of SPLITS


def own(runs: Runs, name: str, blocks: Blocks, folds: Blocks, images: int) -> tuple[Found, Rows]:
    """Return what classifiers say of the test part of a set of one's own, and cross-validated where all folds ran.

    runs: with the lesions of that set. images: how many it has.
    """
    found: Found = {}
    rows, tested = [], dict[str, dict[int, Tested]]()
    for run in blocks:
        found[run] = runs.read("train", run).first()
        scores = dict(measured.classification(found[run], runs.confidence))
        area = float(measured.macro_auc(found[run])[0])
        scores["auc"] = intervals.around(area, measured.resampled_auc(found[run]), runs.confidence)
        rows += scored("ours", name, run, len(found[run].truth), scores)
    for key, one in folds.items():
        if one.classifier in blocks:
            of = tested.setdefault(one.classifier, {0: found[one.classifier]})
            of[one.fold] = runs.read("cross_validate", key, found[one.classifier].classes).first()
    for run, of in tested.items():
        for row in measured.cross_validation(run, of, images, runs.confidence):
            if metric := {"bma": "cv_bma", "accuracy_by_lesion": "cv_accuracy"}.get(row["metric"]):
                rows.append(row | {"study": "ours", "table": name, "metric": metric})
    return found, rows


def own_masks(name: str, masks: pd.DataFrame, confidence: float) -> Rows:
    """Return the U-Nets' scores on the experts' masks of a set of one's own. masks: what stages.score_masks wrote."""
    rows = []
    for model, of in masks.groupby("model", sort=False):
        rows += scored("ours", f"{name}: masks", str(model), len(of), measured.segmentation(of, confidence))
    return rows


def groups(lesions: np.ndarray, images: np.ndarray, people: pd.DataFrame, of_isic: bool) -> dict[str, np.ndarray]:
    """Return bool (N,) by name: images of a sex and an age, as `people` (index: image) has them; if of_isic, those of a
    source too (the letters that begin a lesion's id: HAM, BCN, MSK …)."""
    known = people.reindex(images)
    sexes = known["sex"].astype(str).where(known["sex"].notna(), "")  # numbers, where a table has codes
    found = {sex: (sexes == sex).to_numpy() for sex in sorted(set(sexes) - {""})}
    ages = pd.to_numeric(known["age"], errors="coerce").to_numpy()
    for low, high in zip((0, *AGES), (*AGES, np.inf), strict=True):
        found[f"age {low} to {high - 1:g}" if high < np.inf else f"age {low} and over"] = (low <= ages) & (ages < high)
    sources = np.array([str(lesion).partition("_")[0].rstrip("0123456789") for lesion in lesions])
    found |= {str(source): sources == source for source in np.unique(sources) if of_isic}
    return {name: chosen for name, chosen in found.items() if chosen.any()}


def calibrated(runs: Runs, ensembles: Iterable[str], people: pd.DataFrame, of_isic: bool) -> Rows:
    """Return our ensembles on their test part: BMA and accuracy of the balanced output, AUC and loss of the other; and
    the BMA of each of `groups`."""
    rows = []
    for name in ensembles:
        predicted = runs.read("ensemble", name)
        balanced, shown = (predicted.first(output) for output in ("balanced", "calibrated"))
        found = dict(measured.classification(balanced, runs.confidence))
        found["loss"] = measured.classification(shown, runs.confidence)["loss"]
        area = float(measured.macro_auc(shown)[0])
        found["auc"] = intervals.around(area, measured.resampled_auc(shown), runs.confidence)
        rows += scored("ours", "Ensembles", name, len(balanced.truth), found)
        classes = len(np.unique(balanced.truth))
        for group, chosen in groups(balanced.lesions, balanced.images, people, of_isic).items():
            part = measured.part(balanced, chosen)
            score, there = measured.classification(part, runs.confidence)["bma"], len(np.unique(part.truth))
            lacking = f", {there} of {classes} classes" * (there < classes)
            rows += scored("ours", "Ensembles", name, len(part.truth), {f"bma {group}{lacking}": score})
    return rows

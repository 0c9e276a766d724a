"""Each study's tables from its prediction files, as rows of lesions.scoreboard named as in published/numbers.csv.

`short`: why a run falls short of the paper's, by its name (lesions/shortfalls.py).
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from lesions import intervals, scoreboard, splits
from lesions.errors import InputError
from lesions.isic import CLASSES
from lesions.scoreboard import HEADLINE, Tested, of_checkpoint, read_runs, read_tested, scored

SEGMENTATION = "jaccard"  # the headline checkpoint of Table 6.6
PAIR = ("base_64", "base_64_ak")  # the two reports of study B's Figure 6.1
KFOLD = re.compile(r"d_(crop|kfold)(_\d+)?")  # study D's KFoldCrop: d_crop (its fold 0) and the blocks that repeat it
GROUPS = {"e_m0_m3": range(4), "e_m4_m7": range(4, 8)}  # study E's Table 3: mean and deviation over models in a row

Rows = list[dict]
Seeds = dict[str, dict[str, pd.Series]]  # metric -> run -> float by seed
Short = dict[str, str]


def train(
    folder: Path, blocks: dict, lesions: pd.Series, short: Short, confidence: float
) -> tuple[dict[str, Tested], Rows]:
    """Study A's Tables 6.1 and 6.2, and every checkpoint."""
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
                rows += scored("A", "Table 6.2", name, n, scoreboard.five_eighths(scores), short.get(name, ""))
            elif checkpoint == HEADLINE:
                rows += scored("A", "Table 6.1", name, n, scores, short.get(name, ""))
    return found, rows


def cross_validate(
    folder: Path, chosen: dict, first: dict[str, Tested], lesions: pd.Series, short: Short, confidence: float
) -> Rows:
    """Tables 6.3 to 6.5."""
    folds: dict[str, dict[int, Tested]] = {}
    for name, one in chosen.items():
        path = folder / f"{name}.csv"
        by_checkpoint = read_tested(path, CLASSES, lesions, f"stages.cross_validate {name}")
        found = folds.setdefault(one.classifier, {0: first[one.classifier]})
        found[one.fold] = of_checkpoint(by_checkpoint, HEADLINE, path)
    rows = []
    for name, found in folds.items():
        rows += scoreboard.cross_validation(name, found, len(lesions), confidence, short.get(name, ""))
    return rows


def segment(path: Path, reason: str, confidence: float) -> Rows:
    """Table 6.6, and what study C says of its own U-Net. reason: as `short` of the U-Net."""
    table = scoreboard.read_csv(path, ["image", "checkpoint", "jaccard", "dice"], "stages.segment")
    table = table[table["checkpoint"] == SEGMENTATION]
    scores = scoreboard.segmentation(table, confidence)
    rows = scored("A", "Table 6.6", "unet", len(table), scores, reason)
    return rows + scored("C", "Section 3.2", "unet", len(table), {"dice": scores["dice"]})


def base_models(
    folder: Path, names: list[str], lesions: pd.Series, short: Short, confidence: float
) -> tuple[dict[str, Tested], Rows]:
    """Chapter 5 and Figure 6.1 of study B."""
    found, rows = {}, []
    for name in names:
        path = folder / f"{name}.csv"
        found[name] = of_checkpoint(read_tested(path, CLASSES, lesions, f"stages.base_model {name}"), "last", path)
        n, scores = len(found[name].truth), scoreboard.base_model(found[name], confidence)
        guessed = scoreboard.report(scoreboard.shuffled(found[name].confusion()), CLASSES)
        rows += scored("B", "Chapter 5", name, n, {"accuracy": scores["accuracy"]}, short.get(name, ""))
        rows += scored("B", "Figure 6.1", name, n, scores, short.get(name, ""))
        rows += scored("B", "Figure 6.1", f"{name} shuffled", n, {m: (v,) for m, v in guessed.items()})
    if set(PAIR) <= set(found):
        changed = scoreboard.difference(*(found[name] for name in PAIR), confidence)
        kept = {m: changed[m] for m in ("AK precision", "AK recall", "AK f1", "macro f1", "weighted f1", "accuracy")}
        rows += scored("B", "Figure 6.1", "difference", len(found[PAIR[0]].truth), kept)
    return found, rows


def preprocessing(
    folder: Path,
    names: list[str],
    tables: dict[tuple[str, str], str],
    lesions: pd.Series,
    short: Short,
    confidence: float,
) -> tuple[Seeds, dict[str, int] | None, Rows]:
    """Study C's Tables 4.1 to 4.6, a value a seed on the validation part; and the images of each class there.

    The figure of a run is that of its best epoch on these very images, as in the paper: the checkpoint `accuracy`, for
    the AUROC the checkpoint `auroc` where there is one. `tables`: (run, metric) -> where the paper prints it.
    """
    values: Seeds = {"accuracy": {}, "auroc": {}}
    images, rows = None, []
    for name in names:
        path = folder / f"{name}.csv"
        runs = read_runs(path, lesions, f"stages.train {name}", split="val")
        kept: dict[str, dict[int, Tested]] = {}
        for (seed, checkpoint), tested in runs.items():
            kept.setdefault(checkpoint, {})[seed] = tested
        own_epoch = "auroc" in kept
        for metric, checkpoint, score in (
            ("accuracy", "accuracy", scoreboard.share_right),
            ("auroc", "auroc" if own_epoch else "accuracy", scoreboard.melanoma_auc),
        ):
            seeds = of_checkpoint(kept, checkpoint, path)
            found = pd.Series({seed: score(tested) for seed, tested in seeds.items()})
            values[metric][name] = found.sort_index()
            where = tables.get((name, f"{metric} mean")) or tables.get((name, "accuracy mean"), "other runs")
            for statistic, numbers in scoreboard.over_seeds(found.to_numpy(), confidence).items():
                few = "seeds" if statistic == "max" and len(found) != scoreboard.RUNS else ""
                reason = short.get(name) or ("epoch" if metric == "auroc" and not own_epoch else few)
                rows += scored("C", where, name, len(found), {f"{metric} {statistic}": numbers}, reason)
        one = next(iter(runs.values()))
        images = {label: int((one.truth == number).sum()) for number, label in enumerate(one.classes)}
    return values, images, rows


def unet34(path: Path, confidence: float) -> Rows:
    """Study D, section II: the ensemble on images that no fold saw, and each fold on its own."""
    table, rows = scoreboard.read_csv(path, ["image", "fold", "jaccard", "dice"], "stages.ensemble_masks"), []
    for fold, part in table.groupby(table["fold"].astype(str)):
        name = "d_unet34" if fold == "ensemble" else f"d_unet34, fold {fold}"
        rows += scored("D", "Section II-E", name, len(part), scoreboard.segmentation(part, confidence))
    return rows


def ensembles(folder: Path, names: list[str], lesions: pd.Series, confidence: float) -> tuple[dict[str, Tested], Rows]:
    """Study D, section III: SnapEnsemble, CropBest and KFoldCrop, and what they are made of.

    KFoldCrop takes its members' last snapshots: their best epochs are chosen on images of which d_snap, from which
    they start, has seen most.
    """
    found, members = {}, []
    for name in names:
        path = folder / f"{name}.csv"
        by_checkpoint = read_tested(path, None, lesions, f"stages.train {name}")
        found[name] = of_checkpoint(by_checkpoint, HEADLINE, path)
        snapshots = [tested for checkpoint, tested in by_checkpoint.items() if checkpoint.startswith("snapshot_")]
        if name == "d_snap":
            if not snapshots:
                raise InputError(f"{path}: no checkpoint snapshot_1; set classifiers.d_snap.snapshots in params.yaml")
            found |= {"d_snap, best epoch": found[name], "d_snap": scoreboard.ensemble(snapshots)}
        if KFOLD.fullmatch(name):
            members.append(snapshots[-1] if snapshots else found[name])
    if len(members) > 1:
        found["d_kfold"] = scoreboard.ensemble(members)
    rows = []
    for name, tested in found.items():
        rows += scored("D", "Section III-E", name, len(tested.truth), scoreboard.classification(tested, confidence))
    return found, rows


def schedules(
    folder: Path, blocks: dict, lesions: pd.Series, added: int, short: Short, confidence: float
) -> tuple[dict[str, Tested], Rows]:
    """Study E's Table 3: the macro AUC of each model on each part; mean and deviation of M0 to M3 and of M4 to M7.

    And what the models say of the test part. `added`: images of ISIC 2020 in the merged set. A model on ISIC 2019
    alone compares with none of the paper's.
    """
    found, rows = {}, []
    whole = {name: block.set == "merged" and added for name, block in blocks.items()}
    reasons = {name: short.get(name, "") if whole[name] else "merged" for name in blocks}
    for split in ("train", "val", "test"):
        found, values, drawn = {}, {}, {}
        for name in blocks:
            path = folder / f"{name}.csv"
            by_checkpoint = read_tested(path, None, lesions, f"stages.train {name}", split)
            found[name] = of_checkpoint(by_checkpoint, HEADLINE, path)
            values[name], drawn[name] = scoreboard.macro_auc(found[name])[0], scoreboard.resampled_auc(found[name])
            score = (values[name], *intervals.percentile(drawn[name], confidence))
            rows += scored("E", "Table 3", name, len(found[name].truth), {f"{split} auc": score}, reasons[name])
        for group, numbers in GROUPS.items():
            members = [f"e_m{number}" for number in numbers]
            if not set(members) <= set(found) or len({blocks[name].set for name in members}) > 1:
                continue
            scoreboard.on_same_images([found[name] for name in members], group)
            four, together = [values[name] for name in members], np.stack([drawn[name] for name in members])
            bounds = [
                intervals.percentile(of, confidence) for of in (together.mean(axis=0), together.std(axis=0, ddof=1))
            ]
            scores = {
                f"{split} auc mean": (np.mean(four), *bounds[0]),
                f"{split} auc sd": (np.std(four, ddof=1), *bounds[1]),
            }
            reason = next(filter(None, (reasons[name] for name in members)), "")
            rows += scored("E", "Table 3", group, len(found[members[0]].truth), scores, reason)
    return found, rows


def summary(rows: Rows) -> dict:
    """The nested numbers of compare.json: studies A and B."""
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

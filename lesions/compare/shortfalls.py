"""Say where a run of ours is not the paper's own: its number stands beside the published one but is not judged by it.

published/training.csv: how long, on what and from which weights each run was trained that a paper prints.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from lesions.compare.config import Chosen
from lesions.isic import splits
from lesions.isic.names import SETS
from lesions.pictures.config import size_of


def reason(needed: dict[Hashable, Any], weights: str, sampler: str, side: int, epochs: int, whole: bool) -> str:
    """Return a reason of published/reasons.csv, or '' where the run is as the paper's, or more.

    needed: a line of training.csv. weights: a name, none or a path; side: the shorter one, in pixels; whole: whether an
    epoch shows as many images as the paper's.
    """
    kind = {"none": "none", "models": "other"}.get(weights.removeprefix("data/weights/").partition("/")[0], "imagenet")
    if kind != needed["weights"]:
        return "scratch" if kind == "none" else "weights"
    if sampler != needed["sampler"]:
        return "sampler"
    return "" if whole and epochs >= needed["epochs"] and side >= needed["side"] else "shortened"


def reasons(published: Path, chosen: Chosen, tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Return the reason of each run that a paper prints. tables: the sorted ones by set."""
    lines = pd.read_csv(published / "training.csv", keep_default_na=False).to_dict("records")
    needed, found = {line["run"]: line for line in lines}, {}
    for name, block in chosen.classifiers.items():
        if name in needed and block.set in SETS:
            table = tables[block.set]
            counts = splits.labels(table, block.split)[splits.roles(table, block.split) == "train"].value_counts()
            shown = counts.max() * len(counts) if block.sampler == "balanced" else counts.sum()
            whole, side = block.epoch_images == 0 or block.epoch_images >= shown, min(size_of(block.images, chosen))
            found[name] = reason(needed[name], block.weights, block.sampler, side, block.total_epochs, whole)
    recipe = chosen.base_model
    for name, one in chosen.base_models.items():
        if name in needed:  # whose epochs are of so many images
            whole, side = recipe.steps * recipe.batch >= int(needed[name]["images"]), min(size_of(one.images, chosen))
            found[name] = reason(needed[name], recipe.weights, "uniform", side, recipe.epochs, whole)
    if not chosen.unets:
        return found
    unet, side = chosen.segment, min(chosen.resize["isic2018"].arrays["segment"].shape)
    found["unet"] = reason(needed["unet"], unet.weights, "uniform", side, unet.total_epochs, whole=True)
    return found

"""Where a run of ours is not the paper's own: then its number stands beside the published one but is not judged by it.

published/training.csv: how long, on what and from which weights each run was trained that a paper prints.
"""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from lesions import splits
from lesions.params import Optimisation, size_of


def read(published: Path) -> pd.DataFrame:
    """The lines of training.csv by `run`."""
    return pd.read_csv(published / "training.csv", keep_default_na=False).set_index("run")


def reason(needed: pd.Series, weights: str, sampler: str, side: int, epochs: int, whole: bool) -> str:
    """A reason of published/reasons.csv, or '' where the run is as the paper's, or more.

    needed: a line of training.csv. weights: a name, none or a path; side: the shorter one, in pixels; whole: whether an
    epoch shows as many images as the paper's.
    """
    kind = {"none": "none", "models": "other"}.get(weights.removeprefix("data/weights/").partition("/")[0], "imagenet")
    if kind != needed["weights"]:
        return "scratch" if kind == "none" else "weights"
    if sampler != needed["sampler"]:
        return "sampler"
    return "" if whole and epochs >= needed["epochs"] and side >= needed["side"] else "shortened"


def length(recipe: Optimisation) -> int:
    """Epochs in all."""
    return sum(leg.epochs for leg in recipe.legs)


def classifiers(needed: pd.DataFrame, chosen: SimpleNamespace, tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    """The reason of each block that a paper prints. chosen: sections of params.yaml; tables: the sorted ones by set."""
    found = {}
    for name, block in chosen.classifiers.items():
        if name in needed.index:
            table = tables[block.set]
            counts = splits.labels(table, block.split)[splits.roles(table, block.split) == "train"].value_counts()
            shown = counts.max() * len(counts) if block.sampler == "balanced" else counts.sum()
            whole, side = block.epoch_images == 0 or block.epoch_images >= shown, min(size_of(chosen, block.images))
            found[name] = reason(needed.loc[name], block.weights, block.sampler, side, length(block), whole)
    return found


def base_models(needed: pd.DataFrame, chosen: SimpleNamespace) -> dict[str, str]:
    """The same of study B's, whose epochs are of so many images."""
    found, recipe = {}, chosen.base_model
    for name, one in chosen.base_models.items():
        if name in needed.index:
            whole = recipe.steps * recipe.batch >= int(needed.loc[name, "images"])
            side = min(size_of(chosen, one.images))
            found[name] = reason(needed.loc[name], recipe.weights, "uniform", side, recipe.epochs, whole)
    return found


def segment(needed: pd.DataFrame, chosen: SimpleNamespace) -> str:
    """That of study A's U-Net."""
    recipe, side = chosen.segment, min(chosen.resize["isic2018"].arrays["segment"].size)
    return reason(needed.loc["unet"], recipe.weights, "uniform", side, length(recipe), whole=True)

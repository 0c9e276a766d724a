"""What a run of ours lacks of the paper's own: then its number stands beside the published one but is not judged by it.

published/training.csv: how long, on which side and from which weights each run was trained that a paper prints.
"""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from lesions import splits
from lesions.params import size_of


def reason(needed: pd.Series, weights: str, side: int, epochs: int, whole: bool) -> str:
    """A reason of published/reasons.csv, or '' where nothing is lacking.

    needed: a line of training.csv. weights: a name, none or a path; side: the shorter one, in pixels; whole: whether an
    epoch shows as many images as the paper's.
    """
    if needed["weights"] == "imagenet" and weights.rpartition("/")[2] == "none":
        return "scratch"
    return "" if whole and epochs >= needed["epochs"] and side >= needed["side"] else "shortened"


def reasons(published: Path, chosen: SimpleNamespace, tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    """By the run's name: why ours falls short, or ''; of the runs that params.yaml has and a paper prints.

    chosen: sections of params.yaml. tables: the sorted tables by set.
    """
    needed = pd.read_csv(published / "training.csv").set_index("run")
    found = {}
    for name, block in chosen.classifiers.items():
        if name in needed.index:
            shown = (splits.roles(tables[block.set], block.split) == "train").sum()
            whole = block.epoch_images == 0 or block.epoch_images >= shown
            epochs = sum(phase.epochs for phase in block.phases) or block.epochs
            side = min(size_of(chosen, block.images))
            found[name] = reason(needed.loc[name], block.weights, side, epochs, whole)
    recipe = chosen.base_model
    for name, one in chosen.base_models.items():
        if name in needed.index:
            whole, side = recipe.steps >= needed.loc[name, "steps"], min(size_of(chosen, one.images))
            found[name] = reason(needed.loc[name], recipe.weights, side, recipe.epochs, whole)
    recipe, side = chosen.segment, min(chosen.resize["isic2018"].arrays["segment"].size)
    epochs = sum(phase.epochs for phase in recipe.phases) or recipe.epochs
    return found | {"unet": reason(needed.loc["unet"], recipe.weights, side, epochs, whole=True)}

"""Define the sections train, recipes, classifiers, cross_validate and attention of params.yaml."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lesions.core import config
from lesions.core.config import Count, Name, Section
from lesions.isic.names import Generated
from lesions.training.config import Optimisation

BY_AUROC = ("melanoma", "eighty")  # splits of studies C and E, which report the epoch of the highest AUROC


class Recipe(Optimisation):
    """The settings of a classifier's training, and the parts of its split that are predicted."""

    epoch_images: Annotated[int, Field(ge=0)]
    sampler: Literal["uniform", "root", "balanced"]
    tta: bool
    predict: tuple[Literal["train", "val", "test"], ...]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    runs: Count = 1  # seeds seed, seed + 1, …
    dropouts: Count = 1  # draws of it, of which the mean is taken
    snapshots: bool = False  # a checkpoint at the end of each cycle


class Classifier(Recipe):
    """A block of `classifiers`, completed by its recipe and by `train`."""

    family: Name  # a file of lesions/networks
    network: str  # one of its names
    recipe: Name
    set: Name
    images: Annotated[str, Field(pattern=r"^(resized|color|masked)/[A-Za-z0-9_/-]+$")]
    split: Literal["standard", "balanced", "eighty", "ham", "ham_1", "ham_2", "melanoma"]
    generated: Generated
    weights: Annotated[str, Field(pattern=r"^(data/weights/[A-Za-z0-9_]+|models/train/[A-Za-z0-9_]+/[a-z0-9_]+\.pt)$")]

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Return the names of the states that are kept: the best by each metric, and snapshots at ends of cycles."""
        best = ("loss", "accuracy", "bma") + ("auroc",) * (self.split in BY_AUROC)
        cycles = self.snapshots * sum(self.cycles for phase in self.all_phases if phase.train != "head")
        return *best, *(f"snapshot_{number}" for number in range(1, cycles + 1))

    @property
    def tested_on(self) -> tuple[str, str]:
        """Return a key that is equal for blocks with the same test images (ham, ham_1 and ham_2 share theirs)."""
        return self.set, self.split.partition("_")[0]


class CrossValidation(Section):
    """One fold of one classifier; the rest repeats the classifier's, because dvc.yaml needs it here.

    keep: keep the state of the highest BMA, to score it on official test sets.
    """

    classifier: Name
    fold: Annotated[int, Field(ge=1)]
    keep: bool = False
    recipe: str
    family: str
    set: str
    images: str
    weights: str


class Attention(Section):
    """Two blocks of `classifiers`, the same network without and with attention residual learning."""

    without: Name
    with_: Annotated[Name, Field(alias="with")]


def completed(block: Any, recipes: Any, train: Any) -> Any:
    """Return a raw block with what it lacks from its recipe, or else from `train`; as it is if one is no dictionary."""
    name = block.get("recipe") if isinstance(block, dict) else None
    recipe = recipes.get(name, {}) if isinstance(recipes, dict) and isinstance(name, str) else {}
    if not (isinstance(block, dict) and isinstance(recipe, dict) and isinstance(train, dict)):
        return block
    return {**train, **recipe, **block}


def classifier(name: str, path: Path = config.PARAMS) -> Classifier:
    """Read the block `name` of `classifiers`, completed. Raises InputError naming what is wrong."""
    block, train, recipes = config.section(f"classifiers.{name}", path), config.section("train", path), {}
    if isinstance(block, dict) and "recipe" in block:
        recipes[block["recipe"]] = config.section(f"recipes.{block['recipe']}", path)
    return config.validated(Classifier, completed(block, recipes, train), path, f"classifiers.{name}")

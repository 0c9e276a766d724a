"""Define the sections segment, unet34 and predict_masks of params.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lesions.core.config import Count, Fraction, Name, Section, Seed
from lesions.training.config import Optimisation


class ArrayPhase(Section):
    """A part of the training of study D's U-Net, on one array of isic2018; a range test finds its rate."""

    epochs: Count
    array: Name
    train: Literal["head", "all_but_norm"]


class Segment(Optimisation):
    decoder: str  # an architecture of segmentation-models-pytorch
    encoder: str  # one of its encoders, tu-<network of timm> among them
    weights: Name
    loss: Literal["bce", "jaccard", "bce_jaccard"]

    @property
    def array(self) -> str:
        """Return the array of isic2018 that the U-Net learns on."""
        return "segment"

    def states(self, checkpoint: str = "jaccard") -> list[Path]:
        """Return the file of the U-Net's state."""
        return [Path(f"models/segment/{checkpoint}.pt")]


class Unet34(Section):
    """The settings of study D's segmentation; each fold is a stage."""

    decoder: str  # an architecture of segmentation-models-pytorch
    encoder: str  # one of its encoders, tu-<network of timm> among them
    weights: Name
    folds: tuple[Annotated[int, Field(ge=0, le=2)], ...]
    phases: Annotated[tuple[ArrayPhase, ...], Field(min_length=1)]
    range_steps: Annotated[int, Field(ge=10)]
    batch: Annotated[int, Field(ge=2)]
    optimizer: Literal["sgd", "adam", "adamw"]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    loss: Literal["bce", "jaccard", "bce_jaccard"]
    augment: tuple[str, ...]  # names of lesions/batches/augment.py
    seed: Seed

    @property
    def array(self) -> str:
        """Return the array of isic2018 that the folds learn on at last."""
        return self.phases[-1].array

    def states(self) -> list[Path]:
        """Return the files of the folds' states, whose mean is the ensemble."""
        return [Path(f"models/unet34/{fold}.pt") for fold in self.folds]


class PredictMasks(Section):
    """Whose masks a set's images get: study A's U-Net's, at a checkpoint, or study D's ensemble's."""

    sets: dict[Name, Literal["segment", "unet34"]]
    checkpoint: Literal["loss", "jaccard"]
    threshold: Fraction

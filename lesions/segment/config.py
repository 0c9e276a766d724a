"""Define the sections segment, unet34 and predict_masks of params.yaml."""

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


class PredictMasks(Section):
    sets: tuple[Name, ...]
    checkpoint: Literal["loss", "jaccard"]
    threshold: Fraction

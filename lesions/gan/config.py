"""Say how study B's DCGAN and base model are trained."""

from typing import Annotated, Literal

from pydantic import Field

from lesions.core.config import Count, Name, Rate, Section, Seed
from lesions.isic.names import Generated, Label


class Keras(Section):
    backend: Literal["tensorflow", "torch"] = "tensorflow"


class AugmentGan(Section):
    label: Label
    epochs: Count
    batch: Annotated[int, Field(ge=2)]
    latent: Count
    lr: Rate
    beta1: Annotated[float, Field(ge=0, lt=1)]
    images: Count
    preview_every: Count
    seed: Seed


class BaseModelRecipe(Section):
    epochs: Count
    steps: Count
    validation_steps: Count
    batch: Count
    lr: Rate
    weights: Name
    seed: Seed


class BaseModelRun(Section):
    images: str
    generated: Generated

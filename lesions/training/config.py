"""Define the section compute of params.yaml, and the settings that every training has."""

from typing import Annotated, Literal

from pydantic import Field

from lesions.core.config import Count, Rate, Section, Seed


class Compute(Section):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1, le=256)]
    amp: bool
    compile: bool
    deterministic: bool


class Phase(Section):
    """A part of a training: length, rate, and what learns (all_but_norm: all but the body's batch normalisation)."""

    epochs: Count
    lr: Rate
    train: Literal["head", "all", "all_but_norm"]


class Optimisation(Section):
    """The settings of a training. cycles: of the schedule `restarts`; phases: in place of epochs and lr."""

    epochs: Count
    batch: Annotated[int, Field(ge=2)]
    optimizer: Literal["sgd", "adam", "adamw"]
    lr: Rate
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    schedule: Literal["none", "step", "cosine", "restarts", "onecycle"]
    cycles: Count = 1
    phases: tuple[Phase, ...] = ()
    augment: tuple[str, ...]  # names of lesions/batches/augment.py
    seed: Seed

    @property
    def all_phases(self) -> tuple[Phase, ...]:
        """Return the phases; if there are none, one in which all layers learn."""
        return self.phases or (Phase(epochs=self.epochs, lr=self.lr, train="all"),)

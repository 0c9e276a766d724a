"""Say on what a training runs, and what every training loop is told."""

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
    """A part of a training: how long, how fast, and what learns (all_but_norm: batch normalisation stays as it is)."""

    epochs: Count
    lr: Rate
    train: Literal["head", "all", "all_but_norm"]


class Optimisation(Section):
    """What every training loop is told. cycles: of the schedule `restarts`; phases: in place of epochs and lr."""

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
        """Return the phases; without any, one in which all learns."""
        return self.phases or (Phase(epochs=self.epochs, lr=self.lr, train="all"),)

"""Define the section compute of params.yaml, and the settings that every training has."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lesions.core.config import Count, Rate, Section, Seed


class Compute(Section):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1, le=256)]
    amp: bool
    compile: bool
    deterministic: bool


def rate_or_range(value: Any) -> Any:
    """Return a phase's rate. Raises ValueError for what is neither a rate nor the word range."""
    if value != "range" and (not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 10):
        raise ValueError(f"expected a number above 0 and at most 10, or range, got {value!r}")
    return value


class Phase(Section):
    """A part of a training: length, rate, and what learns (all_but_norm: all but the body's batch normalisation).

    lr: range stands for what a range test suggests. body_lr: of all but the head, where that is another.
    """

    epochs: Count
    lr: Annotated[float | Literal["range"], BeforeValidator(rate_or_range)]
    train: Literal["head", "all", "all_but_norm"]
    body_lr: Rate | None = None

    @model_validator(mode="after")
    def has_a_body(self) -> "Phase":
        if self.body_lr is not None and (self.train == "head" or self.lr == "range"):
            raise ValueError("body_lr: expected a phase in which the body learns, and a number as lr")
        return self


class Optimisation(Section):
    """The settings of a training. phases: in place of epochs and lr.

    cycles: of the schedule `restarts`, where more than the head learns; drop_every: epochs between the drops of `step`
    (0: one drop, after three quarters); lr_min: where `cosine` and `restarts` end; range_steps: of a range test.
    """

    epochs: Count
    batch: Annotated[int, Field(ge=2)]
    optimizer: Literal["sgd", "adam", "adamw"]
    lr: Rate
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    schedule: Literal["none", "step", "cosine", "restarts", "onecycle"]
    cycles: Count = 1
    drop_every: Annotated[int, Field(ge=0)] = 0
    lr_min: Annotated[float, Field(ge=0, lt=1)] = 0.0
    range_steps: Annotated[int, Field(ge=10)] = 100
    phases: tuple[Phase, ...] = ()
    augment: tuple[str, ...]  # names of lesions/batches/augment.py
    seed: Seed

    @model_validator(mode="after")
    def falls(self) -> "Optimisation":
        for phase in self.all_phases:
            if phase.lr != "range" and phase.lr <= self.lr_min:
                raise ValueError(f"lr_min: {self.lr_min:g}: expected less than lr, {phase.lr:g}")
        return self

    @property
    def all_phases(self) -> tuple[Phase, ...]:
        """Return the phases; if there are none, one in which all layers learn."""
        return self.phases or (Phase(epochs=self.epochs, lr=self.lr, train="all"),)

    @property
    def total_epochs(self) -> int:
        return sum(phase.epochs for phase in self.all_phases)

    def cycles_of(self, phase: Phase) -> int:
        """Return the cycles of a phase: one where only the head learns."""
        return 1 if phase.train == "head" else self.cycles

"""Define the sections score and ensembles of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from lesions.core.config import Name, Section


class Score(Section):
    """A classifier or a fold that is scored on the official test sets; the rest repeats its block's, for dvc.yaml."""

    classifier: Name
    trained: Literal["train", "cross_validate"]  # the stage that did it
    recipe: Name
    family: Name
    set: Name
    images: str


class Ensemble(Section):
    members: Annotated[tuple[str, ...], Field(min_length=1)]  # of score: classifiers of one split, or folds

"""Define the sections score and ensembles of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from lesions.core.config import Name, Section

Scored = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(-[0-9]+)?$")]  # a classifier, or a fold of one


class Score(Section):
    """A classifier or a fold that is scored on the official test sets; the rest repeats its block's, for dvc.yaml."""

    classifier: Name
    trained: Literal["train", "cross_validate"]  # the stage that did it
    recipe: Name
    family: Name
    set: Name
    images: str


class Ensemble(Section):
    members: Annotated[tuple[Scored, ...], Field(min_length=1)]  # of score: classifiers of one split, or folds

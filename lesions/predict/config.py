"""Define the sections score and ensembles of params.yaml."""

from typing import Annotated

from pydantic import Field

from lesions.core.config import Name, Section


class Score(Section):
    """A classifier that is scored on the official test sets; the rest repeats its block, because dvc.yaml needs it."""

    recipe: Name
    family: Name
    set: Name
    images: str


class Ensemble(Section):
    members: Annotated[tuple[Name, ...], Field(min_length=1)]  # classifiers of one split

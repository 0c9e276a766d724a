"""Define the section publish of params.yaml."""

from typing import Annotated

from pydantic import Field

from lesions.core.config import Name, Section


class Publish(Section):
    """A classifier that leaves the pipeline; the rest repeats its block, because dvc.yaml needs it."""

    recipe: Name
    family: Name
    set: Name
    images: Annotated[str, Field(pattern=r"^resized/")]  # who uses the model resizes photographs, and no more

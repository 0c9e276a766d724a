"""Define the sections color_correct and masked of params.yaml."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from lesions.core.config import Fraction, Name, Section


class Illuminant(Section):
    """A method without settings: max-RGB or gray world."""


class ShadesOfGray(Section):
    p: Annotated[float, Field(ge=1, le=100)]


class BenGraham(Section):
    sigma: Fraction


class Methods(Section):
    """The methods that are run, and their settings."""

    max_rgb: Annotated[Illuminant, Field(default=None)]
    gray_world: Annotated[Illuminant, Field(default=None)]
    shades_of_gray: Annotated[ShadesOfGray, Field(default=None)]
    ben_graham: Annotated[BenGraham, Field(default=None)]


class ColorCorrect(Section):
    sets: tuple[Name, ...]
    methods: Methods


class Masked(Section):
    """A set of masked images: grey or flat outside the mask, or cropped to its box."""

    set: Name
    style: Literal["grey", "flat", "crop"]


def set_of(images: str, masked: Mapping[str, Masked]) -> str:
    """Return the set of resized/<set>/<array>, color/<set>-<method> or masked/<name>."""
    kind, of, *_ = re.split("[/-]", images)
    return masked[of].set if kind == "masked" else of


def size_of(images: str, chosen: Any) -> tuple[int, int]:
    """Return height and width of an array of images, named as classifiers name it; `chosen` has resize and masked."""
    array = images.rpartition("/")[2] if images.startswith("resized/") else "classify"
    return chosen.resize[set_of(images, chosen.masked)].arrays[array].shape

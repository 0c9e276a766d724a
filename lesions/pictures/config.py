"""Say which colour methods are made of which sets, and what is done with masks."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from lesions.core.config import Fraction, Section
from lesions.isic.names import Set


class Illuminant(Section):
    """max-RGB and gray world have no setting."""


class ShadesOfGray(Section):
    p: Annotated[float, Field(ge=1, le=100)]


class BenGraham(Section):
    sigma: Fraction


class Methods(Section):
    """A method that is not made has no key."""

    max_rgb: Annotated[Illuminant, Field(default=None)]
    gray_world: Annotated[Illuminant, Field(default=None)]
    shades_of_gray: Annotated[ShadesOfGray, Field(default=None)]
    ben_graham: Annotated[BenGraham, Field(default=None)]


class ColorCorrect(Section):
    sets: tuple[Set, ...]
    methods: Methods


class Masked(Section):
    """What is done with the mask: grey or flat outside of it, or cropped to its box."""

    set: Set
    style: Literal["grey", "flat", "crop"]


def set_of(images: str, masked: Mapping[str, Masked]) -> str:
    """Return the set of resized/<set>/<array>, color/<set>-<method> or masked/<name>."""
    kind, of, *_ = re.split("[/-]", images)
    return masked[of].set if kind == "masked" else of


def size_of(images: str, chosen: Any) -> tuple[int, int]:
    """Return height and width of an array of images, named as classifiers name it. `chosen`: has resize and masked."""
    array = images.rpartition("/")[2] if images.startswith("resized/") else "classify"
    return chosen.resize[set_of(images, chosen.masked)].arrays[array].size

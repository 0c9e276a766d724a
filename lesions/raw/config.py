"""Define the sections data, sort and resize of params.yaml."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from lesions.core.config import Fraction, Name, Section, Seed, Size
from lesions.isic.names import Test


class Sample(Section):
    seed: Seed
    images: Annotated[int, Field(ge=160)]
    pairs: Annotated[int, Field(ge=20)]


class Data(Section):
    source: Annotated[str, Field(min_length=1)]
    isic2020: bool  # whether study E's images of 2020 are fetched
    tests: tuple[Test, ...] = ()  # the official test sets that are fetched
    sample: Sample

    @field_validator("source")
    @classmethod
    def no_secrets(cls, source: str) -> str:
        """Refuse an address with a password or a key in it, without repeating it: params.yaml is committed."""
        if "://" in source and ("@" in urlsplit(source).netloc or set("?#") & set(source)):
            raise ValueError(
                "an address with a user, a password or a key in it would be committed; write 'machine HOST login USER "
                "password WORD' into ~/.netrc and leave them out here"
            )
        return source


class Sort(Section):
    seed: Seed
    folds: Annotated[int, Field(ge=2, le=20)]
    validation: Fraction
    leave_out: tuple[Test, ...] = ()  # test sets of whose lesions no classifier may see an image


class Array(Section):
    size: tuple[Size, Size]
    fit: Literal["squeeze", "crop"]


class Resize(Section):
    crop_border: bool
    arrays: dict[Name, Array]

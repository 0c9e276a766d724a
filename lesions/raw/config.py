"""Define the sections data, sort and resize of params.yaml."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator

from lesions.core.config import Fraction, Name, Section, Seed, Size
from lesions.isic.names import SETS, TESTS, Test, files

PACKED = ".zip"
RESERVED = {*"abcde", *TESTS, "train", "val", "test"}


class Sample(Section):
    seed: Seed
    images: Annotated[int, Field(ge=160)]
    pairs: Annotated[int, Field(ge=20)]


def below(path: str) -> str:
    """Refuse a path that leaves the source."""
    if path.startswith(("/", "~")) or ".." in path.split("/") or "\\" in path or ":" in path:
        raise ValueError("expected a path below data.source, with / between folders")
    return path.rstrip("/")


def archive(path: str) -> str:
    """Return the zip of a folder, which the download packs where it lies there unpacked."""
    return path if path.lower().endswith(PACKED) else path + PACKED


File = Annotated[str, Field(min_length=1), AfterValidator(below)]
Archive = Annotated[File, AfterValidator(archive)]
Label = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]  # 0: benign


class Official(Section):
    """A set of the studies: isic2019, isic2018, isic2017 or merged."""


class Own(Section):
    """A set of one's own: pictures, and a table of them in CSV, below data.source."""

    pictures: Annotated[tuple[Archive, ...], Field(min_length=1)]  # zips or folders
    table: File
    image: str = "image"  # columns of the table; a picture's name may have its ending and its folder before it
    label: str = "label"
    lesion: str | None = None  # images of one lesion, and of one patient, stay in one part
    patient: str | None = None
    split: str | None = None  # train, val or test
    sex: str | None = None  # of whom it shows, by which an ensemble is scored apart; age: in years
    age: str | None = None
    labels: dict[Label, Label] | None = None  # other names for the table's; a row that it does not name is left out
    masks: Archive | None = None  # of experts, a further test of the U-Nets
    licence: str = "that of its pictures"  # of what learns from it, in words, as the cards of exported models have them
    attribution: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that are read."""
        return (self.image, self.label, *filter(None, (self.lesion, self.patient, self.split, self.sex, self.age)))

    @property
    def files(self) -> tuple[str, ...]:
        return (self.table, *self.pictures, *filter(None, (self.masks,)))


def kind(of: Any) -> str:
    return "official" if isinstance(of, Official) or of == {} else "own"


OneSet = Annotated[Annotated[Official, Tag("official")] | Annotated[Own, Tag("own")], Discriminator(kind)]


def known(sets: dict[str, Official | Own]) -> dict[str, Official | Own]:
    """Check that the studies' sets, and no others, have nothing to say, and that merged has what it is made of."""
    for name, of in sets.items():
        if isinstance(of, Own) == (name in SETS):
            raise ValueError(f"{name}: expected {{}} for {', '.join(SETS)}, pictures and a table for one of your own")
        if name.lower() in RESERVED:
            raise ValueError(f"{name}: a study, a test set or a part has this name; expected another")
    if len({name.lower() for name in sets}) < len(sets):
        raise ValueError("two names that differ in their letters' size alone; expected one of them")
    if "merged" in sets and not {"isic2019", "isic2017"} <= set(sets):
        raise ValueError("merged: made of isic2019 and isic2017; expected both, or merged: null")
    return sets


Sets = Annotated[dict[Name, OneSet], AfterValidator(known)]


class Data(Section):
    source: Annotated[str, Field(min_length=1)]
    sets: Sets = dict.fromkeys(SETS, Official())
    isic2020: bool  # whether study E's images of 2020 are fetched
    tests: tuple[Test, ...] = ()  # the official test sets that are fetched
    sample: Sample

    @property
    def files(self) -> tuple[str, ...]:
        """Return the paths below data.source of all files that the sets and test sets need."""
        owned = (file for of in self.sets.values() if isinstance(of, Own) for file in of.files)
        return tuple(dict.fromkeys((*files(self.isic2020 and "merged" in self.sets, self.tests, self.sets), *owned)))

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
    shape: tuple[Size, Size]  # height, width
    fit: Literal["squeeze", "crop"]


class Resize(Section):
    crop_border: bool
    arrays: dict[Name, Array]

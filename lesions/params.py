"""params.yaml as frozen, validated objects: an unknown key, a wrong type or a value out of range is one line.

A stage reads the sections it names and nothing else (`read("resize")`); dvc.yaml declares the same ones,
which tests/test_dag.py holds it to. The whole file is checked on every read.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lesions.errors import InputError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0, le=10)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Augmentation = Literal["hflip", "vflip", "transpose", "lighting"]
Label = Literal["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"]
# The keys of lesions/classifiers.py (a test holds the two together): known here, so that a wrong one costs no training.
Architecture = Literal[
    "alexnet", "residual", "resnet18", "resnet34", "resnet50", "resnet101", "vgg11", "vgg16", "wide_resnet50_2"
]  # fmt: skip
Generated = Literal["none", "MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Sample(Section):
    seed: Seed
    images: Annotated[int, Field(ge=160)]
    pairs: Annotated[int, Field(ge=20)]


class Data(Section):
    source: Annotated[str, Field(min_length=1)]
    sample: Sample


class Weights(Section):
    names: tuple[Name, ...]


class Sort(Section):
    seed: Seed
    folds: Annotated[int, Field(ge=2, le=20)]
    validation: Fraction


class Array(Section):
    size: tuple[Annotated[int, Field(ge=8, le=4096)], Annotated[int, Field(ge=8, le=4096)]]
    fit: Literal["squeeze", "crop"]


class Resize(Section):
    crop_border: bool
    arrays: dict[Name, Array]


class Illuminant(Section):
    """max-RGB and gray world have no setting."""


class ShadesOfGray(Section):
    p: Annotated[float, Field(ge=1, le=100)]


class BenGraham(Section):
    sigma: Fraction


class ColorCorrect(Section):
    max_rgb: Illuminant | None = None
    gray_world: Illuminant | None = None
    shades_of_gray: ShadesOfGray | None = None
    ben_graham: BenGraham | None = None


class Compute(Section):
    threads: Annotated[int, Field(ge=1, le=256)]
    amp: bool
    compile: bool
    deterministic: bool


class Optimisation(Section):
    """What every training loop is told."""

    epochs: Count
    batch: Annotated[int, Field(ge=2)]
    optimizer: Literal["sgd", "adam", "adamw"]
    lr: Rate
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    schedule: Literal["none", "cosine", "onecycle"]
    augment: tuple[Augmentation, ...]
    seed: Seed


class Segment(Optimisation):
    encoder: Literal["resnet18", "resnet34", "resnet50"]
    weights: Name
    loss: Literal["bce", "jaccard", "bce_jaccard"]


class Mask(Section):
    checkpoint: Literal["loss", "jaccard"]
    threshold: Fraction


class AugmentGan(Section):
    label: Label
    epochs: Count
    batch: Annotated[int, Field(ge=2)]
    latent: Count
    lr: Rate
    beta1: Annotated[float, Field(ge=0, lt=1)]
    images: Count
    preview_every: Count
    seed: Seed


class BaseModelRecipe(Section):
    epochs: Count
    steps: Count
    validation_steps: Count
    batch: Count
    lr: Rate
    weights: Name
    seed: Seed


class BaseModelRun(Section):
    images: str
    generated: Generated


class Recipe(Optimisation):
    """How a classifier is trained."""

    epoch_images: Annotated[int, Field(ge=0)]
    sampler: Literal["uniform", "balanced"]


class Classifier(Recipe):
    """A block of `classifiers`, completed from `train`."""

    architecture: Architecture
    images: Annotated[str, Field(pattern=r"^(resized|color)/[A-Za-z0-9_/-]+$")]
    split: Literal["standard", "balanced"]
    generated: Generated
    weights: Name


class CrossValidation(Section):
    """One fold of one classifier; `images` and `weights` repeat the classifier's, because dvc.yaml needs them here."""

    classifier: Name
    fold: Annotated[int, Field(ge=1)]
    images: str
    weights: str


class Compare(Section):
    confidence: Fraction


class Params(Section):
    data: Data
    weights: Weights
    sort: Sort
    resize: dict[Literal["isic2019", "isic2018"], Resize]
    color_correct: ColorCorrect
    compute: Compute
    segment: Segment
    mask: Mask
    augment_gan: AugmentGan
    base_model: BaseModelRecipe
    base_models: dict[Name, BaseModelRun]
    train: Recipe
    classifiers: dict[Name, Classifier]
    cross_validate: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+-[0-9]+$")], CrossValidation]
    compare: Compare

    @model_validator(mode="before")
    @classmethod
    def complete_blocks(cls, raw: Any) -> Any:
        """A classifier's block says what differs from `train`."""
        if isinstance(raw, dict) and isinstance(raw.get("classifiers"), dict) and isinstance(raw.get("train"), dict):
            blocks = {k: {**raw["train"], **b} if isinstance(b, dict) else b for k, b in raw["classifiers"].items()}
            raw = {**raw, "classifiers": blocks}
        return raw

    @model_validator(mode="after")
    def agree(self) -> "Params":
        """What one section says of another is true."""
        wanted = {f"classifiers.{k}": (b.weights, b.architecture) for k, b in self.classifiers.items()}
        wanted["segment"] = (self.segment.weights, self.segment.encoder)
        wanted["base_model"] = (self.base_model.weights, "keras_resnet50")
        for place, (name, fits) in wanted.items():
            if name not in ("none", fits):
                raise ValueError(f"{place}.weights: {name!r} does not fit; expected none or {fits}")
            if name != "none" and name not in self.weights.names:
                raise ValueError(f"{place}.weights: {name!r} is not fetched; add it to weights.names")
        images = {f"resized/{s}/{a}" for s, r in self.resize.items() for a in r.arrays}
        images |= {f"color/isic2019-{m}" for m in self.color_correct.model_fields_set}
        for name, block in [*self.classifiers.items(), *self.base_models.items()]:
            if block.images not in images:
                raise ValueError(f"{name}.images: no array {block.images!r}; choose from {', '.join(sorted(images))}")
            if block.generated not in ("none", self.augment_gan.label):
                raise ValueError(f"{name}.generated: expected none or {self.augment_gan.label} (augment_gan.label)")
        for name, block in self.classifiers.items():
            if block.generated != "none" and block.split != "standard":
                raise ValueError(
                    f"classifiers.{name}.generated: needs split standard, whose test images the GAN never saw"
                )
        for key, one in self.cross_validate.items():
            block = self.classifiers.get(one.classifier)
            if block is None:
                raise ValueError(f"cross_validate.{key}: no block {one.classifier!r} in classifiers")
            if key != f"{one.classifier}-{one.fold}" or one.fold >= self.sort.folds:
                raise ValueError(f"cross_validate.{key}: expected <classifier>-<fold>, fold below {self.sort.folds}")
            if (block.split, block.generated) != ("standard", "none"):
                raise ValueError(f"cross_validate.{key}: {one.classifier} needs split standard and generated none")
            if (one.images, one.weights) != (block.images, block.weights):
                raise ValueError(f"cross_validate.{key}: expected images {block.images} and weights {block.weights}")
        return self


def load(path: Path = Path("params.yaml")) -> Params:
    """The whole of `path`, validated. Raises InputError naming the key at fault."""
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run from the repository's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = {"extra_forbidden": "unknown key", "missing": "missing"}.get(first["type"], first["msg"])
        given = "" if first["type"] in ("missing", "value_error") else f" (got {first['input']!r})"
        raise InputError(
            f"{path}: {where + ': ' if where else ''}{what.removeprefix('Value error, ')}{given}"
        ) from None


def read(*keys: str) -> SimpleNamespace:
    """The named sections: `read("sort").sort.folds`; `read("classifiers.vgg16")` gives that block alone."""
    params, found = load(), SimpleNamespace()
    for key in keys:
        section, _, name = key.partition(".")
        value = getattr(params, section)
        if name:  # a block of a dictionary, or a single field of a section
            block = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
            if block is None:
                known = sorted(value) if isinstance(value, dict) else sorted(value.model_fields_set)
                raise InputError(f"params.yaml: {section}: no {name!r}; there is {', '.join(known)}")
            value = block
        setattr(found, section, value)
    return found

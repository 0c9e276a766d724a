"""params.yaml as frozen, validated objects: an unknown key, a wrong type or a value out of range is one line.

A stage reads the sections it names and nothing else (`read("resize")`); dvc.yaml declares the same ones,
which tests/test_dag.py holds it to. The whole file is checked on every read.
"""

import os
import re
import reprlib
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lesions.errors import InputError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0, le=10)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Size = Annotated[int, Field(ge=8, le=4096)]
Set = Literal["isic2019", "isic2017", "merged"]  # what is classified
# The names of lesions/augment.py (a test holds the two together).
Augmentation = Literal[
    "hflip", "vflip", "transpose", "lighting", "dihedral", "rotate180", "rotate44", "rotate35", "zoom", "zoom105",
    "shift_scale_rotate", "optical", "grid", "elastic", "brightness", "contrast", "hsv", "clahe", "motion_blur",
    "median_blur", "gaussian_blur", "gaussian_noise", "cutout", "heavy",
]  # fmt: skip
Label = Literal["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"]
# The keys of lesions/classifiers.py (a test holds the two together): known here, so that a wrong one costs no training.
Architecture = Literal[
    "alexnet", "residual", "resnet18", "resnet34", "resnet50", "resnet101", "vgg11", "vgg16", "wide_resnet50_2",
    "resnet50_arl", "resnet50_concat", "efficientnet_b0", "efficientnet_b0_arl", "efficientnet_b0_no_se",
    "efficientnet_b0_no_se_arl",
]  # fmt: skip
GAN_SIZE = (64, 64)  # of study B's DCGAN: height and width
UNET_HAS_SEEN = "the U-Net has learnt on this test part's lesions; masked images need split standard or ham"
# The names of lesions/weights.py (a test holds the two together).
Published = Literal[
    "alexnet", "efficientnet_b0", "vgg16", "resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2",
    "keras_resnet50",
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
    isic2020: bool  # whether study E's images of 2020 are fetched
    sample: Sample


class Weights(Section):
    names: tuple[Published, ...]


class Sort(Section):
    seed: Seed
    folds: Annotated[int, Field(ge=2, le=20)]
    validation: Fraction


class Array(Section):
    size: tuple[Size, Size]
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


class Methods(Section):
    """A method that is not made has no key."""

    max_rgb: Illuminant = None
    gray_world: Illuminant = None
    shades_of_gray: ShadesOfGray = None
    ben_graham: BenGraham = None


class ColorCorrect(Section):
    sets: tuple[Set, ...]
    methods: Methods


class Compute(Section):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1, le=256)]
    amp: bool
    compile: bool
    deterministic: bool


Switch = Literal["channels_last", "fused", "amp", "compile"]  # what makes most trainings faster


class Keras(Section):
    backend: Literal["tensorflow", "torch", "jax"] = "tensorflow"


class Phase(Section):
    """A leg of a training: how long, how fast, and what learns (all_but_norm: batch normalisation stays as it is)."""

    epochs: Count
    lr: Rate
    train: Literal["head", "all", "all_but_norm"]


class ArrayPhase(Section):
    """A leg of study D's U-Net, on one array of isic2018: its learning rate is found by a range test."""

    epochs: Count
    array: Name
    train: Literal["head", "all_but_norm"]


class Optimisation(Section):
    """What every training loop is told. cycles: of the schedule `restarts`; phases: in place of epochs and lr."""

    epochs: Count
    batch: Annotated[int, Field(ge=2)]
    optimizer: Literal["sgd", "adam", "adamw"]
    lr: Rate
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    schedule: Literal["none", "step", "cosine", "restarts", "onecycle"]
    cycles: Count = 1
    phases: tuple[Phase, ...] = ()
    augment: tuple[Augmentation, ...]
    seed: Seed

    @property
    def legs(self) -> tuple[Phase, ...]:
        """The phases; without any, one in which all learns."""
        return self.phases or (Phase(epochs=self.epochs, lr=self.lr, train="all"),)


class Segment(Optimisation):
    encoder: Literal["resnet18", "resnet34", "resnet50"]
    weights: Name
    loss: Literal["bce", "jaccard", "bce_jaccard"]


class Unet34(Section):
    """Study D's segmentation; one fold a stage."""

    encoder: Literal["resnet18", "resnet34", "resnet50"]
    weights: Name
    folds: Annotated[tuple[Annotated[int, Field(ge=0, le=2)], ...], Field(min_length=1)]
    phases: Annotated[tuple[ArrayPhase, ...], Field(min_length=1)]
    range_steps: Annotated[int, Field(ge=10)]
    batch: Annotated[int, Field(ge=2)]
    optimizer: Literal["sgd", "adam", "adamw"]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    loss: Literal["bce", "jaccard", "bce_jaccard"]
    augment: tuple[Augmentation, ...]
    seed: Seed


class Mask(Section):
    sets: tuple[Set, ...]
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


class Masked(Section):
    """What is done with the mask: grey or flat outside of it, or cropped to its box."""

    set: Set
    style: Literal["grey", "flat", "crop"]


class Attention(Section):
    """Two blocks of `classifiers`, the same network without and with attention residual learning."""

    without: Name
    with_: Annotated[Name, Field(alias="with")]


class Recipe(Optimisation):
    """How a classifier is trained, and what of it is predicted."""

    epoch_images: Annotated[int, Field(ge=0)]
    sampler: Literal["uniform", "balanced"]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    runs: Count  # seeds seed, seed + 1, …
    snapshots: bool  # a checkpoint at the end of each cycle
    tta: bool
    predict: tuple[Literal["train", "val", "test"], ...]


class Classifier(Recipe):
    """A block of `classifiers`, completed from `train`."""

    architecture: Architecture
    recipe: Name
    set: Set
    images: Annotated[str, Field(pattern=r"^(resized|color|masked)/[A-Za-z0-9_/-]+$")]
    split: Literal["standard", "balanced", "eighty", "ham", "ham_1", "ham_2", "melanoma"]
    generated: Generated
    weights: Annotated[str, Field(pattern=r"^(data/weights/[a-z0-9_]+|models/train/[A-Za-z0-9_]+/[a-z0-9_]+\.pt)$")]

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The states that are kept: the best by each metric, and snapshots at the ends of cycles."""
        best = ("loss", "accuracy", "bma") + ("auroc",) * (self.split == "melanoma")
        cycles = self.snapshots * self.cycles * len(self.legs)
        return *best, *(f"snapshot_{number}" for number in range(1, cycles + 1))


class CrossValidation(Section):
    """One fold of one classifier; the rest repeats the classifier's, because dvc.yaml needs it here."""

    classifier: Name
    fold: Annotated[int, Field(ge=1)]
    recipe: str
    set: str
    images: str
    weights: str


class Compare(Section):
    confidence: Fraction


class Params(Section):
    data: Data
    weights: Weights
    sort: Sort
    resize: dict[Literal["isic2019", "isic2018", "isic2017", "merged"], Resize]
    color_correct: ColorCorrect
    compute: Compute
    keras: Keras
    slower: dict[Literal["cpu", "cuda"], dict[Architecture, tuple[Switch, ...]]]
    segment: Segment
    unet34: Unet34
    mask: Mask
    masked: dict[Name, Masked]
    augment_gan: AugmentGan
    base_model: BaseModelRecipe
    base_models: dict[Name, BaseModelRun]
    train: Recipe
    recipes: dict[Name, Recipe]
    classifiers: dict[Name, Classifier]
    attention: dict[Name, Attention]
    cross_validate: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+-[0-9]+$")], CrossValidation]
    compare: Compare

    @model_validator(mode="before")
    @classmethod
    def complete_blocks(cls, raw: Any) -> Any:
        """A classifier's block says what differs from its recipe, which says what differs from `train`."""
        parts = [raw.get(key) for key in ("train", "recipes", "classifiers")] if isinstance(raw, dict) else [None]
        if not all(isinstance(part, dict) for part in parts):
            return raw
        train, recipes, blocks = parts
        recipes = {k: {**train, **r} if isinstance(r, dict) else r for k, r in recipes.items()}

        def complete(block: Any) -> Any:
            name = block.get("recipe") if isinstance(block, dict) else None
            recipe = recipes.get(name) if isinstance(name, str) else None
            return {**(recipe if isinstance(recipe, dict) else train), **block} if isinstance(block, dict) else block

        return {**raw, "recipes": recipes, "classifiers": {k: complete(b) for k, b in blocks.items()}}

    @model_validator(mode="after")
    def agree(self) -> "Params":
        """What one section says of another is true."""
        self.agree_on_weights()
        self.agree_on_arrays()
        for name, block in self.classifiers.items():
            self.agree_on_classifier(f"classifiers.{name}", block)
        for key, one in self.cross_validate.items():
            self.agree_on_fold(f"cross_validate.{key}", key, one)
        for key, pair in self.attention.items():
            self.agree_on_pair(f"attention.{key}", pair)
        return self

    def agree_on_weights(self) -> None:
        """Each network starts from weights of its own kind, which are fetched or made."""
        wanted = {
            f"classifiers.{k}": (b.weights, f"data/weights/{plain(b.architecture)}")
            for k, b in self.classifiers.items()
        }
        wanted["segment"] = (self.segment.weights, self.segment.encoder)
        wanted["unet34"] = (self.unet34.weights, self.unet34.encoder)
        wanted["base_model"] = (self.base_model.weights, "keras_resnet50")
        for place, (given, fits) in wanted.items():
            name = given.removeprefix("data/weights/")
            if given.startswith("models/train/"):
                _, _, of, file = given.split("/")
                other, block = self.classifiers.get(of), self.classifiers[place.partition(".")[2]]
                if other is None or other is block or other.architecture != block.architecture:
                    raise ValueError(f"{place}.weights: {given!r}: no other block of that name and architecture")
                if tested_alike(other) != tested_alike(block):  # else it may have learnt what this one is tested on
                    raise ValueError(f"{place}.weights: {given!r}: expected a block of the same set and test part")
                if file.removesuffix(".pt") not in other.checkpoints:
                    raise ValueError(f"{place}.weights: {of} keeps {', '.join(other.checkpoints)}, not {file}")
            elif name != "none" and given != fits:
                raise ValueError(f"{place}.weights: {given!r} does not fit; expected none or {fits}")
            elif name != "none" and name not in get_args(Published):
                raise ValueError(f"{place}.weights: nobody publishes weights of {name}; expected none")
            elif name != "none" and name not in self.weights.names:
                raise ValueError(f"{place}.weights: {name!r} is not fetched; add it to weights.names")

    def agree_on_arrays(self) -> None:
        """What a stage reads is made by another."""
        classify = {name for name, one in self.resize.items() if "classify" in one.arrays}
        for place, sets in (("mask", self.mask.sets), ("color_correct", self.color_correct.sets)):
            for name in sets:
                if name not in classify:
                    raise ValueError(f"{place}.sets: {name}: no array classify in resize.{name}.arrays")
        for name, one in self.masked.items():
            if one.set not in self.mask.sets:
                raise ValueError(f"masked.{name}.set: {one.set} has no masks; add it to mask.sets")
        pairs = self.resize["isic2018"].arrays if "isic2018" in self.resize else {}
        for place, array in [("segment", "segment"), *(("unet34.phases", phase.array) for phase in self.unet34.phases)]:
            if array not in pairs:
                raise ValueError(f"{place}: no array {array!r} in resize.isic2018.arrays")
        if pairs["segment"].fit != "squeeze":  # stages/mask.py places other crops in what the U-Net learnt on
            raise ValueError(
                "resize.isic2018.arrays.segment.fit: expected squeeze: masks need a U-Net of whole pictures"
            )
        gan = self.resize["isic2019"].arrays.get("gan") if "isic2019" in self.resize else None
        if gan is None or gan.size != GAN_SIZE:
            raise ValueError(
                f"resize.isic2019.arrays.gan.size: expected {list(GAN_SIZE)}, which study B's networks have"
            )
        images = {f"resized/{s}/{a}" for s, r in self.resize.items() for a in r.arrays}
        images |= {
            f"color/{s}-{m}" for s in self.color_correct.sets for m in self.color_correct.methods.model_fields_set
        }
        images |= {f"masked/{name}" for name in self.masked}
        blocks = {f"classifiers.{k}": b for k, b in self.classifiers.items()}
        for place, block in (blocks | {f"base_models.{k}": b for k, b in self.base_models.items()}).items():
            if block.images not in images:
                raise ValueError(f"{place}.images: no array {block.images!r}; choose from {', '.join(sorted(images))}")
            if block.generated not in ("none", self.augment_gan.label):
                raise ValueError(f"{place}.generated: expected none or {self.augment_gan.label} (augment_gan.label)")
        for name, one in self.base_models.items():
            if self.set_of(one.images) != "isic2019":
                raise ValueError(f"base_models.{name}.images: {one.images}: expected an array of isic2019")

    def set_of(self, images: str) -> str:
        """The set of resized/<set>/<array>, color/<set>-<method> or masked/<name>."""
        kind, of, *_ = re.split("[/-]", images)
        return self.masked[of].set if kind == "masked" else of

    def agree_on_classifier(self, place: str, block: Classifier) -> None:
        if block.recipe not in self.recipes:
            raise ValueError(f"{place}.recipe: no {block.recipe!r} in recipes")
        only = {"isic2017": "melanoma", "merged": "eighty"}.get(block.set)
        fits = block.set == self.set_of(block.images)
        if not fits or (block.split != only if only else block.split == "melanoma"):
            raise ValueError(f"{place}: set {block.set}, images {block.images} and split {block.split} disagree")
        masked = block.images.startswith("masked/")
        if masked and block.set != "isic2017" and not block.split.startswith(("standard", "ham")):
            raise ValueError(f"{place}.images: {block.images}: {UNET_HAS_SEEN}")
        if block.split.startswith("ham_") and self.sort.folds <= int(block.split[-1]):
            raise ValueError(f"{place}.split: {block.split}: expected sort.folds above {block.split[-1]}")
        if block.generated != "none" and block.split != "standard":
            raise ValueError(f"{place}.generated: needs split standard, whose test images the GAN never saw")
        scored = {"melanoma": ("val",), "eighty": ("train", "val", "test")}.get(block.split, ("test",))
        if not set(scored) <= set(block.predict):
            raise ValueError(f"{place}.predict: expected {', '.join(scored)} among them, which stage compare scores")

    def agree_on_fold(self, place: str, key: str, one: CrossValidation) -> None:
        block = self.classifiers.get(one.classifier)
        if block is None:
            raise ValueError(f"{place}: no block {one.classifier!r} in classifiers")
        if key != f"{one.classifier}-{one.fold}" or one.fold >= self.sort.folds:
            raise ValueError(f"{place}: expected <classifier>-<fold>, fold below {self.sort.folds}")
        if (block.split, block.generated) != ("standard", "none"):
            raise ValueError(f"{place}: {one.classifier} needs split standard and generated none")
        if block.images.startswith("masked/"):
            raise ValueError(f"{place}: {one.classifier}: {UNET_HAS_SEEN}")
        if one.weights.startswith("models/"):
            raise ValueError(f"{place}.weights: {one.weights} has seen the fold; expected data/weights/…")
        for field in ("recipe", "set", "images", "weights"):
            if getattr(one, field) != getattr(block, field):
                raise ValueError(f"{place}.{field}: expected {getattr(block, field)}, as classifiers has")

    def agree_on_pair(self, place: str, pair: Attention) -> None:
        found = [self.classifiers.get(name) for name in (pair.without, pair.with_)]
        for name, block in zip((pair.without, pair.with_), found, strict=True):
            if block is None or block.split != "melanoma":
                raise ValueError(f"{place}: {name!r}: expected a block of classifiers with split melanoma")
            if block.images != "resized/isic2017/classify":  # dvc.yaml says so
                raise ValueError(f"{place}: {name}: expected images resized/isic2017/classify")
        if found[1].architecture != f"{found[0].architecture}_arl":
            raise ValueError(f"{place}: {pair.with_}: expected architecture {found[0].architecture}_arl")


def size_of(chosen: Params | SimpleNamespace, images: str) -> tuple[int, int]:
    """Height and width of the array `images`, as classifiers name it; by the sections resize and masked."""
    kind, of, *array = images.split("/")
    if kind == "resized":
        return chosen.resize[of].arrays[array[0]].size
    of = chosen.masked[of].set if kind == "masked" else of.partition("-")[0]
    return chosen.resize[of].arrays["classify"].size


def tested_alike(block: Classifier) -> tuple[str, str]:
    """The same for blocks with one test part: ham_1 and ham_2 are tested on what ham is."""
    return block.set, block.split.partition("_")[0]


def plain(architecture: str) -> str:
    """The torchvision network whose ImageNet weights an architecture starts from."""
    return next((name for name in ("resnet50", "efficientnet_b0") if architecture.startswith(name)), architecture)


class Loader(yaml.SafeLoader):
    """Plain YAML: a key that stands twice is an error, and so are aliases that would come to over LONGEST values."""

    LONGEST = 100_000

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.sizes: dict[int, int] = {}  # of each whole node, its aliases written out

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        mark, alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if alias and id(node) not in self.sizes:
            raise yaml.MarkedYAMLError(problem="an alias inside of what it stands for", problem_mark=mark)
        inner = [] if alias or isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key in (key for key, _ in inner if isinstance(key, yaml.ScalarNode)):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
            inner = [part for pair in inner for part in pair]
        if not alias:
            self.sizes[id(node)] = 1 + sum(self.sizes[id(part)] for part in inner)
        if self.sizes[id(node)] > self.LONGEST:
            raise yaml.MarkedYAMLError(problem=f"more than {self.LONGEST} values", problem_mark=mark)
        return node


def read_yaml(path: Path) -> Any:
    """What the YAML file at `path` holds; no object is made but plain ones. Raises InputError naming the line."""
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run from the repository's root") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"{path}: line {mark.line + 1 if mark else '?'}: {error.problem or error.context}") from None
    except Exception as error:  # PyYAML raises nearly anything on a value that its tag does not fit
        raise InputError(f"{path}: not YAML: {type(error).__name__}: {str(error)[:200]}") from None


def load(path: Path = Path("params.yaml")) -> Params:
    """The whole of `path`, validated. Raises InputError naming the key at fault."""
    return validated(read_yaml(path), path)


def validated(raw: Any, path: Path) -> Params:
    """`raw`, which `path` holds, as Params."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False)
        unknown = (one for one in found if one["type"] == "extra_forbidden")  # which may be what another lacks
        first = next(unknown, found[0])
        where = ".".join(str(part) for part in first["loc"])
        what = {"extra_forbidden": "unknown key", "missing": "missing"}.get(first["type"], first["msg"])
        given = "" if first["type"] in ("missing", "value_error") else f" (got {reprlib.repr(first['input'])})"
        raise InputError(
            f"{path}: {where + ': ' if where else ''}{what.removeprefix('Value error, ')}{given}"
        ) from None


def read(*keys: str) -> SimpleNamespace:
    """The named sections: `read("sort").sort.folds`; `read("classifiers.vgg16")` gives that block alone.

    lesions/reproduce.py says in the environment what dvc.yaml declares for a stage: then no other key can be read.
    """
    params, found, declared = load(), SimpleNamespace(), os.environ.get("LESIONS_DECLARED")
    for key in keys:
        if declared is not None and not any(f"{key}.".startswith(f"{name}.") for name in declared.split()):
            raise InputError(f"params.yaml: {key}: read by a stage whose params in dvc.yaml do not name it; add it")
        section, *names = key.split(".")
        value = getattr(params, section)
        for name in names:  # a block of a dictionary, or a single field of a section
            block = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
            if block is None:
                known = sorted(value) if isinstance(value, dict) else sorted(value.model_fields_set)
                raise InputError(f"params.yaml: {section}: no {name!r}; there is {', '.join(known)}")
            value = block
        setattr(found, section, value)
    return found

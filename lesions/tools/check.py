"""Check all of params.yaml: each section by its schema, and sections against each other.

The DAG's first stage, `make settings` and `make doctor` call `load`. Names that code resolves (networks, augmentations,
encoders) are checked where they are used, in the first lines of a stage.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lesions.classify.config import Attention, Classifier, CrossValidation, Recipe, completed
from lesions.compare.config import Compare
from lesions.core.config import PARAMS, Name, Section, read_yaml, validated
from lesions.core.errors import nearest
from lesions.download.config import Weights, refuse_own
from lesions.export.config import Publish
from lesions.gan.config import AugmentGan, BaseModelRecipe, BaseModelRun, Keras
from lesions.isic.names import SETS
from lesions.pictures.config import ColorCorrect, Masked, set_of
from lesions.predict.config import Ensemble, Score, Scored
from lesions.raw.config import Data, Resize, Sort
from lesions.segment.config import PredictMasks, Segment, Unet34
from lesions.training.config import Compute

OWN_SPLITS = ("standard", "ham", "ham_1", "ham_2")  # of a set of one's own; ham: of its lesions whose id begins so
SPLITS = (*OWN_SPLITS, "balanced", "eighty")  # of isic2019
NETWORKS = Path(__file__).parents[1] / "networks"
GAN_SIZE = (64, 64)  # of study B's DCGAN: height and width
UNET_HAS_SEEN = "the U-Net has learnt on this test part's lesions; masked images need split standard or ham"


def refuse_beside_phases(place: str, said: Any, recipes: dict) -> None:
    """Raise ValueError for a raw block or recipe that says epochs or lr where it, or the block's recipe, has phases."""
    whole = completed(said, recipes, {})
    if isinstance(whole, dict) and whole.get("phases") and (idle := [key for key in ("epochs", "lr") if key in said]):
        raise ValueError(f"{place}: {' and '.join(idle)} beside phases, which have their own; change phases instead")


class Params(Section):
    """The whole of params.yaml, its blocks of classifiers completed."""

    data: Data
    weights: Weights
    sort: Sort
    resize: dict[Name, Resize]
    color_correct: ColorCorrect
    compute: Compute
    keras: Keras
    unets: tuple[Literal["isic2018"], ...]
    gans: tuple[Literal["isic2019"], ...]
    segment: Segment
    unet34: Unet34
    predict_masks: PredictMasks
    masked: dict[Name, Masked]
    augment_gan: AugmentGan
    base_model: BaseModelRecipe
    base_models: dict[Name, BaseModelRun]
    train: Recipe
    recipes: dict[Name, Recipe]
    classifiers: dict[Name, Classifier]
    attention: dict[Name, Attention]
    score: dict[Scored, Score]
    ensembles: dict[Name, Ensemble]
    publish: dict[Name, Publish]
    cross_validate: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+-[0-9]+$")], CrossValidation]
    compare: Compare

    @model_validator(mode="before")
    @classmethod
    def complete_blocks(cls, raw: Any) -> Any:
        """Complete each block of classifiers by its recipe and by `train`, and each recipe by `train`."""
        if not isinstance(raw, dict) or not all(isinstance(raw.get(key), dict) for key in ("recipes", "classifiers")):
            return raw
        train, recipes = raw.get("train"), raw["recipes"]
        for section in ("recipes", "classifiers"):
            for name, said in raw[section].items():
                refuse_beside_phases(f"{section}.{name}", said, recipes)
        blocks = {name: completed(block, recipes, train) for name, block in raw["classifiers"].items()}
        return {**raw, "classifiers": blocks, "recipes": {k: completed(r, {}, train) for k, r in recipes.items()}}

    @model_validator(mode="after")
    def agree(self) -> "Params":
        """Check sections against each other, and that data.source is not a folder that the stage download fills."""
        refuse_own(self.data.source)
        self.agree_on_sets()
        self.agree_on_pairs()
        self.agree_on_arrays()
        self.agree_on_weights()
        self.agree_on_cycles()
        for name, block in self.classifiers.items():
            self.agree_on_classifier(f"classifiers.{name}", block)
        for key, one in self.cross_validate.items():
            self.agree_on_fold(f"cross_validate.{key}", key, one)
        for key, pair in self.attention.items():
            self.agree_on_pair(f"attention.{key}", pair)
        for name, scored in self.score.items():
            self.agree_on_score(f"score.{name}", name, scored)
        for name, published in self.publish.items():
            self.agree_on_publish(f"publish.{name}", name, published)
        for name, ensemble in self.ensembles.items():
            self.agree_on_ensemble(f"ensembles.{name}.members", ensemble)
        return self

    def agree_on_cycles(self) -> None:
        """Check that each phase of a training has whole cycles."""
        blocks = [(f"classifiers.{name}", block) for name, block in self.classifiers.items()]
        for place, training in [("segment", self.segment), *blocks]:
            for phase in training.all_phases:
                if phase.epochs % (cycles := training.cycles_of(phase)):
                    raise ValueError(f"{place}: epochs {phase.epochs} in {cycles} cycles: expected a multiple")

    def agree_on_weights(self) -> None:
        """Check that the weights a network starts from are fetched, or made by a block that fits."""
        if "none" in self.weights:
            raise ValueError("weights.none: none stands for random weights; choose another name")
        wanted = {"segment": self.segment.weights, "unet34": self.unet34.weights, "base_model": self.base_model.weights}
        for name, block in self.classifiers.items():
            if block.weights.startswith("data/"):
                wanted[f"classifiers.{name}"] = block.weights.removeprefix("data/weights/")
            else:
                self.agree_on_start(f"classifiers.{name}.weights", block)
        for place, name in wanted.items():
            known = ("none", *self.weights)
            if name not in known:
                raise ValueError(f"{place}.weights: {name!r} is not in the section weights{nearest(name, known)}")
            if name != "none" and (of := self.weights[name]).startswith("keras:") != (place == "base_model"):
                raise ValueError(f"{place}.weights: {name}: {of} is of another library than the network")

    def agree_on_start(self, place: str, block: Classifier) -> None:
        """Check a block that starts from another block's state."""
        _, _, of, file = block.weights.split("/")
        other = self.classifiers.get(of)
        if other is None or other is block or (other.family, other.network) != (block.family, block.network):
            raise ValueError(f"{place}: {block.weights!r}: no other block of that name and network")
        if other.tested_on != block.tested_on:  # else it may have learnt what this one is tested on
            raise ValueError(f"{place}: {block.weights!r}: expected a block of the same set and test part")
        if file.removesuffix(".pt") not in other.checkpoints:
            raise ValueError(f"{place}: {of} keeps {', '.join(other.checkpoints)}, not {file}")

    def agree_on_sets(self) -> None:
        """Check that what is made of sets is made of those that are there."""
        places = {"resize": self.resize, "unets": self.unets, "gans": self.gans}
        places |= {"predict_masks.sets": self.predict_masks.sets, "color_correct.sets": self.color_correct.sets}
        for place, named in places.items():
            for name in named:
                if name not in self.data.sets:
                    raise ValueError(f"{place}: {name}: not in data.sets{nearest(name, self.data.sets)}")
        if self.data.source in ("sample", "isic") and (own := sorted(set(self.data.sets) - set(SETS))):
            raise ValueError(
                f"data.sets: {own[0]}: expected data.source to be the folder or the URL that has its files"
            )
        if bool(self.unets) != bool(self.unet34.folds):
            raise ValueError("unet34.folds: expected folds where unets names a set, [] where it names none")
        if self.predict_masks.sets and not self.unets:
            raise ValueError("predict_masks.sets: masks are a U-Net's; expected unets: [isic2018], or no set")

    def agree_on_pairs(self) -> None:
        """Check that the arrays of image and mask that U-Nets learn from are made."""
        scored: list[str] = [test for test in self.data.tests if "task1" in test]
        scored += [name for name, of in self.data.sets.items() if getattr(of, "masks", None)]
        if not self.unets:
            if scored and self.data.source != "sample":
                raise ValueError(
                    f"data: {scored[0]} has masks, to test U-Nets on; expected unets: [isic2018], or no masks"
                )
            return
        pairs = self.resize["isic2018"].arrays if "isic2018" in self.resize else {}
        for place, array in [("segment", "segment"), *(("unet34.phases", phase.array) for phase in self.unet34.phases)]:
            if array not in pairs:
                raise ValueError(f"{place}: no array {array!r} in resize.isic2018.arrays")
        if pairs["segment"].fit != "squeeze":  # stages/predict_masks.py relies on a U-Net of whole pictures
            raise ValueError("resize.isic2018.arrays.segment.fit: expected squeeze: masks are of whole pictures")
        last = self.unet34.phases[-1].array
        if scored and (self.resize["isic2018"].crop_border or pairs[last].fit != "squeeze"):
            raise ValueError(f"resize.isic2018: {scored[0]} asks for whole pictures: crop_border false, {last} squeeze")

    def arrays(self) -> set[str]:
        """Return the arrays of images that are made, as classifiers name them."""
        resized = {f"resized/{s}/{a}" for s, r in self.resize.items() for a in r.arrays}
        methods = self.color_correct.methods.model_fields_set
        color = {f"color/{s}-{method}" for s in self.color_correct.sets for method in methods}
        return resized | color | {f"masked/{name}" for name in self.masked}

    def agree_on_arrays(self) -> None:
        """Check that each array of images that a stage reads is made by another stage."""
        classify = {name for name, one in self.resize.items() if "classify" in one.arrays}
        for place, sets in (("predict_masks", self.predict_masks.sets), ("color_correct", self.color_correct.sets)):
            for of in sets:
                if of not in classify:
                    raise ValueError(f"{place}.sets: {of}: no array classify in resize.{of}.arrays")
        self.agree_on_masks()
        gan = self.resize["isic2019"].arrays.get("gan") if "isic2019" in self.resize else None
        if self.gans and (gan is None or gan.shape != GAN_SIZE):
            raise ValueError(f"resize.isic2019.arrays.gan.shape: expected {list(GAN_SIZE)}, as study B's networks have")
        images = self.arrays()
        blocks: dict[str, Classifier | BaseModelRun] = {f"classifiers.{k}": b for k, b in self.classifiers.items()}
        for place, block in (blocks | {f"base_models.{k}": b for k, b in self.base_models.items()}).items():
            if block.images not in images:
                raise ValueError(f"{place}.images: no array {block.images!r}{nearest(block.images, images)}")
            made = ("none", *(self.augment_gan.label for _ in self.gans))
            if block.generated not in made:
                raise ValueError(f"{place}.generated: expected {' or '.join(made)} (augment_gan.label)")
        for name, run in self.base_models.items():
            if set_of(run.images, self.masked) != "isic2019":
                raise ValueError(f"base_models.{name}.images: {run.images}: expected an array of isic2019")

    def agree_on_masks(self) -> None:
        """Check that masked sets have masks, and that study D's U-Nets, of squeezed pictures, get no crops."""
        for of, nets in self.predict_masks.sets.items():
            fits = {self.resize[of].arrays["classify"].fit, self.resize["isic2018"].arrays[self.unet34.array].fit}
            if nets == "unet34" and fits != {"squeeze"}:
                raise ValueError(f"predict_masks.sets.{of}: unet34 takes squeezed pictures alone; expected segment")
        for name, one in self.masked.items():
            if one.set not in self.predict_masks.sets:
                raise ValueError(f"masked.{name}.set: {one.set} has no masks; add it to predict_masks.sets")

    def agree_on_classifier(self, place: str, block: Classifier) -> None:
        """Check a block's recipe, and that its set, images, split and predictions go together."""
        if block.recipe not in self.recipes:
            raise ValueError(f"{place}.recipe: no {block.recipe!r} in recipes{nearest(block.recipe, self.recipes)}")
        families = {path.stem for path in NETWORKS.glob("*.py")} - {"__init__", "build"}
        if block.family not in families:  # dvc.yaml makes the family's file a dependency
            raise ValueError(f"{place}.family: no lesions/networks/{block.family}.py{nearest(block.family, families)}")
        only = {"isic2017": ("melanoma",), "merged": ("eighty",), "isic2018": ()}.get(block.set)
        if only is None:
            only = SPLITS if block.set in SETS else OWN_SPLITS
        if block.set != set_of(block.images, self.masked) or block.split not in only:
            raise ValueError(f"{place}: set {block.set}, images {block.images} and split {block.split} disagree")
        unseen = block.set == "isic2017" or (block.set in SETS and block.split.startswith(("standard", "ham")))
        if block.images.startswith("masked/") and not unseen:
            raise ValueError(f"{place}.images: {block.images}: {UNET_HAS_SEEN}")
        if block.split.startswith("ham_") and self.sort.folds <= int(block.split[-1]):
            raise ValueError(f"{place}.split: {block.split}: expected sort.folds above {block.split[-1]}")
        if block.generated != "none" and block.split != "standard":
            raise ValueError(f"{place}.generated: needs split standard, whose test images the GAN never saw")
        scored = {"melanoma": ("val",), "eighty": ("train", "val", "test")}.get(block.split, ("test",))
        if not set(scored) <= set(block.predict):
            raise ValueError(f"{place}.predict: expected {', '.join(scored)} among them, which stage compare scores")

    def block_of(self, place: str, name: str) -> Classifier:
        """Return the block of that name, of which `place` speaks."""
        if name not in self.classifiers:
            raise ValueError(f"{place}: no block {name!r} in classifiers{nearest(name, self.classifiers)}")
        return self.classifiers[name]

    def agree_on_fields(self, place: str, one: CrossValidation | Score | Publish, block: Classifier) -> None:
        """Check what a fold, a score or a publication repeats of its classifier's block."""
        for field in type(one).model_fields:
            if field in Classifier.model_fields and getattr(one, field) != getattr(block, field):
                raise ValueError(f"{place}.{field}: expected {getattr(block, field)}, as classifiers has")

    def agree_on_fold(self, place: str, key: str, one: CrossValidation) -> None:
        """Check a fold against its classifier, whose block it repeats in part."""
        block = self.block_of(place, one.classifier)
        if key != f"{one.classifier}-{one.fold}" or one.fold >= self.sort.folds:
            raise ValueError(f"{place}: expected <classifier>-<fold>, fold below {self.sort.folds}")
        if (block.split, block.generated) != ("standard", "none"):
            raise ValueError(f"{place}: {one.classifier} needs split standard and generated none")
        if getattr(self.data.sets[block.set], "split", None):
            raise ValueError(f"{place}: the table of {block.set} has a split, and so no folds")
        if block.images.startswith("masked/"):
            raise ValueError(f"{place}: {one.classifier}: {UNET_HAS_SEEN}")
        if one.weights.startswith("models/"):
            raise ValueError(f"{place}.weights: {one.weights} has seen the fold; expected data/weights/…")
        self.agree_on_fields(place, one, block)

    def agree_on_score(self, place: str, name: str, scored: Score) -> None:
        """Check a classifier or a fold that is scored on test sets against its block, which it repeats in part."""
        block, fold = self.block_of(place, scored.classifier), self.cross_validate.get(name)
        if scored.trained == "cross_validate" and not (fold and fold.keep and fold.classifier == scored.classifier):
            raise ValueError(f"{place}: expected cross_validate.{name}, a fold of {scored.classifier}, with keep: true")
        if scored.trained == "train" and name != scored.classifier:
            raise ValueError(f"{place}.classifier: expected {name}, or trained: cross_validate")
        if block.images.startswith("masked/"):
            raise ValueError(f"{place}: {name} has masked images, which test sets have not; choose another classifier")
        self.agree_on_fields(place, scored, block)

    def agree_on_publish(self, place: str, name: str, published: Publish) -> None:
        """Check a classifier that is exported against its block, which it repeats in part."""
        block = self.block_of(place, name)
        if name == "unet":
            raise ValueError(f"{place}: models/served/unet is the U-Net's; give the classifier another name")
        if "val" not in block.predict:
            raise ValueError(f"{place}: expected val in the predict of {name}: probabilities are calibrated on it")
        self.agree_on_fields(place, published, block)

    def agree_on_ensemble(self, place: str, ensemble: Ensemble) -> None:
        """Check that the members are scored, and of one set and split, or folds of it."""
        for name in ensemble.members:
            if name not in self.score:
                raise ValueError(f"{place}: {name!r} is not in the section score{nearest(name, self.score)}")
        blocks = [self.classifiers[self.score[name].classifier] for name in ensemble.members]
        if len({(block.set, block.split) for block in blocks}) > 1:  # a fold's classifier has split standard, fold 0
            raise ValueError(f"{place}: expected members of one set and split")
        if any(not {"val", "test"} <= set(block.predict) for block in blocks):
            raise ValueError(f"{place}: expected members with val and test in predict")

    def agree_on_pair(self, place: str, pair: Attention) -> None:
        """Check that two blocks are the same network without and with attention, on the same images."""
        networks = []
        for name in (pair.without, pair.with_):
            block = self.classifiers.get(name)
            if block is None or block.split != "melanoma":
                raise ValueError(f"{place}: {name!r}: expected a block of classifiers with split melanoma")
            if block.images != "resized/isic2017/classify" or block.family != "attention":  # dvc.yaml says so
                raise ValueError(f"{place}: {name}: expected family attention and images resized/isic2017/classify")
            networks.append(block.network)
        if networks[1] != f"{networks[0]}_arl":
            raise ValueError(f"{place}: {pair.with_}: expected network {networks[0]}_arl")


def load(path: Path = PARAMS) -> Params:
    """Return the whole of `path`, checked. Raises InputError naming the key at fault."""
    return validated(Params, read_yaml(path), path)

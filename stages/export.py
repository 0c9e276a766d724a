"""Export: write one trained classifier as a model that is served without torch: its graph, its card, what it knows.

    python -m stages.export lite0

Reads the block's state of the highest BMA in validation (of several runs, the first), its table, its images and its
predictions; writes models/served/<name>/
  model.onnx        images uint8 N×H×W×3 -> logits N×C, features N×F and, where the network ends with global pooling and
                    one linear layer, maps N×C×h×w: class activation maps
  familiarity.npz   how far a picture lies from the training images (lesions/predict/familiarity.py)
  card.json         classes, size, licence, scores, calibration (fitted on validation), what it must not be used for
Where the block has test-time augmentation, the card's `views` is 8 (4 for images that are not square): whoever serves
the model takes the mean of the probabilities over the turned and mirrored views, as the scores do.
"""

import argparse
from pathlib import Path

import numpy as np

from lesions.classify.config import Classifier, classifier
from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.core.files import read_array, read_csv, replacing_folder
from lesions.export import card, graph
from lesions.isic import splits
from lesions.isic.names import SETS
from lesions.networks import build
from lesions.predict import calibration, familiarity
from lesions.raw.config import OneSet, Resize
from lesions.training import checkpoints, hardware
from lesions.training.config import Compute

CHECKPOINT = "bma"


def predicted(name: str, block: Classifier, classes: tuple[str, ...], lesions: dict[str, str]) -> dict[str, tuple]:
    """Return by part what the exported state predicted: true classes (N,), probabilities (N, C), lesions.

    A split without a test part is scored on its validation part (ISIC 2017).
    """
    path = Path(f"data/predictions/train/{name}.csv")
    table = read_csv(path, ("image", "split", "seed", "checkpoint", "label"), "stages.train")
    table = table[(table["checkpoint"] == CHECKPOINT) & (table["seed"] == block.seed)]
    parts = {}
    for part, of in table.groupby("split"):
        truth = of["label"].map({c: i for i, c in enumerate(classes)}).to_numpy()
        parts[str(part)] = (truth, of[[f"p_{c}" for c in classes]].to_numpy(), of["image"].map(lesions))
    if "val" not in parts:
        raise InputError(f"{path}: no predictions of the validation part; add val to the block's predict")
    return {"val": parts["val"], "test": parts.get("test", parts["val"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of params.yaml: classifiers")
    name = parser.parse_args().name
    block, compute = classifier(name), config.read("compute", Compute)
    resize = config.read(f"resize.{block.set}", Resize)
    data = card.source(config.read("data.source", str))
    of, isic2020 = config.read(f"data.sets.{block.set}", OneSet), config.read("data.isic2020", bool)
    device = hardware.prepare(compute, block.seed)

    table = read_csv(Path(f"data/sorted/{block.set}.csv"), ("image", "lesion", "label"), f"stages.sort {block.set}")
    images = read_array(Path(f"data/{block.images}.npy"), len(table))
    classes = splits.classes(block.set, block.split, table["label"])
    roles = splits.roles(table, block.split).to_numpy()
    rows = {role: np.flatnonzero(roles == role) for role in ("train", "val", "test")}
    height, width = images.shape[1:3]
    model = build.build(block.family, block.network, len(classes), (height, width), None, block.dropout)
    checkpoints.load_into(model, Path(f"models/train/{name}/{CHECKPOINT}.pt"))
    network = build.find(block.family, block.network)
    served = graph.Classifier(model, network.mean, network.std, (height, width))
    parts = predicted(name, block, classes, dict(zip(table["image"], table["lesion"], strict=True)))
    fitted = calibration.fit(*parts["val"][:2])

    with replacing_folder(Path(f"models/served/{name}")) as folder:
        graph.export(served, (height, width), folder / "model.onnx")
        served.to(device)
        known, threshold = familiarity.learnt(lambda index: graph.outputs(served, images, index)[1], images, rows)
        known.save(folder / "familiarity.npz")
        truth, p, lesions = parts["test"]
        balanced = fitted.balanced(p)  # whose likeliest class is the answer
        card.write(folder, {
            "name": name, "kind": "classifier", "family": block.family, "network": block.network,
            "classes": classes, "size": [height, width], "fit": resize.arrays[block.images.split("/")[2]].fit,
            "crop_border": resize.crop_border, "views": (8 if height == width else 4) if block.tta else 1,
            "data": data, **card.rights(block.set, of, data["sample"], isic2020), "weights": block.weights,
            "set": block.set, "array": block.images, "split": block.split,
            "images": {of: len(index) for of, index in rows.items()},
            "scored_on": "test" if len(rows["test"]) else "val", "confidence": card.CONFIDENCE,
            "scores": card.classified(truth, balanced, lesions), "confusion": card.confusion(truth, balanced, classes),
            "calibration": card.calibrated(fitted, classes, truth, p),
            "familiarity": {"threshold": threshold},
            "not_for": card.NOT_FOR if block.set in SETS else card.NOT_FOR_OWN,
        })  # fmt: skip


if __name__ == "__main__":
    run(main)

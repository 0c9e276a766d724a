"""Base model (study B): train the head of a frozen ResNet50, with or without generated images.

    python -m stages.base_model base_64_ak

Reads data/sorted/isic2019.csv, data/<images>.npy, data/generated/<generated>.npy (none.npy is empty; added to the
training part only) and data/weights/<weights>, with the names from params.yaml; writes
  data/predictions/base_model/<name>.csv  image, split, seed, checkpoint, label, p_MEL … p_SCC of the test part
  metrics/base_model/<name>.json          bma, accuracy and f1, the mean over the classes
  plots/base_model/<name>.csv             epoch, loss, accuracy, val_loss, val_accuracy
  models/base_model/<name>.weights.h5     the head's weights; the backbone's are those it started from
The frozen backbone is run once over the images and the head is trained on its features (lesions/gan/base_model.py).
Training batches are shuffled passes that go on from epoch to epoch; each epoch is validated, for the curve alone, on
shuffled batches of the test part, as in the paper.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.core.files import write_csv, write_json
from lesions.core.images import resized
from lesions.gan import keras_backend
from lesions.gan.config import BaseModelRecipe, BaseModelRun, Keras
from lesions.gan.saving import read_images, read_set, save_weights
from lesions.isic.names import CLASSES
from lesions.isic.splits import roles
from lesions.training.config import Compute

if TYPE_CHECKING:  # else after its backend is chosen: see main
    import keras

SORTED = Path("data/sorted/isic2019.csv")
VALIDATION_BATCH = 32  # flow_from_directory's default, which the paper's validation used
TRAINING, VALIDATION = range(2)  # the two random streams of a seed

Part = tuple[np.ndarray, np.ndarray]  # features float32 N×2048, labels N as indices into CLASSES


def batches(part: Part, batch: int, rng: np.random.Generator) -> Iterator[Part]:
    """Yield features and one-hot labels for ever, each pass in a new order; its last batch may be smaller."""
    features, labels = part[0], np.eye(len(CLASSES), dtype=np.float32)[part[1]]
    while True:
        for rows in np.split(rng.permutation(len(labels)), range(batch, len(labels), batch)):
            yield features[rows], labels[rows]


def train(head: "keras.Model", training: Part, test: Part, recipe: BaseModelRecipe) -> pd.DataFrame:
    """Train `head` and return loss and accuracy by epoch."""
    from tqdm.keras import TqdmCallback

    train_rng, validation_rng = (np.random.default_rng([recipe.seed, use]) for use in (TRAINING, VALIDATION))
    history = head.fit(
        batches(training, recipe.batch, train_rng), epochs=recipe.epochs, steps_per_epoch=recipe.steps,
        validation_data=batches(test, VALIDATION_BATCH, validation_rng), validation_steps=recipe.validation_steps,
        callbacks=[TqdmCallback(desc="head", verbose=0)], shuffle=False, verbose=0,  # the batches are shuffled already
    ).history  # fmt: skip
    table = pd.DataFrame(history)[["loss", "accuracy", "val_loss", "val_accuracy"]]
    table.insert(0, "epoch", range(1, recipe.epochs + 1))
    for epoch in table["epoch"][~np.isfinite(table[["loss", "val_loss"]]).all(axis=1)]:
        raise InputError(f"params.yaml: base_model: the loss is not finite in epoch {epoch}; expected a smaller lr")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of base_models in params.yaml")
    name = parser.parse_args().name
    chosen, recipe = config.read(f"base_models.{name}", BaseModelRun), config.read("base_model", BaseModelRecipe)
    keras, compute = config.read("keras", Keras), config.read("compute", Compute)
    keras_backend.begin(keras.backend, compute, recipe.seed)
    from lesions.gan import base_model

    table, images = read_set(SORTED, Path(f"data/{chosen.images}.npy"))
    generated = read_images(Path(f"data/generated/{chosen.generated}.npy"))
    part = roles(table, "holdout")
    labels = table["label"].map(CLASSES.index).to_numpy(dtype=int)
    training, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "test")
    if not len(training) or not len(test):
        raise InputError(f"{SORTED}: {len(training)} training and {len(test)} test images; expected some of each")

    size = images.shape[1:3]
    weights = None if recipe.weights == "none" else Path("data/weights", recipe.weights)
    features = partial(base_model.features, base_model.backbone(size, weights))
    found = features(images, np.concatenate([training, test]))
    added = features(resized(generated, size), np.arange(len(generated)))
    added_labels = np.array([CLASSES.index(chosen.generated) for _ in added], labels.dtype)  # none.npy holds no image
    train_part = np.concatenate([found[: len(training)], added]), np.concatenate([labels[training], added_labels])
    test_part = found[len(training) :], labels[test]

    head = base_model.head(recipe.lr)
    history = train(head, train_part, test_part, recipe)
    probabilities = head.predict(test_part[0], verbose=0)

    save_weights(head, Path(f"models/base_model/{name}.weights.h5"))
    tested = table.iloc[test]
    predicted = tested[["image"]].assign(split="test", seed=recipe.seed, checkpoint="last", label=tested["label"])
    predicted[[f"p_{label}" for label in CLASSES]] = probabilities
    write_csv(Path(f"data/predictions/base_model/{name}.csv"), predicted)
    write_csv(Path(f"plots/base_model/{name}.csv"), history)
    write_json(Path(f"metrics/base_model/{name}.json"), base_model.scores(labels[test], probabilities))


if __name__ == "__main__":
    run(main)

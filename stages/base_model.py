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
from tqdm import tqdm

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

VALIDATION_BATCH = 32  # flow_from_directory's default, which the paper's validation used
TRAINING, VALIDATION = range(2)  # the two random streams of a seed

Part = tuple[np.ndarray, np.ndarray]  # features float32 N×2048, labels N as indices into CLASSES


def shuffled_passes(count: int, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield batches of indices below `count` for ever, each pass in a new order; its last batch may be smaller."""
    while True:
        order = rng.permutation(count)
        yield from (order[start : start + batch] for start in range(0, count, batch))


def batches(part: Part, batch: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield features and one-hot labels for ever."""
    for rows in shuffled_passes(len(part[0]), batch, rng):
        yield part[0][rows], np.eye(len(CLASSES), dtype=np.float32)[part[1][rows]]


def train(head: "keras.Model", training: Part, test: Part, recipe: BaseModelRecipe) -> pd.DataFrame:
    """Train `head` and return loss and accuracy by epoch."""
    import keras

    train_rng, validation_rng = (np.random.default_rng([recipe.seed, use]) for use in (TRAINING, VALIDATION))
    with tqdm(total=recipe.epochs, desc="head", unit="epoch") as done:

        def show(epoch: int, logs: dict) -> None:
            done.set_postfix({name: f"{value:.3f}" for name, value in logs.items()})
            done.update()

        history = head.fit(
            batches(training, recipe.batch, train_rng),
            epochs=recipe.epochs,
            steps_per_epoch=recipe.steps,
            validation_data=batches(test, VALIDATION_BATCH, validation_rng),
            validation_steps=recipe.validation_steps,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=show)],
            shuffle=False,  # the batches are shuffled already
            verbose=0,
        ).history
    table = pd.DataFrame(history)[["loss", "accuracy", "val_loss", "val_accuracy"]]
    table.insert(0, "epoch", range(1, recipe.epochs + 1))
    for epoch in table["epoch"][~np.isfinite(table[["loss", "val_loss"]]).all(axis=1)]:
        raise InputError(f"params.yaml: base_model: the loss is not finite in epoch {epoch}; expected a smaller lr")
    return table


def predictions(rows: pd.DataFrame, probabilities: np.ndarray, seed: int) -> pd.DataFrame:
    """Return a row for each test image, in the order of `rows`."""
    table = rows[["image"]].assign(split="test", seed=seed, checkpoint="last", label=rows["label"])
    for column, name in enumerate(CLASSES):
        table[f"p_{name}"] = probabilities[:, column]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a block of base_models in params.yaml")
    parser.add_argument("--table", type=Path, default=Path("data/sorted/isic2019.csv"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("models/base_model"))
    parser.add_argument("--metrics", type=Path, default=Path("metrics/base_model"))
    parser.add_argument("--plots", type=Path, default=Path("plots/base_model"))
    args = parser.parse_args()
    chosen, recipe = config.read(f"base_models.{args.name}", BaseModelRun), config.read("base_model", BaseModelRecipe)
    keras, compute = config.read("keras", Keras), config.read("compute", Compute)
    keras_backend.begin(keras.backend, compute, recipe.seed)
    from lesions.gan import base_model

    table, images = read_set(args.table, args.data / f"{chosen.images}.npy")
    generated = read_images(args.data / "generated" / f"{chosen.generated}.npy")
    part = roles(table, "holdout")
    labels = table["label"].map(CLASSES.index).to_numpy(dtype=int)
    training, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "test")
    if not len(training) or not len(test):
        raise InputError(f"{args.table}: {len(training)} training and {len(test)} test images; expected some of each")

    size = images.shape[1:3]
    weights = None if recipe.weights == "none" else args.data / "weights" / recipe.weights
    features = partial(base_model.features, base_model.backbone(size, weights))
    found = features(images, np.concatenate([training, test]))
    added = features(resized(generated, size), np.arange(len(generated)))
    added_labels = np.array([CLASSES.index(chosen.generated) for _ in added], labels.dtype)  # none.npy holds no image
    train_part = (
        np.concatenate([found[: len(training)], added]),
        np.concatenate([labels[training], added_labels]),
    )
    test_part = (found[len(training) :], labels[test])

    head = base_model.head(recipe.lr)
    history = train(head, train_part, test_part, recipe)
    probabilities = head.predict(test_part[0], verbose=0)

    save_weights(head, args.models / f"{args.name}.weights.h5")
    predicted = predictions(table.iloc[test], probabilities, recipe.seed)
    write_csv(args.data / "predictions" / "base_model" / f"{args.name}.csv", predicted)
    write_csv(args.plots / f"{args.name}.csv", history)
    write_json(args.metrics / f"{args.name}.json", base_model.scores(labels[test], probabilities))


if __name__ == "__main__":
    run(main)

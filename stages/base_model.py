"""Base model (study B): the head of a frozen ResNet50 trained, with or without generated images, and reported.

    python -m stages.base_model base_64_ak

Reads data/sorted/isic2019.csv, data/<images>.npy, data/generated/<generated>.npy (none.npy is empty; added to the
training part only) and data/weights/<weights>, with the names from params.yaml; writes
  data/predictions/base_model/<name>.csv  image, split, seed, checkpoint, label, p_MEL … p_SCC of the test part
  metrics/base_model/<name>.json          accuracy, BMA, precision, recall, F1; see below for shuffled_labels
  plots/base_model/<name>.csv             epoch, loss, accuracy, val_loss, val_accuracy
  models/base_model/<name>.weights.h5     the head's weights; the backbone's are those it started from
The frozen backbone is run once over the images and the head is trained on its features (lesions/base_model.py).
Training batches are shuffled passes that go on from epoch to epoch; each epoch is validated, for the curve alone, on
shuffled batches of the test part, as in the paper. The paper's report took the labels in another order than the
predictions; `shuffled_labels` repeats that, so that its .30 can be seen beside what the same predictions are worth.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from lesions import keras_backend, params
from lesions.errors import InputError, run
from lesions.files import write_csv, write_json
from lesions.images import resized
from lesions.isic import CLASSES
from lesions.splits import roles
from lesions.study_b import read_images, read_set, save_weights

if TYPE_CHECKING:  # else after its backend is chosen: see main
    import keras

VALIDATION_BATCH = 32  # flow_from_directory's default, which the paper's validation used
TRAINING, VALIDATION, SHUFFLE = range(3)  # what the seed's three random streams are for

Part = tuple[np.ndarray, np.ndarray]  # features float32 N×2048, labels N as indices into CLASSES


def shuffled_passes(count: int, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Indices below `count` without end: pass after pass in a new random order, the last batch of a pass smaller."""
    while True:
        order = rng.permutation(count)
        yield from (order[start : start + batch] for start in range(0, count, batch))


def batches(part: Part, batch: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features and one-hot labels, without end."""
    for rows in shuffled_passes(len(part[0]), batch, rng):
        yield part[0][rows], np.eye(len(CLASSES), dtype=np.float32)[part[1][rows]]


def train(head: "keras.Model", training: Part, test: Part, recipe: params.BaseModelRecipe) -> pd.DataFrame:
    """Train `head`; returns loss and accuracy by epoch."""
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
    """One row a test image, in the order of `rows`."""
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
    read = params.read(f"base_models.{args.name}", "base_model", "keras", "compute")
    chosen, recipe, compute = read.base_models, read.base_model, read.compute
    backend = keras_backend.begin(read.keras.backend, compute, recipe.seed)
    from lesions import base_model

    table, images = read_set(args.table, args.data / f"{chosen.images}.npy")
    generated = read_images(args.data / "generated" / f"{chosen.generated}.npy")
    part = roles(table, "holdout")
    labels = table["label"].map(CLASSES.index).to_numpy(dtype=int)
    training, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "test")
    if not len(training) or not len(test):
        raise InputError(f"{args.table}: {len(training)} training and {len(test)} test images; expected some of each")

    size = images.shape[1:3]
    weights = None if recipe.weights == "none" else args.data / "weights" / recipe.weights
    features = base_model.extractor(base_model.backbone(size, weights), backend)
    found = features(images, np.concatenate([training, test]))
    added = features(resized(generated, size), np.arange(len(generated)))
    added_labels = np.array([CLASSES.index(chosen.generated) for _ in added], labels.dtype)  # none.npy holds no image
    train_part = (
        np.concatenate([found[: len(training)], added]),
        np.concatenate([labels[training], added_labels]),
    )
    test_part = (found[len(training) :], labels[test])

    head = base_model.head(recipe.lr, backend.jit_fit)
    history = train(head, train_part, test_part, recipe)
    probabilities = head.predict(test_part[0], verbose=0)
    shuffled = np.random.default_rng([recipe.seed, SHUFFLE]).permutation(labels[test])
    train_accuracy = base_model.report(train_part[1], head.predict(train_part[0], verbose=0))["accuracy"]

    save_weights(head, args.models / f"{args.name}.weights.h5")
    predicted = predictions(table.iloc[test], probabilities, recipe.seed)
    write_csv(args.data / "predictions" / "base_model" / f"{args.name}.csv", predicted)
    write_csv(args.plots / f"{args.name}.csv", history)
    metrics = {**base_model.report(labels[test], probabilities), "train_accuracy": train_accuracy}
    metrics["shuffled_labels"] = base_model.report(shuffled, probabilities)
    write_json(args.metrics / f"{args.name}.json", metrics)


if __name__ == "__main__":
    run(main)

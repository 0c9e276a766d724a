"""Study B's base model: a frozen ResNet50 (Keras) with global average pooling, and a dense softmax head.

The backbone does not learn, its batch norm is in inference mode and nothing is augmented, so an image has the same
2,048 features in every epoch: they are computed once, and the head alone is trained on them. The mathematics is that
of the whole model (tests/test_gan.py compares the two), at a small part of the cost.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import classification_report
from tqdm import tqdm

from lesions.errors import InputError
from lesions.images import Size
from lesions.isic import CLASSES
from lesions.keras_backend import Backend

FEATURES = 2048
SMALLEST = 32  # the backbone halves an image five times


def backbone(size: Size, weights: Path | None) -> keras.Model:
    """Images N×height×width×3, preprocessed -> features N×2048. Random weights where `weights` is None.

    `weights` is Keras's own file, resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5, under any name.
    """
    if min(size) < SMALLEST:
        raise InputError(f"images of {size[0]}×{size[1]}; ResNet50 expects {SMALLEST}×{SMALLEST} at least")
    model = keras.applications.ResNet50(include_top=False, pooling="avg", weights=None, input_shape=(*size, 3))
    if weights is not None:
        load_weights(model, weights)
    model.trainable = False
    return model


def load_weights(model: keras.Model, path: Path) -> None:
    """Keras tells formats apart by their suffix; a link in a temporary folder gives the file one."""
    if not path.is_file():
        raise InputError(f"{path}: not found; run the download stage")
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "weights.h5"
        link.symlink_to(path.resolve())
        try:
            model.load_weights(link)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: not weights of {model.name} ({error}); download it again") from None


def head(lr: float, jit: bool = False) -> keras.Model:
    """Features N×2048 -> probabilities N×8 in the order of CLASSES; `jit`: whether its `fit` is compiled by XLA."""
    dense = keras.layers.Dense(len(CLASSES), activation="softmax", name="classes")
    model = keras.Sequential([keras.layers.Input((FEATURES,)), dense], name="head")
    model.compile(keras.optimizers.SGD(lr), loss="categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
    return model


def extractor(model: keras.Model, backend: Backend, chunk: int = 64) -> Callable:
    """The function (images uint8 N×H×W×3, rows) -> the backbone's features of `images[rows]`, float32 len(rows)×2048.

    It runs in inference mode, `chunk` images at a time.
    """
    forward = backend.forward(model, jit=True)

    def features(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), FEATURES), np.float32)
        with tqdm(total=len(rows), desc="features", unit="image") as done:
            for start in range(0, len(rows), chunk):
                pixels = images[rows[start : start + chunk]].astype(np.float32)
                found[start : start + chunk] = forward(keras.applications.resnet.preprocess_input(pixels))
                done.update(len(pixels))
        return found

    return features


def report(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Accuracy, BMA, and precision, recall and F1: by class, macro and weighted (0 where undefined).

    `labels` are indices into CLASSES, `probabilities` N×8.
    """
    predicted = probabilities.argmax(axis=1)
    classes = list(range(len(CLASSES)))
    found = classification_report(
        labels, predicted, labels=classes, target_names=CLASSES, output_dict=True, zero_division=0
    )
    blocks = {name: block(found[name]) for name in (*CLASSES, "macro avg", "weighted avg")}
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "bma": blocks["macro avg"]["recall"],
        "macro": blocks.pop("macro avg"),
        "weighted": blocks.pop("weighted avg"),
        "classes": blocks,
    }


def block(scores: dict) -> dict:
    """One line of sklearn's report."""
    return {
        "precision": float(scores["precision"]),
        "recall": float(scores["recall"]),
        "f1": float(scores["f1-score"]),
        "support": int(scores["support"]),
    }

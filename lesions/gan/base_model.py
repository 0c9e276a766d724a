"""Study B's base model: a frozen ResNet50 (Keras) with global average pooling, and a dense softmax head.

The backbone does not learn, its batch norm is in inference mode and nothing is augmented, so an image has the same
2,048 features in every epoch: they are computed once, and the head alone is trained on them. The mathematics is that
of the whole model (tests/test_gan.py compares the two), at a small part of the cost.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import f1_score
from tqdm import tqdm

from lesions.core.errors import InputError
from lesions.core.images import Size
from lesions.isic import metrics
from lesions.isic.names import CLASSES

FEATURES = 2048
SMALLEST = 32  # the backbone halves an image five times


def backbone(size: Size, weights: Path | None) -> keras.Model:
    """Build the network from preprocessed images N×height×width×3 to features N×2048.

    `weights` is Keras's own file, resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5, under any name; None: random.
    Raises InputError for a file that is not there or not this network's, and for images that are too small.
    """
    if min(size) < SMALLEST:
        raise InputError(f"images of {size[0]}×{size[1]}; ResNet50 expects {SMALLEST}×{SMALLEST} at least")
    model = keras.applications.ResNet50(include_top=False, pooling="avg", weights=None, input_shape=(*size, 3))
    model.trainable = False
    if weights is None:
        return model
    if not weights.is_file():
        raise InputError(f"{weights}: not found; run the download stage")
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "weights.h5"  # Keras goes by the suffix
        link.symlink_to(weights.resolve())
        try:
            model.load_weights(link)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{weights}: not weights of {model.name} ({error}); download it again") from None
    return model


def head(lr: float) -> keras.Model:
    """Build the network from features N×2048 to probabilities N×8, in the order of CLASSES."""
    dense = keras.layers.Dense(len(CLASSES), activation="softmax", name="classes")
    model = keras.Sequential([keras.layers.Input((FEATURES,)), dense], name="head")
    model.compile(keras.optimizers.SGD(lr), loss="categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model


def features(model: keras.Model, images: np.ndarray, rows: np.ndarray, chunk: int = 64) -> np.ndarray:
    """Compute the features of images[rows], `chunk` at a time: uint8 N×H×W×3 to float32 len(rows)×2048."""
    model.jit_compile = False  # else Keras takes XLA wherever it can
    found = np.empty((len(rows), FEATURES), np.float32)
    for start in tqdm(range(0, len(rows), chunk), desc="features", unit="batch"):
        pixels = images[rows[start : start + chunk]].astype(np.float32)
        found[start : start + chunk] = model.predict_on_batch(keras.applications.resnet.preprocess_input(pixels))
    return found


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return, for `dvc metrics`, BMA, accuracy and the mean F1 of the classes (0 where undefined).

    `labels` are indices into CLASSES, `probabilities` N×8.
    """
    found, guess = metrics.classification(labels, probabilities), metrics.predicted(probabilities)
    f1 = f1_score(labels, guess, labels=range(len(CLASSES)), average="macro", zero_division=0)
    return {name: round(float(value), 6) for name, value in (found | {"f1": f1}).items() if name != "loss"}

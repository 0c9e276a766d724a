"""What study B's two stages share: TensorFlow quiet and reproducible, the images they read, models saved stably.

Keras and TensorFlow come from here (`from lesions.study_b import keras, tf`), so that the settings below are made
before their first import.
"""

import json
import os
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf

from lesions.errors import InputError
from lesions.files import read_array, read_csv, replacing
from lesions.isic import CLASSES
from lesions.params import Compute

EPOCH = "1980-01-01@00:00:00"  # the zip format's first day
SHARED = r'(?<="shared_object_id": )\d+'


def set_up(compute: Compute, seed: int) -> None:
    """Device, threads, seeds and determinism; to be called before TensorFlow's first operation.

    Raises InputError for the device cuda where there is none.
    """
    if compute.device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise InputError(
            "params.yaml: compute.device: cuda, but TensorFlow sees no GPU here; choose auto or cpu, or install "
            "tensorflow[and-cuda]"
        )
    if compute.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() != compute.threads:
        threading.set_intra_op_parallelism_threads(compute.threads)
        threading.set_inter_op_parallelism_threads(compute.threads)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    if compute.deterministic:
        tf.config.experimental.enable_op_determinism()


def jit(compute: Compute) -> bool:
    """Whether to compile with XLA: where compute.compile asks for it, on CUDA only."""
    return compute.compile and bool(tf.config.get_visible_devices("GPU"))


def device_name() -> str:
    """The GPUs that TensorFlow sees, or cpu."""
    gpus = tf.config.get_visible_devices("GPU")
    return ", ".join(tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in gpus) or "cpu"


def read_set(table: Path, images: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """The sorted table and its images, uint8 N×H×W×3, checked to belong together."""
    rows = read_csv(table, ("image", "label", "cv0"), "stages.sort")
    for label in sorted(set(rows["label"]) - set(CLASSES)):
        raise InputError(f"{table}: label {label!r}; expected one of {', '.join(CLASSES)}")
    pixels = read_images(images)
    if len(pixels) != len(rows):
        raise InputError(f"{images}: {len(pixels)} images for {len(rows)} rows of {table}; run the resize stage")
    return rows, pixels


def read_images(path: Path) -> np.ndarray:
    """An array of images, uint8 N×H×W×3, as a memmap."""
    pixels = read_array(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise InputError(f"{path}: {pixels.dtype} {pixels.shape}; expected uint8 N×H×W×3; run dvc repro")
    return pixels


def save_model(model: keras.Model, path: Path) -> None:
    """Save as .keras, with the same bytes for the same model.

    Keras puts the time into the zip and metadata.json, and memory addresses, as names of shared objects, into
    config.json; here the time is fixed and the objects are numbered.
    """
    with tempfile.TemporaryDirectory() as folder:
        dated = Path(folder) / "model.keras"
        model.save(dated)
        with replacing(path) as part, zipfile.ZipFile(dated) as old, zipfile.ZipFile(part, "w") as new:
            for name in sorted(old.namelist()):
                content = old.read(name)
                if name == "config.json":
                    content = numbered(content.decode())
                if name == "metadata.json":
                    content = json.dumps({**json.loads(content), "date_saved": EPOCH})
                new.writestr(zipfile.ZipInfo(name), content)  # a ZipInfo's own date is 1980-01-01


def numbered(config: str) -> str:
    """The shared objects of a model's JSON numbered in the order of their first appearance."""
    addresses = list(dict.fromkeys(re.findall(SHARED, config)))
    return re.sub(SHARED, lambda found: str(addresses.index(found[0]) + 1), config)


def save_weights(model: keras.Model, path: Path) -> None:
    """Save as .weights.h5, which carries no dates."""
    with tempfile.TemporaryDirectory() as folder, replacing(path) as part:
        named = Path(folder) / "model.weights.h5"
        model.save_weights(named)
        shutil.copyfile(named, part)

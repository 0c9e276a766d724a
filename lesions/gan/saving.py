"""Read the images of study B's two stages; save models and the state of a training, equal ones as equal bytes."""

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from lesions.core.errors import InputError
from lesions.core.files import read_array, read_csv, replacing
from lesions.isic.names import CLASSES

if TYPE_CHECKING:  # else after its backend is chosen: lesions/gan/keras_backend.py
    import keras

    from lesions.gan.keras_backend import Backend

    Stateful: TypeAlias = keras.Model | keras.optimizers.Optimizer | Backend

EPOCH = "1980-01-01@00:00:00"  # the zip format's first day
SHARED = r'(?<="shared_object_id": )\d+'


def read_set(table: Path, images: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read the sorted table and its images, uint8 N×H×W×3. Raises InputError if they do not belong together."""
    rows = read_csv(table, ("image", "label", "cv0"), "stages.sort isic2019")
    for label in sorted(set(rows["label"]) - set(CLASSES)):
        raise InputError(f"{table}: label {label!r}; expected one of {', '.join(CLASSES)}")
    return rows, read_images(images, len(rows))


def read_images(path: Path, rows: int | None = None) -> np.ndarray:
    """Open an array of images, uint8 N×H×W×3, as a memmap."""
    pixels = read_array(path, rows)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise InputError(f"{path}: {pixels.dtype} {pixels.shape}; expected uint8 N×H×W×3; run dvc repro")
    return pixels


def save_model(model: "keras.Model", path: Path) -> None:
    """Save as .keras, the same model as the same bytes.

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
                    content = numbered(content.decode()).encode()
                if name == "metadata.json":
                    content = json.dumps({**json.loads(content), "date_saved": EPOCH}).encode()
                new.writestr(zipfile.ZipInfo(name), content)  # a ZipInfo's own date is 1980-01-01


def numbered(config: str) -> str:
    """Number the shared objects of a model's JSON in the order of their first appearance."""
    addresses = list(dict.fromkeys(re.findall(SHARED, config)))
    return re.sub(SHARED, lambda found: str(addresses.index(found[0]) + 1), config)


def save_weights(model: "keras.Model", path: Path) -> None:
    """Save as .weights.h5, which carries no dates."""
    with tempfile.TemporaryDirectory() as folder, replacing(path) as part:
        named = Path(folder) / "model.weights.h5"
        model.save_weights(named)
        shutil.copyfile(named, part)


def save_state(parts: Sequence["Stateful"], path: Path, **more: np.ndarray) -> None:
    """Write all that a training changes (weights, moments, the seeds of dropout), and `more`, as one .npz."""
    values = {f"v{number}": np.asarray(v) for number, v in enumerate(variables(parts))}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **values, **more)


def load_state(parts: Sequence["Stateful"], path: Path) -> dict[str, np.ndarray]:
    """Give `parts` what save_state wrote; return the rest of it."""
    with np.load(path, allow_pickle=False) as held:
        for number, variable in enumerate(variables(parts)):
            variable.assign(held[f"v{number}"])
        return {name: held[name] for name in held.files if not name.startswith("v")}


def variables(parts: Sequence["Stateful"]) -> list["keras.Variable"]:
    return [variable for part in parts for variable in part.variables]

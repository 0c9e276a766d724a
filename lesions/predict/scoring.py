"""Bring photographs outside the sorted sets to the form that a classifier was trained on."""

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesions.pictures import color
from lesions.pictures.config import Methods
from lesions.raw import photographs
from lesions.raw.config import Resize
from lesions.raw.zips import PICTURES, members


def preparing(images: str, resize: Resize, methods: Methods) -> Callable[[np.ndarray], np.ndarray]:
    """Return what brings a decoded photograph to the form of the array `images` (as classifiers name it).

    `images`: resized/<set>/<array>, or color/<set>-<method>, of the set's array `classify`. `resize`: of that set.
    """
    kind, _, name = images.partition("/")
    array = name.partition("/")[2] if kind == "resized" else "classify"
    alone = resize.model_copy(update={"arrays": {array: resize.arrays[array]}})
    corrected: Callable[[np.ndarray], np.ndarray] = np.asarray
    if kind == "color":
        method = name.partition("-")[2]
        corrected = color.method(method, getattr(methods, method))
    return lambda image: corrected(photographs.prepare(image, None, alone)[array])


def prepared(archive: Path, names: Iterable[str], prepare: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return uint8 N×H×W×3: the named images of an archive, each prepared."""
    member_of, found = members(archive, PICTURES), []
    with zipfile.ZipFile(archive) as opened:
        for name in tqdm(list(names), desc=archive.name, unit="image"):
            found.append(prepare(photographs.decode(*photographs.read(opened, member_of[name]))))
    return np.array(found)

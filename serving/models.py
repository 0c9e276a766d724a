"""Find exported models, and predict with them: probabilities, what makes them plausible, where they come from.

A model is a folder with model.onnx, card.json and familiarity.npz, as `stages.export` writes it.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from serving import NOTICE
from serving.settings import InputError, Settings

NAMES = {"MEL": "melanoma", "NV": "nevus"}  # the study's, of classes that ISIC abbreviates
STUDY = ("AK", "BCC", "BKL", "DF", "SCC", "VASC", "melanoma", "nevus")  # the order of its labels
NEEDED = ("classes", "size", "fit", "views", "calibration", "familiarity")
OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]], np.float32).T / 3 / 255  # lightness, red-green, yellow-blue
CELLS = 4
FINEST = 32
SMALLEST = 1e-7  # of a probability, before its logarithm
log = logging.getLogger("serving")


@dataclass(frozen=True)
class Found:
    """A model's folder and its card; two are equal if folder and card are."""

    folder: Path
    text: str

    @property
    def card(self) -> dict[str, Any]:
        return json.loads(self.text)


@lru_cache(maxsize=256)
def _read(folder: Path, stamp: tuple[int, int]) -> Found | None:
    """Read a card, again when its file changes (`stamp`). A folder that cannot be served is logged, and None."""
    try:
        found = Found(folder, (folder / "card.json").read_text(encoding="utf-8"))
        card = found.card
        if card.get("kind") != "classifier":
            return None  # U-Nets are not served
        if missing := [key for key in NEEDED if key not in card]:
            raise ValueError(f"card.json has no {', '.join(missing)}")
        if card.get("crop_border"):
            raise ValueError("its images had their black borders cut off, which is not done here")
        return found
    except (OSError, ValueError, AttributeError) as error:
        log.warning("%s is not served: %s", folder, error)
        return None


def find(settings: Settings) -> dict[str, Found]:
    """Return the models that there are at this moment, by name."""
    models: dict[str, Found] = {}
    for parent in settings.folders:
        for path in sorted(parent.glob("*/card.json")):
            status = path.stat()
            found = _read(path.parent, (status.st_mtime_ns, status.st_size))
            if found and (path.parent / "model.onnx").is_file():
                models.setdefault(path.parent.name, found)
    return dict(sorted(models.items()))


def unknown(name: str, models: dict[str, Found], settings: Settings) -> str:
    """Return the line that says that a model is unknown, and which there are."""
    there = f"there is {', '.join(models)}" if models else f"there is none in {settings.models}: run make repro"
    return f"unknown model {name!r}; {there}" if name else f"name a model; {there}"


def softmax(values: np.ndarray) -> np.ndarray:
    """Return softmax over the last axis of float (…, C)."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def views(images: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield the image itself, uint8 N×H×W×3, and of `count` 4 or 8 its mirrored (4) and transposed (8) views."""
    flips = ((), (2,), (1,), (1, 2)) if count > 1 else ((),)
    for axes in flips:
        yield np.flip(images, axes)
    for axes in flips if count == 8 else ():
        yield np.flip(images, axes).transpose(0, 2, 1, 3)


def surface(images: np.ndarray) -> np.ndarray:
    """Return float32 (N, 54) of uint8 N×H×W×3: colours, contrast, grain (lesions/predict/familiarity.py)."""
    colours = images.astype(np.float32) @ OPPONENT
    rows, columns = (side // CELLS for side in colours.shape[1:3])
    cells = colours[:, : rows * CELLS, : columns * CELLS].reshape(-1, CELLS, rows, CELLS, columns, 3).mean(axis=(2, 4))
    contrast, grain = colours.std(axis=(1, 2)), np.abs(np.diff(colours, axis=1)).mean(axis=(1, 2))
    return np.concatenate([cells.reshape(len(cells), -1), np.log(contrast + 0.01), np.log(grain + 0.001)], axis=1)


def distances(features: np.ndarray, images: np.ndarray, known: dict[str, np.ndarray]) -> np.ndarray:
    """Return float (N,): the Mahalanobis distance of features (N, F) along the components that training pictures vary
    in, of the norm that is left over, and of the surface, as lesions/predict/familiarity.py defines it."""
    centred, axes = features.astype(float) - known["mean"], known["components"].astype(float)
    along = centred @ axes.T
    left = np.linalg.norm(centred - along @ axes, axis=1, keepdims=True)
    off = np.concatenate([along, left, surface(images)], axis=1) / known["scale"] - known["center"]
    return np.sqrt(np.einsum("nk,kl,nl->n", off, known["precision"].astype(float), off, optimize=True))


def activation(maps: np.ndarray, label: int) -> list[list[float]]:
    """Return h×w in 0..1, at most FINEST a side, of class activation maps C×h×w: how much a place speaks for class
    `label` before the rest."""
    maps = maps[:, :: -(-maps.shape[1] // FINEST), :: -(-maps.shape[2] // FINEST)]
    speaks = np.maximum(maps[label] - maps.mean(axis=0), 0)
    return [[round(float(value), 3) for value in row] for row in speaks / max(float(speaks.max()), 1e-9)]


def named(names: list[str], values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in zip(names, values, strict=True)}


class Model:
    """A model in memory."""

    def __init__(self, found: Found, threads: int) -> None:
        """Open it. Raises InputError if a file is missing, damaged or not the one that its card names."""
        import onnxruntime  # here: the API itself does without

        card, folder = found.card, found.folder
        self.size: tuple[int, int] = (int(card["size"][0]), int(card["size"][1]))
        self.fit, self.views = str(card["fit"]), int(card["views"])
        self.names = [NAMES.get(name, name) for name in card["classes"]]
        order = STUDY if set(self.names) == set(STUDY) else tuple(self.names)
        self.order = [self.names.index(name) for name in order]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoding needs the cores too
        options.log_severity_level = 3
        try:
            content = {name: (folder / name).read_bytes() for name in ("model.onnx", "familiarity.npz")}
            digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
            for name in digests:
                if card.get("sha256", digests).get(name) != digests[name]:
                    raise ValueError(f"{name} is not the file that card.json names")
            self.digest, calibration = digests["model.onnx"], card["calibration"]
            self.temperature = float(calibration["temperature"])
            self.bias = np.array([calibration["bias"][name] for name in card["classes"]], float)
            self.shares = np.array([calibration["shares"][name] for name in card["classes"]], float)
            self.threshold = float(card["familiarity"]["threshold"])
            with np.load(folder / "familiarity.npz", allow_pickle=False) as file:
                self.known = {name: file[name] for name in ("mean", "components", "scale", "center", "precision")}
            self.session = onnxruntime.InferenceSession(content["model.onnx"], options, ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's have no common base
            raise InputError(f"{folder}: cannot be opened ({error}); run python -m stages.export") from None
        self.outputs = [output.name for output in self.session.get_outputs()]
        drawn = " (drawn sample)" if card.get("data", {}).get("sample") else ""
        self.metadata = {
            "origin": f"lesions{drawn}", "net_type": str(card.get("network", "")), "img_size": self.size[0],
            "out_dim": len(self.names), "model": folder.name, "digest": self.digest[:12],
            "notice": NOTICE,
        }  # fmt: skip

    def predict(self, images: np.ndarray, seen: list[list[float]]) -> list[dict[str, Any]]:
        """Return for each of uint8 N×H×W×3 what the API says of it; `seen` is what `prepare.fitted` says of it."""
        runs = (self.session.run(None, {"images": np.ascontiguousarray(v)}) for v in views(images, self.views))
        first = dict(zip(self.outputs, next(runs), strict=True))
        at = self.outputs.index("logits")
        parts = [softmax(first["logits"].astype(float)), *(softmax(run[at].astype(float)) for run in runs)]
        logs = np.log(np.clip(np.mean(parts, axis=0), SMALLEST, 1))
        calibrated = softmax(logs / self.temperature + self.bias)
        balanced = calibrated / self.shares
        balanced /= balanced.sum(axis=1, keepdims=True)
        far = distances(first["features"], images, self.known)
        names = [self.names[i] for i in self.order]
        answers = []
        for row in range(len(images)):
            label = int(balanced[row, self.order].argmax())
            name = names[label]
            grid = activation(first["maps"][row], self.order[label]) if "maps" in first else None
            answers.append({
                "probabilities": named(names, calibrated[row, self.order]), "metadata": self.metadata,
                "prediction": {"target": name == "melanoma", "label": label, "prediction": name},
                "balanced": named(names, balanced[row, self.order]),
                "familiarity": {
                    "familiar": bool(far[row] <= self.threshold), "distance": round(float(far[row]), 4),
                    "threshold": self.threshold,
                },
                "map": {"class": name, "box": seen[row], "grid": grid} if grid else None,
            })  # fmt: skip
        return answers


_opened = lru_cache(maxsize=4)(Model)


def get(name: str, settings: Settings) -> Model:
    """Return a model, as it lies on disk now; those that were used last stay in memory. Raises InputError."""
    there = find(settings)
    if name not in there:
        raise InputError(unknown(name, there, settings))
    return _opened(there[name], settings.threads)

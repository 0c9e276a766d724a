"""Make small models and pictures for the tests: folders as the stage export writes them."""

import hashlib
import io
import json
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
FEATURES = 8


def graph(size: tuple[int, int], classes: int, layers: int, maps: bool) -> onnx.ModelProto:
    """Return a model of random weights, always the same; `layers` make it slow."""
    rng = np.random.default_rng(0)
    weights = {
        "levels": np.float32(1 / 255),
        "first": rng.normal(size=(FEATURES, 3, 3, 3)).astype(np.float32),
        "head": rng.normal(size=(classes, FEATURES, 1, 1)).astype(np.float32) * 4,
        "same": np.eye(FEATURES, dtype=np.float32)[:, :, None, None],
        "flat": np.array([0, -1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["levelled"], to=TensorProto.FLOAT),
        node("Mul", ["levelled", "levels"], ["unit"]),
        node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "first"], ["convolved"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["convolved"], ["at0"]),
        *(node("Conv", [f"at{i}", "same"], [f"at{i + 1}"]) for i in range(layers)),
        node("GlobalAveragePool", [f"at{layers}"], ["pooled"]),
        node("Reshape", ["pooled", "flat"], ["features"]),
        node("Conv", ["pooled", "head"], ["spread"]),
        node("Reshape", ["spread", "flat"], ["logits"]),
        node("Conv", [f"at{layers}", "head"], ["maps"]),
    ]
    outputs = {"logits": ["N", classes], "features": ["N", FEATURES], "maps": ["N", classes, "h", "w"]}
    made = helper.make_graph(
        nodes if maps else nodes[:-1],
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *size, 3])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items() if maps or n != "maps"],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def model(
    folder: Path,
    classes: tuple[str, ...] = CLASSES,
    size: tuple[int, int] = (32, 32),
    layers: int = 0,
    maps: bool = True,
    **card: object,
) -> Path:
    """Write a model's folder; `card` goes over the card that it has otherwise."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph(size, len(classes), layers, maps).SerializeToString())
    np.savez(
        folder / "familiarity.npz",
        mean=np.zeros(FEATURES, np.float32),
        components=np.eye(2, FEATURES, dtype=np.float16),
        scale=np.ones(3 + 54, np.float32),
        center=np.zeros(3 + 54, np.float32),
        precision=np.eye(3 + 54, dtype=np.float32),
    )
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    shares = {name: (i + 1) / sum(range(len(classes) + 1)) for i, name in enumerate(classes)}
    told = {
        "name": folder.name,
        "kind": "classifier",
        "network": "toy",
        "classes": classes,
        "size": size,
        "fit": "squeeze",
        "views": 1,
        "crop_border": False,
        "data": {"source": "sample", "sample": True},
        "calibration": {"temperature": 2.0, "bias": dict.fromkeys(classes, 0.0), "shares": shares},
        "familiarity": {"threshold": 1000.0},
        "sha256": hashes,
    }
    (folder / "card.json").write_text(json.dumps(told | card))
    return folder


def picture(seed: int = 0, size: tuple[int, int] = (60, 40), kind: str = "JPEG", **options: object) -> bytes:
    """Return a file of smooth random colours, width × height as `size` says."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(256, size=(4, 6, 3), dtype=np.uint8))
    file = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(file, kind, **options)
    return file.getvalue()


def sheet() -> bytes:
    """Return a PNG of a white sheet with black lines, which no model of skin has learnt from."""
    pixels = np.full((240, 320, 3), 255, np.uint8)
    pixels[20:-20:16, 20:-20] = 0
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@cache
def bomb() -> bytes:
    """Return a PNG of 109 kB that claims 900 million pixels, and has them."""
    side, packer = 30_000, zlib.compressobj(9)
    rows = b"".join([*(packer.compress(bytes(1 + side // 8)) for _ in range(side)), packer.flush()])
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    whole = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)

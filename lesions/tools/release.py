"""Copy a served model into released/, at half its size: for those who have no model of their own yet.

    python -m lesions.tools.release lite0 [--as NAME]

Copies models/served/<name> to released/<NAME>/. Weights become float16 in the file and float32 again when it is opened:
half the bytes, the same computing. The card gets new hashes and, under `release`, the commit and command that it comes
from, and how many test images of data/resized changed their class (of a U-Net: pixels that changed sides).
"""

import argparse
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from tqdm import tqdm

from lesions.core.errors import InputError, run
from lesions.core.files import read_array, read_csv, replacing_folder
from lesions.export import card, graph
from lesions.isic import splits

MODEL = "model.onnx"
LEAST = 2  # dimensions of what is halved: kernels and matrices; biases and normalisation stay
HALF = "weights in float16, computing in float32"


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store float32 kernels and matrices as float16, each with a Cast to float32 before its use.

    One with a value beyond float16's range stays as it is.
    """
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < LEAST:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def answers(path: Path, images: np.ndarray, rows: np.ndarray, batch: int = 32) -> np.ndarray:
    """Return the likeliest class, int (N,), or of a U-Net the masks, bool (N, H, W), of `rows` of the images."""
    session, parts = graph.session(path), []
    for start in tqdm(range(0, len(rows), batch), desc=str(path.parent), unit="batch", leave=False):
        first = session.run(None, {"images": np.array(images[rows[start : start + batch]])})[0]
        parts.append(first.argmax(axis=1) if first.ndim == 2 else first > 0.5)
    return np.concatenate(parts)


def test_rows(told: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of a card's array, uint8 N×H×W×3, and the rows of the part that it is scored on."""
    table = read_csv(Path(f"data/sorted/{told['set']}.csv"), ("image",), f"stages.sort {told['set']}")
    images = read_array(Path(f"data/{told['array']}.npy"), len(table))
    roles = table["split"] if told["kind"] == "unet" else splits.roles(table, told["split"])
    return images, np.flatnonzero(roles == told["scored_on"])


def commit() -> str:
    """Return the commit of the working tree, marked where files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError("no git commit here; run it in a clone, from the repository's root")
    return done.stdout.strip()


def release(name: str, chosen: str) -> dict:
    """Write released/<chosen> from models/served/<name>; return its card."""
    source, target = Path(f"models/served/{name}"), Path(f"released/{chosen}")
    told = card.read(source)
    images, rows = test_rows(told)
    with replacing_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        graph.write(folder / MODEL, halved(onnx.load(source / MODEL)))
        changed = answers(source / MODEL, images, rows) != answers(folder / MODEL, images, rows)
        told["release"] = {
            "commit": commit(),
            "command": f"python -m lesions.tools.release {name}{f' --as {chosen}' if chosen != name else ''}",
            "precision": HALF,
            "test_images": len(rows),
            "pixels_changed" if told["kind"] == "unet" else "classes_changed": int(changed.sum()),
        }
        card.write(folder, told | {"name": chosen})
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a folder of models/served")
    parser.add_argument("--as", dest="chosen", help="its name in released (as in models/served)")
    args = parser.parse_args()
    told = release(args.name, args.chosen or args.name)
    size = Path(f"released/{args.chosen or args.name}/{MODEL}").stat().st_size
    print(f"released/{args.chosen or args.name}: {size / 1e6:.1f} MB, licence {told['licence']}; {told['release']}")


if __name__ == "__main__":
    run(main)

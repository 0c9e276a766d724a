"""Attention (study C, experiments 3 and 4): show what ARL learnt, and where two networks look.

    python -m stages.attention resnet

Reads models/train/<block>/accuracy.pt of the blocks `without` and `with` that the pair in params.yaml names (of several
runs the first one's), plots/train/<with>/history.csv and the set's table and images; writes
  plots/attention/<pair>/alpha.png      each block's α by epoch, first run
  plots/attention/<pair>/grad_cam.png   validation images, Grad-CAM of the true class without and with ARL, and what
                                        either network says; those first of which one is right and the other wrong
"""

import argparse
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from lesions.batches.feed import Feed, normalised, unit
from lesions.classify import gradcam
from lesions.classify.config import Attention, classifier
from lesions.classify.experiment import Predictor
from lesions.core import config
from lesions.core.errors import run
from lesions.core.files import read_array, read_csv, replacing_folder
from lesions.isic import splits
from lesions.networks import build
from lesions.training import checkpoints, hardware
from lesions.training.config import Compute

SHOWN = 6  # images, half of them melanoma


def alpha_figure(history: pd.DataFrame) -> Figure:
    """Draw a line a block, from the first (dark) to the last (bright)."""
    columns = [column for column in history if column.startswith("alpha_")]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="α", title="Attention residual learning: α of each block")
    for place, column in enumerate(columns):
        shade = colormaps["viridis"](0.9 * place / max(1, len(columns) - 1))
        axes.plot(history["epoch"], history[column], color=shade, label=column.removeprefix("alpha_"))
    axes.axhline(0, color="black", linewidth=0.5)
    figure.legend(loc="outside right upper", fontsize="x-small")
    return figure


def telling(right: np.ndarray, melanoma: np.ndarray) -> np.ndarray:
    """Return SHOWN rows: those first of which one network alone is right, in turn the second and the first, then
    others; melanomas before the rest.

    right: bool (2, N), without and with ARL; melanoma: bool (N,).
    """
    kinds = [np.flatnonzero(right[one] & ~right[1 - one]) for one in (1, 0)]
    kinds = [kind[np.argsort(~melanoma[kind], kind="stable")] for kind in kinds]
    both = [row for pair in zip_longest(*kinds) for row in pair if row is not None]
    others = np.flatnonzero(right[0] == right[1])
    others = others[np.argsort(~melanoma[others], kind="stable")]
    return np.array([*both, *others][:SHOWN], int)


def cam_figure(
    images: np.ndarray, maps: dict[str, np.ndarray], labels: list[str], says: dict[str, list[str]]
) -> Figure:
    """Draw rows: the images uint8 n×H×W×3, then one network a row, its maps (0..1, n×H×W) laid over them; below each
    what the network `says`."""
    figure = Figure(figsize=(2 * len(images), 2.1 * (1 + len(maps))), layout="constrained")
    for row, (name, heat) in enumerate([("image", None), *maps.items()]):
        for column, image in enumerate(images):
            axes = figure.add_subplot(1 + len(maps), len(images), 1 + row * len(images) + column)
            axes.imshow(image)
            if heat is not None:
                axes.imshow(heat[column], cmap="jet", alpha=0.45, vmin=0, vmax=1)
                axes.set_xlabel(says[name][column], fontsize="x-small")
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(labels[column], fontsize="small")
            if column == 0:
                axes.set_ylabel(name, fontsize="small")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", help="a block of params.yaml: attention")
    args = parser.parse_args()
    pair = config.read(f"attention.{args.pair}", Attention)
    blocks = {name: classifier(name) for name in (pair.without, pair.with_)}
    compute = config.read("compute", Compute)

    device, block = hardware.prepare(compute, 0), blocks[pair.with_]
    table = read_csv(Path(f"data/sorted/{block.set}.csv"), ("image", "label", "split"), f"stages.sort {block.set}")
    classes, labels = splits.classes(block.set, block.split, table["label"]), splits.labels(table, block.split)
    rows = np.flatnonzero(splits.roles(table, block.split) == "val")
    truth = np.array([classes.index(label) for label in labels.iloc[rows]])
    pixels, models, p = read_array(Path(f"data/{block.images}.npy"), len(table)), {}, {}
    feed = Feed([pixels], device)
    for name, of in blocks.items():
        model = build.build(of.family, of.network, len(classes), pixels.shape[1:3], None, of.dropout)
        checkpoints.load_into(model.to(device), Path(f"models/train/{name}/accuracy.pt"))
        models[name], p[name] = model, Predictor(of, hardware.switches(compute, device))(model, feed, rows)
    chosen = telling(np.array([of.argmax(axis=1) == truth for of in p.values()]), truth == classes.index("MEL"))
    maps, says = {}, {}
    for name, of in blocks.items():
        network = build.find(of.family, of.network)
        images = normalised(unit(feed.batch(rows[chosen])), network.mean, network.std)
        target = torch.from_numpy(truth[chosen]).to(device)
        maps[name] = gradcam.grad_cam(models[name], gradcam.target_layer(models[name]), images, target).cpu().numpy()
        says[name] = [f"{classes[row.argmax()]}, {row.max():.2f}" for row in p[name][chosen]]
    history = read_csv(Path(f"plots/train/{pair.with_}/history.csv"), ("epoch",), f"stages.train {pair.with_}")
    if "seed" in history:
        history = history[history["seed"] == history["seed"].iloc[0]]
    with replacing_folder(Path(f"plots/attention/{args.pair}")) as folder:
        alpha_figure(history).savefig(folder / "alpha.png", dpi=100)
        figure = cam_figure(pixels[rows[chosen]], maps, labels.iloc[rows[chosen]].to_list(), says)
        figure.savefig(folder / "grad_cam.png", dpi=100)


if __name__ == "__main__":
    run(main)

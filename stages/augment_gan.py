"""Augment by GAN (study B): a DCGAN learns one rare class from its training images and draws new ones.

    python -m stages.augment_gan

Reads data/sorted/isic2019.csv and data/resized/isic2019/gan.npy (64×64); writes, with <label> from params.yaml,
  models/gan/generator.keras, models/gan/discriminator.keras
  data/generated/<label>.npy          uint8 n×64×64×3, n = augment_gan.images
  plots/gan/losses.csv, losses.png    epoch, generator, discriminator: the mean over the epoch's steps
  plots/gan/previews/epoch-0001.png … 7×7 images from one latent sample: first and last epoch, each preview_every-th
  plots/gan/generated.png             training images beside generated ones
An epoch is one shuffled pass over the class's images in the training part (study B's 80 %; the paper's own run saw the
test images too). Its last batch may be smaller; the noise batch never is, as in the paper.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from lesions import gan, params
from lesions.errors import InputError, run
from lesions.files import new_array, replacing, replacing_folder, write_csv
from lesions.splits import roles
from lesions.study_b import jit, read_set, save_model, set_up

GRID = 7  # rows and columns of a preview
MARGIN = 16
BATCHES, PREVIEW, GENERATED = range(3)  # what the seed's three random streams are for


def training_images(table: pd.DataFrame, images: np.ndarray, label: str) -> np.ndarray:
    """The images of `label` in the training part, uint8 n×H×W×3; never one of the test part."""
    return images[np.flatnonzero((table["label"] == label) & (roles(table, "holdout") == "train"))]


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Each of `count` indices once, in random order, `size` at a time; the last batch may be smaller."""
    order = rng.permutation(count)
    return (order[start : start + size] for start in range(0, count, size))


def train(step: gan.Step, draw: gan.Draw, real: np.ndarray, setting: params.AugmentGan, previews: Path) -> pd.DataFrame:
    """Train by `step` on `real` (float32 n×64×64×3) and leave previews by `draw`; returns the losses by epoch."""
    rng, fixed = np.random.default_rng([setting.seed, BATCHES]), np.random.default_rng([setting.seed, PREVIEW])
    shown = fixed.standard_normal((GRID * GRID, setting.latent), np.float32)
    history = []
    with tqdm(range(1, setting.epochs + 1), desc=f"gan {setting.label}", unit="epoch") as epochs:
        for epoch in epochs:
            steps = []
            for batch in batches(len(real), setting.batch, rng):
                steps.append(step(real[batch], rng.standard_normal((setting.batch, setting.latent), np.float32)))
            generator, discriminator = np.mean(np.array(steps, dtype=np.float64), axis=0)
            if not np.isfinite([generator, discriminator]).all():
                raise InputError(
                    f"params.yaml: augment_gan: a loss is not finite in epoch {epoch}; expected a smaller lr"
                )
            history.append((epoch, generator, discriminator))
            epochs.set_postfix(generator=f"{generator:.3f}", discriminator=f"{discriminator:.3f}")
            if epoch in (1, setting.epochs) or epoch % setting.preview_every == 0:
                Image.fromarray(grid(draw(shown))).save(previews / f"epoch-{epoch:04d}.png")
    return pd.DataFrame(history, columns=["epoch", "generator", "discriminator"])


def grid(images: np.ndarray, side: int = GRID) -> np.ndarray:
    """uint8 n×H×W×3 -> one white picture of `side`×`side` places with a margin of 16 pixels around each."""
    height, width = images.shape[1:3]
    picture = np.full((MARGIN + side * (height + MARGIN), MARGIN + side * (width + MARGIN), 3), 255, np.uint8)
    for place, image in enumerate(images[: side * side]):
        row, column = divmod(place, side)
        top, left = MARGIN + row * (height + MARGIN), MARGIN + column * (width + MARGIN)
        picture[top : top + height, left : left + width] = image
    return picture


def plot_losses(history: pd.DataFrame, path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="binary cross-entropy", title="DCGAN losses")
    for name in ("generator", "discriminator"):
        axes.plot(history["epoch"], history[name], label=name)
    axes.legend()
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)


def plot_generated(real: np.ndarray, generated: np.ndarray, label: str, path: Path) -> None:
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    for place, (title, images) in enumerate((("training", real), ("generated", generated)), start=1):
        axes = figure.add_subplot(1, 2, place, title=f"{label}, {title}")
        axes.imshow(grid(images))
        axes.set_axis_off()
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=Path("data/sorted/isic2019.csv"))
    parser.add_argument("--images", type=Path, default=Path("data/resized/isic2019/gan.npy"))
    parser.add_argument("--models", type=Path, default=Path("models/gan"))
    parser.add_argument("--out", type=Path, default=Path("data/generated"))
    parser.add_argument("--plots", type=Path, default=Path("plots/gan"))
    args = parser.parse_args()
    read = params.read("augment_gan", "compute")
    setting, compute = read.augment_gan, read.compute

    table, images = read_set(args.table, args.images)
    height, width = images.shape[1:3]
    if (height, width) != (gan.SIDE, gan.SIDE):
        raise InputError(f"{args.images}: images of {height}×{width}; expected {gan.SIDE}×{gan.SIDE}")
    real = training_images(table, images, setting.label)
    if len(real) < setting.batch:
        raise InputError(
            f"{args.table}: {len(real)} training images of {setting.label}; "
            f"expected one batch of {setting.batch} at least: use more images or a smaller augment_gan.batch"
        )

    set_up(compute, setting.seed)
    makes, judges = gan.generator(setting.latent), gan.discriminator()
    step = gan.train_step(makes, judges, setting.lr, setting.beta1, jit(compute))
    draw = gan.drawer(makes)
    with replacing_folder(args.plots / "previews") as previews:
        history = train(step, draw, gan.from_pixels(real), setting, previews)
    save_model(makes, args.models / "generator.keras")
    save_model(judges, args.models / "discriminator.keras")
    rng = np.random.default_rng([setting.seed, GENERATED])
    generated = draw(rng.standard_normal((setting.images, setting.latent), np.float32))
    with new_array(args.out / f"{setting.label}.npy", generated.shape) as out:
        out[:] = generated
    write_csv(args.plots / "losses.csv", history)
    plot_losses(history, args.plots / "losses.png")
    plot_generated(real, generated, setting.label, args.plots / "generated.png")


if __name__ == "__main__":
    run(main)

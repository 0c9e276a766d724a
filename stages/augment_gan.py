"""Augment by GAN (study B): train a DCGAN on the training images of one rare class, and draw new ones with it.

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
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from lesions.core import config, errors, resume
from lesions.core.errors import InputError
from lesions.core.files import array_of_rows, replacing, replacing_folder, write_csv
from lesions.gan import keras_backend
from lesions.gan.config import AugmentGan, Keras
from lesions.gan.saving import load_state, read_set, save_model, save_state
from lesions.isic.splits import roles
from lesions.training.config import Compute

SORTED, IMAGES = Path("data/sorted/isic2019.csv"), Path("data/resized/isic2019/gan.npy")
MODELS, PLOTS = Path("models/gan"), Path("plots/gan")
GRID = 7  # rows and columns of a preview
MARGIN = 16
STATE, PREVIEWS = "state.npz", "previews"  # in the folder of checkpoints
NETWORKS = ["generator", "discriminator"]
BATCHES, PREVIEW, GENERATED = range(3)  # what the seed's three random streams are for


def training_images(table: pd.DataFrame, images: np.ndarray, label: str) -> np.ndarray:
    """Return the images of `label` in the training part, uint8 n×H×W×3."""
    return images[np.flatnonzero((table["label"] == label) & (roles(table, "holdout") == "train"))]


def train(
    step: keras_backend.Step, draw: Callable, real: np.ndarray, setting: AugmentGan, run: resume.Run, parts: Sequence
) -> pd.DataFrame:
    """Train by `step` on `real` (float32 n×64×64×3), leave previews by `draw` in `run` and return losses by epoch.

    `parts` are the networks, optimizers and backend behind `step`: their state is saved in `run` and taken from there.
    """
    shown = np.random.default_rng([setting.seed, PREVIEW]).standard_normal((GRID * GRID, setting.latent), np.float32)
    held = run.folder / STATE
    history = load_state(parts, held)["losses"].tolist() if held.exists() else []
    with tqdm(total=setting.epochs, initial=len(history), desc=f"gan {setting.label}", unit="epoch") as progress:
        for epoch in range(len(history) + 1, setting.epochs + 1):
            rng, steps = np.random.default_rng([setting.seed, BATCHES, epoch]), []
            for batch in np.split(rng.permutation(len(real)), range(setting.batch, len(real), setting.batch)):
                steps.append(step(real[batch], rng.standard_normal((setting.batch, setting.latent), np.float32)))
            history.append(np.mean([[float(loss) for loss in pair] for pair in steps], axis=0).tolist())
            if not np.isfinite(history[-1]).all():
                raise InputError(
                    f"params.yaml: augment_gan: a loss is not finite in epoch {epoch}; expected a smaller lr"
                )
            progress.set_postfix({name: f"{loss:.3f}" for name, loss in zip(NETWORKS, history[-1], strict=True)})
            progress.update()
            if epoch in (1, setting.epochs) or epoch % setting.preview_every == 0:
                with replacing(run.folder / PREVIEWS / f"epoch-{epoch:04d}.png") as part:
                    Image.fromarray(grid(draw(shown))).save(part, "PNG")
            if run.due():
                run.save(lambda folder: save_state(parts, folder / STATE, losses=np.array(history)))
    return pd.DataFrame([(epoch, *row) for epoch, row in enumerate(history, start=1)], columns=["epoch", *NETWORKS])


def grid(images: np.ndarray, side: int = GRID) -> np.ndarray:
    """Lay images, uint8 n×H×W×3, out on a white picture of `side`×`side` places, each with a margin of 16 pixels."""
    height, width = images.shape[1:3]
    picture = np.full((MARGIN + side * (height + MARGIN), MARGIN + side * (width + MARGIN), 3), 255, np.uint8)
    for place, image in enumerate(images[: side * side]):
        row, column = divmod(place, side)
        top, left = MARGIN + row * (height + MARGIN), MARGIN + column * (width + MARGIN)
        picture[top : top + height, left : left + width] = image
    return picture


def losses_figure(history: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="binary cross-entropy", title="DCGAN losses")
    for name in NETWORKS:
        axes.plot(history["epoch"], history[name], label=name)
    axes.legend()
    return figure


def generated_figure(real: np.ndarray, generated: np.ndarray, label: str) -> Figure:
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    for place, (title, images) in enumerate((("training", real), ("generated", generated)), start=1):
        axes = figure.add_subplot(1, 2, place, title=f"{label}, {title}")
        axes.imshow(grid(images))
        axes.set_axis_off()
    return figure


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    setting, compute = config.read("augment_gan", AugmentGan), config.read("compute", Compute)
    keras = config.read("keras", Keras)
    backend = keras_backend.begin(keras.backend, compute, setting.seed)
    from lesions.gan import dcgan

    table, images = read_set(SORTED, IMAGES)
    height, width = images.shape[1:3]
    if (height, width) != (dcgan.SIDE, dcgan.SIDE):
        raise InputError(f"{IMAGES}: images of {height}×{width}; expected {dcgan.SIDE}×{dcgan.SIDE}")
    real = training_images(table, images, setting.label)
    if len(real) < setting.batch:
        raise InputError(
            f"{SORTED}: {len(real)} training images of {setting.label}; "
            f"expected one batch of {setting.batch} at least: use more images or a smaller augment_gan.batch"
        )

    generator, discriminator = dcgan.generator(setting.latent), dcgan.discriminator()
    pair = dcgan.adams(generator, discriminator, setting.lr, setting.beta1)
    step, draw = dcgan.train_step(generator, discriminator, pair, backend), partial(dcgan.draw, generator)
    with resume.begin("augment_gan", [setting, keras, compute], [SORTED, IMAGES], backend.device) as run:
        history = train(step, draw, dcgan.from_pixels(real), setting, run, (generator, discriminator, *pair, backend))
        with replacing_folder(PLOTS / PREVIEWS) as previews:
            shutil.copytree(run.folder / PREVIEWS, previews, dirs_exist_ok=True)
    save_model(generator, MODELS / "generator.keras")
    save_model(discriminator, MODELS / "discriminator.keras")
    rng = np.random.default_rng([setting.seed, GENERATED])
    generated = draw(rng.standard_normal((setting.images, setting.latent), np.float32))
    with array_of_rows(Path(f"data/generated/{setting.label}.npy"), generated.shape) as put:
        put(0, generated)
    write_csv(PLOTS / "losses.csv", history)
    figures = {"losses": losses_figure(history), "generated": generated_figure(real, generated, setting.label)}
    for name, figure in figures.items():
        with replacing(PLOTS / f"{name}.png") as part:
            figure.savefig(part, format="png", dpi=120)


if __name__ == "__main__":
    errors.run(main)

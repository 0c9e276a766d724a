"""Bring pairs of image and mask to a U-Net: batches, loss and scores, shared by studies A's and D's."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lesions.batches import augment
from lesions.batches.feed import Feed, normalised
from lesions.core.files import read_array
from lesions.isic import metrics
from lesions.segment import unet
from lesions.training import loop
from lesions.training.config import Compute, Optimisation


class Pairs:
    """One array of images and its masks, with the rows of each part (int arrays by role, `train` among them)."""

    def __init__(
        self, array: Path, rows: dict[str, np.ndarray], count: int, device: torch.device, encoder: str
    ) -> None:
        """Open `array`, the images' .npy, and <name>_masks.npy beside it, both of `count` rows."""
        self.statistics = unet.statistics(encoder)
        self.pixels = read_array(array, count)
        self.truth = read_array(array.with_name(f"{array.stem}_masks.npy"), count)
        self.images, self.masks = Feed([self.pixels], device), Feed([self.truth[..., None]], device)
        self.rows = rows

    def batches(self, recipe: Optimisation, epoch: int, start: int = 0) -> tuple[int, loop.Batches]:
        """Return how many batches an epoch has, and those from number `start` on, augmented: float B×3×H×W, B×1×h×w.

        The images are padded to the U-Net's stride.
        """
        rng, rows = np.random.default_rng([recipe.seed, epoch]), self.rows["train"]
        order = loop.epoch_order(len(rows), recipe.batch, rng)

        def stream() -> Iterator[tuple[Tensor, Tensor]]:
            for step in range(start, len(order)):
                index, generator = rows[order[step]], loop.step_generator(recipe.seed, epoch, step)
                pair = (self.images.batch(index), self.masks.batch(index))
                x, y = augment.augmented(recipe.augment, *pair, generator)
                assert y is not None  # for mypy: a mask came in
                yield unet.padded(normalised(x, *self.statistics)), y.float()

        return len(order), stream()

    def score(self, model: nn.Module, role: str, recipe: Optimisation, loss: str, compute: Compute):
        """Return the mean loss, and Jaccard and Dice of each image of a part, in the order of its rows."""
        return unet.evaluate(model, self.images, self.masks, self.rows[role], 2 * recipe.batch, loss, compute)

    def validate(self, model: nn.Module, recipe: Optimisation, loss: str, compute: Compute) -> dict[str, float]:
        mean, jaccards, dices = self.score(model, "val", recipe, loss, compute)
        return {"loss": mean, "jaccard": float(jaccards.mean()), "dice": float(dices.mean())}


def loss_of(name: str):
    """Return the named loss of padded logits against masks of the size before padding."""
    return lambda logits, target: unet.loss(name, logits[..., : target.shape[-2], : target.shape[-1]], target)


def summary(loss: float, jaccards: np.ndarray, dices: np.ndarray) -> dict[str, float]:
    """Return what `dvc metrics` shows: means over images; thresholded: 0 below .65, as on the leaderboard."""
    ranking = metrics.thresholded(jaccards).mean()
    means = {"jaccard": jaccards.mean(), "jaccard_thresholded": ranking, "dice": dices.mean(), "loss": loss}
    return {name: round(float(value), 6) for name, value in means.items()}

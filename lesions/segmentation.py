"""Pairs of image and mask on their way to a U-Net: batches, loss and scores, shared by studies A's and D's."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lesions import augment, metrics, training, unet
from lesions.feed import Feed, normalised
from lesions.files import read_array
from lesions.params import Compute, Optimisation


class Pairs:
    """One array of images and its masks, with the rows of each part (int arrays by role, `train` among them)."""

    def __init__(self, array: Path, rows: dict[str, np.ndarray], count: int, device: torch.device) -> None:
        """`array`: the images' .npy, beside which <name>_masks.npy lies; both of `count` rows."""
        self.pixels = read_array(array, count)
        self.truth = read_array(array.with_name(f"{array.stem}_masks.npy"), count)
        self.images, self.masks = Feed([self.pixels], device), Feed([self.truth[..., None]], device)
        self.rows = rows

    def batches(self, recipe: Optimisation, epoch: int, start: int = 0) -> tuple[int, training.Batches]:
        """The augmented batches of an epoch, from number `start` on, padded to the U-Net's stride: float B×3×H×W and
        B×1×h×w."""
        rng, rows = np.random.default_rng([recipe.seed, epoch]), self.rows["train"]
        order = training.epoch_order(len(rows), recipe.batch, rng)

        def stream() -> Iterator[tuple[Tensor, Tensor]]:
            for step in range(start, len(order)):
                index, generator = rows[order[step]], training.step_generator(recipe.seed, epoch, step)
                pair = (self.images.batch(index), self.masks.batch(index))
                x, y = augment.augmented(recipe.augment, *pair, generator)
                yield unet.padded(normalised(x)), y.float()

        return len(order), stream()

    def score(self, model: nn.Module, role: str, recipe: Optimisation, loss: str, compute: Compute):
        """The mean loss, and Jaccard and Dice of each image of a part, in the order of its rows."""
        return unet.evaluate(model, self.images, self.masks, self.rows[role], 2 * recipe.batch, loss, compute)

    def validate(self, model: nn.Module, recipe: Optimisation, loss: str, compute: Compute) -> dict[str, float]:
        mean, jaccards, dices = self.score(model, "val", recipe, loss, compute)
        return {"loss": mean, "jaccard": float(jaccards.mean()), "dice": float(dices.mean())}


def loss_of(name: str):
    """The named loss of padded logits against masks of the size before padding."""
    return lambda logits, target: unet.loss(name, logits[..., : target.shape[-2], : target.shape[-1]], target)


def summary(loss: float, jaccards: np.ndarray, dices: np.ndarray) -> dict[str, float]:
    """For `dvc metrics`: the means over images; thresholded as on the leaderboard (0 below .65)."""
    ranking = metrics.thresholded(jaccards).mean()
    means = {"loss": loss, "jaccard": jaccards.mean(), "jaccard_thresholded": ranking, "dice": dices.mean()}
    return {name: round(float(value), 6) for name, value in means.items()}

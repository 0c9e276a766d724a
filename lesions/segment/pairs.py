"""Train and score a U-Net on pairs of image and mask: batches, losses and scores, shared by studies A and D."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lesions.batches import augment
from lesions.batches.feed import Feed, normalised
from lesions.core import resume
from lesions.core.files import read_array
from lesions.isic import metrics
from lesions.segment import unet
from lesions.training import hardware, loop
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

    def fit(
        self, model: nn.Module, recipe: Optimisation, loss: str, compute: Compute, keep: tuple[str, ...], name: str,
        run: resume.Run,
    ) -> loop.Fit:  # fmt: skip
        """Train on the part `train`, and validate on `val`; keep, name, run: as `loop.fit` has them."""

        def validate(model: nn.Module) -> dict[str, float]:
            mean, jaccards, dices = self.score(model, "val", recipe.batch, loss, compute)
            return {"loss": mean, "jaccard": float(jaccards.mean()), "dice": float(dices.mean())}

        device = self.images.device
        return loop.fit(
            model, recipe, hardware.switches(compute, device), device, batches=partial(self.batches, recipe),
            loss_of=loss_of(loss), validate=validate, keep=keep, name=name, run=run,
        )  # fmt: skip

    def score(
        self, model: nn.Module, role: str, batch: int, loss: str, compute: Compute
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the mean loss, and Jaccard and Dice of each image of a part, float (n,), in the order of its rows.

        They come from the device in one transfer. batch: the training's; two of them are scored at a time.
        """
        rows, loss_for = self.rows[role], loss_of(loss)
        losses, both, either = [], [], []
        for index in np.split(rows, range(2 * batch, len(rows), 2 * batch)):
            truth = self.masks.batch(index)
            p = unet.probabilities(model, self.images.batch(index), compute)
            losses.append(loss_for(torch.logit(p, eps=1e-6)[:, None], truth.float()).double() * len(index))
            guess, true = p > 0.5, truth[:, 0] > 0
            both.append((guess & true).sum(dim=(1, 2)))
            either.append((guess | true).sum(dim=(1, 2)))
        counts = [torch.cat(pixels).cpu().numpy() for pixels in (both, either)]
        return torch.stack(losses).sum().item() / len(rows), metrics.jaccard(*counts), metrics.dice(*counts)


def loss_of(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the named loss of logits, float B×1×H×W, which may be padded, against masks of the size before padding.

    bce: binary cross-entropy; jaccard: 1 − Σ p·m / Σ (p + m − p·m), the mean over images; bce_jaccard: their sum.
    """

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        logits = logits[..., : masks.shape[-2], : masks.shape[-1]]
        total = torch.zeros((), device=logits.device)
        if "bce" in name:
            total = total + functional.binary_cross_entropy_with_logits(logits, masks)
        if "jaccard" in name:
            p = logits.float().sigmoid()
            both = (p * masks).sum(dim=(1, 2, 3))
            either = (p + masks - p * masks).sum(dim=(1, 2, 3))
            total = total + (1 - (both + 1) / (either + 1)).mean()
        return total

    return loss


def summary(loss: float, jaccards: np.ndarray, dices: np.ndarray) -> dict[str, float]:
    """Return what `dvc metrics` shows: means over images; thresholded: 0 below .65, as on the leaderboard."""
    ranking = metrics.thresholded(jaccards).mean()
    means = {"jaccard": jaccards.mean(), "jaccard_thresholded": ranking, "dice": dices.mean(), "loss": loss}
    return {name: round(float(value), 6) for name, value in means.items()}

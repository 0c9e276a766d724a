"""The U-Net (segmentation-models-pytorch) and its scores, image by image."""

from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from lesions import checkpoints, metrics, training
from lesions.errors import InputError
from lesions.feed import Feed, normalised, unit
from lesions.params import Compute

STRIDE = 32  # the encoder halves five times


def build(encoder: str, weights: Path | None = None) -> nn.Module:
    """From float B×3×H×W, normalised as for ImageNet, to logits B×1×H×W.

    `weights`: torchvision's classifier of the encoder's name; its head is left out.
    """
    model = smp.Unet(encoder_name=encoder, encoder_weights=None, in_channels=3, classes=1)
    if weights is not None:
        state = {k: v for k, v in checkpoints.load(weights).items() if not k.startswith("fc.")}
        try:
            torch.nn.Module.load_state_dict(model.encoder, state)
        except RuntimeError as error:
            raise InputError(f"{weights}: not the weights of {encoder}: {str(error)[:200]}") from None
    return model


def padded(images: Tensor) -> Tensor:
    """Height and width rounded up to the encoder's stride by repeating the edge; `forward` cuts the logits back."""
    height, width = images.shape[-2:]
    pad = (0, -width % STRIDE, 0, -height % STRIDE)
    return functional.pad(images, pad, mode="replicate") if any(pad) else images


def forward(model: nn.Module, images: Tensor) -> Tensor:
    return model(padded(images))[..., : images.shape[-2], : images.shape[-1]]


def soft_jaccard_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 − Σ p·m / Σ (p + m − p·m), the mean over images; logits and masks float B×1×H×W."""
    p = logits.sigmoid()
    both = (p * masks).sum(dim=(1, 2, 3))
    either = (p + masks - p * masks).sum(dim=(1, 2, 3))
    return (1 - (both + 1) / (either + 1)).mean()


def loss(name: str, logits: Tensor, masks: Tensor) -> Tensor:
    """bce: binary cross-entropy on logits; jaccard: the soft Jaccard loss; bce_jaccard: their sum."""
    total = torch.zeros((), device=logits.device)
    if "bce" in name:
        total = total + functional.binary_cross_entropy_with_logits(logits, masks)
    if "jaccard" in name:
        total = total + soft_jaccard_loss(logits.float(), masks)
    return total


@torch.inference_mode()
def probabilities(model: nn.Module, images: Tensor, compute: Compute) -> Tensor:
    """float32 B×H×W in 0..1 from uint8 B×3×H×W."""
    model.eval()
    with training.switches(compute, images.device).autocast(images.device):
        logits = forward(model, normalised(unit(images)))
    return logits.float().sigmoid()[:, 0]


def overlaps(guess: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels in both and in either, int64 (B,), of bool B×H×W masks."""
    return (guess & truth).sum(dim=(1, 2)), (guess | truth).sum(dim=(1, 2))


def evaluate(
    model: nn.Module, images: Feed, masks: Feed, rows: np.ndarray, batch: int, loss_name: str, compute: Compute
):
    """The mean loss, and jaccard and dice of each row as float arrays (len(rows),). One transfer from the device."""
    losses, both, either = [], [], []
    for start in range(0, len(rows), batch):
        index = rows[start : start + batch]
        truth = masks.batch(index)
        p = probabilities(model, images.batch(index), compute)
        logits = torch.logit(p, eps=1e-6)[:, None]
        losses.append(loss(loss_name, logits, truth.float()).double() * len(index))
        for found, pixels in zip((both, either), overlaps(p > 0.5, truth[:, 0] > 0), strict=True):
            found.append(pixels)
    both, either = torch.cat(both).cpu().numpy(), torch.cat(either).cpu().numpy()
    return torch.stack(losses).sum().item() / len(rows), metrics.jaccard(both, either), metrics.dice(both, either)

"""Grad-CAM (Selvaraju et al. 2017; sections 4.3.4 and 4.4.4 of study C): where a network sees its class."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional


def target_layer(model: nn.Module) -> nn.Module:
    """The last convolution block of a classifier, whose maps its head pools."""
    return next(getattr(model, name)[-1] for name in ("layer4", "features", "blocks") if hasattr(model, name))


@contextmanager
def recorded(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list to which each forward pass appends the output of `layer`.

    What it appends is cut from the layers below: gradients reach it whether those are frozen or not, and go no further.
    """
    outputs: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[-1]

    handle = layer.register_forward_hook(record)
    try:
        yield outputs
    finally:
        handle.remove()


def grad_cam(model: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """ReLU(Σ_k w_k · A_k), where A_k are the maps of `layer` and w_k the mean over positions of ∂ logit / ∂ A_k.

    images: float B×3×H×W as the model takes them; classes: int64 (B,), whose logits are explained. Returns float B×H×W
    in 0..1: enlarged bilinearly, each image divided by its maximum; a map without positive evidence stays 0. Puts the
    model into eval mode; no gradient is left on its parameters.
    """
    model.eval()
    with torch.enable_grad(), recorded(layer) as outputs:
        score = model(images).gather(1, classes[:, None]).sum()
    (maps,) = outputs
    (gradient,) = torch.autograd.grad(score, maps)
    heat = (gradient.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(dim=1, keepdim=True).relu()
    heat = functional.interpolate(heat, size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    highest = heat.amax(dim=(1, 2), keepdim=True)
    return heat / highest.where(highest > 0, 1)

"""Show by Grad-CAM (Selvaraju et al. 2017; sections 4.3.4 and 4.4.4 of study C) where a network sees its class."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesions.core.errors import InputError
from lesions.training.freezing import last_layers

BLOCKS = ("layer4", "features", "blocks", "trunk_output", "layers", "conv5")  # of networks that do not name them


def target_layer(model: nn.Module) -> nn.Module:
    """Return the last block of a classifier whose places its logits depend on. Raises InputError where none is known.

    Timm's networks name their blocks. Behind the last one of a transformer with a class token, only that token is read:
    there it is the block before.
    """
    named = [of["module"] for of in getattr(model, "feature_info", None) or [] if of.get("module")]
    by_token = getattr(model, "num_prefix_tokens", 0) and getattr(model, "global_pool", "") == "token"
    if named:
        found = dict(model.named_modules()).get(named[-2 if by_token and len(named) > 1 else -1])
    else:
        blocks = next((getattr(model, name) for name in BLOCKS if hasattr(model, name)), nn.Sequential())
        found = next(reversed([*blocks.children()]), None)
    if found is None:
        raise unseen(model)
    return found


def unseen(model: nn.Module) -> InputError:
    """Return what to raise for a network without maps that Grad-CAM could show."""
    return InputError(f"{type(model).__name__}: Grad-CAM finds no maps of places in it; choose another network")


def places(model: nn.Module, output: Tensor) -> Tensor:
    """Return a block's output as B×C×H×W, from that, from B×H×W×C or from tokens B×N×C, without those of no place.

    Raises InputError for anything else.
    """
    named: Any = getattr(model, "feature_info", None)
    last = next(iter(last_layers(model).values()))
    channels = named[-1]["num_chs"] if named else last.weight.shape[1]
    if output.ndim == 4:
        return output.permute(0, 3, 1, 2) if output.shape[3] == channels != output.shape[1] else output
    grid: Any = next((m.grid_size for m in model.modules() if getattr(m, "grid_size", None)), (0, 0))
    first = output.shape[1] - grid[0] * grid[1]  # tokens of no place: of the class, registers
    if output.ndim != 3 or output.shape[2] != channels or first not in (0, getattr(model, "num_prefix_tokens", 0)):
        raise unseen(model)
    return output[:, first:].transpose(1, 2).unflatten(2, grid)


@contextmanager
def recorded(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list to which each forward pass appends the output of `layer`.

    What it appends is cut from the layers below: gradients reach it whether those are frozen or not, and go no further.
    """
    outputs: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if not isinstance(output, Tensor):
            raise unseen(module)
        outputs.append(output.detach().requires_grad_())
        return outputs[-1].clone()  # what comes next may write in place

    handle = layer.register_forward_hook(record)
    try:
        yield outputs
    finally:
        handle.remove()


def grad_cam(model: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return ReLU(Σ_k w_k · A_k), where A_k are the maps of `layer` and w_k the mean over positions of ∂ logit / ∂ A_k.

    images: float B×3×H×W as the model takes them; classes: int64 (B,), whose logits are explained. Returns float B×H×W
    in 0..1: enlarged bilinearly, each image divided by its maximum; a map without positive evidence stays 0. Puts the
    model into eval mode; no gradient is left on its parameters. Raises InputError where `layer` has no maps of places.
    """
    model.eval()
    with torch.enable_grad(), recorded(layer) as outputs:
        score = model(images).gather(1, classes[:, None]).sum()
    (maps,) = outputs
    gradient, maps = (places(model, of) for of in (*torch.autograd.grad(score, maps), maps.detach()))
    heat = (gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True).relu()
    heat = functional.interpolate(heat, size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    highest = heat.amax(dim=(1, 2), keepdim=True)
    return heat / highest.where(highest > 0, 1)

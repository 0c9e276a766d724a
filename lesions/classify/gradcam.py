"""Show by Grad-CAM (Selvaraju et al. 2017; sections 4.3.4 and 4.4.4 of study C) where a network sees its class."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesions.core.errors import InputError
from lesions.training.freezing import last_layers

BLOCKS = ("layer4", "features", "blocks", "trunk_output", "layers", "conv5")  # where a network does not name them


def target_layer(model: nn.Module) -> nn.Module:
    """Return the layer whose output Grad-CAM explains: the last block. Raises InputError where none is known.

    It is the block before in a transformer that classifies by a token: that reads nothing but the token of its last
    block, so the other places there have no gradient. timm's networks name their blocks.
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
    """Return the error for a network without maps that Grad-CAM could show."""
    return InputError(f"{type(model).__name__}: Grad-CAM finds no maps of places in it; choose another network")


def places(model: nn.Module, output: Tensor) -> Tensor:
    """Return a block's output as maps B×C×H×W. It may come as such, as B×H×W×C, or as tokens B×N×C, of which class and
    register tokens are left out. Raises InputError for anything else."""
    named: Any = getattr(model, "feature_info", None)
    last = next(iter(last_layers(model).values()))
    channels = named[-1]["num_chs"] if named else last.weight.shape[1]
    if output.ndim == 4:
        return output.permute(0, 3, 1, 2) if output.shape[3] == channels != output.shape[1] else output
    grid: Any = next((m.grid_size for m in model.modules() if getattr(m, "grid_size", None)), (0, 0))
    first = output.shape[1] - grid[0] * grid[1]  # class and register tokens come first
    if output.ndim != 3 or output.shape[2] != channels or first not in (0, getattr(model, "num_prefix_tokens", 0)):
        raise unseen(model)
    return output[:, first:].transpose(1, 2).unflatten(2, grid)


@contextmanager
def recorded(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list that collects the output of `layer` in each forward pass, as the start of the gradient's graph.

    So the gradient is there even if the layers below are frozen, and nothing is computed for them.
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

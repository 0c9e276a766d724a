"""Choose which parameters are trained: the new head first, then all, or all but the body's batch normalisation.

Studies C (section 4.2.2) and D (section II-D). The body is what ImageNet's weights fill, α of ARL included.
"""

from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Train = Literal["head", "all", "all_but_norm"]


class Head(nn.Sequential):
    """A new head of several layers; its type tells `head_of` which layers those are."""


def own_heads(model: nn.Module) -> list[nn.Module]:
    """Return what a network itself calls its classifier (timm's interface); several if it averages their logits, none
    if it does not say."""
    found: Any = getattr(model, "get_classifier", tuple)()
    found = found if isinstance(found, tuple | list) else (found,)
    return [head for each in found for head in (each if isinstance(each, nn.ModuleList) else (each,))]


def last_layers(model: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return the layers that give the logits, by name: each head's last linear layer or, without one, convolution."""
    found: list[nn.Linear | nn.Conv2d] = []
    for head in own_heads(model) or [model]:
        for kind in (nn.Linear, nn.Conv2d):
            if layers := [module for module in head.modules() if isinstance(module, kind)]:
                found.append(layers[-1])
                break
    return {name: layer for name, module in model.named_modules() for layer in found if layer is module}


def head_of(model: nn.Module) -> nn.ModuleList:
    """Return the layers in place of the ImageNet head: for the U-Net its decoder with the last convolution."""
    if hasattr(model, "segmentation_head"):
        return nn.ModuleList([model.get_submodule("decoder"), model.get_submodule("segmentation_head")])
    marked = [module for module in model.modules() if isinstance(module, Head)][:1]
    return nn.ModuleList(own_heads(model) or marked or last_layers(model).values())


def body_norms(model: nn.Module) -> list[nn.Module]:
    """Return every batch normalisation outside the head."""
    head = set(head_of(model).modules())
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m not in head]


def freeze(model: nn.Module, train: Train) -> None:
    """Freeze all but the head (head), nothing (all), or the body's batch normalisation (all_but_norm, study D).

    Call this before the optimizer is made.
    """
    model.requires_grad_(train != "head")
    if train == "head":
        head_of(model).requires_grad_(True)
    if train == "all_but_norm":
        for norm in body_norms(model):
            norm.requires_grad_(False)


def norms_to_eval(model: nn.Module) -> None:
    """Let frozen batch normalisation use and keep its running statistics. Call this after each model.train()."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine and not module.weight.requires_grad:
            module.eval()

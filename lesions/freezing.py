"""Which parameters are trained: the new head first, then all, or all but the body's batch normalisation.

Studies C (section 4.2.2) and D (section II-D). The body is what ImageNet's weights fill, α of ARL included.
"""

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lesions.heads import Head, last_linear

Train = Literal["head", "all", "all_but_norm"]


def head_of(model: nn.Module) -> nn.Module:
    """The layers in place of the ImageNet head: for the U-Net its decoder with the last convolution."""
    if hasattr(model, "segmentation_head"):
        return nn.ModuleList([model.decoder, model.segmentation_head])
    return next((m for m in model.modules() if isinstance(m, Head)), None) or last_linear(model)[1]


def body_norms(model: nn.Module) -> list[nn.Module]:
    """Every batch normalisation outside the head."""
    head = set(head_of(model).modules())
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m not in head]


def freeze(model: nn.Module, train: Train) -> None:
    """Say which parameters an optimizer made after this may move.

    all_but_norm: study D keeps frozen, of what was frozen, batch normalisation; the head never was.
    """
    model.requires_grad_(train != "head")
    if train == "head":
        head_of(model).requires_grad_(True)
    if train == "all_but_norm":
        for norm in body_norms(model):
            norm.requires_grad_(False)


def norms_to_eval(model: nn.Module) -> None:
    """Frozen batch normalisation keeps its running statistics and uses them. To be called after each model.train()."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not module.weight.requires_grad:
            module.eval()

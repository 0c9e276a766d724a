"""What stands in place of a network's ImageNet head, where that is more than one linear layer."""

import torch
from torch import Tensor, nn


class Head(nn.Sequential):
    """Marks the replaced layers, so that lesions/freezing.py finds them."""


class ConcatPool(nn.Module):
    """Mean and maximum of each channel over its positions: B×C×H×W to B×2C.

    The mean and amax of torch rather than its adaptive pools, whose gradients are not deterministic on CUDA.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)


def concat_head(channels: int, classes: int) -> Head:
    """Study D's head (section III-C) behind `ConcatPool`: from B×2·`channels` to logits B×`classes`.

    Its log-softmax is in the loss: the cross-entropy of logits is the negative log-likelihood of their log-softmax.
    The text's sizes (1,024 in, normalisation of 1,024 after 512 outputs) fit neither ResNet-50 nor each other: here the
    body gives the first, and the second normalisation has 512.
    """
    return Head(
        nn.BatchNorm1d(2 * channels),
        nn.Dropout(0.25),
        nn.Linear(2 * channels, 512),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(512),
        nn.Dropout(0.5),
        nn.Linear(512, classes),
    )


def last_linear(model: nn.Module) -> tuple[str, nn.Linear]:
    """The name and the module of the layer that gives the logits."""
    return next((n, m) for n, m in reversed(list(model.named_modules())) if isinstance(m, nn.Linear))


def put_dropout(model: nn.Module, p: float) -> None:
    """Dropout before the layer that gives the logits (study E's M4 to M7), beside any that the network has."""
    name, linear = last_linear(model)
    model.set_submodule(name, Head(nn.Dropout(p), linear))

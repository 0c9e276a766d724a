"""Build torchvision's classifiers, each with its published weights; and study D's head on its ResNet-50."""

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from lesions.networks.build import Network, Size
from lesions.training.freezing import Head


class AlexNet(torchvision.models.AlexNet):
    """torchvision's AlexNet, which needs 63 px: smaller images (the sample's) are enlarged to that."""

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < 63:
            x = functional.interpolate(x, size=(63, 63), mode="bilinear", align_corners=False)
        return super().forward(x)


class ConcatPool(nn.Module):
    """Mean and maximum of each channel over its positions: B×C×H×W to B×2C.

    It uses torch's mean and amax, because its adaptive pools have gradients that are not deterministic on CUDA.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)


def concat_head(channels: int, classes: int) -> nn.Module:
    """Build study D's head (section III-C), behind `ConcatPool`: from B×2·`channels` to logits B×`classes`.

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


def resnet50_for_concat(size: Size) -> nn.Module:
    """Build ResNet-50 with study D's pooling, whose head `concat_head` is."""
    model = torchvision.models.resnet50()
    model.avgpool = ConcatPool()
    return model


def with_auxiliary(name: str) -> nn.Module:
    """Build GoogLeNet or Inception v3 as its weights were published: these expect Google's mean and std."""
    return torchvision.models.get_model(name, weights=None, init_weights=True, transform_input=True)


def without_auxiliary(name: str) -> nn.Module:
    """Build one of these without its auxiliary classifiers, so that it gives one set of logits in training too."""
    model = with_auxiliary(name)
    for part in ("aux_logits", "aux1", "aux2", "AuxLogits"):
        if hasattr(model, part):
            setattr(model, part, None)
    return model


OURS = {
    "alexnet": Network(lambda size: AlexNet()),
    "resnet50_concat": Network(resnet50_for_concat, plain=torchvision.models.resnet50, head=concat_head),
    "googlenet": Network(lambda size: without_auxiliary("googlenet"), plain=lambda: with_auxiliary("googlenet")),
    "inception_v3": Network(
        lambda size: without_auxiliary("inception_v3"), plain=lambda: with_auxiliary("inception_v3")
    ),
}


def names() -> list[str]:
    return sorted({*torchvision.models.list_models(module=torchvision.models), *OURS})


def find(name: str) -> Network:
    return OURS.get(name) or Network(lambda size: torchvision.models.get_model(name, weights=None))

"""The classifiers: a name and a function that builds the network with its ImageNet head; `build` gives it ours.

Add one by a line in ARCHITECTURES, its name in lesions/params.py, and a block in params.yaml.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from lesions import attention, checkpoints, heads
from lesions.errors import InputError
from lesions.params import plain


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a 1×1 shortcut, then pooling to half the size and dropout. B×C×H×W."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.after = nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.body(x) + self.shortcut(x))


class ResidualNet(nn.Module):
    """Study A's own residual net (section 3.2.1): residual blocks with pooling and dropout, then dense layers.

    The text gives no sizes; widths 32 to 256, dropout .1 and one hidden layer of 256 are ours. From 16 px up.
    """

    def __init__(self, num_classes: int = 1000, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        inputs = (3, *widths[:-1])
        self.blocks = nn.Sequential(*(ResidualBlock(i, o, 0.1) for i, o in zip(inputs, widths, strict=True)))
        self.dense = nn.Sequential(nn.Linear(widths[-1], 256), nn.ReLU(inplace=True), nn.Dropout(0.3))
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.dense(self.blocks(x).mean(dim=(2, 3))))


class AlexNet(torchvision.models.AlexNet):
    """torchvision's, which needs 63 px: smaller images (the sample's) are enlarged to that."""

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < 63:
            x = functional.interpolate(x, size=(63, 63), mode="bilinear", align_corners=False)
        return super().forward(x)


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "alexnet": AlexNet,
    "efficientnet_b0": torchvision.models.efficientnet_b0,
    "efficientnet_b0_arl": partial(attention.efficientnet_b0, arl=True, squeeze_excitation=True),
    "efficientnet_b0_no_se": partial(attention.efficientnet_b0, arl=False, squeeze_excitation=False),
    "efficientnet_b0_no_se_arl": partial(attention.efficientnet_b0, arl=True, squeeze_excitation=False),
    "residual": ResidualNet,
    "resnet18": torchvision.models.resnet18,
    "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50,
    "resnet50_arl": attention.resnet50_arl,
    "resnet50_concat": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
    "vgg11": torchvision.models.vgg11,
    "vgg16": torchvision.models.vgg16,
    "wide_resnet50_2": torchvision.models.wide_resnet50_2,
}


def load_plain(model: nn.Module, name: str, weights: Path) -> None:
    """Fill `model` from a state dict of the network `name`; the layers that only one of the two has are left out.

    Raises InputError for weights that are not exactly those of `name`.
    """
    with torch.device("meta"):  # names and shapes alone
        expected = ARCHITECTURES[name]()
    try:
        expected.load_state_dict(checkpoints.load(weights), assign=True)
    except RuntimeError as error:
        raise InputError(f"{weights}: not the weights of {name}: {str(error)[:200]}") from None
    model.load_state_dict(expected.state_dict(), strict=False)


def build(architecture: str, classes: int, weights: Path | None = None, dropout: float = 0.0) -> nn.Module:
    """The network from float B×3×H×W, normalised as for ImageNet, to logits B×`classes`.

    `weights`: a state dict of the architecture, of a variant's plain network, with its 1,000-way head, which is
    replaced. `dropout`: the probability of dropout put before the last layer; at 0 there is none. Initial values come
    from torch's global seed. Raises InputError for weights that do not match.
    """
    model = ARCHITECTURES[architecture]()
    if weights is not None:
        load_plain(model, plain(architecture), weights)
    name, head = heads.last_linear(model)
    if architecture == "resnet50_concat":
        model.avgpool, model.fc = heads.ConcatPool(), heads.concat_head(head.in_features, classes)
    else:
        model.set_submodule(name, nn.Linear(head.in_features, classes))
    if dropout > 0:
        heads.put_dropout(model, dropout)
    return model

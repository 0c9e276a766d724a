"""The classifiers: a name and a function that builds the network with its ImageNet head; `build` gives it ours.

Add one by a line in ARCHITECTURES, its name in lesions/params.py, and a block in params.yaml.
"""

from collections.abc import Callable
from pathlib import Path

import torchvision
from torch import Tensor, nn
from torch.nn import functional

from lesions import checkpoints
from lesions.errors import InputError


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
    "residual": ResidualNet,
    "resnet18": torchvision.models.resnet18,
    "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
    "vgg11": torchvision.models.vgg11,
    "vgg16": torchvision.models.vgg16,
    "wide_resnet50_2": torchvision.models.wide_resnet50_2,
}


def build(architecture: str, classes: int, weights: Path | None = None) -> nn.Module:
    """The network from float B×3×H×W, normalised as for ImageNet, to logits B×`classes`.

    `weights`: a state dict of the same architecture with its 1,000-way head, which is replaced. Initial values come
    from torch's global seed. Raises InputError for weights that do not match.
    """
    model = ARCHITECTURES[architecture]()
    if weights is not None:
        try:
            model.load_state_dict(checkpoints.load(weights))
        except RuntimeError as error:
            raise InputError(f"{weights}: not the weights of {architecture}: {str(error)[:200]}") from None
    name, head = next((n, m) for n, m in reversed(list(model.named_modules())) if isinstance(m, nn.Linear))
    model.set_submodule(name, nn.Linear(head.in_features, classes))
    return model

"""Build study A's own residual net."""

from torch import Tensor, nn

from lesions.networks.build import Network


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


def names() -> list[str]:
    return ["residual"]


def find(name: str) -> Network:
    return Network(lambda size: ResidualNet())

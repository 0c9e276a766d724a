"""Build study C's networks: Attention Residual Learning (ARL) added, Squeeze-and-Excitation removed.

Formula 2.2 of the study: y = x + F(x) + α · S[F(x)] · x, where S is the softmax over the H·W positions of each channel
and α one trainable number a block. With α = 0 a network is the plain one, bit for bit, and so are its other parameters'
names: a state dict of torchvision's network fits.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import efficientnet_b0 as torchvision_b0
from torchvision.models import resnet50
from torchvision.models.efficientnet import EfficientNet, MBConv, MBConvConfig
from torchvision.models.resnet import Bottleneck, ResNet

from lesions.networks.build import Network

# Table 2.2 of the study: expansion, kernel, stride of the first block, channels in and out, blocks.
B0_STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
LITE0 = "tf_efficientnet_lite0"
HALF = (0.5, 0.5, 0.5)  # mean and std that its weights expect


def spatial_softmax(maps: Tensor) -> Tensor:
    """Return float B×C×H×W maps with each channel of each image made positive, with sum 1.

    Written out because torch's softmax over flattened positions copies channels_last maps. Autocast computes it in
    float32; the dtype of `maps` comes back, or every block after it would run in float32.
    """
    powers = (maps - maps.detach().amax(dim=(2, 3), keepdim=True)).exp()
    return (powers / powers.sum(dim=(2, 3), keepdim=True)).to(maps.dtype)


def attended(residual: Tensor, x: Tensor, alpha: Tensor) -> Tensor:
    """Return F(x) + α · S[F(x)] · x of formula 2.2, from F(x) and x, both B×C×H×W, and the block's α, a scalar."""
    return residual + alpha * spatial_softmax(residual) * x


def start() -> nn.Parameter:
    """Return α before training: 0, the plain network. The study names none; its plots (4.1, 4.3) stay below .075."""
    return nn.Parameter(torch.zeros(()))


class AttentionBottleneck(Bottleneck):
    """ResNet-50's block with ARL. The ReLU stands after the sum, as in the plain block.

    Where the shortcut is a projection, that is the x of the formula: F(x) has its shape.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.alpha = start()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(shortcut + attended(residual, shortcut, self.alpha))


class AttentionMBConv(MBConv):
    """EfficientNet's block with ARL where there is a skip, else as it was (section 2.12.3).

    Stochastic depth drops the attention together with F(x): what stays is the identity.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.use_res_connect:
            self.alpha = start()

    def forward(self, x: Tensor) -> Tensor:
        if not self.use_res_connect:
            return super().forward(x)
        return x + self.stochastic_depth(attended(self.block(x), x, self.alpha))


def resnet50_arl() -> nn.Module:
    """Build ResNet-50 with ARL in its 16 blocks (experiment 3)."""
    return ResNet(AttentionBottleneck, [3, 4, 6, 3])


def efficientnet_b0(*, arl: bool, squeeze_excitation: bool) -> nn.Module:
    """Build EfficientNet-b0 with ARL in its 9 blocks with a skip, or without Squeeze-and-Excitation (experiment 4).

    An identity takes the place of Squeeze-and-Excitation, so that the other layers keep their names.
    """
    block = AttentionMBConv if arl else MBConv
    block = block if squeeze_excitation else partial(block, se_layer=nn.Identity)
    return EfficientNet([MBConvConfig(*stage, block=block) for stage in B0_STAGES], dropout=0.2)


def attend(block: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """Return formula 2.2 from x and what timm's block made of it, x + F(x): that block's forward hook."""
    return output + block.get_parameter("alpha") * spatial_softmax(output - inputs[0]) * inputs[0]


def lite0() -> nn.Module:
    """Build EfficientNet-lite0: not the study's, but its ImageNet weights come from the package index."""
    import timm  # here: it takes a second, and the study's own networks do without

    return timm.create_model(LITE0)


def lite0_arl() -> nn.Module:
    """Build EfficientNet-lite0 with ARL in its 9 blocks with a skip."""
    from timm.models._efficientnet_blocks import InvertedResidual

    model = lite0()
    for block in model.modules():
        if isinstance(block, InvertedResidual) and block.has_skip:
            block.alpha = start()
            block.register_forward_hook(attend)
    return model


NETWORKS = {
    "resnet50": Network(lambda size: resnet50()),
    "resnet50_arl": Network(lambda size: resnet50_arl(), plain=resnet50),
    "efficientnet_b0": Network(lambda size: efficientnet_b0(arl=False, squeeze_excitation=True)),
    "efficientnet_b0_arl": Network(
        lambda size: efficientnet_b0(arl=True, squeeze_excitation=True), plain=torchvision_b0
    ),
    "efficientnet_b0_no_se": Network(
        lambda size: efficientnet_b0(arl=False, squeeze_excitation=False), plain=torchvision_b0
    ),
    "efficientnet_b0_no_se_arl": Network(
        lambda size: efficientnet_b0(arl=True, squeeze_excitation=False), plain=torchvision_b0
    ),
    "lite0": Network(lambda size: lite0(), mean=HALF, std=HALF),
    "lite0_arl": Network(lambda size: lite0_arl(), plain=lite0, mean=HALF, std=HALF),
}


def names() -> list[str]:
    return sorted(NETWORKS)


def find(name: str) -> Network:
    return NETWORKS[name]

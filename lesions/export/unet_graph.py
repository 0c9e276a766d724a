"""Make a U-Net ready for its ONNX file."""

from torch import Tensor

from lesions.export.graph import Served
from lesions.segment import unet


class Unet(Served):
    """A U-Net from uint8 N×H×W×3 to masks float N×H×W in 0..1; it pads to its stride itself."""

    names = ("masks",)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (unet.forward(self.model, self.prepared(images)).sigmoid()[:, 0],)

"""Write a trained network as one ONNX file that takes pixels as they are: the same bytes on every run.

Beside its logits a classifier gives the features that go into its last linear layer and, where the network ends with
global pooling and one linear layer, class activation maps: that layer at each place (Zhou et al., 2016).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from lesions.batches.feed import normalised, unit
from lesions.core.files import replacing
from lesions.networks.build import Size, Statistics
from lesions.predict.features import pooled, recorded
from lesions.training.freezing import last_layers

EXAMPLES = 5  # images of the batch that is traced; any other than 1, which torch would keep for ever
TOGETHER = 64  # images
CLOSE = 1e-3  # between the file's outputs and the network's


def channels_first(maps: Tensor, features: Tensor) -> Tensor | None:
    """Return maps, B×F×h×w or B×h×w×F, as B×F×h×w if their mean over places is `features`, B×F; else None."""
    for found in (maps, maps.permute(0, 3, 1, 2)) if maps.ndim == 4 else ():
        if found.shape[:2] == features.shape and torch.allclose(found.mean(dim=(2, 3)), features, 1e-4, 1e-5):
            return found
    return None


class Place(NamedTuple):
    """The layer whose output is pooled into the features, and whether its channels come last."""

    layer: nn.Module
    last: bool


def place_of(model: nn.Module, images: Tensor) -> Place | None:
    """Find what a network pools before its one last linear layer, by trying it on float B×3×H×W; None if nothing.

    Of several layers with such an output it is the last one that has most places; one place alone shows nothing.
    """
    layers = list(last_layers(model).values())
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear):
        return None
    with torch.inference_mode(), recorded(*model.modules()) as found:
        logits = model(images)
    given, last = next((given, output) for layer, given, output in reversed(found) if layer is layers[0])
    if given.ndim != 2 or not torch.equal(last, logits):
        return None
    fitting = [(layer, output, channels_first(output, given)) for layer, _, output in found]
    places = [
        (maps[0, 0].numel(), Place(layer, maps.shape != out.shape)) for layer, out, maps in fitting if maps is not None
    ]
    most = max((count for count, _ in places), default=0)
    return next((place for count, place in reversed(places) if count == most > 1), None)


class Served(nn.Module):
    """A network from uint8 N×H×W×3 to the outputs that `names` names; it normalises by its own mean and std."""

    names: tuple[str, ...]

    def __init__(self, model: nn.Module, mean: Statistics, std: Statistics) -> None:
        super().__init__()
        self.model, self.mean, self.std = model, mean, std
        self.eval()

    def prepared(self, images: Tensor) -> Tensor:
        """Bring uint8 N×H×W×3 to float N×3×H×W as the network takes it."""
        return normalised(unit(images.permute(0, 3, 1, 2)), self.mean, self.std)


class Classifier(Served):
    """A classifier from uint8 N×H×W×3 to logits N×C, features N×F and, where it has a `place`, maps N×C×h×w.

    The mean of a class's map over places, and the last layer's bias, make its logit.
    """

    def __init__(self, model: nn.Module, mean: Statistics, std: Statistics, size: Size) -> None:
        super().__init__(model, mean, std)
        self.last = list(last_layers(model).values())
        pixels = torch.randint(256, (2, *size, 3), generator=torch.Generator().manual_seed(0))
        self.place = place_of(model, self.prepared(pixels))
        self.names = ("logits", "features", "maps") if self.place else ("logits", "features")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        watched = [*self.last, self.place.layer] if self.place else self.last
        with recorded(*watched) as found:
            logits = self.model(self.prepared(images))
        features = torch.cat([pooled(layer, given) for layer, given, _ in found if layer in self.last], dim=1)
        if self.place is None:
            return logits, features
        maps = next(output for layer, _, output in reversed(found) if layer is self.place.layer)
        maps = maps.permute(0, 3, 1, 2) if self.place.last else maps
        return logits, features, functional.conv2d(maps, self.last[0].weight[:, :, None, None])


@torch.inference_mode()
def outputs(served: Served, images: np.ndarray, rows: np.ndarray | None = None) -> list[np.ndarray]:
    """Return each output of `served`, float32, for uint8 N×H×W×3, or for `rows` of it (int)."""
    rows = np.arange(len(images)) if rows is None else rows
    device, parts = next(served.parameters()).device, []
    for start in range(0, len(rows), TOGETHER):
        pixels = torch.from_numpy(np.array(images[rows[start : start + TOGETHER]]))
        parts.append([output.cpu().numpy() for output in served(pixels.to(device))])
    return [np.concatenate(of) for of in zip(*parts, strict=True)]


def session(path: Path) -> onnxruntime.InferenceSession:
    """Open a file for ONNX Runtime on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take out of a file what tells of its making: paths, stack traces, producers, names of nodes."""
    model.producer_name = model.producer_version = model.doc_string = model.graph.doc_string = ""
    model.graph.name = "served"
    del model.metadata_props[:]
    graph = model.graph
    del graph.metadata_props[:]
    for node in graph.node:
        node.name = ""
    for each in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *model.functions):
        each.doc_string = ""
        del each.metadata_props[:]
    return model


def write(path: Path, model: onnx.ModelProto) -> None:
    with replacing(path) as part:
        part.write_bytes(model.SerializeToString(deterministic=True))


def export(served: Served, size: Size, path: Path) -> None:
    """Write `served`, on the CPU, for uint8 images N×`size`×3 of any N to the ONNX file `path`; try the file out.

    Raises RuntimeError if ONNX Runtime's outputs are not the network's, for a batch and for one image alone.
    """
    images = np.random.default_rng(0).integers(256, size=(EXAMPLES, *size, 3), dtype=np.uint8)
    program = torch.onnx.export(
        served, (torch.from_numpy(images),), input_names=["images"], output_names=list(served.names),
        dynamic_shapes=({0: torch.export.Dim("N")},), dynamo=True, verbose=False,
    )  # fmt: skip
    assert program is not None  # for mypy
    write(path, stripped(program.model_proto))
    opened = session(path)
    for pixels in (images, images[:1]):
        for name, found, expected in zip(
            served.names, opened.run(None, {"images": pixels}), outputs(served, pixels), strict=True
        ):
            difference = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
            if not difference < CLOSE:
                raise RuntimeError(f"{path}: {name} differs by {difference:.2g} from the network's")

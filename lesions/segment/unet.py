"""Build U-Nets (segmentation-models-pytorch), and predict masks with them."""

from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from lesions.batches.feed import normalised, unit
from lesions.core.errors import InputError, nearest
from lesions.networks import torchvision
from lesions.networks.build import MEAN, STD, Network, Size, Statistics, check, filled, find, try_out
from lesions.networks.timm import fixed
from lesions.training import checkpoints, hardware
from lesions.training.config import Compute

STRIDE = 32  # the encoder halves five times


def classifier_of(encoder: str) -> tuple[str, str]:
    """Return the family and network whose classifier has the encoder's layers and published weights."""
    return ("timm", encoder.removeprefix("tu-")) if encoder.startswith("tu-") else ("torchvision", encoder)


def statistics(encoder: str) -> tuple[Statistics, Statistics]:
    """Return the mean and std that an encoder's published weights expect of values in 0..1."""
    if not encoder.startswith("tu-"):
        return MEAN, STD
    network = find(*classifier_of(encoder))
    return network.mean, network.std


def known(decoder: str, encoder: str) -> None:
    """Raise InputError, with the nearest ones, unless segmentation-models-pytorch has both names."""
    decoders, encoders = smp.MODEL_ARCHITECTURES_MAPPING, smp.encoders.get_encoder_names()
    if decoder not in decoders:
        raise InputError(f"params.yaml: decoder {decoder!r} is unknown{nearest(decoder, decoders)}")
    if encoder.startswith("tu-"):
        find(*classifier_of(encoder))
    elif encoder not in encoders:
        raise InputError(
            f"params.yaml: encoder {encoder!r} is unknown{nearest(encoder, encoders)}, or tu-<network of timm>"
        )


def build(decoder: str, encoder: str, *sizes: Size, weights: Path | None = None) -> nn.Module:
    """Build a network from float B×3×H×W, normalised by `statistics`, to logits B×1×H×W.

    decoder, encoder: names of segmentation-models-pytorch. `sizes`: of the images, one after the other. `weights`: of
    the classifier that has the encoder's layers, whose head is left out. Raises InputError for unknown names, weights
    of another network, and a size that the network cannot take.
    """
    known(decoder, encoder)
    family, network = classifier_of(encoder)
    first, *others = ((height + -height % STRIDE, width + -width % STRIDE) for height, width in sizes)
    state = filled(published(encoder), encoder, first, weights).state_dict() if weights else None
    told: dict[str, Any] = {"encoder_weights": None} | (fixed(network, first) if family == "timm" else {})
    if state and family == "timm":
        told |= {"encoder_weights": True, "pretrained_cfg_overlay": {"state_dict": state}}
    try:
        model = smp.create_model(decoder, encoder, **told, in_channels=3, classes=1)
    except Exception as error:  # smp raises errors of many kinds where an encoder does not fit
        raise InputError(f"params.yaml: decoder {decoder} on encoder {encoder}: {str(error)[:200]}") from None
    if state and family == "torchvision":
        wanted = model.encoder.state_dict()
        kept = {name: value for name, value in state.items() if name in wanted}
        check(kept, wanted, f"{weights}: no weights that {encoder} takes")
        nn.Module.load_state_dict(model.encoder, kept)  # not smp's own, which expects the head too
    for size in (first, *others):
        try_out(model, size, f"decoder {decoder} on encoder {encoder}", (1, 1, *size))
    vars(model)["statistics"] = statistics(encoder)  # not saved with its state
    return model


def published(encoder: str) -> Network:
    """Return the classifier whose weights an encoder can take. Raises InputError where there is none."""
    family, network = classifier_of(encoder)
    if family == "torchvision" and network not in torchvision.names():
        raise InputError(
            f"params.yaml: encoder {encoder!r}: torchvision publishes no weights of it; choose weights none, or an "
            "encoder tu-<network of timm>"
        )
    return find(family, network)


def padded(images: Tensor) -> Tensor:
    """Repeat the edge until the encoder's stride divides height and width; `forward` cuts the logits back."""
    height, width = images.shape[-2:]
    pad = (0, -width % STRIDE, 0, -height % STRIDE)
    return functional.pad(images, pad, mode="replicate") if any(pad) else images


def forward(model: nn.Module, images: Tensor) -> Tensor:
    return model(padded(images))[..., : images.shape[-2], : images.shape[-1]]


def trained(decoder: str, encoder: str, size: Size, states: list[Path], device: torch.device) -> list[nn.Module]:
    """Return a U-Net for each file of a state, on the device. Raises InputError for another network's."""
    found = []
    for path in states:
        model = build(decoder, encoder, size)
        checkpoints.load_into(model, path)
        found.append(model.to(device).to(memory_format=torch.channels_last))
    return found


def mean(models: list[nn.Module], images: Tensor, compute: Compute) -> Tensor:
    """Return the mean of the models' `probabilities`."""
    return torch.stack([probabilities(model, images, compute) for model in models]).mean(dim=0)


@torch.inference_mode()
def probabilities(model: nn.Module, images: Tensor, compute: Compute) -> Tensor:
    """Return float32 B×H×W in 0..1 from uint8 B×3×H×W."""
    model.eval()
    mean, std = vars(model)["statistics"]
    with hardware.switches(compute, images.device).autocast(images.device):
        logits = forward(model, normalised(unit(images), mean, std))
    return logits.float().sigmoid()[:, 0]

"""Watch a network: what goes into its last layers are the features by which it knows a picture."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lesions.training.freezing import last_layers

TOGETHER = 256  # images whose layers' inputs are kept at once


@contextmanager
def recorded(*layers: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """Yield a list that collects layer, input and output of each of `layers` in a forward pass, in forward order."""
    found: list[tuple[nn.Module, Tensor, Tensor]] = []

    def record(layer: nn.Module, inputs: Any, output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            found.append((layer, inputs[0], output))

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def pooled(layer: nn.Module, given: Tensor) -> Tensor:
    """Return what goes into a last layer as B×F; where it is applied at each place, the mean over places."""
    if isinstance(layer, nn.Conv2d):
        return given.mean(dim=(2, 3))
    return given.flatten(1, -2).mean(dim=1) if given.ndim > 2 else given


def features(model: nn.Module, predict: Callable[[np.ndarray], Any], rows: np.ndarray) -> np.ndarray:
    """Return float32 (len(rows), F): what goes into the last layers of `model` while `predict(rows)` runs it."""
    layers, parts = list(last_layers(model).values()), []
    for start in range(0, len(rows), TOGETHER):
        with recorded(*layers) as found:
            predict(rows[start : start + TOGETHER])
        of = [torch.cat([pooled(layer, given).cpu() for one, given, _ in found if one is layer]) for layer in layers]
        parts.append(torch.cat(of, dim=1).numpy())
    return np.concatenate(parts)

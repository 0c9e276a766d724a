"""Time one training step of each classifier, and what each switch of lesions/training/loop.py gains.

Forward, backward and optimizer on random images that lie on the device, in the block's own size, batch and optimizer.
`as trained`: channels last in memory, the fused optimizer, on CUDA bfloat16 autocast and torch.compile if `compute` of
params.yaml asks for them. It is compared with a step without any of these, then with the same step with one switch
turned off or on: below 1 that would be faster.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch.nn import functional

from benchmarks import data
from benchmarks.common import ROOT, Row, ratio, timed
from lesions.classify.config import Classifier
from lesions.networks import build
from lesions.tools import check
from lesions.tools.estimate import stepper
from lesions.training import hardware
from lesions.training.config import Compute
from lesions.training.hardware import Switches

# Steps of a round and rounds; on a GPU thirty times as many steps.
SIZES = {"small": (1, 2), "usual": (1, 11), "full": (5, 15)}


def run(block: Classifier, images: torch.Tensor, switches: Switches, steps: int) -> Callable[[], None]:
    """Return a function that takes `steps` steps of a new network, and waits for them."""
    height, width = images.shape[2:]
    model = build.build(block.family, block.network, 8, (height, width), dropout=block.dropout)
    pair = images.contiguous(memory_format=switches.layout), torch.arange(len(images), device=images.device) % 8
    if switches.compile:
        model.compile()
    return stepper(model, block, pair, functional.cross_entropy, switches, steps)


def measured(name: str, block: Classifier, size: data.Size, compute: Compute, steps: int, rounds: int) -> Iterator[Row]:
    device = hardware.prepare(compute, 0)
    images, chosen = torch.randn(block.batch, 3, *size, device=device), hardware.switches(compute, device)
    kinds = {"as trained": chosen, "plain": Switches()}
    for switch in ("channels_last", "fused", "amp", "compile")[: 4 if device.type == "cuda" else 2]:
        on = not getattr(chosen, switch)
        kinds[f"{switch} {'on' if on else 'off'}"] = replace(chosen, **{switch: on})
    seconds = timed({what: run(block, images, of, steps) for what, of in kinds.items()}, rounds)
    title = f"{name}: {block.network}, {size[0]}×{size[1]}, batch {block.batch}, {block.optimizer}"
    yield ratio(title, seconds, ("as trained", "plain"), steps, "step", wanted=1.0)
    for what in list(kinds)[2:]:
        yield ratio(f"– against {what}", seconds, ("as trained", what), steps, "step")


def rows(size: str) -> list[Row]:
    chosen = check.load(ROOT / "params.yaml")
    steps, rounds = SIZES[size]
    steps *= 30 if hardware.prepare(chosen.compute, 0).type == "cuda" else 1
    blocks = data.distinct(chosen, ("e_m0",) if size == "small" else (), "optimizer")
    return [row for of in blocks for row in measured(*of, chosen.compute, steps, rounds)]

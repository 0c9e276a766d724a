"""Time one training step of each classifier, and what each switch of lesions/training/loop.py gains.

Forward, backward and optimizer on random images that lie on the device, in the block's own size, batch and optimizer.
`as trained`: channels last in memory, the fused optimizer, on CUDA bfloat16 autocast and torch.compile if `compute` of
params.yaml asks for them. It is compared with a step without any of these, then with the same step with one of them
turned: below 1 that switch slows this classifier.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import numpy as np
import torch
from torch.nn import functional

from benchmarks import data
from benchmarks.common import ROOT, Row, duration, ratio, timed
from lesions.classify.config import Classifier
from lesions.networks import build
from lesions.tools import check
from lesions.tools.estimate import stepper
from lesions.training import loop
from lesions.training.config import Compute
from lesions.training.loop import Switches

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
    device = loop.prepare(compute, 0)
    images, chosen = torch.randn(block.batch, 3, *size, device=device), loop.switches(compute, device)
    there = [
        field.name for field in fields(Switches) if device.type == "cuda" or field.name in ("channels_last", "fused")
    ]
    turned = {switch: replace(chosen, **{switch: not getattr(chosen, switch)}) for switch in there}
    kinds = {"as trained": chosen, "plain": Switches()} | turned
    seconds = timed({what: run(block, images, of, steps) for what, of in kinds.items()}, rounds)
    each = {what: f"{duration(float(np.median(found)) / steps)} a step" for what, found in seconds.items()}
    title = f"{name}: {block.network}, {size[0]}×{size[1]}, batch {block.batch}, {block.optimizer}"
    n = f"{rounds} rounds of {steps} steps"

    def row(what: str, with_it: str, without: str, **wanted: float) -> Row:
        return ratio(what, seconds[without], seconds[with_it], each[with_it], f"without {each[without]}", n, **wanted)

    yield row(title, "as trained", "plain", at_least=1.0)
    for switch in there:
        pair = ("as trained", switch) if getattr(chosen, switch) else (switch, "as trained")
        yield row(f"– {switch.replace('_', ' ')}", *pair)


def rows(size: str) -> list[Row]:
    chosen = check.load(ROOT / "params.yaml")
    steps, rounds = SIZES[size]
    steps *= 30 if loop.prepare(chosen.compute, 0).type == "cuda" else 1
    blocks = data.distinct(chosen, ("e_m0",) if size == "small" else (), "optimizer")
    return [row for of in blocks for row in measured(*of, chosen.compute, steps, rounds)]

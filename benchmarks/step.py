"""One training step of each classifier: what each switch gains, and which are worth having.

Forward, backward and optimizer on random images that lie on the device, in the block's own size, batch and optimizer.
`as trained` is what lesions/training.py does under `compute` and `slower` of params.yaml: channels last in memory, the
fused optimizer, on CUDA bfloat16 autocast and torch.compile where asked for. First against a step without any of these
(float32, channels first, an optimizer that goes tensor by tensor), then against the same step without one of them:
below 1 that one slows this classifier. A switch that is off is measured too: above 1 it would be worth having.
What `slower` should say on this machine, by this run, stands under the table.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch.nn import functional

from benchmarks import data
from benchmarks.common import ROOT, Row, duration, main, ratio, timed
from lesions import classifiers, params, training
from lesions.training import Switches


@dataclass(frozen=True)
class Size:
    steps: int
    rounds: int
    names: tuple[str, ...] = ()  # of blocks; none: all
    batch: int = 0  # 0: the block's own


ON_CPU = {"small": Size(1, 2, ("e_m0",), 8), "usual": Size(1, 11), "full": Size(5, 15)}
ON_GPU = {"small": Size(2, 2, ("e_m0",), 8), "usual": Size(30, 5), "full": Size(200, 5)}


ON_ANY = ("channels_last", "fused")  # the others are for CUDA


def stepper(
    block: params.Classifier, classes: int, images: torch.Tensor, switches: Switches, steps: int
) -> Callable[[], None]:
    """`steps` steps of a new network, waited for."""
    model = classifiers.build(block.architecture, classes, dropout=block.dropout)
    model.to(images.device, memory_format=switches.layout).train()
    images = images.contiguous(memory_format=switches.layout)
    targets = torch.arange(len(images), device=images.device) % classes
    optimizer = training.optimizer_for(model, block, 1e-6, switches.fused)
    run = torch.compile(model) if switches.compile else model

    def go() -> None:
        for _ in range(steps):
            with switches.autocast(images.device):
                loss = functional.cross_entropy(run(images), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if images.is_cuda:
            torch.cuda.synchronize()

    return go


def measured(name: str, block: params.Classifier, pixels: tuple[int, int], asked: params.Params, size: Size):
    device, count = training.prepare(asked.compute, 0), size.batch or block.batch
    images = torch.randn(count, 3, *pixels, device=device)
    chosen = training.switches(asked.compute, device, asked.slower, block.architecture)
    there = [field.name for field in fields(Switches) if device.type == "cuda" or field.name in ON_ANY]
    turned = {switch: replace(chosen, **{switch: not getattr(chosen, switch)}) for switch in there}
    kinds = {"as trained": chosen, "plain": Switches()} | turned
    competitors = {what: stepper(block, 8, images, switches, size.steps) for what, switches in kinds.items()}
    seconds = timed(competitors, size.rounds)
    each = {what: f"{duration(float(np.median(found)) / size.steps)} a step" for what, found in seconds.items()}
    title = f"{name}: {block.architecture}, {pixels[0]}×{pixels[1]}, batch {count}, {block.optimizer}"
    n = f"{size.rounds} rounds of {size.steps} steps"

    def row(what: str, with_it: str, without: str, **more) -> Row:
        return ratio(what, seconds[without], seconds[with_it], each[with_it], f"without {each[without]}", n, **more)

    yield row(title, "as trained", "plain", at_least=1.0)
    for switch in there:
        label, key = switch.replace("_", " "), (device.type, block.architecture, switch)
        if getattr(chosen, switch):
            yield row(f"– of it {label}", "as trained", switch, key=key, at_least=1.0)
        else:
            yield row(f"– {label}, which is off", switch, "as trained", key=key)


def rows(size: str) -> list[Row]:
    chosen = params.load(ROOT / "params.yaml")
    cuda = training.prepare(chosen.compute, 0).type == "cuda"
    of = (ON_GPU if cuda else ON_CPU)[size]
    blocks = data.distinct(chosen, of.names, "optimizer")
    return [row for name, block, pixels in blocks for row in measured(name, block, pixels, chosen, of)]


def verdict(rows: Iterable[Row]) -> str:
    """What `slower` of params.yaml should say of this device: by network, the switches that gain nothing on the average
    of its classifiers."""
    gains = {}
    for row in (row for row in rows if row.key):
        gains.setdefault(row.key, []).append(row.value)
    slower = {device: {} for device, _, _ in gains}
    for (device, architecture, switch), found in gains.items():
        if np.mean(found) <= 1:
            slower[device].setdefault(architecture, []).append(switch)
    return "\n".join(f"`slower: {json.dumps({device: found})}`" for device, found in slower.items())


if __name__ == "__main__":
    main(__doc__, rows, verdict)

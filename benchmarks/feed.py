"""What the feed costs a training: an epoch by lesions/training.py on Experiment.batches, over one on tensors that are
already on the device.

Every classifier of params.yaml, once for each network, size, batch and augmentation, from random weights, all of it
training; study E's heavy augmentation again at the size of the paper. The feed gathers from the array, augments and
normalises. On a CPU an epoch is a few batches.
"""

import tempfile
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks import data
from benchmarks.common import ROOT, Row, duration, main, ratio, timed
from lesions import measure, params, training
from lesions.experiment import Experiment


@dataclass(frozen=True)
class Size:
    steps: int  # of an epoch
    rounds: int
    names: tuple[str, ...] = ()  # of blocks; none: all
    batch: int = 0  # 0: the block's own
    large: int = 0  # batch of the heavy augmentation at PAPERS; 0: without


ON_CPU = {"small": Size(1, 2, ("residual", "e_m7"), 8), "usual": Size(3, 11, large=8), "full": Size(10, 5, large=16)}
ON_GPU = {"small": Size(2, 2, ("residual", "e_m7"), 8), "usual": Size(30, 5, large=64), "full": Size(200, 5, large=64)}
HEAVY, PAPERS = "e_m7", (256, 256)


def epoch(experiment: Experiment, model: torch.nn.Module, batches) -> None:
    training.fit(
        model, experiment.block, experiment.switches, experiment.device, batches=batches, validate=lambda model: {},
        loss_of=functional.cross_entropy, keep=(), name="bench",
    )  # fmt: skip


def measured(name: str, block: params.Classifier, pixels: tuple[int, int], chosen: params.Params, size: Size) -> Row:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        data.write(Path("data"), block, measure.pixels(max(64, size.steps * block.batch) + 16, pixels))
        experiment = Experiment(block, block.split, chosen.compute, Path("data"), chosen.slower)
        model = experiment.model()
        images, targets = next(iter(experiment.batches(1)[1]))
        held = data.repeated((torch.randn_like(images), targets), size.steps)
        sources = {"feed": experiment.batches, "held": held}
        seconds = timed(
            {who: partial(epoch, experiment, model, source) for who, source in sources.items()}, size.rounds
        )
    each = {who: f"{duration(found.min() / size.steps)} a step" for who, found in seconds.items()}
    what = f"{name}: {block.architecture}, {pixels[0]}×{pixels[1]}, batch {block.batch}; {', '.join(block.augment)}"
    n = f"{size.rounds} rounds of {size.steps} steps"
    wanted = 1.10 if experiment.device.type == "cpu" else 1.05
    return ratio(what, seconds["feed"], seconds["held"], each["feed"], f"held {each['held']}", n, at_most=wanted)


def rows(size: str) -> list[Row]:
    chosen = params.load(ROOT / "params.yaml")
    cuda = training.prepare(chosen.compute, 0).type == "cuda"
    of = (ON_GPU if cuda else ON_CPU)[size]
    found = []
    blocks = [(*of_all, of.batch) for of_all in data.distinct(chosen, of.names, "augment")]
    blocks += [(HEAVY, chosen.classifiers[HEAVY], PAPERS, of.large)] if of.large else []
    for name, block, pixels, batch in blocks:
        batch = batch or block.batch
        block = block.model_copy(update=data.SHORT | {"batch": batch, "epoch_images": of.steps * batch})
        found.append(measured(name, block, pixels, chosen, of))
    return found


if __name__ == "__main__":
    main(__doc__, rows)

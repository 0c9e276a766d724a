"""Time an epoch of lesions/training/loop.py on Experiment.batches, over one on tensors that are already on the device.

That is what the feed costs, which gathers from the array, augments and normalises. Every classifier of params.yaml,
once for each network, size, batch and augmentation, from random weights, no layer frozen; study E's heavy augmentation
again at the size of the paper. On a CPU an epoch is a few batches.
"""

import tempfile
from contextlib import chdir
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks import data
from benchmarks.common import ROOT, Row, ratio, timed
from lesions.classify.config import Classifier
from lesions.classify.experiment import Experiment
from lesions.tools import check
from lesions.training import hardware, loop
from lesions.training.config import Compute

# Steps of an epoch and rounds; on a GPU ten times as many steps.
SIZES = {"small": (1, 2), "usual": (3, 11), "full": (10, 5)}
HEAVY, PAPERS = "e_m7", (256, 256)


def epoch(experiment: Experiment, model: torch.nn.Module, batches) -> None:
    """Train for an epoch as the stages do, without validation."""
    loop.fit(
        model, experiment.block, experiment.switches, experiment.device, batches=batches, validate=lambda model: {},
        loss_of=functional.cross_entropy, keep=(), name="bench",
    )  # fmt: skip


def measured(name: str, block: Classifier, size: data.Size, compute: Compute, steps: int, rounds: int) -> Row:
    block = block.model_copy(update=data.SHORT | {"epoch_images": steps * block.batch})
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        data.write(Path("data"), block, data.pixels(max(64, steps * block.batch) + 16, size))
        experiment = Experiment(block, block.split, compute, Path("data"))
        model = experiment.model()
        images, targets = next(iter(experiment.batches(1)[1]))
        held = [(torch.randn_like(images), targets)] * steps
        sources = {"feed": experiment.batches, "held": lambda epoch, start: (steps, held)}
        seconds = timed({who: partial(epoch, experiment, model, source) for who, source in sources.items()}, rounds)
    what = f"{name}: {block.network}, {size[0]}×{size[1]}, batch {block.batch}; {', '.join(block.augment)}"
    wanted = 1.10 if experiment.device.type == "cpu" else 1.05
    return ratio(what, seconds, ("feed", "held"), steps, "step", "≤", wanted)


def rows(size: str) -> list[Row]:
    chosen = check.load(ROOT / "params.yaml")
    (steps, rounds), small = SIZES[size], size == "small"
    cuda = hardware.prepare(chosen.compute, 0).type == "cuda"
    steps *= 10 if cuda else 1
    blocks = list(data.distinct(chosen, ("residual", HEAVY) if small else (), "augment"))
    if not small and HEAVY in chosen.classifiers:
        large = chosen.classifiers[HEAVY].model_copy(update={"batch": 64 if cuda else 8})
        blocks.append((HEAVY, large, PAPERS))
    return [measured(*of, chosen.compute, steps, rounds) for of in blocks]

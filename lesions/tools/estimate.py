"""Say what the expensive stages of params.yaml would take on this machine: time, disk and memory.

    python -m lesions.tools.estimate                        # params.yaml as it is
    python -m lesions.tools.estimate settings/full.yaml     # laid over params.yaml, which stays as it is

A few real steps of each kind (network, image size, batch) are run on random images and multiplied by the images that
params.yaml makes each stage look at. Coarse, within a factor of two: a prediction is a third of a step; on a CPU a
large step is run on a part of its batch; splits and classes have their share of the official sets; scoring on official
test sets is not counted. Takes minutes; nothing is downloaded or written.
"""

import argparse
import os
import resource
import statistics
import sys
import timeit
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial, reduce
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from lesions.classify.config import Classifier
from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.core.workers import usable
from lesions.gan import keras_backend
from lesions.isic.names import SETS
from lesions.pictures.config import size_of
from lesions.raw.config import Own
from lesions.tools import doctor, settings, sizes
from lesions.tools.check import Params
from lesions.training.config import Compute, Optimisation

# A split's share of its set's images, and of these its train, val and test part; of others: all, .7, .1 and .2.
SPLITS = {
    "balanced": (5 * 1_987 / 25_331, 0.7, 0.1, 0.2), "ham": (10_015 / 25_331, 0.7, 0.1, 0.2),
    "melanoma": (1.0, 0.93, 0.07, 0.0), "eighty": (1.0, 0.8, 0.1, 0.1),
}  # fmt: skip
# How often oversampling shows an image: the classes times the largest one's share; of a set of one's own a guess.
OVERSAMPLED = {"isic2019": 8 * 12_875 / 25_331, "isic2017": 2 * 1_626 / 2_000, "merged": 8 * 18_068 / 31_265}
PREDICTED = 1 / 3  # of a step's time
START = 5.0  # seconds of a stage's imports
PICTURES = 0.03  # seconds that resize, color_correct and masked take for a photograph, on one core
WEIGHTS = 0.1e9  # bytes of a network's published weights
AS_MUCH = 5  # a U-Net's time for a pixel over a classifier's: the two of settings/real.yaml, on two kinds of CPU
STEPS = 4  # of a measurement, of which the median counts
PIXELS = 2**18  # of a measured batch on a CPU: 4 images of 256×256
size = partial(tqdm.format_sizeof, suffix="B")
COPIES = 4  # of the weights: themselves, gradients, Adam's two moments


class Kind(NamedTuple):
    """What steps are alike by."""

    of: str  # classifier, unet or gan
    family: str  # or decoder, or Keras's backend
    network: str  # or encoder
    size: tuple[int, int]
    batch: int


class Work(NamedTuple):
    """What a stage, or a phase of one, does: how many images' steps; the states it keeps; the images it reads."""

    stage: str
    kind: Kind
    steps: float
    states: int = 0
    images: float = 0.0


class Cost(NamedTuple):
    """Seconds of an image's step; bytes of memory, and of the state."""

    step: float
    memory: float
    state: float


def parts(split: str, images: float) -> dict[str, float]:
    """Return how many images a set's train, val and test part have."""
    share, *of = SPLITS.get(split.partition("_")[0], (1.0, 0.7, 0.1, 0.2))
    return {part: images * share * one for part, one in zip(("train", "val", "test"), of, strict=True)}


def classified(stage: str, block: Classifier, runs: int, kept: int, chosen: Params, count: dict[str, int]) -> Work:
    """Return `runs` trainings of a classifier, and the predictions by each checkpoint. kept: states on disk."""
    here = parts(block.split if block.set in SETS else "", count[block.set])
    extra = chosen.augment_gan.images * (block.generated != "none")
    often = OVERSAMPLED.get(block.set, 5.0) if block.sampler == "balanced" and block.split != "balanced" else 1.0
    seen = min(block.epoch_images or np.inf, often * (here["train"] + extra))
    epochs, states = block.total_epochs, len(block.checkpoints)
    views = {role: 8 if block.tta and role != "train" else 1 for role in block.predict}
    predicted = epochs * here["val"] + states * sum(here[role] * each for role, each in views.items())
    kind = Kind("classifier", block.family, block.network, size_of(block.images, chosen), block.batch)
    tested = sum(block.range_steps * block.batch for phase in block.all_phases if phase.lr == "range")
    steps = runs * (tested + epochs * seen + PREDICTED * predicted)
    return Work(stage, kind, steps, kept, count[block.set] + extra)


def segmented(chosen: Params, count: dict[str, int]) -> list[Work]:
    """Return both U-Nets' stages, study D's a phase at a time and with its range tests."""
    if not chosen.unets:
        return []
    arrays, images, one, many = chosen.resize["isic2018"].arrays, count["isic2018"], chosen.segment, chosen.unet34
    kind, here = Kind("unet", one.decoder, one.encoder, arrays["segment"].shape, one.batch), parts("", images)
    steps = one.total_epochs * (here["train"] + PREDICTED * here["val"]) + 2 * PREDICTED * here["test"]
    found = [Work("segment", kind, steps, 2, images)]
    last = Kind("unet", many.decoder, many.encoder, arrays[many.array].shape, many.batch)
    for name, nets in chosen.predict_masks.sets.items():
        by, times = (kind, 1) if nets == "segment" else (last, len(many.folds))
        found.append(Work(f"predict_masks@{name}", by, PREDICTED * count[name] * times))
    for fold in many.folds:
        for phase in many.phases:
            of = Kind("unet", many.decoder, many.encoder, arrays[phase.array].shape, many.batch)
            steps = phase.epochs * (2 + PREDICTED) / 3 * 0.8 * images + many.range_steps * many.batch
            found.append(Work(f"unet34@{fold}, {phase.array}", of, steps, int(phase is many.phases[-1]), images))
    return found


def works(chosen: Params, count: dict[str, int]) -> list[Work]:
    """Return what the stages that train or predict do."""
    gan, images = chosen.augment_gan, count["isic2019"]
    kind = Kind("gan", chosen.keras.backend, "dcgan", (64, 64), gan.batch)
    drawn = [Work("augment_gan", kind, gan.epochs * max(gan.batch, images / 8), 1) for _ in chosen.gans]
    found = segmented(chosen, count) + drawn
    for name, one in chosen.base_models.items():  # the backbone predicts once; its head costs next to nothing
        kind = Kind("classifier", "torchvision", "resnet50", size_of(one.images, chosen), 64)
        found.append(Work(f"base_model@{name}", kind, PREDICTED * images))
    blocks = [(f"train@{k}", block, block.runs, len(block.checkpoints)) for k, block in chosen.classifiers.items()]
    for name, fold in chosen.cross_validate.items():
        blocks.append((f"cross_validate@{name}", chosen.classifiers[fold.classifier], 1, int(fold.keep)))
    return found + [classified(*block, chosen, count) for block in blocks]


def amounts(names: list[str], chosen: Params) -> dict[str, float]:
    """Return how much those of the stages `names` that train or predict have to do: steps × the images' area, of a
    U-Net AS_MUCH as often, whatever its encoder."""
    found: dict[str, float] = {}
    for work in works(chosen, sizes.images(chosen.data)):
        stage = work.stage.partition(",")[0]  # a phase of it, else
        for name in [stage] if stage in names else [one for one in names if one.startswith(f"{stage}@")]:
            amount = work.steps * work.kind.size[0] * work.kind.size[1] * (AS_MUCH if work.kind.of == "unet" else 1)
            found[name] = found.get(name, 0.0) + amount
    return found


def resident() -> float:
    """Return the bytes that this process has had in memory at most."""
    with suppress(OSError, IndexError):  # ru_maxrss begins with the parent's on Linux
        return 1024.0 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def stepper(
    model: Any, recipe: Optimisation, pair: tuple, loss_of: Callable, on: Any, steps: int = 1
) -> Callable[[], None]:
    """Return a function that takes `steps` steps of the one training loop, all on `pair`, and waits for them.

    model: a torch.nn.Module; pair: a batch of images and targets; on: the loop's Switches. torch takes seconds to load.
    """
    from torch.optim.lr_scheduler import ConstantLR

    from lesions.training import loop, schedules

    device, at = pair[0].device, loop.Position()
    at.loss = at.loss.to(device)
    model.to(device).to(memory_format=on.layout)
    optimizer = schedules.optimizer_for(model, recipe, 1e-6, on.fused)
    schedule = ConstantLR(optimizer, 1.0)

    def go() -> None:
        loop.train_epoch(model, [pair] * steps, loss_of, optimizer, schedule, on, device, at, lambda **_: None)
        at.loss.item()  # waits for a GPU

    return go


def trained(kind: Kind, compute: Compute) -> Cost:
    """Measure a classifier's or a U-Net's step; on a CPU of fewer images, from which time and memory are scaled."""
    import torch

    from lesions.networks import build
    from lesions.segment import pairs, unet
    from lesions.training import hardware

    device = hardware.prepare(compute, 0)
    cuda, area = device.type == "cuda", kind.size[0] * kind.size[1]
    peak: Callable[[], float] = torch.cuda.max_memory_allocated if cuda else resident
    batch = kind.batch if cuda else min(kind.batch, max(2, PIXELS // area))
    images, targets = torch.randn(batch, 3, *kind.size, device=device), torch.arange(batch, device=device) % 8
    if kind.of == "unet":
        model, loss_of = unet.build(kind.family, kind.network, kind.size), pairs.loss_of("bce_jaccard")
        images, targets = unet.padded(images), torch.ones(batch, 1, *kind.size, device=device)
    else:
        model, loss_of = build.build(kind.family, kind.network, 8, kind.size), torch.nn.functional.cross_entropy
    before, recipe = peak(), Optimisation.model_construct(optimizer="adamw", weight_decay=0.0)
    step = stepper(model, recipe, (images, targets), loss_of, hardware.switches(compute, device))
    seconds = statistics.median(timeit.repeat(step, number=1, repeat=STEPS)) / batch
    state = float(sum(value.nbytes for value in model.state_dict().values()))
    each = max(0.0, peak() - before - COPIES * state) / batch
    return Cost(seconds, peak() + each * (kind.batch - batch), state)


def in_keras(kind: Kind, compute: Compute) -> Cost:
    """Measure the DCGAN's step."""
    backend = keras_backend.begin(kind.family, compute, 0)
    from lesions.gan import dcgan

    networks = dcgan.generator(100), dcgan.discriminator()
    step = dcgan.train_step(*networks, dcgan.adams(*networks, 1e-4, 0.5), backend)
    real, noise = (np.zeros((kind.batch, *shape), np.float32) for shape in ((*kind.size, 3), (100,)))
    seconds = timeit.repeat(lambda: [float(loss) for loss in step(real, noise)], number=1, repeat=STEPS)
    return Cost(
        statistics.median(seconds) / kind.batch, resident(), 4.0 * sum(network.count_params() for network in networks)
    )


def measure(kind: Kind, compute: Compute) -> Cost:
    """Measure `kind` in this process, which has done nothing else and says nothing on stderr."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return (in_keras if kind.of == "gan" else trained)(kind, compute)


def costs(planned: list[Work], compute: Compute) -> dict[Kind, Cost]:
    """Return the cost of each kind, each measured in a process of its own. Raises InputError where one cannot be."""
    found: dict[Kind, Cost] = {}
    for kind in tqdm(dict.fromkeys(work.kind for work in planned), desc="measuring", unit="kind"):
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            try:
                found[kind] = alone.submit(measure, kind, compute).result()
            except Exception as error:  # BrokenProcessPool: killed, most likely for memory
                raise InputError(f"{kind}: not measured: {' '.join(str(error).split())[:200]}") from None
    return found


def report(chosen: Params, planned: list[Work], found: dict[Kind, Cost], gpu: bool) -> str:
    """Return what is printed: a line for stages that take the same, and sums. gpu: whether images lie in memory too."""
    lines = []
    for stage, kind, steps, states, images in planned:
        step, memory, state = found[kind]
        held = gpu * 3 * images * kind.size[0] * kind.size[1]
        lines.append((stage, START + steps * step, states * state, memory + held))
    table = pd.DataFrame(lines, columns=["stage", "time", "disk", "memory"])
    same = table.groupby(["time", "disk", "memory"], sort=False, as_index=False)
    alike = same.agg(alike=("stage", "count"), stage=("stage", "first"))
    pictures = PICTURES * sum(sizes.images(chosen.data)[name] for name in chosen.resize) / usable()
    disk = sizes.needed(chosen) + WEIGHTS * len(chosen.weights) + table["disk"].sum()
    return f"""{alike.to_string(index=False, formatters={"time": tqdm.format_interval, "disk": size, "memory": size})}
in all: {tqdm.format_interval(table["time"].sum() + pictures)} one after the other, {size(disk)} of disk, \
{size(table["memory"].max())} of memory{" (GPU)" * gpu}; {size(sizes.archives(chosen.data))} of the disk are archives, \
whose download is not counted; DVC's cache doubles it where the file system has no reflinks or hard links
{"".join(doctor.disk(disk))}""".rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path, nargs="?", help="laid over params.yaml")
    args = parser.parse_args()
    over = settings.layers(args.settings) if args.settings else []
    found = reduce(settings.overlaid, [settings.read(config.PARAMS), *over])
    chosen = config.validated(Params, found, args.settings or config.PARAMS)
    count = sizes.images(chosen.data)
    for name, of in chosen.data.sets.items():
        if isinstance(of, Own) and not count[name]:
            raise InputError(
                f"data.sets.{name}: {of.table}: not there, so its images cannot be counted; for an estimate "
                f"data.source must be a folder that has it (got {chosen.data.source})"
            )
    planned = works(chosen, count)
    found = costs(planned, chosen.compute)
    import torch

    print(report(chosen, planned, found, gpu=chosen.compute.device != "cpu" and torch.cuda.is_available()))


if __name__ == "__main__":
    run(main)

"""Time training end to end, an image, against the loops that people use.

All have the same network, images, flips, optimizer, batch, threads and precision (bfloat16 on a GPU). Ours is
Experiment.batches and lesions/training/loop.py. torchvision's follows its references/classification: ImageFolder,
DataLoader with a worker a core, transforms on the CPU, a loop that reads the loss at each step. timm's is its
create_loader and a loop that does not read it. The JPEGs have the size of training, which favours the others; workers
start before the clock. Ours is deterministic and channels last, as params.yaml says; theirs are neither, as they come.
The timed epoch is training alone, no validation.
"""

import tempfile
from collections.abc import Callable, Iterable
from contextlib import chdir
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm.data
import torch
import torchvision
from PIL import Image
from torch.nn import functional
from torchvision.transforms import v2

from benchmarks import data
from benchmarks.common import ROOT, Row, ratio, timed
from benchmarks.feed import epoch
from benchmarks.prepare import jpeg
from lesions.classify.experiment import Experiment
from lesions.core.workers import usable
from lesions.isic.names import CLASSES
from lesions.networks import build
from lesions.networks.build import MEAN, STD
from lesions.tools import check
from lesions.tools.check import Params
from lesions.training import hardware

ALIKE = data.SHORT | {
    "family": "torchvision", "augment": ("hflip", "vflip"), "sampler": "uniform", "optimizer": "adamw", "lr": 1e-4,
    "weight_decay": 1e-4, "dropout": 0.0, "split": "standard", "epoch_images": 0,
}  # fmt: skip


class Case(NamedTuple):
    network: str
    side: int
    batch: int
    images: int


CASES = [Case("resnet18", 64, 64, 256), Case("alexnet", 64, 64, 256), Case("alexnet", 128, 64, 256),
         Case("resnet50", 224, 16, 32)]  # fmt: skip


def torchvision_loader(folder: Path, case: Case) -> torch.utils.data.DataLoader:
    transform = v2.Compose(
        [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), v2.PILToTensor(), v2.ToDtype(torch.float, scale=True),
         v2.Normalize(MEAN, STD), v2.ToPureTensor()]
    )  # fmt: skip
    return torch.utils.data.DataLoader(
        torchvision.datasets.ImageFolder(folder, transform), batch_size=case.batch, shuffle=True, drop_last=True,
        num_workers=usable(), pin_memory=torch.cuda.is_available(), persistent_workers=True,
    )  # fmt: skip


def timm_loader(folder: Path, case: Case, device: torch.device) -> Iterable:
    """Return timm's own loader; on a GPU with its prefetcher, which normalises there."""
    return timm.data.create_loader(
        timm.data.ImageDataset(str(folder)), (3, case.side, case.side), case.batch, is_training=True,
        use_prefetcher=device.type == "cuda", scale=(1, 1), ratio=(1, 1), hflip=0.5, vflip=0.5, color_jitter=0.0,
        mean=MEAN, std=STD, num_workers=usable(), persistent_workers=True, device=device,
    )  # fmt: skip


def plain_loop(case: Case, loader: Iterable, device: torch.device, reads: bool) -> Callable[[], None]:
    """Return an epoch of the plain loop, which `reads` the loss at each step."""
    model = build.build("torchvision", case.network, len(CLASSES), (case.side, case.side)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)

    def run() -> None:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = True
        model.train()
        total = torch.zeros((), device=device)
        for images, targets in loader:
            images, targets = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = functional.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            if reads:
                loss.item()
        total.item()  # waits for a GPU

    return run


def measured(case: Case, chosen: Params, rounds: int) -> list[Row]:
    drawn = [jpeg(row, case.side) for row in range(16)]
    pixels = np.array([np.asarray(Image.open(BytesIO(content)).convert("RGB")) for content in drawn])
    update = ALIKE | {"network": case.network, "batch": case.batch}
    block = next(iter(chosen.classifiers.values())).model_copy(update=update)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        labels = data.write(Path("data"), block, pixels[np.arange(case.images + 16) % len(drawn)])
        for row, label in enumerate(labels[: case.images]):
            (Path("jpegs") / label).mkdir(parents=True, exist_ok=True)
            Path(f"jpegs/{label}/{row:05d}.jpg").write_bytes(drawn[row % len(drawn)])
        experiment = Experiment(block, block.split, chosen.compute, Path("data"))
        model, device, jpegs = experiment.model(), experiment.device, Path("jpegs")

        def ours() -> None:
            hardware.prepare(chosen.compute, block.seed)
            epoch(experiment, model, experiment.batches)

        peers = {
            "torchvision": plain_loop(case, torchvision_loader(jpegs, case), device, reads=True),
            "timm": plain_loop(case, timm_loader(jpegs, case, device), device, reads=False),
        }
        seconds = timed({"ours": ours} | peers, rounds)
    wanted = 3 if device.type == "cuda" and case.network in ("resnet18", "alexnet") else 1  # which the feed bounds
    what = f"{case.network}, {case.side}², batch {case.batch}, against"
    return [ratio(f"{what} {who}", seconds, ("ours", who), case.images, "image", wanted=wanted) for who in peers]


def rows(size: str) -> list[Row]:
    chosen = check.load(ROOT / "params.yaml")
    cuda, rounds = hardware.prepare(chosen.compute, 0).type == "cuda", 1 if size == "small" else 7
    large = [case._replace(batch=4 * case.batch, images=32 * case.images) for case in CASES]
    cases = [Case("resnet18", 32, 8, 16)] if size == "small" else large if cuda else CASES
    return [row for case in cases for row in measured(case, chosen, rounds)]

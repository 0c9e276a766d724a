"""Training end to end, images a second, against the loops that people use.

The same network, images, flips, optimizer, batch and precision (bfloat16 on a GPU). Ours: Experiment.batches and
lesions/training.py. torchvision: in the manner of its references/classification: ImageFolder, DataLoader with a worker
a core, transforms on the CPU, a loop that reads the loss at each step. timm: its create_loader, a loop that does not.
Lightning, where it is installed (requirements.txt is without): Trainer.fit of one epoch on torchvision's loader. JPEGs
lie at the size of training, which favours the others; workers are started before the clock. Ours as params.yaml has it:
deterministic, and channels last where `slower` does not say otherwise, of which a CPU's is measured at the sample's
sizes and not heard at 224²; theirs as they come: neither. What is a process's, threads and memory that is kept
(benchmarks/memory.py), all of them have. The timed epoch is training alone, no validation.
"""

import tempfile
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import timm.data
import torch
import torchvision
from PIL import Image
from torch.nn import functional
from torchvision.transforms import v2

from benchmarks import data
from benchmarks.common import ROOT, Row, main, number, ratio, timed
from benchmarks.feed import epoch
from benchmarks.prepare import jpeg
from lesions import classifiers, params, training
from lesions.cores import usable
from lesions.experiment import Experiment
from lesions.feed import MEAN, STD
from lesions.isic import CLASSES

DRAWN = 16  # different pictures
FEED_BOUND = ("resnet18", "alexnet")
FULL = 224  # a side from which on a CPU's `slower` is not heard, as in settings/full.yaml


@dataclass(frozen=True)
class Case:
    architecture: str
    side: int
    batch: int
    images: int


ON_CPU = {
    "small": (1, [Case("resnet18", 32, 8, 16)]),
    "usual": (7, [Case("resnet18", 64, 64, 256), Case("alexnet", 64, 64, 256), Case("alexnet", 128, 64, 256),
                  Case("resnet50", 224, 16, 32)]),
}  # fmt: skip
ON_GPU = {
    "small": (1, [Case("resnet18", 32, 8, 16)]),
    "usual": (5, [Case("resnet18", 64, 256, 8192), Case("alexnet", 64, 256, 8192), Case("alexnet", 128, 256, 8192),
                  Case("resnet50", 224, 128, 4096)]),
}  # fmt: skip


def write_jpegs(folder: Path, contents: list[bytes], labels: np.ndarray) -> None:
    for row, (content, label) in enumerate(zip(contents, labels, strict=True)):
        path = folder / label / f"{row:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def torchvision_loader(folder: Path, case: Case) -> torch.utils.data.DataLoader:
    transform = v2.Compose(
        [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), v2.PILToTensor(), v2.ToDtype(torch.float, scale=True),
         v2.Normalize(MEAN, STD), v2.ToPureTensor()]
    )  # fmt: skip
    return torch.utils.data.DataLoader(
        torchvision.datasets.ImageFolder(folder, transform), batch_size=case.batch, shuffle=True, drop_last=True,
        num_workers=usable(), pin_memory=torch.cuda.is_available(), persistent_workers=True,
    )  # fmt: skip


def timm_loader(folder: Path, case: Case, device: torch.device):
    """On a GPU with timm's prefetcher, which normalises there."""
    return timm.data.create_loader(
        timm.data.ImageDataset(str(folder)), (3, case.side, case.side), case.batch, is_training=True,
        use_prefetcher=device.type == "cuda", scale=(1, 1), ratio=(1, 1), hflip=0.5, vflip=0.5, color_jitter=None,
        mean=MEAN, std=STD, num_workers=usable(), persistent_workers=True, device=device,
    )  # fmt: skip


def plain_loop(
    model: torch.nn.Module, loader, device: torch.device, recipe: params.Recipe, reads: bool
) -> Callable[[], None]:
    """An epoch of the plain loop; `reads` the loss at each step."""
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)

    def run() -> None:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = True
        model.train()
        total = 0.0
        for images, targets in loader:
            images, targets = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = functional.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() if reads else loss.detach()
        float(total)  # waits for a GPU

    return run


def lightning_loop(model: torch.nn.Module, loader, device: torch.device, recipe: params.Recipe) -> Callable[[], None]:
    """A further epoch by Lightning's Trainer, which says and keeps nothing."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch, number: int) -> torch.Tensor:
            images, targets = batch
            return functional.cross_entropy(self.model(images), targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)

    module, cuda = Module(), device.type == "cuda"
    trainer = lightning.Trainer(
        accelerator="gpu" if cuda else "cpu", devices=1, precision="bf16-mixed" if cuda else "32-true", max_epochs=0,
        benchmark=True, deterministic=False, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip

    def run() -> None:
        torch.use_deterministic_algorithms(False)
        trainer.fit_loop.max_epochs += 1
        trainer.fit(module, loader)

    return run


def measured(case: Case, chosen: params.Params, rounds: int) -> list[Row]:
    drawn = [jpeg(row, case.side) for row in range(DRAWN)]
    contents = [drawn[row % DRAWN] for row in range(case.images + 16)]
    compute = chosen.compute
    block = next(iter(chosen.classifiers.values())).model_copy(
        update=data.SHORT
        | {"architecture": case.architecture, "batch": case.batch, "epoch_images": 0, "augment": ("hflip", "vflip"),
           "sampler": "uniform", "optimizer": "adamw", "lr": 1e-4, "dropout": 0.0, "split": "standard"}
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        pixels = np.array([np.asarray(Image.open(BytesIO(content)).convert("RGB")) for content in drawn])
        labels = data.write(Path("data"), block, pixels[np.arange(len(contents)) % DRAWN])
        write_jpegs(Path("jpegs"), contents[: case.images], labels[: case.images])
        slower = chosen.slower | ({"cpu": {}} if case.side >= FULL else {})
        experiment = Experiment(block, block.split, compute, Path("data"), slower)
        device, model = experiment.device, experiment.model()

        def ours() -> None:
            training.prepare(compute, block.seed)
            epoch(experiment, model, experiment.batches)

        def new() -> torch.nn.Module:
            return classifiers.build(case.architecture, len(CLASSES))

        peers = {
            "torchvision": plain_loop(new(), torchvision_loader(Path("jpegs"), case), device, block, reads=True),
            "timm": plain_loop(new(), timm_loader(Path("jpegs"), case, device), device, block, reads=False),
        }
        if find_spec("lightning"):
            peers["Lightning"] = lightning_loop(new(), torchvision_loader(Path("jpegs"), case), device, block)
        seconds = timed({"ours": ours} | peers, rounds)
    each = {who: f"{number(case.images / float(np.median(found)))} images/s" for who, found in seconds.items()}
    wanted = 3 if device.type == "cuda" and case.architecture in FEED_BOUND else 1
    n = f"{rounds} rounds of {case.images} images"
    what = f"{case.architecture}, {case.side}², batch {case.batch}"
    return [
        ratio(f"{what}, against {who}", seconds[who], seconds["ours"], each["ours"], f"{who} {each[who]}", n,
              at_least=wanted)
        for who in peers
    ]  # fmt: skip


def rows(size: str) -> list[Row]:
    chosen = params.load(ROOT / "params.yaml")
    on = ON_GPU if training.prepare(chosen.compute, 0).type == "cuda" else ON_CPU
    rounds, cases = on.get(size, on["usual"])
    return [row for case in cases for row in measured(case, chosen, rounds)]


if __name__ == "__main__":
    main(__doc__, rows)

"""What a step of each kind costs on this machine: seconds an image, and memory.

Each kind is measured in a process of its own, on random images, through the code that the stages run. On the CPU a
large step is measured on fewer images: time is then taken as proportional to them, and so is what memory takes beyond
the process and the weights. On a GPU the batch is as params.yaml has it, halved until it fits.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from PIL import Image

from lesions import params
from lesions.cores import usable
from lesions.errors import InputError
from lesions.isic import CLASSES

PIXELS = 2**18  # of a measured batch on the CPU: 4 images of 256×256
SECONDS, STEPS = 2.0, 5  # a measurement ends after the first of them; the first step only warms up
COPIES = 4  # of the weights: themselves, gradients, Adam's two moments
ROLES = ("train", "val", "test")


@dataclass(frozen=True)
class Classifier:
    """A classifier's steps. size: height, width; train: what learns."""

    architecture: str
    size: tuple[int, int]
    batch: int
    augment: tuple[str, ...]
    optimizer: str
    dropout: float
    train: str
    slower: str = "{}"  # what of the section is its network's, as JSON


@dataclass(frozen=True)
class UNet:
    """A U-Net's steps."""

    encoder: str
    size: tuple[int, int]
    batch: int
    augment: tuple[str, ...]
    optimizer: str
    loss: str
    train: str


@dataclass(frozen=True)
class Gan:
    """The DCGAN's steps; predicting is drawing."""

    batch: int
    latent: int
    backend: str


@dataclass(frozen=True)
class BaseModel:
    """Study B's base model: predicting is the backbone's features of an image; training is the head's, on features."""

    size: tuple[int, int]
    batch: int
    backend: str


@dataclass(frozen=True)
class Resize:
    """An image of `pixels` decoded and resized, by one process."""

    pixels: int
    resize: str  # the section, as JSON
    masks: bool


@dataclass(frozen=True)
class Color:
    """A colour method on an image."""

    name: str
    setting: str  # its section, as JSON
    size: tuple[int, int]


@dataclass(frozen=True)
class Masked:
    """A style of masking on an image."""

    style: str
    size: tuple[int, int]


Kind = Classifier | UNet | Gan | BaseModel | Resize | Color | Masked


@dataclass(frozen=True)
class Cost:
    """Seconds an image trained on and an image predicted, memory and the state's size in bytes; extrapolated: whether
    a smaller batch was measured."""

    train: float = 0.0
    predict: float = 0.0
    memory: float = 0.0
    state: float = 0.0
    extrapolated: bool = False


class Stamps:
    """When each of a few steps ended."""

    def __init__(self, cuda: bool) -> None:
        self.cuda, self.times = cuda, []

    def now(self) -> float:
        if self.cuda:
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def over(self, steps: Iterator) -> Iterator:
        """`steps`, of which each is timed from the asking for it to the asking for the next; ended early."""
        begun = self.now()
        self.times.append(begun)
        for number, step in enumerate(steps, start=1):
            yield step
            self.times.append(self.now())
            if number >= STEPS or (number > 1 and self.times[-1] - begun > SECONDS):
                return

    def step(self) -> float:
        """Seconds a step: the median without the first."""
        return median(np.diff(self.times)[1:])


def peak(cuda: bool) -> float:
    """Bytes that this process has had at most, of the GPU's memory where it uses one."""
    if cuda:
        import torch

        return float(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def pixels(count: int, size: tuple[int, int], channels: tuple[int, ...] = (3,)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, *channels), np.uint8)


Trial = Callable[[int], tuple[Stamps, float, float]]  # a batch -> its steps, seconds an image predicted, state's bytes


def by_batch(trial: Trial, wanted: int, size: tuple[int, int], cuda: bool) -> Cost:
    """`trial` at the batch wanted, or at the largest that is cheap or fits, with what that says of the one wanted."""
    batch, before = wanted if cuda else min(wanted, max(2, PIXELS // (size[0] * size[1]))), peak(cuda)
    while True:
        try:
            stamps, predict, state = trial(batch)
            break
        except Exception as error:  # torch's, which is not imported here
            if type(error).__name__ != "OutOfMemoryError" or batch <= 2:
                raise
            batch //= 2
    high = peak(cuda)
    each = max(0.0, high - before - COPIES * state) / batch
    return Cost(stamps.step() / batch, predict, high + each * (wanted - batch), state, batch < wanted)


def bytes_of(state: dict) -> float:
    return float(sum(value.numel() * value.element_size() for value in state.values()))


def trained(model, recipe: params.Optimisation, switches, device, stamps: Stamps, batches, loss_of):
    """A few steps of lesions.training's own loop."""
    from lesions import training

    def few(epoch: int, start: int = 0):
        count, stream = batches(epoch, start)
        return count, stamps.over(stream)

    training.fit(
        model, recipe, switches, device, batches=few, loss_of=loss_of, validate=lambda _: {"loss": 0.0}, keep=(),
        name="estimate",
    )  # fmt: skip


def recipe_of(kind: Classifier | UNet, batch: int) -> params.Optimisation:
    leg = params.Phase(epochs=1, lr=1e-4, train=kind.train)
    return params.Optimisation(
        epochs=1, batch=batch, optimizer=kind.optimizer, lr=1e-4, weight_decay=0.0, schedule="none", phases=(leg,),
        augment=kind.augment, seed=0,
    )  # fmt: skip


def classifier(kind: Classifier, compute: params.Compute) -> Cost:
    from torch.nn import functional

    from lesions import experiment

    count = len(CLASSES) * len(ROLES)
    roles = [ROLES[number // len(CLASSES)] for number in range(count)]
    names = [f"i{number}" for number in range(count)]
    table = pd.DataFrame({"image": names, "lesion": names, "label": list(CLASSES) * len(ROLES), "cv0": roles})
    Path("sorted").mkdir()
    Path("images").mkdir()
    Path("generated").mkdir()
    table.to_csv("sorted/isic2019.csv", index=False)
    np.save("images/some.npy", pixels(count, kind.size))
    np.save("generated/none.npy", np.zeros((0, 8, 8, 3), np.uint8))

    def trial(batch: int) -> tuple[Stamps, float, float]:
        block = params.Classifier.model_construct(
            **dict(recipe_of(kind, batch)), epoch_images=batch * STEPS, sampler="balanced", dropout=kind.dropout,
            runs=1, snapshots=False, tta=False, predict=("test",), architecture=kind.architecture, recipe="a",
            set="isic2019", images="images/some", split="standard", generated="none", weights="data/weights/none",
        )  # fmt: skip
        some = experiment.Experiment(block, block.split, compute, Path(), json.loads(kind.slower))
        model, stamps = some.model(), Stamps(some.device.type == "cuda")
        trained(model, block, some.switches, some.device, stamps, some.batches, functional.cross_entropy)
        rows = np.arange(2 * batch) % count
        some.probabilities(model, rows[:batch])
        begun = stamps.now()
        some.probabilities(model, rows)
        return stamps, (stamps.now() - begun) / len(rows), bytes_of(model.state_dict())

    return by_batch(trial, kind.batch, kind.size, on_gpu(compute))


def unet(kind: UNet, compute: params.Compute) -> Cost:
    from lesions import training, unet
    from lesions.segmentation import Pairs, loss_of

    count = 4
    np.save("some.npy", pixels(count, kind.size))
    np.save("some_masks.npy", pixels(count, kind.size, ()) // 128)

    def trial(batch: int) -> tuple[Stamps, float, float]:
        device, recipe = training.prepare(compute, 0), recipe_of(kind, batch)
        stamps, model = Stamps(device.type == "cuda"), unet.build(kind.encoder)
        rows = {"train": np.arange(batch * STEPS) % count, "val": np.arange(2 * batch) % count}
        pairs = Pairs(Path("some.npy"), rows, count, device)
        switches = training.switches(compute, device)
        trained(model, recipe, switches, device, stamps, partial(pairs.batches, recipe), loss_of(kind.loss))
        begun = stamps.now()
        pairs.score(model, "val", recipe, kind.loss, compute)
        return stamps, (stamps.now() - begun) / len(rows["val"]), bytes_of(model.state_dict())

    return by_batch(trial, kind.batch, kind.size, on_gpu(compute))


def on_gpu(compute: params.Compute) -> bool:
    import torch

    return compute.device != "cpu" and torch.cuda.is_available()


def timed(work: Callable[[], object], images: int) -> float:
    """Seconds an image of work(), which is on `images`; the first time is not counted."""
    work()
    times, begun = [], time.perf_counter()
    while len(times) < STEPS and (not times or time.perf_counter() - begun < SECONDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times) / images


def generator(kind: Gan, compute: params.Compute) -> Cost:
    from lesions import keras_backend

    backend = keras_backend.begin(kind.backend, compute, 0)
    from lesions import gan, study_b

    makes, judges = gan.generator(kind.latent), gan.discriminator()
    step = gan.train_step(makes, judges, gan.adams(makes, judges, 1e-4, 0.5), backend)
    real, rng = gan.from_pixels(pixels(kind.batch, (gan.SIDE, gan.SIDE))), np.random.default_rng(0)
    noise, draw = rng.standard_normal((kind.batch, kind.latent), np.float32), gan.drawer(makes, backend)
    state = 4.0 * sum(np.prod(v.shape) for v in study_b.variables((makes, judges)))
    train = timed(lambda: [float(loss) for loss in step(real, noise)], kind.batch)
    return Cost(train, timed(lambda: draw(noise), kind.batch), peak(False), state)


def base_model(kind: BaseModel, compute: params.Compute) -> Cost:
    from lesions import keras_backend

    backend = keras_backend.begin(kind.backend, compute, 0)
    from lesions import base_model

    features = base_model.extractor(base_model.backbone(kind.size, None), backend)
    images = pixels(16, kind.size)
    head, rng = base_model.head(0.01, backend.jit_fit), np.random.default_rng(0)
    x, y = rng.random((kind.batch, base_model.FEATURES), np.float32), np.eye(len(CLASSES), dtype=np.float32)
    one_hot = y[rng.integers(0, len(CLASSES), kind.batch)]
    predict = timed(lambda: features(images, np.arange(len(images))), len(images))
    train = timed(lambda: head.train_on_batch(x, one_hot), kind.batch)
    return Cost(train, predict, peak(False), 4.0 * (base_model.FEATURES + 1) * len(CLASSES))


def resize(kind: Resize, compute: params.Compute) -> Cost:
    import io

    from lesions import photographs

    side = int(kind.pixels**0.5)
    smooth = Image.fromarray(pixels(1, (16, 16))[0]).resize((side, side), Image.Resampling.BICUBIC)
    photograph, mask = io.BytesIO(), io.BytesIO()
    smooth.save(photograph, "JPEG", quality=92)
    smooth.convert("L").point(lambda value: 255 * (value > 128)).save(mask, "PNG")
    setting = params.Resize.model_validate_json(kind.resize)

    def prepare() -> None:
        image = photographs.decode(photograph.getvalue(), "photograph")
        drawn = photographs.decode_mask(mask.getvalue(), "mask", (side, side)) if kind.masks else None
        photographs.prepare(image, drawn, setting)

    return Cost(predict=timed(prepare, 1) / usable(), memory=peak(False) * usable())


def color(kind: Color, compute: params.Compute) -> Cost:
    from lesions import color

    setting = getattr(params.Methods.model_validate_json(kind.setting), kind.name)
    correct, image = color.method(kind.name, setting), pixels(1, kind.size)[0]
    return Cost(predict=timed(lambda: correct(image), 1) / usable(), memory=peak(False) * usable())


def masked(kind: Masked, compute: params.Compute) -> Cost:
    from lesions import masking

    (height, width), image = kind.size, pixels(1, kind.size)[0]
    mask = pixels(1, kind.size, ())[0] // 128
    box = np.array([height // 4, width // 4, height - height // 4, width - width // 4])
    return Cost(predict=timed(lambda: masking.STYLES[kind.style](image, mask, box), 1), memory=peak(False))


MEASURES: dict[type, Callable[..., Cost]] = {
    Classifier: classifier, UNet: unet, Gan: generator, BaseModel: base_model, Resize: resize, Color: color,
    Masked: masked,
}  # fmt: skip


def child(kind: Kind, compute: params.Compute, out: Connection) -> None:
    """Measure in an empty folder of its own; the answer, or the error's text, goes to `out`, and nothing to stderr."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    with tempfile.TemporaryDirectory(prefix="lesions-") as folder:
        os.chdir(folder)
        try:
            out.send(MEASURES[type(kind)](kind, compute))
        except Exception as error:
            out.send(f"{type(error).__name__}: {error}")
        finally:
            os.chdir("/")


def measured(kind: Kind, compute: params.Compute) -> Cost:
    """The cost of `kind`, measured in a new process. Raises InputError where it cannot be."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["lesions.experiment", "lesions.segmentation"])  # torch, loaded once
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(kind, compute, send), daemon=True)
    process.start()
    send.close()
    try:
        found = receive.recv()
    except EOFError:
        found = "the process was killed, most likely for memory"
    process.join()
    if isinstance(found, str):
        raise InputError(f"{kind}: not measured: {' '.join(found.split())[:300]}")
    return found


def startup(module: str, backend: str) -> float:
    """Seconds until a stage that imports `module` begins to work; `backend`: Keras's, where it imports that."""
    start, environment = time.perf_counter(), os.environ | {"KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def locking(lock: Path) -> float:
    """Seconds that DVC takes after each stage to write its entry into `lock`; 0 where there is none yet."""
    from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

    if not lock.exists():
        return 0.0
    start = time.perf_counter()
    dumps_yaml(parse_yaml_for_update(lock.read_text(encoding="utf-8"), lock))
    return time.perf_counter() - start

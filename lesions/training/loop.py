"""Train a network: epochs of batches, validation after each, and the best states kept.

The network, its batches and its validation are given, so classifiers and U-Nets share this loop.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import cast

import numpy as np
import pandas as pd
import torch
from tensorboardX import SummaryWriter
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from lesions.core import resume
from lesions.core.errors import InputError
from lesions.training import checkpoints
from lesions.training.config import Compute, Optimisation
from lesions.training.freezing import freeze, norms_to_eval
from lesions.training.schedules import cycle_ends, schedule_for

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
HIGHER_IS_BETTER = {"loss": False, "accuracy": True, "bma": True, "auroc": True, "jaccard": True}

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass
class Fit:
    """A finished training. history: a row an epoch. best: each kept metric's best epoch and state (on the CPU)."""

    history: pd.DataFrame
    best: checkpoints.Best


@dataclass
class Position:
    """How far a training is: the epoch under way, its steps done, the images seen and their summed loss; and what came
    before: rows of the history, the best value of each kept metric, how many snapshots."""

    epoch: int = 1
    step: int = 0
    seen: int = 0
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    rows: list[dict[str, float]] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    snapshots: int = 0


def prepare(compute: Compute, seed: int) -> torch.device:
    """Set seeds, threads and switches; return the device: compute.device, where auto is CUDA if there is one.

    Raises InputError for cuda where there is none.
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise InputError("params.yaml: compute.device: cuda, but torch sees no GPU here; choose auto or cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(compute.deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not compute.deterministic
    return torch.device("cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(compute: Compute) -> str:
    """Return the model of the GPU, or cpu."""
    return torch.cuda.get_device_name() if compute.device != "cpu" and torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Switches:
    """The options that make a step faster; benchmarks/step.py measures each.

    channels_last: the order of weights and images in memory. fused: an optimizer that goes over weights and moments
    once. amp: bfloat16 autocast. compile: torch.compile.
    """

    channels_last: bool = False
    fused: bool = False
    amp: bool = False
    compile: bool = False

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.amp)


def switches(compute: Compute, device: torch.device) -> Switches:
    """Return the switches that `compute` asks for: amp and compile on CUDA only, the others everywhere."""
    cuda = device.type == "cuda"
    return Switches(channels_last=True, fused=True, amp=compute.amp and cuda, compile=compute.compile and cuda)


def optimizer_for(model: nn.Module, recipe: Optimisation, lr: float, fused: bool = True) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the parameters that are not frozen."""
    extra = {"momentum": 0.9} if recipe.optimizer == "sgd" else {}
    weights = [p for p in model.parameters() if p.requires_grad]
    return OPTIMIZERS[recipe.optimizer](weights, lr=lr, weight_decay=recipe.weight_decay, fused=fused or None, **extra)


def epoch_order(count: int, batch: int, rng: np.random.Generator, weights: np.ndarray | None = None, images: int = 0):
    """Return batches of indices below `count`, `images` in all (0: count): shuffled, or drawn by weight with repeats.

    A last batch of one image is dropped: batch normalisation cannot train on it.
    """
    if weights is None:
        order = rng.permutation(count)[: images or count]
    else:
        order = rng.choice(count, size=images or count, p=weights / weights.sum())
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    return batches if len(batches) == 1 or len(batches[-1]) > 1 else batches[:-1]


def step_generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """Return the generator that augments one batch; seed, epoch and step alone decide it, also after a resumption."""
    drawn = np.random.default_rng([seed, epoch, step]).integers(2**62)
    return torch.Generator().manual_seed(int(drawn))


def fit(
    model: nn.Module,
    recipe: Optimisation,
    switches: Switches,
    device: torch.device,
    *,
    batches: Callable[[int, int], tuple[int, Batches]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    validate: Callable[[nn.Module], dict[str, float]],
    keep: tuple[str, ...],
    name: str,
    watch: Callable[[nn.Module], dict[str, float]] = lambda model: {},
    snapshots: bool = False,
    run: resume.Run | None = None,
) -> Fit:
    """Train `model` through the phases of `recipe`.

    batches(epoch, start): how many an epoch has, and the (inputs, targets) from number `start` on, on the device.
    loss_of(outputs, targets): a scalar. validate(model): metrics by name, of which `keep` says whose best states to
    keep. watch(model): more columns of the history. snapshots: keep the state at the end of each cycle of the schedule
    too, as snapshot_1 …. name: the stage, for the progress bar and the TensorBoard log in runs/. run: where checkpoints
    go, under `name`; a killed training goes on from there and ends with the same states. Raises InputError if the loss
    or a weight is no longer finite.
    """
    model.to(device).to(memory_format=switches.layout)
    step_model = cast(nn.Module, torch.compile(model)) if switches.compile else model
    at, best, held = resumed(model, device, name, run)
    total = sum(phase.epochs for phase in recipe.all_phases)
    log = SummaryWriter(f"runs/{name}", flush_secs=10, purge_step=at.epoch)
    progress = tqdm(total=total, initial=at.epoch - 1, desc=name, unit="epoch")

    def save_if_due(**states: Callable[[], dict]) -> None:
        if run and run.due():
            position = {**vars(at), "model": model.state_dict(), "random": random_state()}
            position |= {of: state() for of, state in states.items()}
            run.save(lambda folder: checkpoints.save_position(folder / name, position, best))

    last = 0  # the last epoch of the phase
    for phase in recipe.all_phases:
        first, last = last + 1, last + phase.epochs
        if at.epoch > last:
            continue
        freeze(model, phase.train)
        optimizer, schedule = optimizer_for(model, recipe, phase.lr, switches.fused), None
        for epoch in range(max(first, at.epoch), last + 1):
            at.epoch = epoch
            steps, stream = batches(at.epoch, at.step)
            if schedule is None:
                schedule = schedule_for(optimizer, recipe.schedule, steps * phase.epochs, recipe.cycles)
                if at.step:  # resumed: checkpoints are written after a step
                    optimizer.load_state_dict(held["optimizer"])
                    schedule.load_state_dict(held["schedule"])
            train_epoch(step_model, stream, loss_of, optimizer, schedule, switches, device, at, save_if_due)
            row = validated(model, at, validate, name)
            snapshot = snapshots and at.epoch - first + 1 in cycle_ends(phase.epochs, recipe.cycles)
            keep_best(model, row, keep, at, best, snapshot)
            at.rows.append(row | watch(model))
            for key, value in at.rows[-1].items():
                log.add_scalar(key, value, at.epoch)
            at.step, at.seen, at.loss = 0, 0, torch.zeros((), device=device)
            progress.update()
            progress.set_postfix({k: f"{v:.3f}" for k, v in row.items() if k != "epoch"})
    at.epoch = total + 1
    save_if_due()  # if not, the last checkpoint is near enough
    log.close()
    progress.close()
    return Fit(pd.DataFrame(at.rows), best)


def resumed(
    model: nn.Module, device: torch.device, name: str, run: resume.Run | None
) -> tuple[Position, checkpoints.Best, dict]:
    """Put a killed training's state into `model`; return its position, its best states, and all that was saved.

    If nothing was saved, return the first position, and remove the TensorBoard log of an earlier run.
    """
    found = checkpoints.load_position(run.folder / name) if run else None
    held, best = found or ({}, {})
    at = Position(**{each.name: held[each.name] for each in fields(Position) if held})
    at.loss = at.loss.to(device)
    if held:
        model.load_state_dict(held["model"])
        set_random_state(held["random"])
    else:
        shutil.rmtree(f"runs/{name}", ignore_errors=True)
    return at, best, held


def train_epoch(
    model: nn.Module,
    stream: Batches,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    switches: Switches,
    device: torch.device,
    at: Position,
    save_if_due: Callable[..., None],
) -> None:
    """Take a step on each batch of `stream`, counting in `at`; the host never waits for the device."""
    model.train()
    norms_to_eval(model)
    for inputs, targets in stream:
        with switches.autocast(device):
            loss = loss_of(model(inputs.contiguous(memory_format=switches.layout)), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        at.loss += loss.detach() * len(inputs)
        at.seen += len(inputs)
        at.step += 1
        save_if_due(optimizer=optimizer.state_dict, schedule=schedule.state_dict)


def validated(model: nn.Module, at: Position, validate: Callable, name: str) -> dict[str, float]:
    """Return the epoch's row of the history. Raises InputError if the loss or a weight is not finite."""
    row = {"epoch": at.epoch, "train_loss": at.loss.item() / at.seen}
    if not np.isfinite(row["train_loss"]) or not nn.utils.get_total_norm(model.parameters()).isfinite():
        raise InputError(f"params.yaml: {name}: the loss is not finite in epoch {at.epoch}; expected a smaller lr")
    return row | {f"val_{metric}": value for metric, value in validate(model).items()}


def keep_best(
    model: nn.Module, row: dict[str, float], keep: tuple[str, ...], at: Position, best: checkpoints.Best, snapshot: bool
) -> None:
    """Put the model's state into `best` under each metric of `keep` that `row` improves, and as a snapshot if asked."""
    better = [m for m in keep if m not in best or improves(m, row[f"val_{m}"], at.values[m])]
    at.values |= {m: row[f"val_{m}"] for m in better}
    if snapshot:
        at.snapshots += 1
        better.append(f"snapshot_{at.snapshots}")
    if better:
        state = {k: v.detach().to("cpu", copy=True) for k, v in model.state_dict().items()}
        best |= dict.fromkeys(better, (at.epoch, state))


def random_state() -> dict[str, Tensor]:
    """Return torch's random state, which dropout draws from. A training uses no other global random state."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


def improves(metric: str, new: float, old: float) -> bool:
    return new > old if HIGHER_IS_BETTER[metric] else new < old

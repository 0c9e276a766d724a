"""Train a network: epochs of batches, validation after each, and the best states kept.

The network, its batches and its validation are given, so classifiers and U-Nets share this loop.
"""

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
from lesions.training import checkpoints, range_test
from lesions.training.config import Optimisation, Phase
from lesions.training.freezing import freeze, norms_to_eval
from lesions.training.hardware import Switches
from lesions.training.schedules import cycle_ends, optimizer_for, schedule_for

Batches = Iterable[tuple[Tensor, Tensor]]  # inputs and targets, on the device
HIGHER_IS_BETTER = {"loss": False, "accuracy": True, "bma": True, "auroc": True, "jaccard": True}


@dataclass
class Fit:
    """A finished training. history: a row an epoch. best: each kept metric's best epoch and state (on the CPU). curves:
    the range test of each phase that had one, by the phase's number."""

    history: pd.DataFrame
    best: checkpoints.Best
    curves: dict[int, pd.DataFrame]


@dataclass
class Position:
    """How far a training is: the epoch under way, its steps done, the images seen, their summed loss and the steps'
    summed rate; and what came before: rows of the history, the best value of each kept metric, how many snapshots, the
    rows of each phase's range test."""

    epoch: int = 1
    step: int = 0
    seen: int = 0
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    rates: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    snapshots: int = 0
    curves: dict[int, list[list[float]]] = field(default_factory=dict)


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
    keep. watch(model): more columns of the history. snapshots: where more than the head learns, keep the state at the
    end of each cycle of the schedule too, as snapshot_1 …. name: the stage, for the progress bar and the TensorBoard
    log in runs/. run: where checkpoints go, under `name`; a killed training goes on from there and ends with the same
    states. Raises InputError if the loss or a weight is no longer finite.
    """
    model.to(device).to(memory_format=switches.layout)
    step_model = cast(nn.Module, torch.compile(model)) if switches.compile else model
    at, best, held = resumed(model, device, name, run)
    total = recipe.total_epochs
    log = SummaryWriter(f"runs/{name}", flush_secs=10, purge_step=at.epoch)
    progress = tqdm(total=total, initial=at.epoch - 1, desc=name, unit="epoch")

    def save_if_due(**states: Callable[[], dict]) -> None:
        if run and run.due():
            position = {**vars(at), "model": model.state_dict(), "random": random_state()}
            position |= {of: state() for of, state in states.items()}
            run.save(lambda folder: checkpoints.save_position(folder / name, position, best))

    def rate_of(number: int, phase: Phase) -> float:
        """Return the phase's rate; a range test that finds it is done before its first step, and noted."""
        if phase.lr != "range":
            return phase.lr
        if number not in at.curves:
            batch = next(iter(batches(0, 0)[1]))
            curve = range_test.find(model, recipe, switches, device, batch, loss_of)
            at.curves[number] = curve.to_numpy().tolist()
        return range_test.suggestion(range_test.table(at.curves[number]))

    last = 0  # the last epoch of the phase
    for number, phase in enumerate(recipe.all_phases, start=1):
        first, last = last + 1, last + phase.epochs
        if at.epoch > last:
            continue
        freeze(model, phase.train)
        optimizer = optimizer_for(model, recipe, rate_of(number, phase), switches.fused, phase.body_lr)
        schedule = None
        for epoch in range(max(first, at.epoch), last + 1):
            at.epoch = epoch
            steps, stream = batches(at.epoch, at.step)
            if schedule is None:
                schedule = schedule_for(optimizer, recipe, phase, steps)
                if at.step:  # resumed: checkpoints are written after a step
                    optimizer.load_state_dict(held["optimizer"])
                    schedule.load_state_dict(held["schedule"])
            train_epoch(step_model, stream, loss_of, optimizer, schedule, switches, device, at, save_if_due)
            row = validated(model, at, validate, name)
            ends = cycle_ends(phase.epochs, recipe.cycles_of(phase)) if snapshots and phase.train != "head" else []
            snapshot = at.epoch - first + 1 in ends
            keep_best(model, row, keep, at, best, snapshot)
            at.rows.append(row | watch(model))
            for key, value in at.rows[-1].items():
                log.add_scalar(key, value, at.epoch)
            at.step, at.seen, at.rates, at.loss = 0, 0, 0.0, torch.zeros((), device=device)
            progress.update()
            progress.set_postfix({k: f"{v:.3f}" for k, v in row.items() if k != "epoch"})
    at.epoch = total + 1
    save_if_due()  # if not, the last checkpoint is near enough
    log.close()
    progress.close()
    return Fit(pd.DataFrame(at.rows), best, {number: range_test.table(rows) for number, rows in at.curves.items()})


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
        at.rates += float(schedule.get_last_lr()[0])
        schedule.step()
        at.loss += loss.detach() * len(inputs)
        at.seen += len(inputs)
        at.step += 1
        save_if_due(optimizer=optimizer.state_dict, schedule=schedule.state_dict)


def validated(model: nn.Module, at: Position, validate: Callable, name: str) -> dict[str, float]:
    """Return the epoch's row of the history (lr: the head's, the mean over steps). Raises InputError if the loss or a
    weight is not finite."""
    row = {"epoch": at.epoch, "lr": at.rates / at.step, "train_loss": at.loss.item() / at.seen}
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

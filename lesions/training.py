"""The one training loop: epochs of batches, validation after each, and the best states kept.

What is trained, on which batches and how it is validated are given; classifiers and the U-Net share it.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tensorboardX import SummaryWriter
from torch import Tensor, nn
from tqdm import tqdm

from lesions.checkpoints import State
from lesions.errors import InputError
from lesions.freezing import freeze, norms_to_eval
from lesions.params import Compute, Optimisation, Phase, Unet34
from lesions.schedules import cycle_ends, schedule_for

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
HIGHER_IS_BETTER = {"loss": False, "accuracy": True, "bma": True, "auroc": True, "jaccard": True}

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass
class Fit:
    """history: one row an epoch. best: for each kept metric, the epoch and the state (on the CPU) that had it best."""

    history: pd.DataFrame
    best: dict[str, tuple[int, State]]


def prepare(compute: Compute, seed: int) -> torch.device:
    """Seeds, threads and switches, then the device: compute.device, where auto is CUDA if there is one.

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
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = not compute.deterministic
    return torch.device("cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu")


def autocast(compute: Compute, device: torch.device) -> torch.autocast:
    """bfloat16 where compute.amp asks for it and the device is CUDA; else as it is."""
    return torch.autocast(device.type, torch.bfloat16, enabled=compute.amp and device.type == "cuda")


def optimizer_for(model: nn.Module, recipe: Optimisation | Unet34, lr: float) -> torch.optim.Optimizer:
    """Over the parameters that are not frozen."""
    extra = {"momentum": 0.9} if recipe.optimizer == "sgd" else {}
    weights = [p for p in model.parameters() if p.requires_grad]
    return OPTIMIZERS[recipe.optimizer](weights, lr=lr, weight_decay=recipe.weight_decay, **extra)


def epoch_order(count: int, batch: int, rng: np.random.Generator, weights: np.ndarray | None = None, images: int = 0):
    """Batches of indices below `count`: shuffled, or drawn by `weights` with replacement; `images` an epoch (0: all).

    A last batch of one image is dropped: batch normalisation cannot train on it.
    """
    if weights is None:
        order = rng.permutation(count)[: images or count]
    else:
        order = rng.choice(count, size=images or count, p=weights / weights.sum())
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    return batches if len(batches) == 1 or len(batches[-1]) > 1 else batches[:-1]


def fit(
    model: nn.Module,
    recipe: Optimisation,
    compute: Compute,
    device: torch.device,
    *,
    batches: Callable[[int], tuple[int, Batches]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    validate: Callable[[nn.Module], dict[str, float]],
    keep: tuple[str, ...],
    name: str,
    watch: Callable[[nn.Module], dict[str, float]] = lambda model: {},
    snapshots: bool = False,
) -> Fit:
    """Train `model` through the phases of `recipe`, or, if it has none, for its epochs with all that it has.

    batches(epoch): how many there are, and the (inputs, targets) themselves, on the device. loss_of(outputs, targets):
    a scalar. validate(model): metrics by name, of which `keep` says whose best states to keep. watch(model): more
    columns of the history. snapshots: keep the state at the end of each cycle of the schedule too, as snapshot_1 ….
    name: the stage, for the progress bar and the TensorBoard log in runs/. Raises InputError if the loss or
    a weight is no longer finite.
    """
    model.to(device, memory_format=torch.channels_last)
    step_model = torch.compile(model) if compute.compile and device.type == "cuda" else model
    phases = recipe.phases or (Phase(epochs=recipe.epochs, lr=recipe.lr, train="all"),)
    rows, best, best_value, taken, epoch = [], {}, {}, 0, 0
    shutil.rmtree(f"runs/{name}", ignore_errors=True)  # one run's curves, not all that ever were
    log = SummaryWriter(f"runs/{name}", flush_secs=10)
    progress = tqdm(total=sum(phase.epochs for phase in phases), desc=name, unit="epoch")
    for phase in phases:
        freeze(model, phase.train)
        optimizer, schedule = optimizer_for(model, recipe, phase.lr), None
        for number in range(1, phase.epochs + 1):
            epoch += 1
            model.train()
            norms_to_eval(model)
            steps, epoch_batches = batches(epoch)
            schedule = schedule or schedule_for(optimizer, recipe.schedule, steps * phase.epochs, recipe.cycles)
            total, seen = torch.zeros((), device=device), 0
            for inputs, targets in epoch_batches:
                with autocast(compute, device):
                    loss = loss_of(step_model(inputs), targets)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach() * len(inputs)
                seen += len(inputs)
            row = {"epoch": epoch, "train_loss": total.item() / seen}
            if not np.isfinite(row["train_loss"]) or not all(p.isfinite().all() for p in model.parameters()):
                raise InputError(f"params.yaml: {name}: the loss is not finite in epoch {epoch}; expected a smaller lr")
            row |= {f"val_{metric}": value for metric, value in validate(model).items()}
            better = [m for m in keep if m not in best or improves(m, row[f"val_{m}"], best_value[m])]
            best_value |= {m: row[f"val_{m}"] for m in better}
            if snapshots and number in cycle_ends(phase.epochs, recipe.cycles):
                taken += 1
                better = [*better, f"snapshot_{taken}"]
            if better:
                state = {k: v.detach().to("cpu", copy=True) for k, v in model.state_dict().items()}
                best |= dict.fromkeys(better, (epoch, state))
            rows.append(row | watch(model))
            for key, value in rows[-1].items():
                log.add_scalar(key, value, epoch)
            progress.update()
            progress.set_postfix({k: f"{v:.3f}" for k, v in row.items() if k != "epoch"})
    log.close()
    progress.close()
    return Fit(pd.DataFrame(rows), best)


def improves(metric: str, new: float, old: float) -> bool:
    return new > old if HIGHER_IS_BETTER[metric] else new < old

"""Make optimizers, and learning-rate schedules, stepped once a batch; each starts from the rates of the groups.

none      η
step      η, and a fifth of it every `drop_every` epochs, or once after three quarters of them (study E, whose text has
          no numbers; its author's notebooks, github.com/wilberquito/Thesis, have factor .2 every 15 epochs)
cosine    η_min + ½ (η − η_min) (1 + cos(π t / T))
restarts  the same with T/cycles steps a cycle: SGDR, arXiv 1608.03983, formula 5, with T_mult = 1
onecycle  up from η/25 to η within the first 30 %, then down to η/250,000, both along a cosine, momentum the other way
          (arXiv 1803.09820 with the values of fastai 1, which studies C and D used)
"""

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
)

from lesions.core.errors import InputError
from lesions.training.config import Optimisation, Phase
from lesions.training.freezing import head_of

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
DROP_AFTER, DROP_TO = 0.75, 0.2


def optimizer_for(
    model: nn.Module, recipe: Optimisation, lr: float, fused: bool = True, body_lr: float | None = None
) -> Optimizer:
    """Return the recipe's optimizer over what is not frozen; `body_lr`: the rate of all but the head."""
    extra = {"momentum": 0.9} if recipe.optimizer == "sgd" else {}
    weights = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": weights, "lr": lr}]
    if body_lr is not None:
        head = set(head_of(model).parameters())
        groups = [
            {"params": [p for p in weights if p in head], "lr": lr},
            {"params": [p for p in weights if p not in head], "lr": body_lr},
        ]
    return OPTIMIZERS[recipe.optimizer](groups, weight_decay=recipe.weight_decay, fused=fused or None, **extra)


def cycle_ends(total: int, cycles: int) -> list[int]:
    """Return after how many of `total` epochs (or steps) each of `cycles` equal cycles ends, where snapshots are taken.

    Raises InputError if they cannot be equal.
    """
    if total % cycles:
        raise InputError(f"params.yaml: epochs {total} in {cycles} cycles: expected a multiple; change one of the two")
    return list(range(total // cycles, total + 1, total // cycles))


def schedule_for(optimizer: Optimizer, recipe: Optimisation, phase: Phase, steps: int) -> LRScheduler:
    """Return the recipe's schedule over the epochs of `phase`, of `steps` batches each."""
    name, total = recipe.schedule, phase.epochs * steps
    if name == "step":
        every = recipe.drop_every
        drops = range(every, phase.epochs, every) if every else [DROP_AFTER * phase.epochs]
        return MultiStepLR(optimizer, milestones=[round(epochs * steps) for epochs in drops], gamma=DROP_TO)
    if name == "cosine":
        return CosineAnnealingLR(optimizer, T_max=total, eta_min=recipe.lr_min)
    if name == "restarts":
        first = cycle_ends(total, recipe.cycles_of(phase))[0]
        return CosineAnnealingWarmRestarts(optimizer, T_0=first, eta_min=recipe.lr_min)
    if name == "onecycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=highest, total_steps=max(total, 2))
    return ConstantLR(optimizer, factor=1.0)

"""Make learning-rate schedules, stepped once a batch; each starts from the rates that the optimizer's groups have.

none      η
step      η, and a fifth of it after three quarters of the steps (study E, whose text gives no numbers; its author's
          notebook for M1, github.com/wilberquito/Thesis, has factor .2 after 15 of 20 epochs)
cosine    ½ η (1 + cos(π t / T))
restarts  the same with T/cycles steps a cycle: SGDR, arXiv 1608.03983, formula 5, with η_min = 0 and T_mult = 1
onecycle  up from η/25 to η within the first 30 %, then down to η/250,000, both along a cosine, momentum the other way
          (arXiv 1803.09820 with the values of fastai 1, which studies C and D used)
"""

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

NAMES = ("none", "step", "cosine", "restarts", "onecycle")
DROP_AFTER, DROP_TO = 0.75, 0.2


def cycle_ends(total: int, cycles: int) -> list[int]:
    """Return after how many of `total` epochs (or steps) each of `cycles` equal cycles ends, where snapshots are taken.

    Raises InputError if they cannot be equal.
    """
    if total % cycles:
        raise InputError(f"params.yaml: epochs {total} in {cycles} cycles: expected a multiple; change one of the two")
    return list(range(total // cycles, total + 1, total // cycles))


def schedule_for(optimizer: Optimizer, name: str, steps: int, cycles: int = 1) -> LRScheduler:
    """Return the schedule `name` of NAMES over `steps` batches in all; `cycles` is for restarts."""
    if name == "step":
        return MultiStepLR(optimizer, milestones=[round(DROP_AFTER * steps)], gamma=DROP_TO)
    if name == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    if name == "restarts":
        return CosineAnnealingWarmRestarts(optimizer, T_0=cycle_ends(steps, cycles)[0])
    if name == "onecycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=highest, total_steps=max(steps, 2))
    return ConstantLR(optimizer, factor=1.0)

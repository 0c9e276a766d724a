"""Find a learning rate by the range test (Smith, arXiv 1506.01186): train on one batch while the rate grows.

Study D, II-D: one batch is trained at growing rates, and its loss plotted over them. The text does not say how a rate
is read from the plot; here it is where the loss has done half of its fall. From 1e-7 to 10 in 100 steps are the values
of fastai, which the study used; its text says that the rate grows linearly, in fastai's code it grows exponentially.
fastai takes another batch for each step, and suggests the steepest fall of a smoothed loss: on real images batches
differ by more than a low rate changes, and of three such tests of a U-Net each suggested 6e-7.
"""

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lesions.core.errors import InputError
from lesions.training.config import Optimisation
from lesions.training.freezing import norms_to_eval
from lesions.training.hardware import Switches
from lesions.training.schedules import optimizer_for

LOWEST, HIGHEST = 1e-7, 10.0  # rates
DIVERGED = 4  # times the loss at the start


def find(
    model: nn.Module,
    recipe: Optimisation,
    switches: Switches,
    device: torch.device,
    batch: tuple[Tensor, Tensor],
    loss_of: Callable[[Tensor, Tensor], Tensor],
) -> pd.DataFrame:
    """Return a row a step, lr and loss, of at most recipe.range_steps until the loss diverges. `suggestion` makes a
    rate of it.

    `model` is on `device`, as are inputs and targets of `batch`; its frozen parameters stay frozen. The recipe's
    optimizer is made for this test alone. Afterwards the model's state and torch's random state are what they were
    before, bit for bit.
    """
    before, modes = copy.deepcopy(model.state_dict()), [(module, module.training) for module in model.modules()]
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            rows = trial(
                model, recipe, switches, device, batch, loss_of, np.geomspace(LOWEST, HIGHEST, recipe.range_steps)
            )
    finally:
        model.load_state_dict(before)
        model.zero_grad(set_to_none=True)
        for module, mode in modes:
            module.training = mode
    return table(rows)


def table(rows: Sequence[Sequence[float]]) -> pd.DataFrame:
    """Return rows of a range test under their names."""
    return pd.DataFrame(rows, columns=["lr", "loss"])


def trial(model, recipe, switches, device, batch, loss_of, rates: np.ndarray) -> list[tuple[float, float]]:
    """Take a step at each rate until the loss diverges; return lr and loss of each."""
    model.train()
    norms_to_eval(model)
    optimizer = optimizer_for(model, recipe, rates[0], switches.fused)
    inputs, targets = batch[0].contiguous(memory_format=switches.layout), batch[1]
    rows: list[tuple[float, float]] = []
    for lr in rates:
        for group in optimizer.param_groups:
            group["lr"] = lr
        with switches.autocast(device):
            loss = loss_of(model(inputs), targets)
        value = loss.item()
        if not math.isfinite(value) or (rows and value > DIVERGED * rows[0][1]):
            break
        rows.append((lr, value))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return rows


def suggestion(curve: pd.DataFrame) -> float:
    """Return the lowest rate at which the loss has done half of its fall, from the first step's to the lowest.

    Of a smooth fall that is about its steepest point. Raises InputError for a loss that does not fall.
    """
    loss = curve["loss"]
    if loss.empty or loss.argmin() == 0:
        raise InputError(
            "learning-rate range test: a batch's loss fell at no rate; check the images and the weights that the "
            "training starts from"
        )
    return float(curve["lr"][loss <= (loss.iloc[0] + loss.min()) / 2].iloc[0])


def draw(curves: dict[int, pd.DataFrame], folder: Path) -> None:
    """Draw the loss of each phase's test over the rate, with the suggestion marked, into range_<phase>.png."""
    if not curves:
        return
    from matplotlib.figure import Figure  # here: it takes half a second, and few trainings have such a test

    for phase, curve in curves.items():
        suggested = suggestion(curve)
        drawing = Figure(figsize=(6, 3.8), layout="constrained")
        axis = drawing.subplots()
        axis.plot(curve["lr"], curve["loss"], color="#0072B2", lw=2)
        axis.axvline(suggested, color="#D55E00", ls="--", label=f"suggested: {suggested:.1e}")
        axis.set(title="Learning-rate range test", xlabel="learning rate", ylabel="loss of one batch", xscale="log")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
        drawing.savefig(folder / f"range_{phase}.png", dpi=100, metadata={"Software": None})

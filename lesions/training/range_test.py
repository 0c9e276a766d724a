"""Find a learning rate by the range test (Smith, arXiv 1506.01186): train while the rate grows, see where loss falls.

Study D, II-D, takes it from fastai, whose values are used here: from 1e-7 to 10 in 100 steps of equal ratio, losses
smoothed by .98, an end when they reach four times their best. The study's text says that the rate grows linearly; in
fastai's code, which the study used, it grows exponentially, and so it does here.
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, count
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lesions.core.errors import InputError
from lesions.training.config import Optimisation
from lesions.training.freezing import norms_to_eval
from lesions.training.hardware import Switches
from lesions.training.schedules import optimizer_for

SMOOTHING = 0.98
DIVERGED = 4  # times the best smoothed loss
SKIP_START, SKIP_END = 0.1, 0.05  # parts of the steps whose slopes do not count: too few values; about to diverge


def find(
    model: nn.Module,
    recipe: Optimisation,
    switches: Switches,
    device: torch.device,
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    lr_min: float = 1e-7,
    lr_max: float = 10.0,
    steps: int = 100,
) -> pd.DataFrame:
    """Return a row a step: lr, loss, smoothed. `suggestion` makes a rate of it.

    `model` is on `device`; its frozen parameters stay frozen. batches(): the (inputs, targets) of an epoch, called
    again until the steps are done. The recipe's optimizer is made for this test alone. Afterwards the model's state and
    torch's random state are what they were before, bit for bit.
    """
    before, modes = copy.deepcopy(model.state_dict()), [(module, module.training) for module in model.modules()]
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            rows = trial(model, recipe, switches, device, batches, loss_of, np.geomspace(lr_min, lr_max, steps))
    finally:
        model.load_state_dict(before)
        model.zero_grad(set_to_none=True)
        for module, mode in modes:
            module.training = mode
    return table(rows)


def table(rows: Sequence[Sequence[float]]) -> pd.DataFrame:
    """Return rows of a range test under their names."""
    return pd.DataFrame(rows, columns=["lr", "loss", "smoothed"])


def trial(model, recipe, switches, device, batches, loss_of, rates: np.ndarray) -> list[tuple[float, float, float]]:
    """Take a step at each rate until the loss diverges; return (lr, loss, smoothed loss) of each."""
    model.train()
    norms_to_eval(model)
    optimizer = optimizer_for(model, recipe, rates[0], switches.fused)
    rows: list[tuple[float, float, float]] = []
    mean, best = 0.0, math.inf
    stream = chain.from_iterable(batches() for _ in count())
    for lr, (inputs, targets) in zip(rates, stream, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = lr
        with switches.autocast(device):
            loss = loss_of(model(inputs.contiguous(memory_format=switches.layout)), targets)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss.item()
        smoothed = mean / (1 - SMOOTHING ** (len(rows) + 1))
        counts = len(rows) >= SKIP_START * len(rates)  # at the first rates nothing changes, whatever a batch's loss
        if not math.isfinite(smoothed) or (counts and smoothed > DIVERGED * best):
            break
        rows.append((lr, loss.item(), smoothed))
        best = min(best, smoothed)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return rows


def suggestion(curve: pd.DataFrame, steps: int) -> float:
    """Return the rate at which the smoothed loss falls most steeply along log(lr), which is fastai's suggestion.

    The other common rule is a tenth of the rate at the minimum. Raises InputError if the loss diverged early.
    """
    start, end = int(SKIP_START * steps), len(curve) - int(SKIP_END * steps)
    if end - start < 2:
        raise InputError(
            f"learning-rate range test: the loss diverged after {len(curve)} of {steps} steps, at a rate where nothing "
            "should change yet; check the images and the weights that the training starts from"
        )
    slope = np.gradient(curve["smoothed"].to_numpy()[start:end])
    return float(curve["lr"].iloc[start + int(slope.argmin())])


def draw(curves: dict[int, pd.DataFrame], steps: int, folder: Path) -> None:
    """Draw the tests of a training's phases into range_<phase>.png, `steps` steps each."""
    for phase, curve in curves.items():
        figure(curve, steps).savefig(folder / f"range_{phase}.png", dpi=100, metadata={"Software": None})


def figure(curve: pd.DataFrame, steps: int) -> Figure:
    """Draw the losses of a test of `steps` steps over the rate, with the suggestion marked."""
    suggested = suggestion(curve, steps)
    drawing = Figure(figsize=(6, 3.8), layout="constrained")
    axis = drawing.subplots()
    axis.plot(curve["lr"], curve["loss"], color="#BBBBBB", lw=1, label="loss")
    axis.plot(curve["lr"], curve["smoothed"], color="#0072B2", lw=2, label="smoothed")
    axis.axvline(suggested, color="#D55E00", ls="--", label=f"suggested: {suggested:.1e}")
    axis.set(title="Learning-rate range test", xlabel="learning rate", ylabel="loss", xscale="log")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return drawing

"""Find a learning rate by the range test (Smith, arXiv 1506.01186): train while the rate grows, see where loss rises.

Study D, II-D, plots such a test, and does not say how it reads a rate from the plot. From 1e-7 to 10 in 100 steps of
equal ratio, and an end at four times the best loss, are the values of fastai, which it used; its text says that the
rate grows linearly, in fastai's code it grows exponentially. The reading is ours (`suggestion`): fastai's, the steepest
fall, took noise among the first steps for one, and so 6e-7 for a rate, in three of three tests on real images.
"""

import copy
import math
from collections import deque
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

DIVERGED = 4  # times the lowest mean: the test ends
RISEN = 1.1  # times the lowest mean: the rate is too high
WINDOW = 0.1  # part of the steps over which losses are averaged, since single batches differ by a third


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
    return table(rows, steps)


def width(steps: int) -> int:
    """Return over how many losses of a test of `steps` steps a mean goes."""
    return max(3, round(WINDOW * steps))


def table(rows: Sequence[Sequence[float]], steps: int) -> pd.DataFrame:
    """Return lr and loss of each step of a test of `steps` steps; smoothed: the mean of the losses around it."""
    found = pd.DataFrame(rows, columns=["lr", "loss"])
    return found.assign(smoothed=found["loss"].rolling(width(steps), center=True, min_periods=1).mean())


def trial(model, recipe, switches, device, batches, loss_of, rates: np.ndarray) -> list[tuple[float, float]]:
    """Take a step at each rate until the loss diverges; return lr and loss of each."""
    model.train()
    norms_to_eval(model)
    optimizer = optimizer_for(model, recipe, rates[0], switches.fused)
    rows: list[tuple[float, float]] = []
    best, last = math.inf, deque[float](maxlen=width(len(rates)))
    stream = chain.from_iterable(batches() for _ in count())
    for lr, (inputs, targets) in zip(rates, stream, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = lr
        with switches.autocast(device):
            loss = loss_of(model(inputs.contiguous(memory_format=switches.layout)), targets)
        last.append(loss.item())
        mean = sum(last) / len(last)
        if not math.isfinite(mean) or mean > DIVERGED * best:
            break
        rows.append((lr, last[-1]))
        if len(last) == last.maxlen:
            best = min(best, mean)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return rows


def suggestion(curve: pd.DataFrame, steps: int) -> float:
    """Return a tenth of the highest rate at which the smoothed loss has not risen above RISEN times its lowest value.

    Where the loss falls before it rises, that is about fastai's other reading, a tenth of the rate at the minimum;
    where it does not fall, as after the head has learnt, it is a rate that does no harm. Raises InputError if the loss
    diverged early.
    """
    if len(curve) < 2 * width(steps):
        raise InputError(
            f"learning-rate range test: the loss diverged after {len(curve)} of {steps} steps, at a rate where nothing "
            "should change yet; check the images and the weights that the training starts from"
        )
    low = curve["smoothed"] <= RISEN * curve["smoothed"].min()
    return float(curve["lr"][low].max()) / 10


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

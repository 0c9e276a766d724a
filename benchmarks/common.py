"""Time competitors in turn, and write what came out as rows of a table, with the machine and its versions.

A claim is a ratio from one run on one machine. In every round each competitor runs once, the order turned from round
to round; a row gives the median of the rounds' ratios and the smallest and largest of them, so that what else the
machine does slows all of them and shows in the spread.
"""

import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from lesions.core.workers import usable

ROOT = Path(__file__).resolve().parent.parent
SIZES = ("small", "usual", "full")  # of a benchmark: seconds, minutes, the sizes of the claims


@dataclass(frozen=True)
class Row:
    """A line of the table. `value`: the number that should be `at_least` or `at_most` something; `low`, `high`: its
    range over the rounds; `ours`, `other`: what it was made from, in words; `n`: how often what was measured."""

    what: str
    ours: str
    other: str
    value: float
    low: float
    high: float
    n: str
    unit: str = "×"
    at_least: float | None = None
    at_most: float | None = None

    def cells(self) -> list[str]:
        spread = "" if self.low == self.high else f" [{number(self.low)}, {number(self.high)}]"
        measured, wanted, met = f"{number(self.value)}{spread} {self.unit}", "–", "–"
        if self.at_least is not None:
            wanted, met = f"≥ {self.at_least:g} {self.unit}", "yes" if self.value >= self.at_least else "**no**"
        elif self.at_most is not None:
            wanted, met = f"≤ {self.at_most:g} {self.unit}", "yes" if self.value <= self.at_most else "**no**"
        return [self.what, self.ours, self.other, measured, wanted, met, self.n]


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    return f"{number(seconds)} s" if seconds >= 1 else f"{number(1e3 * seconds)} ms"


Competitors = Mapping[str, Callable[[], object]]


def timed(of: Competitors, rounds: int, warm: int = 1, clock: Callable = perf_counter) -> dict[str, np.ndarray]:
    """Return the seconds of each competitor in each of `rounds`, after `warm` rounds that do not count. `clock`:
    process_time, the processor's own, for what runs in one thread, so that other programs do not count."""
    names = list(of)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm + rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = clock()
            of[name]()
            if turn >= warm:
                seconds[name].append(clock() - start)
    return {name: np.array(found) for name, found in seconds.items()}


def ratio(what: str, over: np.ndarray, under: np.ndarray, ours: str, other: str, n: str, **wanted: Any) -> Row:
    """Return the row of `over` / `under`, two competitors' seconds, round by round."""
    ratios = over / under
    return Row(what, ours, other, float(np.median(ratios)), float(ratios.min()), float(ratios.max()), n, **wanted)


def figure(what: str, values: Iterable[float], unit: str, n: str, **wanted: Any) -> Row:
    """Return the row of values that are not compared with another's: their median."""
    low, value, high = np.quantile(list(values), (0, 0.5, 1)).tolist()
    return Row(what, f"{number(value)} {unit}", "–", value, low, high, n, unit, **wanted)


def machine() -> str:
    """Name the processor, cores that may be used, memory, GPUs, the load and versions."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    known = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("numpy", "pillow", "torch", "torchvision", "timm", "dvc")
    )
    return (
        f"{(names or [platform.machine()])[0]}, {usable()} cores, {memory:.0f} GiB, {gpu}; "
        f"load {os.getloadavg()[0]:.1f} at the start. Python {platform.python_version()}, {known}"
    )


def table(rows: Iterable[Row]) -> str:
    lines = [["", "ours", "other", "measured", "wanted", "met", "n"], ["---", *["---:"] * 5, "---"]]
    lines += [row.cells() for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

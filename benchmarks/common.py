"""Time competitors in turn, and write what came out as rows of a table, with the machine and its versions.

A claim is a ratio from one run on one machine. In every round each competitor runs once, the order turned from round
to round; a row gives the median of the rounds' ratios and the smallest and largest of them, so that what else the
machine does slows all of them and shows in the spread.
"""

import os
import platform
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from time import perf_counter

import numpy as np

from lesions.cluster import joining
from lesions.core.workers import usable

ROOT = Path(__file__).resolve().parent.parent
SIZES = ("small", "usual", "full")  # of a benchmark: seconds, minutes, the sizes of the claims


Row = list[str]  # what was measured, ours, the other, the number, what is wanted of it, whether it is met, how often


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    return f"{number(seconds)} s" if seconds >= 1 else f"{number(1e3 * seconds)} ms"


Competitors = Mapping[str, Callable[[], object]]


def timed(of: Competitors, rounds: int, clock: Callable = perf_counter) -> dict[str, np.ndarray]:
    """Return the seconds of each competitor in each of `rounds`, after one that does not count. `clock`: process_time,
    the processor's own, for what runs in one thread, so that other programs do not count."""
    names = list(of)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(1 + rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = clock()
            of[name]()
            seconds[name].append(clock() - start)
    return {name: np.array(found[1:]) for name, found in seconds.items()}


def row(
    what: str, ours: str, other: str, values: np.ndarray, n: str, unit: str, sign: str, wanted: float | None
) -> Row:
    """Return the row of the rounds' `values`, whose median is wanted to be ≥ or ≤ (`sign`) something, or nothing."""
    low, value, high = np.quantile(values, (0, 0.5, 1)).tolist()
    measured = f"{number(value)} [{number(low)}, {number(high)}] {unit}"
    if wanted is None:
        return [what, ours, other, measured, "–", "–", n]
    met = value >= wanted if sign == "≥" else value <= wanted
    return [what, ours, other, measured, f"{sign} {wanted:g} {unit}", "yes" if met else "**no**", n]


def ratio(
    what: str, seconds: dict[str, np.ndarray], pair: tuple[str, str], count: int, of: str, sign: str = "≥",
    wanted: float | None = None,
) -> Row:  # fmt: skip
    """Return the row of a pair of competitors, ours and the other: how many times as fast ours is in a round (≥), or
    how many times as long it takes (≤). count, of: what a round consists of."""
    ours, other = (seconds[name] for name in pair)
    each, others = (f"{duration(float(np.median(found)) / count)}/{of}" for found in (ours, other))
    n, ratios = f"{len(ours)} rounds of {count} {of}s", other / ours if sign == "≥" else ours / other
    return row(what, each, f"{pair[1]} {others}", ratios, n, "×", sign, wanted)


def machine() -> str:
    """Name the processor, cores that may be used, memory, GPUs, the load and versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    known = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("numpy", "pillow", "torch", "torchvision", "timm", "dvc")
    )
    return (
        f"{joining.machine()}, {usable()} cores, {memory:.0f} GiB; "
        f"load {os.getloadavg()[0]:.1f} at the start. Python {platform.python_version()}, {known}"
    )


def table(rows: Iterable[Row]) -> str:
    head = [["", "ours", "other", "measured", "wanted", "met", "n"], ["---", *["---:"] * 5, "---"]]
    return "".join(f"| {' | '.join(line)} |\n" for line in [*head, *rows])

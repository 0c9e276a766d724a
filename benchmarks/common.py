"""What the benchmarks share: competitors timed in turn, peak memory, rows of one table, the machine and its versions.

A claim is a ratio from one run on one machine. In every round each competitor runs once, the order turned from round
to round; a row gives the median of the rounds' ratios and the smallest and largest of them, so that what else the
machine does slows all of them and shows in the spread.
"""

import argparse
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from lesions.cores import usable

ROOT = Path(__file__).resolve().parent.parent
SIZES = ("small", "usual", "full")  # of a benchmark: seconds, minutes, the sizes of the claims
PACKAGES = ("numpy", "pillow", "torch", "torchvision", "timm", "lightning", "tensorflow", "keras", "dvc")


@dataclass(frozen=True)
class Row:
    """One line of the table. `value`: what is wanted to be at least or at most something; `low`, `high`: its range over
    the rounds; `ours`, `other`: what it was made from, in words; `n`: how often what was measured."""

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
    key: tuple[str, ...] = ()  # what a verdict under the table goes by

    def wanted(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g} {self.unit}"
        return "–" if self.at_most is None else f"≤ {self.at_most:g} {self.unit}"

    def met(self) -> str:
        if self.at_least is None and self.at_most is None:
            return "–"
        met = self.value >= self.at_least if self.at_least is not None else self.value <= self.at_most
        return "yes" if met else "**no**"

    def measured(self) -> str:
        spread = "" if self.low == self.high else f" [{number(self.low)}, {number(self.high)}]"
        return f"{number(self.value)}{spread} {self.unit}"


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    return f"{number(seconds)} s" if seconds >= 1 else f"{number(1e3 * seconds)} ms"


def timed(
    competitors: dict[str, Callable[[], object]],
    rounds: int,
    warm: int = 1,
    clock: Callable[[], float | np.ndarray] = perf_counter,
) -> dict[str, np.ndarray]:
    """Seconds of each competitor in each of `rounds`, after `warm` rounds that do not count.

    `clock`: process_time, the processor's own, for what runs in one thread, so that other programs do not count; or
    several at once, a column each.
    """
    names, seconds = list(competitors), {name: [] for name in competitors}
    for turn in range(warm + rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = clock()
            competitors[name]()
            if turn >= warm:
                seconds[name].append(clock() - start)
    return {name: np.array(found) for name, found in seconds.items()}


def ratio(what: str, over: np.ndarray, under: np.ndarray, ours: str, other: str, n: str, **wanted: float) -> Row:
    """The row of `over` / `under`, round by round: of two competitors' seconds."""
    ratios = over / under
    return Row(what, ours, other, float(np.median(ratios)), float(ratios.min()), float(ratios.max()), n, **wanted)


def figure(what: str, values: Iterable[float], unit: str, n: str, **wanted: float) -> Row:
    """The row of something that is not compared with another's: its median."""
    values = np.array(list(values), float)
    value = float(np.median(values))
    return Row(what, f"{number(value)} {unit}", "–", value, float(values.min()), float(values.max()), n, unit, **wanted)


def held(pid: int) -> np.ndarray:
    """Bytes that a process and its descendants hold, each page once: all, and those that are not of mapped files."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]  # by thread
    except OSError:  # it has ended
        return np.zeros(2)
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    own = 1024.0 * np.array([sizes["Pss:"], sizes["Pss_Anon:"]])
    return own + sum((held(int(child)) for child in chain(*children)), np.zeros(2))


def peak(command: list[str], folder: Path) -> tuple[float, float]:
    """Bytes that the processes of `command`, run in `folder`, held together at most, looked at every 50 ms; and at most
    without pages of mapped files, which the system can take back. Linux only, else 0 bytes."""
    most = np.zeros(2)
    process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
    while process.poll() is None:
        most = np.maximum(most, held(process.pid))
        sleep(0.05)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return tuple(most)


def environment() -> dict[str, str]:
    """This process's, in which the modules of this repository are found from any folder."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def machine() -> str:
    """Processor, cores that may be used, memory, load, GPUs."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = "no GPU"
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        gpus = "; ".join(subprocess.run(asked, capture_output=True, text=True).stdout.split("\n")[:-1]) or gpus
    return f"{cpu}, {usable()} cores, {memory:.0f} GiB, {gpus}; load {os.getloadavg()[0]:.1f} at the start"


def versions() -> str:
    installed = {found.metadata["Name"].lower() for found in metadata.distributions() if found.metadata["Name"]}
    known = [f"{name} {metadata.version(name)}" for name in PACKAGES if name in installed]
    return ", ".join([f"Python {platform.python_version()}", *known])


def table(rows: Iterable[Row]) -> str:
    lines = [["", "ours", "other", "measured", "wanted", "met", "n"], ["---", *["---:"] * 5, "---"]]
    lines += [[r.what, r.ours, r.other, r.measured(), r.wanted(), r.met(), r.n] for r in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main(
    doc: str,
    rows: Callable[..., Iterable[Row]],
    verdict: Callable[[Iterable[Row]], str] | None = None,
    **options: Sequence[str],
) -> None:
    """A benchmark alone: its table on stdout, and under it what follows from it. options: what `rows` takes beside the
    size, and the choices."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="usual")
    for name, choices in options.items():
        parser.add_argument(f"--{name}", choices=choices)
    found = list(rows(**vars(parser.parse_args())))
    print(table(found) + (f"\n{verdict(found)}\n" if verdict else ""), end="")

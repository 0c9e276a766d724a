"""What it gains on a CPU that a training keeps what a step frees (training.keep_freed_memory), and what it costs.

The step of benchmarks/step.py as trained, in processes of its own, with glibc's malloc as it comes and as
lesions/training.py sets it. Left alone it gives large tensors back to the system, from which the next step gets them
page by page. Each process takes a few steps first, which do not count. Memory: the most that the process held. Linux.
"""

import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks import data
from benchmarks.common import ROOT, Row, duration, main, ratio
from benchmarks.step import stepper
from lesions import params, training


@dataclass(frozen=True)
class Size:
    steps: int
    rounds: int
    names: tuple[str, ...] = ()  # of blocks; none: all


SIZES = {
    "small": Size(1, 1, ("residual",)),
    "usual": Size(5, 3, ("alexnet", "residual", "c_base", "c_b0", "e_m0")),
    "full": Size(10, 9),
}
WARM = 3  # steps


def measured(
    block: params.Classifier, pixels: tuple[int, int], chosen: params.Params, kept: bool, steps: int
) -> tuple[float, float, float]:
    """Seconds and pages that a step takes, and the most bytes held: of a process that has trained nothing before."""
    if not kept:
        training.keep_freed_memory = lambda: None
    device = training.prepare(chosen.compute.model_copy(update={"device": "cpu"}), 0)
    switches = training.switches(chosen.compute, device, chosen.slower, block.architecture)
    step = stepper(block, 8, torch.randn(block.batch, 3, *pixels), switches, 1)
    for _ in range(WARM):
        step()
    pages, times = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    pages = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - pages) / steps
    return float(np.median(times)), pages, most_held()


def most_held() -> float:
    """Bytes, since this process began (getrusage's maximum is its parent's where that had more)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def rows(size: str) -> list[Row]:
    of, chosen, found = SIZES[size], params.load(ROOT / "params.yaml"), []
    for name, block, pixels in data.distinct(chosen, of.names, "optimizer"):
        runs = {True: [], False: []}
        for turn in range(2 * of.rounds):
            kept = turn % 2 == 0
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                runs[kept].append(alone.submit(measured, block, pixels, chosen, kept, of.steps).result())
        ours, plain = np.array(runs[True]), np.array(runs[False])  # of each round: seconds, pages, bytes
        title = f"{name}: {block.architecture}, {pixels[0]}×{pixels[1]}, batch {block.batch}, {block.optimizer}"
        n = f"{of.rounds} rounds of {of.steps} steps"
        medians = [np.median(each, axis=0) for each in (ours, plain)]
        steps = [f"{duration(seconds)}, {pages:,.0f} new pages a step" for seconds, pages, _ in medians]
        held = [f"{most / 1e9:.2f} GB" for *_, most in medians]
        found.append(ratio(title, plain[:, 0], ours[:, 0], steps[0], f"glibc's {steps[1]}", n, at_least=1.0))
        found.append(ratio("– memory", ours[:, 2], plain[:, 2], held[0], f"glibc's {held[1]}", n))
    return found


if __name__ == "__main__":
    main(__doc__, rows)

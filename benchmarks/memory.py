"""What it gains on a CPU that a training keeps what a step frees (training.keep_freed_memory), and what it costs.

The step of benchmarks/step.py as trained, in processes of its own, with glibc's malloc as it comes and as
lesions/training.py sets it. Left alone it gives large tensors back to the system, from which the next step gets them
page by page. Each process takes a few steps first, which do not count. Memory: the most that the process held. Linux
only, else no rows.
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
    "usual": Size(15, 7, ("alexnet", "residual", "c_base", "c_b0", "e_m0")),
    "full": Size(15, 9),
}
WARM = 3  # steps
STATUS = Path("/proc/self/status")


def measured(
    block: params.Classifier, pixels: tuple[int, int], chosen: params.Params, kept: bool, steps: int
) -> tuple[float, float, float]:
    """Seconds and page faults of a step, and the most bytes held: of a process that has trained nothing before."""
    if not kept:
        training.keep_freed_memory = lambda: None
    device = training.prepare(chosen.compute.model_copy(update={"device": "cpu"}), 0)
    switches = training.switches(chosen.compute, device, chosen.slower, block.architecture)
    step = stepper(block, 8, torch.randn(block.batch, 3, *pixels), switches, 1)
    for _ in range(WARM):
        step()
    faults, times = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / steps
    return float(np.median(times)), faults, most_held()


def most_held() -> float:
    """Bytes, since this process began (getrusage's maximum is its parent's where that had more)."""
    lines = STATUS.read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def rows(size: str) -> list[Row]:
    of, chosen, found = SIZES[size], params.load(ROOT / "params.yaml"), []
    if not STATUS.exists():
        return found
    for name, block, pixels in data.distinct(chosen, of.names, "optimizer"):
        runs = {True: [], False: []}
        for kept in ([True, False, False, True] * of.rounds)[: 2 * of.rounds]:  # in turn, the order turned
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                runs[kept].append(alone.submit(measured, block, pixels, chosen, kept, of.steps).result())
        ours, plain = np.array(runs[True]), np.array(runs[False])  # of each round: seconds, page faults, bytes
        title = f"{name}: {block.architecture}, {pixels[0]}×{pixels[1]}, batch {block.batch}, {block.optimizer}"
        n = f"{of.rounds} rounds of {of.steps} steps"
        medians = [np.median(each, axis=0) for each in (ours, plain)]
        steps = [f"{duration(seconds)}, {faults:,.0f} page faults a step" for seconds, faults, _ in medians]
        held = [f"{most / 1e9:.2f} GB" for *_, most in medians]
        found.append(ratio(title, plain[:, 0], ours[:, 0], steps[0], f"glibc's {steps[1]}", n, at_least=1.0))
        found.append(ratio("– memory", ours[:, 2], plain[:, 2], held[0], f"glibc's {held[1]}", n))
    return found


if __name__ == "__main__":
    main(__doc__, rows)

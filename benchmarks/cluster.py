"""Give the full study's graph to more and more workers: how near the time comes to what no scheduler could beat.

Stages of settings/full.yaml sleep in place of training, in proportion to their steps × the images' area; what is no
training sleeps for next to nothing. The bound is the longer of the critical path and of work / workers. Head and
Dask's scheduler are the real ones; its workers are threads of this process. Beside it, what a stage costs with DVC and
no work in it: real worker processes, one at a time.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import chdir, redirect_stdout
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from distributed import Client, Future, LocalCluster
from dvc.repo import Repo

from benchmarks.common import ROOT, Row, duration, row
from lesions.cluster.engine import Engine, here
from lesions.cluster.head import Head
from lesions.cluster.plan import Graph, plan
from lesions.cluster.remaining import Remaining
from lesions.tools import check
from lesions.tools.estimate import amounts

# settings, seconds of all stages, workers, stages with DVC alone
SIZES: dict[str, tuple[str, float, tuple[int, ...], int]] = {
    "small": ("smoke", 2, (2,), 3),
    "usual": ("full", 1200, (4, 16, 64), 40),
    "full": ("full", 4800, (1, 4, 16, 64), 80),
}
SHORT = 0.01  # seconds of a stage that trains nothing


def asleep(name: str, seconds: float, command: str) -> dict[str, Any]:
    time.sleep(seconds)
    return {"entry": {"cmd": command}, "files": {}, "host": "", "machine": "", "gpu": "", "seconds": seconds}


class Sleeping(Engine):
    """Workers that sleep. seconds: of each stage."""

    seconds: dict[str, float]

    def give(self, name: str, needs: dict[str, float], place: int, *args: Any) -> Future:
        self.given[name] = {}
        return self.client.submit(asleep, name, self.seconds[name], name, key=name, priority=-place, pure=False)


def durations(names: list[str], whole: float) -> dict[str, float]:
    """Return the seconds of each stage, `whole` together."""
    found = amounts(names, check.load())
    return {name: max(SHORT, whole * found.get(name, 0.0) / sum(found.values())) for name in names}


def longest(graph: Graph, seconds: dict[str, float]) -> float:
    """Return the seconds of the critical path."""
    ends: dict[str, float] = {}
    for name, before in graph.items():
        ends[name] = seconds[name] + max((ends[one] for one in before), default=0.0)
    return max(ends.values())


def makespan(repo: Repo, graph: Graph, seconds: dict[str, float], workers: int) -> float:
    """Return the seconds that `workers` take."""
    with (
        LocalCluster(1, workers, processes=False, memory_limit=0, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        engine = Sleeping(client, here(repo), workers)
        engine.seconds = seconds
        begun = perf_counter()
        Head(repo, graph, engine, None, plan(repo, []), Remaining(seconds, 0)).run(False)
        return perf_counter() - begun


def alone(stages: int) -> float:
    """Return the seconds of a run of so many stages that do nothing, one after the other."""
    lines = [f"  s{number}: {{cmd: echo {number} > o{number}, outs: [o{number}]}}" for number in range(stages)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "dvc.yaml").write_text("\n".join(["stages:", *lines]))
        subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=folder, check=True)
        command = [sys.executable, "-m", "lesions.tools.parallel", "--jobs", "1"]
        begun = perf_counter()
        subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
        return perf_counter() - begun


def rows(size: str) -> list[Row]:
    settings, whole, counts, stages = SIZES[size]
    found = []
    with tempfile.TemporaryDirectory() as parent, chdir(parent):
        subprocess.run(["git", "clone", "--quiet", str(ROOT), "clone"], check=True)
        with chdir("clone"), Repo() as repo, Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
            command = [sys.executable, "-m", "lesions.tools.settings", f"settings/{settings}.yaml"]
            subprocess.run(command, check=True, capture_output=True)
            order, graph = plan(repo, [])
            seconds = durations(order, whole)
            work, path, n = sum(seconds.values()), longest(graph, seconds), f"{len(order)} stages"
            for workers in counts:
                bound, took = max(work / workers, path), makespan(repo, graph, seconds, workers)
                limit = "the critical path" if path > work / workers else "work / workers"
                share, wanted = np.array([bound / took]), 0.9 if workers <= 16 else None
                what = f"{workers} workers, bound by {limit}"
                found.append(
                    row(what, duration(took), f"bound {duration(bound)}", share, n, "of the bound", "≥", wanted)
                )
            took = makespan(repo, graph, dict.fromkeys(order, 0.0), 1)
            found.append(
                row("scheduling alone", "–", "–", np.array([1e3 * took / len(order)]), n, "ms a stage", "≤", None)
            )
    whole_run, start = alone(stages), alone(1)
    each = np.array([(whole_run - start) / (stages - 1)])
    return [*found, row("a stage with DVC, and no work", "–", "–", each, f"{stages} stages", "s", "≤", 1),
            row("a run of one such stage", "–", "–", np.array([start]), "1", "s", "≤", None)]  # fmt: skip

"""Run dvc repro with several stages side by side, and leave dvc.lock as a serial run from nothing leaves it.

    python -m lesions.tools.parallel                      # all that changed, as many at once as there are cores or GPUs
    python -m lesions.tools.parallel --jobs 2 compare     # these stages and what they depend on, two at once

DVC's own code reproduces each stage in a child process, which begins when those that it depends on are done. What it
says goes to runs/parallel/<stage>.log. If there are several GPUs, each stage gets one. As in `dvc repro`, after a
failure the running stages finish and no other begins; with --keep-going all begin that do not depend on the failed one.
Ctrl-C and SIGTERM end all; run it again to go on. Results depend on compute.threads of params.yaml, each stage's share
of the cores, but not on how many stages run at once.
"""

import argparse
import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from graphlib import TopologicalSorter
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from subprocess import run as run_command
from typing import NamedTuple

from dvc.exceptions import DvcException
from dvc.lock import LockBase, LockError, make_lock
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.stage import PipelineStage
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import modify_yaml
from tqdm import tqdm

from lesions.core import config
from lesions.core.errors import InputError, at_least_one, run
from lesions.core.files import read_json, write_json
from lesions.core.process import end_with
from lesions.core.resume import locked
from lesions.core.workers import usable

LOGS = Path("runs/parallel")
GRACE = 10  # seconds from SIGTERM to SIGKILL
WRITE_EVERY = 10  # seconds between two writings of dvc.lock: it is parsed and written whole

Graph = dict[str, set[str]]  # stage -> those that it depends on


class Job(NamedTuple):
    """A stage under way."""

    process: ForkProcess
    gpu: str | None
    begun: float


def plan(repo: Repo, targets: list[str]) -> tuple[list[str], Graph]:
    """Return the stages of `dvc repro targets`, in its order, and what each of them depends on."""
    graph = get_active_graph(repo.index.graph)
    order = plan_repro(graph, collect_stages(repo, targets or ["dvc.yaml"]))
    return [s.addressing for s in order], {s.addressing: {d.addressing for d in graph.successors(s)} for s in order}


def to_run(order: list[str], graph: Graph, changed: set[str]) -> Graph:
    """Return the part of `graph` that has changed or depends on it; `order` has all stages, dependencies first."""
    found: Graph = {}
    for name in order:
        needed = graph[name] & found.keys()
        if needed or name in changed:
            found[name] = needed
    return found


def gpus() -> list[str]:
    """Return the GPUs to deal out: those of CUDA_VISIBLE_DEVICES, or all that nvidia-smi lists."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    try:
        listed = run_command(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
    except OSError:
        return []
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


def room(devices: list[str]) -> int:
    """Return how many stages to run at once: one a GPU, or as many as the cores have room for by compute.threads."""
    threads, device = 1, "auto"
    with suppress(InputError):
        threads, device = config.read("compute.threads", int), config.read("compute.device", str)
    return (len(devices) if device != "cpu" else 0) or max(1, usable() // threads)


def log_of(name: str) -> Path:
    return LOGS / f"{name.replace('@', '-')}.log"


def entry_of(name: str) -> Path:
    """Return where a child leaves the stage's entry of dvc.lock."""
    return log_of(name).with_suffix(".json")


def reproduce(stage: PipelineStage, gpu: str | None, parent: int) -> None:
    """Reproduce the stage in this child of `parent`, in a process group of its own; leave its entry for dvc.lock."""
    os.setsid()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_DFL)
    end_with(parent)
    tqdm._instances.clear()  # the bar is the parent's
    with log_of(stage.addressing).open("w") as log, Path(os.devnull).open() as nothing:
        for number, file in enumerate((nothing, log, log)):
            os.dup2(file.fileno(), number)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    entry_of(stage.addressing).unlink(missing_ok=True)
    try:
        with stage.repo.lock:
            done = stage.reproduce()
        if done:
            write_json(entry_of(stage.addressing), to_lockfile(stage))
    except (DvcException, OSError) as error:
        sys.exit(f"error: {error}")


class Runner:
    """A run of the stages of `graph`, at most `jobs` at once, on the GPUs `devices`.

    order: all stages, as dvc.lock has them.
    """

    def __init__(self, repo: Repo, order: list[str], graph: Graph, jobs: int, devices: list[str]) -> None:
        self.repo, self.order, self.graph, self.jobs, self.devices = repo, order, graph, jobs, devices
        self.stages = {stage.addressing: stage for stage in repo.index.stages}
        self.running, self.failed = dict[str, Job](), list[str]()
        self.unwritten, self.written = list[str](), time.monotonic()

    def run(self, keep_going: bool) -> list[str]:
        """Run the stages; return those that failed."""
        sorter: TopologicalSorter[str] = TopologicalSorter(self.graph)
        sorter.prepare()
        place, ready = {name: number for number, name in enumerate(self.graph)}, list[str]()
        LOGS.mkdir(parents=True, exist_ok=True)
        tqdm.monitor_interval = 0  # no thread of tqdm's: a fork could copy its lock held
        with tqdm(total=len(self.graph), desc="stages", unit="stage") as progress:
            try:
                while True:
                    ready = sorted([*ready, *sorter.get_ready()], key=place.__getitem__)
                    while ready and len(self.running) < self.jobs and (keep_going or not self.failed):
                        self.begin(ready.pop(0))
                    if not self.running:
                        self.write(self.repo.lock)
                        return self.failed
                    for name in self.reap(WRITE_EVERY):
                        progress.update()
                        if name not in self.failed:  # what depends on a failed one never becomes ready
                            sorter.done(name)
                    if time.monotonic() - self.written > WRITE_EVERY:
                        self.write(self.repo.lock)
            except BaseException:
                self.end()
                raise

    def begin(self, name: str) -> None:
        taken = [job.gpu for job in self.running.values()]
        gpu = min(self.devices, key=taken.count) if len(self.devices) > 1 else None
        tell(f"{name}: begun" + (f" on GPU {gpu}" if gpu else ""))
        process = get_context("fork").Process(target=reproduce, args=(self.stages[name], gpu, os.getpid()))
        process.start()
        self.running[name] = Job(process, gpu, time.monotonic())

    def reap(self, seconds: float) -> list[str]:
        """Wait until a stage ends, so many seconds at most; return those that have ended."""
        gone = wait([job.process.sentinel for job in self.running.values()], seconds)
        found = [name for name, job in self.running.items() if job.process.sentinel in gone]
        for name in found:
            job = self.running.pop(name)
            job.process.join()
            code = job.process.exitcode  # None if a signal came between its end and our noting it
            tell(f"{name}: {'done' if code == 0 else 'failed'} after {time.monotonic() - job.begun:.0f} s")
            (self.unwritten if code == 0 else self.failed).append(name)
        return found

    def write(self, lock: LockBase) -> None:
        """Put the entries of what is done into dvc.lock and sort it; stages that dvc.yaml has not come last."""
        new = {name: read_json(entry_of(name))[name] for name in self.unwritten if entry_of(name).exists()}
        if new:
            place = {name: number for number, name in enumerate(self.order)}
            with lock, modify_yaml("dvc.lock") as locked_up:
                locked_up.setdefault("schema", "2.0")
                stages = dict(locked_up.get("stages") or {}) | new
                names = sorted(stages, key=lambda name: place.get(name, len(place)))
                locked_up["stages"] = {name: stages[name] for name in names}
        for name in new:
            entry_of(name).unlink()
        self.unwritten, self.written = [], time.monotonic()

    def end(self) -> None:
        """End all children and the stages that they run.

        Hold DVC's lock meanwhile, if it is free within seconds, so that none is cut off in writing DVC's files. What
        cannot be written to dvc.lock now, the next run has from DVC's run-cache.
        """
        lock = make_lock(self.repo.lock.lockfile, self.repo.tmp_dir)
        with ExitStack() as stack:
            with suppress(LockError):
                stack.enter_context(lock)
            for sign in (signal.SIGTERM, signal.SIGKILL):
                for job in self.running.values():
                    with suppress(ProcessLookupError):
                        os.killpg(job.process.pid, sign)  # type: ignore[arg-type]
                deadline = time.monotonic() + GRACE
                while self.running and time.monotonic() < deadline:
                    self.reap(deadline - time.monotonic())
        with suppress(LockError):
            self.write(lock)


def said(name: str) -> str:
    """Return the stage's own error, or the last line of its log."""
    lines = [line.strip() for line in log_of(name).read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["nothing"])[0 if errors else -1].removeprefix("error: ")


def tell(line: str) -> None:
    tqdm.write(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stdout)
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="stage", help="as dvc stage list names them (default: all)")
    parser.add_argument("--jobs", "-j", type=at_least_one, help="stages at once (default: the cores, or the GPUs)")
    parser.add_argument("--keep-going", "-k", action="store_true", help="after a failure go on with other branches")
    args = parser.parse_args()
    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # whose python stages call
    )
    try:
        with Repo(_wait_for_lock=True) as repo, locked(Path(repo.root_dir) / LOGS):
            os.chdir(repo.root_dir)
            order, graph = plan(repo, args.targets)
            changed = repo.status(args.targets or None, with_deps=bool(args.targets))
            whole = plan(repo, [])[0]
            wanted = to_run(order, graph, set(changed))
            print(f"{len(order) - len(wanted)} of {len(order)} stages are up to date", flush=True)
            if not wanted:
                return
            devices = gpus()
            failed = Runner(repo, whole, wanted, args.jobs or room(devices), devices).run(args.keep_going)
    except DvcException as error:
        raise InputError(f"dvc: {error}") from None
    if failed:
        why = "; ".join(f"{name}: failed: {said(name)} ({log_of(name)})" for name in failed)
        raise InputError(f"{why}; mend it and run again to go on")


if __name__ == "__main__":
    run(main)

"""dvc repro with several stages at once, on DVC's own locks; dvc.lock ends as a serial run leaves it.

    python -m lesions.parallel --jobs 2                  # all that changed
    python -m lesions.parallel --jobs 2 compare          # these stages and what they depend on

Each stage is a `dvc repro` of its own, begun when those that it depends on are done; what it says goes to
runs/parallel/<stage>.log. Where there are several GPUs each stage is given one. A stage that fails ends the run as it
ends `dvc repro`: what runs is let finish, nothing else begins; with --keep-going only what depends on it does not.
Ctrl-C and SIGTERM end all; run it again to go on. compute.threads of params.yaml is a stage's own share of the cores,
because results depend on it: choose as many jobs as the cores have room for.
"""

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.utils.serialize import load_yaml, modify_yaml
from tqdm import tqdm

from lesions.errors import InputError, run
from lesions.files import write_text

LOGS = Path("runs/parallel")
BEFORE = LOGS / "before"  # names of dvc.lock when a run began that has not come to its end
GRACE = 10  # seconds from SIGTERM to SIGKILL
PR_SET_PDEATHSIG = 1

Graph = dict[str, set[str]]  # stage -> those that it depends on


@dataclass
class Job:
    """A stage under way."""

    process: subprocess.Popen
    gpu: str | None
    begun: float


def plan(repo: Repo, targets: list[str]) -> tuple[list[str], Graph]:
    """The stages of `dvc repro targets`, in its order, and what each of them depends on."""
    graph = get_active_graph(repo.index.graph)
    order = plan_repro(graph, collect_stages(repo, targets or ["dvc.yaml"]))
    return [s.addressing for s in order], {s.addressing: {d.addressing for d in graph.successors(s)} for s in order}


def to_run(order: list[str], graph: Graph, changed: set[str]) -> Graph:
    """The part of `graph` that has changed or depends on what has, `order` being one of all its stages."""
    found: Graph = {}
    for name in order:
        needed = graph[name] & found.keys()
        if needed or name in changed:
            found[name] = needed
    return found


def gpus() -> list[str]:
    """The GPUs to deal out: those of CUDA_VISIBLE_DEVICES, or all that nvidia-smi lists."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
    except OSError:
        return []
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


def log_of(name: str) -> Path:
    return LOGS / f"{name.replace('@', '-')}.log"


def in_child() -> None:
    """Between fork and exec: SIGINT as it is by default, and, on Linux, the end of this process when ours ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def begin(name: str, gpu: str | None) -> Job:
    """DVC on one stage, in a process group of its own."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name]
    environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
    with log_of(name).open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=in_child,
        )  # fmt: skip
    return Job(process, gpu, time.monotonic())


def end(repo: Repo, jobs: list[Job]) -> None:
    """End DVCs and their stages. Under DVC's lock none of them is just writing dvc.lock; a stage runs outside of it."""
    if not jobs:
        return
    with suppress(LockError):  # tried for seconds
        repo.lock.lock()
    try:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for job in jobs:
                with suppress(ProcessLookupError):
                    os.killpg(job.process.pid, sign)
            deadline = time.monotonic() + GRACE
            with suppress(subprocess.TimeoutExpired):
                for job in jobs:
                    job.process.wait(max(0, deadline - time.monotonic()))
    finally:
        repo.lock.unlock()


def work(graph: Graph, jobs: int, keep_going: bool, repo: Repo, say: Callable[[str], None]) -> list[str]:
    """Run the stages of `graph`, at most `jobs` at once; returns those that failed. say(line): told of each."""
    sorter, devices, ready, running, failed = TopologicalSorter(graph), gpus(), [], {}, []
    sorter.prepare()
    place = {name: number for number, name in enumerate(graph)}
    LOGS.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(graph), desc="stages", unit="stage") as progress:
        try:
            while True:
                ready = sorted([*ready, *sorter.get_ready()], key=place.get)
                while ready and len(running) < jobs and (keep_going or not failed):
                    name = ready.pop(0)
                    taken = [job.gpu for job in running.values()]
                    gpu = min(devices, key=taken.count) if len(devices) > 1 else None
                    running[name] = begin(name, gpu)
                    say(f"{name}: begun" + (f" on GPU {gpu}" if gpu else ""))
                if not running:
                    return failed
                time.sleep(0.05)
                for name in [name for name, job in running.items() if job.process.poll() is not None]:
                    job = running.pop(name)
                    good = job.process.returncode == 0
                    say(f"{name}: {'done' if good else 'failed'} after {time.monotonic() - job.begun:.0f} s")
                    if good:
                        sorter.done(name)
                    else:  # what depends on it never becomes ready
                        failed.append(name)
                    progress.update()
        finally:
            end(repo, list(running.values()))


@contextmanager
def serial_order(repo: Repo, order: list[str]) -> Iterator[None]:
    """Afterwards dvc.lock has its entries where a serial run of `order` would have put them.

    DVC leaves an entry in its place and appends a new one. What was there before the first of several runs, of which
    all but the last failed or were ended, is remembered in BEFORE.
    """
    lock = Path("dvc.lock")

    def names() -> list[str]:
        return list(load_yaml(lock).get("stages", {})) if lock.exists() else []

    if not BEFORE.exists():
        write_text(BEFORE, "\n".join(names()))
    try:
        yield
    finally:
        old = BEFORE.read_text(encoding="utf-8").split("\n")
        place = {name: number for number, name in enumerate(dict.fromkeys([*old, *order]))}
        found = names()
        wanted = sorted(found, key=lambda name: place.get(name, len(place)))
        if found != wanted:
            with repo.lock, modify_yaml(lock) as locked:
                stages = dict(locked["stages"])
                locked["stages"].clear()
                locked["stages"].update({name: stages[name] for name in wanted})
    BEFORE.unlink()


def said(name: str) -> str:
    """The stage's own error, or the last line of its log."""
    lines = [line.strip() for line in log_of(name).read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["nothing"])[-1].removeprefix("error: ")


def tell(line: str) -> None:
    tqdm.write(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stdout)
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="stage", help="as dvc stage list names them (default: all)")
    parser.add_argument("--jobs", "-j", type=int, required=True, help="stages at once")
    parser.add_argument("--keep-going", "-k", action="store_true", help="after a failure go on with other branches")
    args = parser.parse_args()
    if args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: expected 1 or more; cores / compute.threads is a good number")
    try:
        with Repo() as repo:
            os.chdir(repo.root_dir)
            order, graph = plan(repo, args.targets)
            changed = repo.status(args.targets or None, with_deps=bool(args.targets))
    except DvcException as error:
        raise InputError(f"dvc: {str(error).splitlines()[0]}") from None
    wanted = to_run(order, graph, set(changed))
    print(f"{len(order) - len(wanted)} of {len(order)} stages are up to date", flush=True)
    if not wanted:
        return
    with serial_order(repo, order):
        if failed := work(wanted, args.jobs, args.keep_going, repo, tell):
            why = "; ".join(f"{name}: failed: {said(name)} ({log_of(name)})" for name in failed)
            raise InputError(f"{why}; mend it and run again to go on")


if __name__ == "__main__":
    run(main)

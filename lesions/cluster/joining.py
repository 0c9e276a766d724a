"""Let a worker join a run, or say why not: by its Python, packages and machine; find its GPUs and its folder.

This file goes to workers and the scheduler by value: they need the environment, but no checkout. It imports nothing of
ours.
"""

import io
import os
import platform
import subprocess
import tarfile
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from distributed import Scheduler, Worker


class Run(NamedTuple):
    """What all stages of a run share.

    key: names the sources. A worker that is ready for them has a resource of this name.
    root: the repository of the head.
    apart: whether workers have folders of their own; else they work in `root`.
    config: DVC's, for those folders. `cache` in it is of all machines, unless `remote` says that DVC's remote carries.
    """

    key: str
    root: str
    environment: dict[str, str]
    config: dict[str, dict[str, Any]]  # empty: the repository's own
    versions: dict[str, str]
    apart: bool = False
    remote: bool = False
    machine: str = ""  # the model that each must be; empty: any


def gpus() -> list[str]:
    """Return the GPUs to deal out: those of CUDA_VISIBLE_DEVICES, or all that nvidia-smi lists."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    return [str(number) for number in range(len(listed()))]


def listed() -> list[str]:
    """Return nvidia-smi's line of each GPU."""
    try:
        said = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
    except OSError:
        return []
    return [line for line in said.splitlines() if line.startswith("GPU ")]


def machine() -> str:
    """Return the models of this machine's CPU and GPUs."""
    cpu = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    models = {line.partition(": ")[2].partition(" (UUID")[0] for line in listed()}
    return ", ".join([cpu, *sorted(models)])


def versions(names: list[str]) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed here."""
    found = {"Python": platform.python_version()}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def refusal(run: Run) -> str:
    """Return why this worker may run nothing of `run`; empty if it may."""
    here = versions([name for name in run.versions if name != "Python"])
    for name, wanted in run.versions.items():
        if here.get(name) != wanted:
            return f"has {name} {here.get(name, 'not at all')}, expected {wanted}, as the head has"
    if run.machine and machine() != run.machine:
        return f"is another model of machine ({machine()}; expected {run.machine}); --mix takes it, and records it"
    if not run.remote and not (cache := Path(run.config["cache"]["dir"])).joinpath(run.key).exists():
        return f"does not see DVC's cache {cache}; share that folder, or say where a remote is (dvc remote add -d)"
    return ""


async def claim(dask_scheduler: Scheduler, client: str) -> str:
    """Note on the scheduler which head works with it; return another that does already."""
    holder = vars(dask_scheduler).get("lesions_head", "")
    if holder in dask_scheduler.clients and holder != client:
        return holder
    vars(dask_scheduler)["lesions_head"] = client
    return ""


async def wake(dask_scheduler: Scheduler, address: str) -> None:
    """Let the scheduler give stages that wait for a worker to one that became ready: it looks at joins alone."""
    if (ready := dask_scheduler.workers.get(address)) is not None:
        waiting = dask_scheduler.bulk_schedule_unrunnable_after_adding_worker(ready)
        dask_scheduler.transitions(waiting, f"ready-{time.time()}")


async def prepare(run: Run, sources: bytes, dask_worker: Worker) -> tuple[str, str]:
    """Make a worker ready for the stages of `run`; return why not, or empty, and its model of machine."""
    threads = dask_worker.state.nthreads
    why = refusal(run) if threads == 1 else f"has {threads} threads; start it with --nthreads 1 --nworkers {threads}"
    if why:
        await dask_worker.set_resources(**{run.key: 0})  # an earlier run may have taken it
    else:
        folder = folder_of(run, dask_worker)
        (folder / ".dvc/tmp").mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(sources)) as archive:
            archive.extractall(folder, filter="data")
        await dask_worker.set_resources(**{run.key: 1})
    return why, machine()


def folder_of(run: Run, worker: Worker) -> Path:
    return Path(worker.local_directory) / run.key if run.apart else Path(run.root)

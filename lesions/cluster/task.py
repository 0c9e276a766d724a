"""What a worker does: become ready for a run, bring a stage's inputs, let DVC's own code reproduce it, keep what came.

This file goes to the worker by value: a worker needs the environment, but no checkout. It imports nothing of ours.
"""

import fcntl
import io
import os
import platform
import socket
import subprocess
import sys
import tarfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from itertools import count
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

from distributed import Scheduler, Worker, get_worker
from dvc.exceptions import CheckoutError, CollectCacheError, DvcException
from dvc.fs import generic
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.cache import _get_stage_hash
from dvc.stage.loader import StageLoader
from dvc.stage.serialize import to_lockfile, to_single_stage_lockfile

TOPIC = "lesions"  # of the events that a worker sends to the head
NANNYS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # Dask sets them to 1: other sums, other bytes
TELL_EVERY = 2  # seconds between two looks into a stage's log

Entry = dict[str, Any]  # a stage's entry of dvc.lock


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
    return [str(number) for number, line in enumerate(listed()) if line.startswith("GPU ")]


def listed() -> list[str]:
    try:
        return subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout.splitlines()
    except OSError:
        return []


def machine() -> str:
    """Return the models of this machine's CPU and GPUs."""
    cpu = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    models = {line.partition(": ")[2].partition(" (UUID")[0] for line in listed() if line.startswith("GPU ")}
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


def opened(run: Run, worker: Worker) -> Repo:
    """Return the Repo of the folder that `run` works in here. The worker keeps it: opening it resolves dvc.yaml."""
    repos = vars(worker).setdefault("lesions", {})
    if run.key not in repos:
        config = {name: dict(section) for name, section in run.config.items()}
        if run.remote and run.apart:
            config["cache"]["dir"] = str(Path(worker.local_directory).parent / "lesions-cache")
        repos[run.key] = Repo(str(folder_of(run, worker)), config=config, _wait_for_lock=True)
    return repos[run.key]


@contextmanager
def gpu_of_ones_own() -> Iterator[str]:
    """Yield a GPU that fewest stages of this machine use, none where there is no choice."""
    devices = gpus()
    if len(devices) < 2:
        yield ""
        return
    for layer in count():
        for device in devices:
            path = Path(gettempdir(), f"lesions-{os.getuid()}-gpu-{device}.{layer}")
            with path.open("w") as file, suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield device
                return


@contextmanager
def said_to(log: Path, stage: str, worker: Worker | None) -> Iterator[None]:
    """Write what this process and its children say to `log`; send it to the head too if there is a `worker`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    ended = threading.Event()

    def follow() -> None:
        with log.open("rb") as file:
            last = False
            while not last:
                last = ended.wait(TELL_EVERY)
                if more := file.read():
                    worker.log_event(TOPIC, {"stage": stage, "log": more})  # type: ignore[union-attr]

    kept = os.dup(1), os.dup(2)
    with log.open("wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    following = threading.Thread(target=follow, daemon=True)
    if worker:
        following.start()
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, old in enumerate(kept, 1):
            os.dup2(old, number)
            os.close(old)
        ended.set()
        if worker:
            following.join()


def objects(stage: PipelineStage, entry: Entry) -> set[Any]:
    """Return the hashes of all outputs in a stage's entry, of metrics and plots too."""
    stand_in = stage.repo.stage_cache._create_stage(entry, wdir=stage.wdir)
    return set().union(*stand_in.get_used_objs().values())


def sent(result: Any) -> None:
    """Raise DvcException if DVC could not push, or pull, all files: it says so, and goes on."""
    if result.failed:
        raise DvcException(f"{len(result.failed)} files could not be copied to DVC's remote or from there")


def to_remote(stage: PipelineStage) -> None:
    """Push the outputs of a stage that has run, and DVC's record of that run, to DVC's remote."""
    if has_record(stage):
        sent(stage.repo.cloud.push(objects(stage, to_single_stage_lockfile(stage))))
        copy_runs(stage, push=True)


def from_remote(stage: PipelineStage) -> None:
    """Pull from DVC's remote what an earlier run of the stage, with inputs as they are here, has left there."""
    if has_record(stage):
        asked = stage.repo.stage.load_one(stage.path, stage.name)  # the stage itself must go on to know its last inputs
        asked.save_deps()
        copy_runs(asked, push=False)
        if entry := asked.repo.stage_cache._load(asked):
            with suppress(CollectCacheError):
                asked.repo.cloud.pull(objects(asked, entry))


def has_record(stage: PipelineStage) -> bool:
    """Say whether DVC records runs of a stage; not where it keeps no copy of an output that is no metric or plot."""
    return all(not out.persist and (out.use_cache or out.metric or out.plot) for out in stage.outs)


def copy_runs(stage: PipelineStage, push: bool) -> None:
    """Copy DVC's records of runs of the stage with these inputs to its remote, or from there."""
    cache, key = stage.repo.cache.legacy, _get_stage_hash(stage)
    remote = stage.repo.cloud.get_remote_odb(None, "push --run-cache", hash_name="md5-dos2unix")
    ends = [(odb.fs, odb.fs.join(odb.path, "runs", key[:2], key)) for odb in (cache, remote)]
    (from_fs, source), (to_fs, target) = ends if push else ends[::-1]
    if from_fs.exists(source):
        for path in from_fs.find(source):
            generic.copy(from_fs, path, to_fs, to_fs.join(target, from_fs.name(path)))


def bring(run: Run, repo: Repo, stages: dict[str, PipelineStage], entries: dict[str, Entry], own: str = "") -> None:
    """Bring the outputs of the stages of `entries` into the folder; metrics and plots into the cache alone.

    own: the stage that is to run. Its outputs of the last run may be gone; DVC decides afterwards.
    """
    for name, entry in entries.items():
        stage = stages[name]
        StageLoader.fill_from_lock(stage, entry)
        stage.cmd_changed = entry["cmd"] != stage.cmd
        gone = (CollectCacheError, FileNotFoundError, CheckoutError) if name == own else ()
        with suppress(*gone):
            if run.remote:
                found = objects(stage, entry) if has_record(stage) else set().union(*stage.get_used_objs().values())
                result = repo.cloud.pull(found)
                if name != own:
                    sent(result)
            with repo.lock:
                stage.checkout(allow_missing=True, force=True)


def reproduce(run: Run, name: str, entries: dict[str, Entry], files: dict[str, bytes], log: str) -> dict[str, Any]:
    """Reproduce a stage in this process.

    entries: of dvc.lock, the stage's own if there was one, and of those that it depends on. files: metrics and plots
    that it depends on. Returns the stage's entry and files, and where it ran. Raises RuntimeError if it fails.
    """
    worker, begun, host = get_worker(), time.monotonic(), socket.gethostname()
    folder = folder_of(run, worker)
    with gpu_of_ones_own() as gpu, said_to(folder / log, name, worker if run.apart else None):
        worker.log_event(TOPIC, {"stage": name, "host": host, "gpu": gpu})
        environment = run.environment | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        }
        if gpu:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        with suppress(OSError):
            if Path(run.root).is_dir():  # so that its checkpoints move with a stage
                environment["DVC_ROOT"] = run.root
        for variable in NANNYS:
            os.environ.pop(variable, None)
        try:
            os.chdir(folder)  # DVC resolves some paths from there
            repo = opened(run, worker)
            repo._reset()  # what it knows of outputs is of the stage before
            with repo.lock:
                stages = {stage.name: stage for stage in repo.index.stages}
            stage = stages[name]
            if run.apart:
                put(files, [stages[one] for one in entries if one != name], folder)
            bring(run, repo, stages, entries, name)
            with repo.lock:
                if stage.changed():
                    if run.remote:
                        from_remote(stage)
                    stage.run(run_env=environment)
                else:
                    print(f"Stage '{name}' didn't change, skipping")
            if run.remote:
                to_remote(stage)
        except (DvcException, OSError) as error:
            print(f"error: {error}", flush=True)
            raise RuntimeError(str(error)) from None
        except Exception as error:  # not the user's: the log says where
            traceback.print_exc(file=sys.stdout)
            raise RuntimeError(repr(error)) from None
    return {
        "entry": to_lockfile(stage)[name], "files": small(stage, folder) if run.apart else {},
        "host": host, "machine": machine(), "gpu": gpu, "seconds": time.monotonic() - begun,
    }  # fmt: skip


def put(files: dict[str, bytes], stages: list[PipelineStage], folder: Path) -> None:
    """Write the metrics and plots of stages, by path, in place of those that are there."""
    for out in [out for stage in stages for out in stage.outs if not out.use_cache]:
        out.remove(ignore_remove=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def small(stage: PipelineStage, folder: Path) -> dict[str, bytes]:
    """Return the metrics and plots of a stage, which DVC does not keep, by path."""
    outs = [Path(out.fs_path) for out in stage.outs if not out.use_cache]
    paths = [path for out in outs for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

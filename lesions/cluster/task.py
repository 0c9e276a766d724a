"""Reproduce a stage on a worker: bring its inputs, let DVC's own code run it, hand on what came of it.

This file goes to the worker by value: a worker needs the environment, but no checkout. Of ours it imports joining.py
alone, which goes with it.
"""

import fcntl
import os
import shutil
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from distributed import Worker, get_worker
from dvc.dvcfile import load_file
from dvc.exceptions import CheckoutError, CollectCacheError, DvcException
from dvc.fs import generic
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.cache import _get_stage_hash
from dvc.stage.loader import StageLoader
from dvc.stage.serialize import to_lockfile, to_single_stage_lockfile

from lesions.cluster.joining import Run, folder_of, gpus, machine

TOPIC = "lesions"  # of the events that a worker sends to the head
NANNYS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # Dask sets them to 1: other sums, other bytes
TELL_EVERY = 2  # seconds between two looks into a stage's log

Entry = dict[str, Any]  # a stage's entry of dvc.lock


def opened(run: Run, worker: Worker) -> Repo:
    """Return the Repo of the folder that `run` works in here, as the stage before has not seen it."""
    config = {name: dict(section) for name, section in run.config.items()}
    if run.remote and run.apart:
        config["cache"]["dir"] = str(Path(worker.local_directory).parent / "lesions-cache")
    return Repo(str(folder_of(run, worker)), config=config, _wait_for_lock=True)


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
        with suppress(OSError):  # the disk is full
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


def uncached(out: Output) -> bool:
    """Say whether DVC keeps no copy of an output that is no metric or plot: the archives, and the tables of compare."""
    return not (out.use_cache or out.metric or out.plot)


def has_record(stage: PipelineStage) -> bool:
    """Say whether DVC records runs of a stage; not where it keeps no copy of an output that is no metric or plot."""
    return not any(out.persist or uncached(out) for out in stage.outs)


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
    with gpu_of_ones_own() as gpu, said_to(folder / log, name, worker if run.apart else None), ExitStack() as stack:
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
            repo = stack.enter_context(opened(run, worker))
            with repo.lock:
                found = load_file(repo, "dvc.yaml").stages  # DVC resolves those alone that are asked for
                stages = {one: found[one] for one in {name, *entries}}
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
            raise RuntimeError(f"{error}{if_full(folder)}") from None
        except Exception as error:  # not the user's: the log says where
            with suppress(OSError):
                traceback.print_exc(file=sys.stdout)
            raise RuntimeError(f"{error!r}{if_full(folder)}") from None
    return {
        "entry": to_lockfile(stage)[name], "files": read(small(stage), folder) if run.apart else {},
        "host": host, "machine": machine(), "gpu": gpu, "seconds": time.monotonic() - begun,
    }  # fmt: skip


def if_full(folder: Path) -> str:
    """Return words for an error where the disk of `folder` is full: the log that would say so lies there too."""
    with suppress(OSError):
        if shutil.disk_usage(folder).free < 2**20:
            return f"; no space left on the disk of {folder}"
    return ""


def put(files: dict[str, bytes], stages: list[PipelineStage], folder: Path) -> None:
    """Write the metrics and plots of stages, by path, in place of those that are there."""
    for out in [out for stage in stages for out in stage.outs if not out.use_cache]:
        out.remove(ignore_remove=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def small(stage: PipelineStage) -> list[Path]:
    """Return the files of a stage's metrics and plots, which DVC does not keep."""
    outs = [Path(out.fs_path) for out in stage.outs if not out.use_cache]
    return [path for out in outs for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file()]


def read(paths: list[Path], folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

"""Let a stage that was killed go on where it was.

DVC deletes a stage's outputs before it runs the stage again. So checkpoints lie elsewhere: in
.checkpoints/<stage>/<fingerprint>/ below the repository (also for `dvc exp run --temp`). The fingerprint is a hash of
all that decides the outputs: settings, inputs, sources, versions, device; what.json there lists them. A stage with a
changed parameter has another fingerprint, so it never reads old checkpoints. Without them the bytes are the same.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from lesions.core.errors import InputError
from lesions.core.files import digest, write_json

STORE = Path(".checkpoints")
EVERY = 60.0  # seconds between checkpoints, if LESIONS_CHECKPOINT_EVERY in the environment does not say otherwise
SHARE = 50  # they are at least so many times as far apart as it took to write the last one
WHAT, DONE = "what.json", "done"
LIBRARIES = ("keras", "numpy", "segmentation_models_pytorch", "tensorflow", "timm", "torch", "torchvision")


class Run:
    """One run of a stage: the folder of its checkpoints, and when the next is due."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        every = os.environ.get("LESIONS_CHECKPOINT_EVERY", EVERY)
        try:
            self.every = float(every)
        except ValueError:
            raise InputError(f"LESIONS_CHECKPOINT_EVERY: {every!r}: expected a number of seconds") from None
        self.next = time.monotonic() + self.every

    def due(self) -> bool:
        return time.monotonic() >= self.next

    def save(self, write: Callable[[Path], None]) -> None:
        """Call write(folder), which must write each file whole or not at all; set when the next is due."""
        start = time.monotonic()
        write(self.folder)
        end = time.monotonic()
        self.next = end + (max(self.every, SHARE * (end - start)) if self.every else 0)


@contextmanager
def begin(stage: str, settings: Sequence[Any], inputs: Sequence[Path], device: str) -> Iterator[Run]:
    """Yield the run of `stage` with these settings and input files or folders on `device`.

    Waits for another process at the same run; removes the stage's other fingerprints. A run that ended cleanly is
    marked done, and its checkpoints stay until DVC has written dvc.lock: a DVC that is killed before that runs the
    stage again, which then starts from the end.
    """
    what = {
        "settings": to_jsonable_python(settings),
        "inputs": {str(file): digest(file) for file in files(inputs)},
        "sources": sources(),
        "versions": {name: sys.modules[name].__version__ for name in LIBRARIES if name in sys.modules},
        "device": device,
    }
    fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    root = Path(os.environ.get("DVC_ROOT", "."))
    store = root / STORE
    sweep(store, root / "dvc.lock")
    with locked(store / stage / fingerprint) as folder:
        for other in (store / stage).iterdir():
            if other != folder:
                remove(other)
        if saved(folder):
            print(f"{stage}: going on from {folder}", file=sys.stderr)
        (folder / DONE).unlink(missing_ok=True)
        write_json(folder / WHAT, what)
        try:
            yield Run(folder)
            if saved(folder):
                (folder / DONE).touch()
        finally:
            if not saved(folder):
                shutil.rmtree(folder)
    tidy(folder)


def saved(folder: Path) -> bool:
    return any(path.name not in (WHAT, DONE) for path in folder.iterdir())


def files(inputs: Sequence[Path]) -> list[Path]:
    """Return the files among `inputs` and in its folders."""
    found = (sorted(path.rglob("*")) if path.is_dir() else [path] for path in inputs)
    return [file for group in found for file in group if file.is_file()]


def sources() -> dict[str, str]:
    """Return the sha256 of each source below lesions/ and stages/ that is loaded, by its path."""
    root = Path(__file__).resolve().parents[2]
    named = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    loaded = {Path(name).resolve() for name in named if name}
    ours = sorted(p for p in loaded if p.is_relative_to(root / "lesions") or p.is_relative_to(root / "stages"))
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in ours}


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Yield `folder`, made if need be, locked by this process; the lock ends with the process, however it ends."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{folder}: another process is at this very run; waiting for it to end", file=sys.stderr)
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not same(folder, handle):  # removed while we waited
                continue
            yield folder
            return
        finally:
            os.close(handle)


def same(folder: Path, handle: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(folder.stat(), os.fstat(handle))
    return False


def remove(folder: Path) -> bool:
    """Remove a run's checkpoints unless a process holds them; return whether they were removed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def sweep(store: Path, lock: Path) -> None:
    """Remove the checkpoints of runs that were done before DVC last wrote `lock`."""
    committed = lock.stat().st_mtime if lock.exists() else 0.0
    for done in list(store.glob(f"*/*/{DONE}")):
        if done.stat().st_mtime < committed and remove(done.parent):
            tidy(done.parent)


def tidy(folder: Path) -> None:
    """Remove the folder of the run's stage, and the store, if they are empty."""
    for parent in (folder.parent, folder.parent.parent):
        with suppress(OSError):
            parent.rmdir()

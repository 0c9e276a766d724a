"""Say in plain words what is wrong with this installation, or that nothing is.

    python -m lesions.tools.doctor

Looks at Python, the versions that requirements.in pins, git, links, params.yaml, the GPU of each framework, the room on
the disk for what params.yaml asks for, and downloads that were cut off. Exit code 1 if something stands in the way.
"""

import argparse
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from lesions.core.errors import InputError, run
from lesions.download import fetch, store
from lesions.download.config import STORE, refuse_links
from lesions.download.servers import bases
from lesions.raw import tables
from lesions.raw.config import Data, Own
from lesions.tools import check, sizes

PYTHONS = ("3.11", "3.12", "3.13")
GIB = 2**30


def python(version: str) -> list[str]:
    """Say so where the requirements are not those of this Python."""
    known = ", ".join(PYTHONS)
    return [] if version in PYTHONS else [f"Python {version}: expected one of {known}; make .venv with one of these"]


def packages(requirements: str) -> list[str]:
    """Say what of `requirements` (lines name==version) is not installed, or in another version."""
    found = []
    for name, wanted in re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", requirements, re.M):
        have = next((one.version for one in metadata.distributions(name=name)), "no version")
        if have.partition("+")[0] != wanted:  # 2.15.0+cu130 is 2.15.0
            found.append(f"{name}: {have} is installed, {wanted} is pinned; pip install -r requirements.txt")
    return found


def git() -> list[str]:
    """Say what keeps git, and DVC with it, from working here."""
    if shutil.which("git") is None:
        return ["git: not found; DVC needs it"]
    done = subprocess.run(["git", "rev-parse", "--is-inside-work-tree"], capture_output=True, text=True)
    if "dubious ownership" in done.stderr:
        return [f"git: another user owns {Path.cwd()}; git config --global --add safe.directory {Path.cwd()}"]
    if done.returncode:
        return ["git: no repository here (a zip from the web has none), and DVC needs one; git init && git add . && "
                "git commit -m start, or clone instead"]  # fmt: skip
    found = []
    if subprocess.run(["git", "var", "GIT_COMMITTER_IDENT"], capture_output=True).returncode:
        found.append(
            "git: nobody to commit as, which dvc exp run does; git config --global user.name NAME, and user.email"
        )
    index = subprocess.run(["git", "ls-files", "--eol", "lesions"], capture_output=True, text=True).stdout
    if "w/crlf" in index:
        found.append("git: sources have line ends of Windows, so that every stage counts as changed; "
                     "git config core.autocrlf false && git rm -rq --cached . && git reset --hard")  # fmt: skip
    return found


def interpreter() -> list[str]:
    """Say so where `python`, which dvc.yaml's commands call, is another one than this."""
    there = shutil.which("python")
    if there and Path(there).parent.resolve() == Path(sys.executable).parent.resolve():
        return []
    folder = Path(sys.executable).parent
    return [f"python: {there or 'not found'}, but the environment is {folder}; source {folder}/activate, or use make"]


def disk(wanted: float) -> list[str]:
    """Say so if the disk has less room than the `wanted` bytes."""
    if (free := shutil.disk_usage(".").free) >= wanted:
        return []
    there = f"disk: {free / GIB:.1f} GiB free, at least {wanted / GIB:.1f} GiB needed for the archives and arrays"
    return [f"{there} that params.yaml asks for; free some, or choose smaller arrays or another data.source"]


def cut_off(store: Path) -> list[str]:
    """Name the downloads that have begun and not ended."""
    return [
        f"download: {path} was cut off at {path.stat().st_size / 1e6:.0f} MB; dvc repro goes on with it"
        for path in sorted(store.rglob("*.part"))
    ]


def gpus(backend: str | None) -> list[str]:
    """Say what torch and study B's Keras would run on. TensorFlow takes seconds to load: asked only where it would be
    used and there is a GPU."""
    import torch

    if not torch.cuda.is_available():
        return ["torch sees no GPU: everything runs on the CPU"]
    device = torch.cuda.get_device_properties(0)
    found = [f"torch: {device.name}, {device.total_memory / GIB:.0f} GiB"]
    if backend != "tensorflow":
        return found
    import tensorflow as tf

    seen = tf.config.list_physical_devices("GPU")
    hint = "CPU; for the GPU: pip install 'tensorflow[and-cuda]' at the pinned version"
    return [*found, f"tensorflow (study B): {f'{len(seen)} GPU' if seen else hint}"]


def of_own(data: Data) -> list[str]:
    """Say which table of a set of one's own lacks a column, or cannot be read, where the source is a folder."""
    found, folder = [], Path(data.source).expanduser()
    for own in (of for of in data.sets.values() if isinstance(of, Own)):
        if (folder / own.table).is_file():
            try:
                tables.read_rows(folder / own.table, tuple(dict.fromkeys(own.columns)))
            except InputError as error:
                found.append(str(error))
    return found


def changed(data: Data) -> list[str]:
    """Say which files of a folder were changed since they were fetched: DVC does not look there."""
    found, kept = [], store.folder(data.source.rstrip("/"))
    for file in data.files:
        note = fetch.read_note(kept / file)
        if note.get("seen") and fetch.seen(note["place"]) not in (None, note["seen"]):
            found.append(f"{note['place']}: changed since it was fetched; python -m stages.download --accept {file}")
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    pins = Path("requirements.in")
    if not pins.is_file():
        raise InputError(f"{pins}: not found; run from the repository's root")
    wrong = python(".".join(platform.python_version_tuple()[:2])) + packages(pins.read_text(encoding="utf-8"))
    wrong += git() + interpreter()
    said, backend = cut_off(STORE), None
    try:
        chosen = check.load(Path("params.yaml"))
        wanted = sizes.needed(chosen)
        refuse_links()
        if chosen.data.source != "sample":
            bases(chosen.data.source, chosen.data.files)
            wrong += of_own(chosen.data) + changed(chosen.data)
        wrong += disk(wanted)
        said.append(f"params.yaml: data.source {chosen.data.source}, at least {wanted / GIB:.1f} GiB of disk")
        backend = chosen.keras.backend
    except InputError as error:
        wrong.append(str(error))
    if not any(line.startswith(("torch:", "tensorflow:", "keras:", "h5py:")) for line in wrong):
        said += gpus(backend)
    print("\n".join(said))
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    print(f"{len(wrong)} to mend" if wrong else "nothing is wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    run(main)

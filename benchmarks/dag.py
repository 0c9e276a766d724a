"""What DVC costs when there is nothing to do: `dvc status` and `dvc repro`, in a clone with every output in place.

The clone has settings/full.yaml (all stages of the five studies) and stand-ins for all outputs, hashed once and put
into DVC's cache by `dvc commit`; so what is measured is what DVC does when it knows every file by its time and size.
Arrays and archives are sparse files, at their full sizes with --size full (which `commit` alone notices, as it reads
them), else at a part of them; they take no room on the disk.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dvc.repo import Repo

from benchmarks.common import ROOT, Row, environment, figure, main, timed
from lesions import isic, params, sizes


@dataclass(frozen=True)
class Size:
    settings: str
    part: float  # of the full sizes
    rounds: int


SIZES = {"small": Size("smoke", 1e-6, 1), "usual": Size("full", 0.02, 3), "full": Size("full", 1.0, 5)}
WANTED = 5  # seconds


def lengths(chosen: params.Params) -> dict[str, float]:
    """Bytes of each archive and array of `chosen`."""
    files = isic.files(chosen.data.isic2020)
    share = sizes.archives(chosen.data) / len(files)
    return sizes.arrays(chosen) | {f"data/raw/{name}": share for name in files}


def stand_in(path: Path, length: float = 0) -> None:
    """A file with content of its own, sparse from there to `length`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(str(path).encode())
        file.truncate(max(file.tell(), int(length)))


def fill(folder: Path, part: float) -> tuple[int, float]:
    """Put a stand-in for every output of the clone that is not there. Returns how many stages, and bytes of arrays."""
    sizes = {name: part * length for name, length in lengths(params.load(folder / "params.yaml")).items()}
    for name, length in sizes.items():
        stand_in(folder / name, length)
    with Repo(str(folder)) as repo:
        outs = [Path(out.fs_path) for out in repo.index.outs]
        deps = [Path(dep.fs_path) for dep in repo.index.deps if Path(dep.fs_path).suffix]
        stages = len(repo.index.stages)
    for path in outs:
        whole = path.suffix or path.parent.name == "weights"
        if not path.exists():
            stand_in(path if whole else path / "content")
    for path in deps:  # what is read from an output that is a folder
        if not path.exists():
            stand_in(path)
    return stages, sum(sizes.values())


def rows(size: str) -> list[Row]:
    of = SIZES[size]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "clone"

        def run(*command: str) -> str:
            done = subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True, text=True)
            return done.stdout

        def dvc(*command: str) -> str:
            said = run(sys.executable, "-m", "dvc", *command)
            if "up to date" not in said:
                raise RuntimeError(f"dvc {' '.join(command)} found something to do: {said[-500:]}")
            return said

        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        run(sys.executable, "-m", "lesions.settings", f"settings/{of.settings}.yaml")
        (folder / "dvc.lock").unlink()
        stages, length = fill(folder, of.part)
        run(sys.executable, "-m", "dvc", "commit", "--force", "--quiet")
        seconds = timed({"status": lambda: dvc("status"), "repro": lambda: dvc("repro")}, of.rounds)
        seconds["alone"] = timed({"": lambda: run(sys.executable, "-m", "dvc", "--version")}, of.rounds)[""]
    n = f"{of.rounds} rounds, {stages} stages, {length / 1e9:.1f} GB of arrays and archives"
    return [
        figure("dvc status", seconds["status"], "s", n, at_most=WANTED),
        figure("dvc repro, nothing to do", seconds["repro"], "s", n, at_most=WANTED),
        figure("dvc --version: starting DVC", seconds["alone"], "s", f"{of.rounds} rounds"),
    ]


if __name__ == "__main__":
    main(__doc__, rows)

"""Time `dvc status` and `dvc repro` when there is nothing to do, in a clone with every output in place.

The clone has settings/full.yaml (all stages of the five studies) and stand-ins for all outputs, which `dvc commit` has
hashed and put into DVC's cache: DVC then knows every file by its time and size, so small files cost what large ones do.
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from dvc.repo import Repo

from benchmarks.common import ROOT, Row, row, timed

SIZES = {"small": ("smoke", 1), "usual": ("full", 3), "full": ("full", 9)}  # settings, rounds


def fill(folder: Path) -> int:
    """Write a stand-in for every output that the clone lacks; return how many stages there are."""
    with Repo(str(folder)) as repo:
        outs = [Path(out.fs_path) for out in repo.index.outs]
        inside = [Path(dep.fs_path) for dep in repo.index.deps if Path(dep.fs_path).suffix]  # in an output's folder
        stages = len(repo.index.stages)
    files = [out if out.suffix or out.parent.name in ("weights", "data") else out / "content" for out in outs]
    for path in [*inside, *files]:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(path))
    return stages


def rows(size: str) -> list[Row]:
    settings, rounds = SIZES[size]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "clone"

        def python(*command: str) -> str:
            whole = [sys.executable, "-m", *command]
            found = os.environ | {"PYTHONPATH": str(ROOT)}
            return subprocess.run(whole, cwd=folder, env=found, check=True, capture_output=True, text=True).stdout

        def idle(command: str) -> None:
            if "up to date" not in (said := python("dvc", command)):
                raise RuntimeError(f"dvc {command} found something to do: {said[-500:]}")

        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        python("lesions.tools.settings", f"settings/{settings}.yaml")
        (folder / "dvc.lock").unlink()
        n = f"{rounds} rounds, {fill(folder)} stages"
        python("dvc", "commit", "--force", "--quiet")
        seconds = timed({f"dvc {command}": partial(idle, command) for command in ("status", "repro")}, rounds)
    return [row(f"{what}, nothing to do", "–", "–", found, n, "s", "≤", 5) for what, found in seconds.items()]

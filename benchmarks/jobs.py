"""`make repro JOBS=n` against `dvc repro`: the four folds of the residual net's cross-validation.

Two clones with the sample, both at the folds: one thread a stage (compute.threads), epochs enough that a fold's
training outweighs its start. In each round both run the folds anew, one by one and n at once; n is 2, and 4 with --size
full where there are four cores. Checked: both leave the same dvc.lock.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from benchmarks.common import ROOT, Row, duration, environment, figure, main, ratio, timed
from lesions.cores import usable
from lesions.settings import overlaid

FOLDS = [f"cross_validate@residual-{fold}" for fold in range(1, 5)]
SMALL = {
    "compute": {"threads": 1, "device": "cpu"},
    "data": {"isic2020": False, "sample": {"images": 320, "pairs": 40}},
}


@dataclass(frozen=True)
class Size:
    folds: int
    epochs: int
    jobs: int
    rounds: int


SIZES = {"small": Size(2, 1, 2, 1), "usual": Size(4, 8, 2, 2), "full": Size(4, 16, min(4, usable()), 3)}


def rows(size: str) -> list[Row]:
    of = SIZES[size]
    folds = FOLDS[: of.folds]
    with tempfile.TemporaryDirectory() as parent:
        serial, parallel = Path(parent) / "serial", Path(parent) / "parallel"

        def run(folder: Path, *command: str) -> None:
            where = {"cwd": folder, "env": environment() | {"PYTHONHASHSEED": "0"}}  # by which DVC orders targets
            done = subprocess.run([sys.executable, "-m", *command], **where, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-1000:]}")

        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(serial)], check=True)
        chosen = yaml.safe_load((serial / "params.yaml").read_text(encoding="utf-8"))
        over = SMALL | {"classifiers": {"residual": {"epochs": of.epochs}}}
        (serial / "params.yaml").write_text(yaml.safe_dump(overlaid(chosen, over)), encoding="utf-8")
        (serial / "dvc.lock").unlink()
        run(serial, "dvc", "repro", "resize@isic2019")
        shutil.copytree(serial, parallel)
        before = (serial / "dvc.lock").read_bytes()

        def anew(folder: Path, *command: str) -> None:
            """As if no fold had run: without their entries, DVC's memory of runs and checkpoints."""
            (folder / "dvc.lock").write_bytes(before)
            for memory in (".dvc/cache/runs", ".checkpoints"):
                shutil.rmtree(folder / memory, ignore_errors=True)
            run(folder, *command, *folds)

        at_once = partial(anew, parallel, "lesions.parallel", "--jobs", str(of.jobs))
        one_by_one = partial(anew, serial, "dvc", "repro")
        seconds = timed({"at once": at_once, "serial": one_by_one}, of.rounds, warm=0)
        equal = (serial / "dvc.lock").read_bytes() == (parallel / "dvc.lock").read_bytes()
    each = {who: duration(float(found.mean())) for who, found in seconds.items()}
    n = f"{of.rounds} rounds of {len(folds)} folds of {of.epochs} epochs, {usable()} cores"
    return [
        ratio(f"{of.jobs} at once", seconds["serial"], seconds["at once"], each["at once"],
              f"one by one {each['serial']}", n, at_least=0.8 * of.jobs),
        figure("dvc.lock differs", [not equal], "", n, at_most=0),
    ]  # fmt: skip


if __name__ == "__main__":
    main(__doc__, rows)

"""Run every stage once more, alone: what dvc.yaml declares for it, and nothing else, must give the same bytes.

    python -m lesions.tools.verify                     # all stages, in the order of the DAG
    python -m lesions.tools.verify sort@isic2019 train@e_m0     # these

Each stage runs in a folder that has its dependencies alone, without network (if the system lets a user cut it off),
with another seed of Python's hashes and another time zone; params.yaml is whole there, but a key that dvc.yaml does not
declare for the stage cannot be read. The outputs are compared, file by file, with those here, so run `dvc repro` first.
A stage that fails or writes other bytes ends the run and is named, with the first file that differs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from filecmp import cmpfiles
from pathlib import Path

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage

from lesions.cluster.plan import plan
from lesions.core.errors import InputError, run

NO_NETWORK = ["unshare", "--map-root-user", "--net"]
ALWAYS = ("lesions/__init__.py", "stages/__init__.py", "params.yaml")


def in_order(repo: Repo, names: list[str]) -> list[PipelineStage]:
    """Return the stages of those names, or all, each after those that it depends on."""
    known = {stage.addressing: stage for stage in repo.index.stages}
    for name in names:
        if name not in known:
            raise InputError(f"dvc.yaml: no stage {name!r}; dvc stage list names them")
    return [known[name] for name in plan(repo, [])[0] if not names or name in names]


def declared(stage: PipelineStage) -> tuple[list[str], list[str], list[str]]:
    """Return the files and folders that a stage depends on, its parameters, and its outputs."""
    root, keys, files = Path(stage.repo.root_dir), [], []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            keys += dep.params
        else:
            files.append(str(Path(dep.fs_path).relative_to(root)))
    return files, keys, [str(Path(out.fs_path).relative_to(root)) for out in stage.outs]


def place(files: list[str], folder: Path) -> None:
    """Copy the named files and folders of the working directory to the same places in `folder`."""
    for name in files:
        source, target = Path(name), folder / name
        if not source.exists():
            raise InputError(f"{name}: not found; run dvc repro first")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".gitignore"))
        else:
            shutil.copyfile(source, target)


def cut_off() -> list[str]:
    """Return the words that, put before a command, cut off its network; none if that is not allowed."""
    there = shutil.which(NO_NETWORK[0])
    return NO_NETWORK if there and subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode == 0 else []


def again(stage: PipelineStage, folder: Path, prefix: list[str]) -> None:
    """Run the stage in `folder`. Raises InputError with its last line on stderr if it fails."""
    files, keys, _ = declared(stage)
    place([*files, *(name for name in ALWAYS if name not in files)], folder)
    changed = {"LESIONS_DECLARED": " ".join(keys), "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "TQDM_DISABLE": "1"}
    changed |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DVC_ROOT", "DVC_STAGE")}
    done = subprocess.run([*prefix, "sh", "-c", stage.cmd], cwd=folder, env=kept | changed, capture_output=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise InputError(f"{stage.addressing}: failed with what dvc.yaml declares for it: {said.splitlines()[-1]}")


def first_difference(outs: list[str], folder: Path) -> str | None:
    """Return the first file of `outs` that is not the same here and in `folder`, or None."""
    for out in outs:
        names = {
            str(path.relative_to(root))
            for root in (Path(), folder)
            for path in [root / out, *(root / out).rglob("*")]
            if path.is_file() and path.name != ".gitignore"
        }
        _, different, missing = cmpfiles(".", folder, names, shallow=False)
        if different or missing or not names:
            return min([*different, *missing], default=out)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="stage", help="as dvc stage list names them (default: all)")
    args = parser.parse_args()
    prefix = cut_off()
    try:
        with Repo() as repo:
            os.chdir(repo.root_dir)
            stages = in_order(repo, args.stages)
    except DvcException as error:
        raise InputError(f"dvc.yaml: {str(error).splitlines()[0]}") from None
    print(f"{len(stages)} stages, network {'cut off' if prefix else 'not cut off: unshare is not allowed here'}")
    for number, stage in enumerate(stages, start=1):
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lesions-") as folder:
            again(stage, Path(folder), prefix)
            different = first_difference(declared(stage)[2], Path(folder))
        if different:
            raise InputError(f"{stage.addressing}: {different}: other bytes than here; the first output that differs")
        print(f"{number:3}  {stage.addressing}: same bytes ({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    run(main)

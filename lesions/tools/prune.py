"""Remove what no stage of dvc.yaml owns any more: entries of dvc.lock, what they wrote, their logs and checkpoints.

    python -m lesions.tools.prune          # says what goes, and removes it
    python -m lesions.tools.prune --dry    # only says it

A block taken out of params.yaml leaves its models, predictions, metrics and plots behind. Only what dvc.lock names as
the output of such a stage is touched, and logs (runs/) and checkpoints (.checkpoints/) of its name; never a file that
somebody put there. DVC's cache keeps what it cached: put the block back and `dvc repro` brings it back; `dvc gc
--workspace` empties the cache.
"""

import argparse
import shutil
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml, modify_yaml

from lesions.cluster.plan import LOGS, MACHINES
from lesions.core.errors import InputError, run
from lesions.core.resume import STORE

ALONE = ("segment@", "augment_gan@")  # whose checkpoints do not name the one set that they can learn from


def left(stages: dict, names: set[str], outs: set[Path]) -> dict[str, list[Path]]:
    """Return the outputs of the stages of dvc.lock that are not among `names`, by stage.

    outs: what the stages of `names` write. What is one of these, lies in one or has one in it is left out.
    """
    gone = {}
    for name, locked in stages.items():
        if name not in names:
            paths = [Path(out["path"]) for out in locked.get("outs", [])]
            gone[name] = [p for p in paths if not any(p.is_relative_to(o) or o.is_relative_to(p) for o in outs)]
    return gone


def orphans(folder: Path, names: set[str]) -> list[Path]:
    """Return what is in runs/, runs/parallel/ or .checkpoints/ of no stage that there is: train@x has train-x, or, of
    several seeds, train-x-<seed>, or train-x.log."""
    known = {name.replace("@", "-") for name in names} | {LOGS.name, MACHINES.stem}
    known |= {name.partition("@")[0] for name in names if name.startswith(ALONE)}
    return [path for path in sorted(folder.glob("*")) if not {path.stem, path.stem.rpartition("-")[0]} & known]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="say what would go, and leave it")
    args = parser.parse_args()
    try:
        with Repo() as repo:
            root = Path(repo.root_dir)
            names = {stage.addressing for stage in repo.index.stages}
            outs = {Path(out.fs_path).relative_to(root) for out in repo.index.outs}
    except DvcException as error:
        raise InputError(f"dvc.yaml: {str(error).splitlines()[0]}; mend it before pruning") from None
    lock = root / "dvc.lock"
    gone = left(load_yaml(lock).get("stages", {}) if lock.exists() else {}, names, outs)
    written = [root / path for of in gone.values() for path in of]
    beside = [path for folder in (LOGS.parent, LOGS, STORE) for path in orphans(root / folder, names)]
    paths = [path for path in [*written, *beside] if path.exists() or path.is_symlink()]
    for line in [*(f"dvc.lock: {name}" for name in gone), *(str(path.relative_to(root)) for path in paths)]:
        print(line)
    print(f"{len(gone)} entries of dvc.lock, {len(paths)} files and folders {'would go' if args.dry else 'removed'}")
    if args.dry or not (gone or paths):
        return
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if gone:
        with modify_yaml(lock) as locked:
            for name in gone:
                del locked["stages"][name]


if __name__ == "__main__":
    run(main)

"""Run dvc repro with several stages side by side, here or on other machines; leave dvc.lock as a serial run does.

    python -m lesions.tools.parallel                      # all that changed, as many at once as there are cores or GPUs
    python -m lesions.tools.parallel --jobs 2 compare     # these stages and what they depend on, two at once
    python -m lesions.tools.parallel --scheduler tls://head:8786     # on the workers of a Dask scheduler
    python -m lesions.tools.parallel --slurm mine.yaml                # as jobs of Slurm, by this file

DVC's own code reproduces each stage in a worker process, which begins when those that it depends on are done. What it
says goes to runs/parallel/<stage>.log. If a machine has several GPUs, each stage gets one. As in `dvc repro`, after a
failure the running stages finish and no other begins; with --keep-going all begin that do not depend on the failed one.
Ctrl-C and SIGTERM end all on this machine; run it again to go on. Results depend on compute.threads of params.yaml,
each stage's share of the cores, but not on how many stages run at once. docs/cluster.md says how other machines join.
"""

import argparse
import os
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo

from lesions.cluster import engine, joining
from lesions.cluster.head import Head, said
from lesions.cluster.plan import LOGS, log_of, plan, to_run
from lesions.cluster.remaining import Remaining
from lesions.core import config
from lesions.core.errors import InputError, at_least_one, run
from lesions.core.resume import locked
from lesions.core.workers import usable
from lesions.tools import check, estimate


def room(devices: list[str]) -> int:
    """Return how many stages to run at once: one a GPU, or as many as the cores have room for by compute.threads."""
    threads, device = 1, "auto"
    with suppress(InputError):
        threads, device = config.read("compute.threads", int), config.read("compute.device", str)
    return (len(devices) if device != "cpu" else 0) or max(1, usable() // threads)


def remaining(names: list[str]) -> Remaining:
    """Return what says how long those stages will still take; by their number alone where params.yaml is not ours."""
    with suppress(InputError):
        return Remaining(estimate.amounts(names, check.load()), estimate.START)
    return Remaining({}, estimate.START)


def elsewhere(args: argparse.Namespace, repo: Repo) -> AbstractContextManager[engine.Engine | None]:
    """Return the workers that the options ask for beside this machine's; None where they ask for none."""
    if args.scheduler:
        return engine.at(args.scheduler, repo, args.mix, args.certificates)
    return engine.slurm(args.slurm, repo, args.mix) if args.slurm else nullcontext()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="stage", help="as dvc stage list names them (default: all)")
    parser.add_argument("--jobs", "-j", type=at_least_one, help="stages at once here (default: the cores, or the GPUs)")
    parser.add_argument("--keep-going", "-k", action="store_true", help="after a failure go on with other branches")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="tls://MACHINE:PORT", help="give stages to the workers of this scheduler")
    where.add_argument("--slurm", type=Path, metavar="SETTINGS", help="give stages to jobs of Slurm, by this file")
    parser.add_argument("--certificates", type=Path, default=engine.CERTIFICATES, help="folder (default: %(default)s)")
    parser.add_argument("--mix", action="store_true", help="take workers of several models of CPU or GPU")
    args = parser.parse_args()
    try:
        with Repo(_wait_for_lock=True) as repo, locked(Path(repo.root_dir) / LOGS):
            os.chdir(repo.root_dir)
            whole = plan(repo, [])
            order, graph = plan(repo, args.targets) if args.targets else whole
            changed = repo.status(args.targets or None, with_deps=bool(args.targets))
            wanted = to_run(order, graph, set(changed))
            print(f"{len(order) - len(wanted)} of {len(order)} stages are up to date", flush=True)
            if not wanted:
                return
            jobs = min(args.jobs or room(joining.gpus()), len(wanted))
            with elsewhere(args, repo) as away, engine.local(repo, jobs) as home:
                failed = Head(repo, wanted, home, away, whole, remaining(order)).run(args.keep_going)
    except DvcException as error:
        raise InputError(f"dvc: {error}") from None
    if failed:
        why = "; ".join(f"{name}: failed: {said(name)} ({log_of(name)})" for name in failed)
        raise InputError(f"{why}; mend it and run again to go on")


if __name__ == "__main__":
    run(main)

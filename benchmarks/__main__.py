"""Run benchmarks and write what they found, with machine, versions, date and commit, to docs/results/bench.md.

    python -m benchmarks                  # all: make bench
    python -m benchmarks prepare --size full

A benchmark that is not named keeps its section of the page.
"""

import argparse
import datetime
import re
import subprocess
from importlib import import_module
from pathlib import Path

from benchmarks import common
from lesions.core.errors import run
from lesions.core.files import write_text

NAMES = ("prepare", "step", "feed", "peers", "serve", "dag", "cluster")
PAGE = Path("docs/results/bench.md")
INTRO = """# How fast

Written by `make bench` (`make bench ONLY=prepare SIZE=full`: one of them, at its full size), but for what is gone.
Measured: the median of the rounds' ratios, [smallest, largest]; in each round all competitors run once, in turn.
Wanted: what we want to reach; **no** where we do not. fastai is not compared with.

"""


def commit() -> str:
    """Name the commit, and say whether anything else than the page that is written here differs from it."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=common.ROOT, capture_output=True, text=True)
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ".", f":!{PAGE}"], cwd=common.ROOT)
    return head.stdout.strip() + "-dirty" * (changed.returncode == 1)


def section(name: str, size: str) -> str:
    """Run a benchmark; return its part of the page."""
    module, today = import_module(f"benchmarks.{name}"), datetime.date.today()
    head = f"`python -m benchmarks {name} --size {size}`, {today}, commit {commit()}. {common.machine()}."
    return f"{module.__doc__}\n{head}\n\n{common.table(module.rows(size))}\n"


def page(old: str, name: str, found: str) -> str:
    """Return the page `old` with what was `found` as the section `name`; sections that no benchmark writes are last."""
    _, *parts = re.split(r"^## (\w+)\n\n", old, flags=re.M)
    sections = dict(zip(parts[::2], parts[1::2], strict=True)) | {name: found}
    names = dict.fromkeys([*NAMES, *sections])
    return INTRO + "\n\n".join(f"## {n}\n\n{sections[n].strip()}" for n in names if n in sections) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    parser.add_argument("--size", choices=common.SIZES, default="usual")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; expected some of {', '.join(NAMES)}")
    for name in args.names or NAMES:
        found = section(name, args.size)
        print(f"{name}\n\n{found}", flush=True)
        write_text(PAGE, page(PAGE.read_text(encoding="utf-8"), name, found))


if __name__ == "__main__":
    run(main)

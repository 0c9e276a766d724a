"""Run benchmarks and write what they found, with machine, versions, date and commit, to docs/results/bench.md.

    python -m benchmarks                  # all: make bench
    python -m benchmarks prepare --size full

A benchmark that was not asked for keeps its section of the page. Each runs in a process of its own.
"""

import argparse
import ast
import datetime
import re
import subprocess
import sys
from pathlib import Path

from benchmarks import common
from lesions.errors import run
from lesions.files import replacing

NAMES = ("prepare", "step", "memory", "feed", "peers", "gan", "startup", "dag", "jobs")
PAGE = "docs/results/bench.md"
INTRO = """# How fast

Written by `make bench` (`make bench ONLY=prepare SIZE=full`: one of them, at its full size); nothing here is typed.
Measured: the median of the rounds' ratios, [smallest, largest]; in each round all competitors run once, in turn.
Wanted: what we want to reach; **no** where we do not. fastai is not compared with.

"""


def commit() -> str:
    """The commit, and whether anything else than the page that is written here differs from it."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=common.ROOT, capture_output=True, text=True)
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ".", f":!{PAGE}"], cwd=common.ROOT)
    return head.stdout.strip() + "-dirty" * (changed.returncode == 1)


def section(name: str, size: str) -> str:
    """A benchmark's part of the page. Raises CalledProcessError if it fails."""
    command = ["python", "-m", f"benchmarks.{name}", "--size", size]
    about = ast.get_docstring(ast.parse((common.ROOT / f"benchmarks/{name}.py").read_text(encoding="utf-8")))
    head = (
        f"`{' '.join(command)}`, {datetime.date.today()}, commit {commit()}. {common.machine()}. {common.versions()}."
    )
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=common.ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return f"{about}\n\n{head}\n\n{done.stdout}\n"


def page(sections: dict[str, str]) -> str:
    return INTRO + "".join(f"## {name}\n\n{sections[name]}" for name in NAMES if name in sections).rstrip("\n") + "\n"


def held(path: Path) -> dict[str, str]:
    """The sections of an earlier page, by name."""
    if not path.exists():
        return {}
    _, *parts = re.split(r"^## (\w+)\n\n", path.read_text(encoding="utf-8"), flags=re.M)
    return {name: text.rstrip("\n") + "\n\n" for name, text in zip(parts[::2], parts[1::2], strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    parser.add_argument("--size", choices=common.SIZES, default="usual")
    parser.add_argument("--out", type=Path, default=Path(PAGE))
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; expected some of {', '.join(NAMES)}")
    for name in args.names or NAMES:
        found = section(name, args.size)
        print(f"{name}\n\n{found}", flush=True)
        with replacing(args.out) as part:
            part.write_text(page(held(args.out) | {name: found}), encoding="utf-8")


if __name__ == "__main__":
    run(main)

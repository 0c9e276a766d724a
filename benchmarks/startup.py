"""What a stage costs before it begins: `python -m stages.<name> --help`, over importing in a bare Python the heaviest
of what the stage loads: TensorFlow, torch, or pandas where neither. The two Keras stages load the backend that
params.yaml names after this, once they have read it."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, Row, duration, environment, main, ratio, timed

HEAVY = ("tensorflow", "torch")
SIZES = {"small": (1, ("sort",)), "usual": (5, ()), "full": (15, ())}  # rounds, stages (none: all)


def python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, text=True).stdout


def loaded(stage: str) -> list[str]:
    """Which of HEAVY `stage` imports."""
    code = f"import stages.{stage}, sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    return python("-c", code).split()


def rows(size: str) -> list[Row]:
    rounds, names = SIZES[size]
    names = names or sorted(path.stem for path in Path(ROOT, "stages").glob("*.py") if path.stem != "__init__")
    loads = {name: loaded(name) for name in names}
    floors = {name: (found or ["pandas"])[0] for name, found in loads.items()}
    competitors = {name: lambda name=name: python("-m", f"stages.{name}", "--help") for name in names}
    for floor in sorted(set(floors.values())):
        competitors[f"import {floor}"] = lambda floor=floor: python("-c", f"import {floor}")
    seconds = timed(competitors, rounds)
    each = {name: duration(float(np.median(found))) for name, found in seconds.items()}
    rows = []
    for name in names:
        floor = f"import {floors[name]}"
        what = f"{name}: loads {' and '.join(loads[name]) or 'neither TensorFlow nor torch'}"
        rows.append(
            ratio(what, seconds[name], seconds[floor], each[name], f"{floor} {each[floor]}", f"{rounds} rounds")
        )
    return rows


if __name__ == "__main__":
    main(__doc__, rows)

"""Each benchmark at its smallest size: that it runs, and what it says of equality; not how fast anything is."""

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import common
from tests.conftest import ROOT

EXACT = {"prepare": ("– largest difference from Pillow's", "– bytes that differ")}  # what must hold on every machine


def rows(name: str) -> list[common.Row]:
    """Return a benchmark's, run in a process of its own."""
    code = (
        "import dataclasses, json; from importlib import import_module\n"
        f"rows = import_module('benchmarks.{name}').rows('small')\n"
        "print(json.dumps([dataclasses.asdict(row) for row in rows]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [common.Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


@pytest.mark.slow
@pytest.mark.parametrize("name", bench.NAMES)
def test_each_runs_and_its_equalities_hold(name):
    found = rows(name)
    exact = [row for row in found if row.what in EXACT.get(name, ())]
    for row in found:
        assert 0 <= row.low <= row.value <= row.high and math.isfinite(row.high), row
        assert row.value > 0 or row.unit in ("levels", "bytes"), row
    assert {row.what for row in exact} == set(EXACT.get(name, ()))
    assert [row for row in exact if row.cells()[5] != "yes"] == []


def test_competitors_run_in_turn_and_the_order_turns():
    ran = []
    seconds = common.timed({name: lambda name=name: ran.append(name) for name in "abc"}, rounds=3, warm=1)
    assert "".join(ran) == "abc" + "bca" + "cab" + "abc"
    assert {name: len(found) for name, found in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_the_median_of_the_rounds():
    row = common.ratio("x", np.array([2.0, 9.0, 30.0]), np.array([1.0, 3.0, 3.0]), "", "", "", at_least=3)
    assert (row.value, row.low, row.high) == (3, 2, 10) and row.cells()[3:6] == ["3 [2, 10] ×", "≥ 3 ×", "yes"]
    row = common.ratio("x", np.array([2.0]), np.array([1.0]), "", "", "", at_most=1.5)
    assert row.cells()[3:6] == ["2 ×", "≤ 1.5 ×", "**no**"]
    assert dataclasses.replace(row, at_most=None).cells()[4:6] == ["–", "–"]


def test_the_page_keeps_what_was_not_run_again(tmp_path):
    path, old = tmp_path / "bench.md", {"prepare": "one\n\n", "dag": "two\n\n"}
    path.write_text(bench.page(old))
    assert bench.held(path) == old and bench.held(tmp_path / "none.md") == {}
    again = bench.page(bench.held(path) | {"feed": "new\n\n"})
    assert [again.index(text) for text in ("one", "new", "two")] == sorted(
        again.index(t) for t in ("one", "new", "two")
    )


def test_every_benchmark_is_run_by_make_bench():
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert files - {"__init__", "__main__", "common", "data"} == set(bench.NAMES)

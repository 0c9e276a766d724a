"""Each benchmark at its smallest size: that it runs; not how fast anything is."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import common, prepare
from lesions.pictures import color
from lesions.pictures.config import ShadesOfGray
from tests.conftest import ROOT


def rows(name: str) -> list[common.Row]:
    """Return a benchmark's, run in a process of its own."""
    code = f"import json; from benchmarks import {name}; print(json.dumps({name}.rows('small')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", bench.NAMES)
def test_each_runs(name):
    for row in rows(name):
        assert len(row) == 7
        value, low, high = map(float, re.findall(r"[\d.]+", row[3]))
        assert 0 < low <= value <= high, row


@pytest.mark.parametrize(("name", "p"), prepare.POWERS.items())
def test_colours_are_those_of_the_plain_formula_to_the_byte(name, p):
    (image,) = prepare.by_pillow(prepare.jpeg(0, 512))
    assert (color.method(name, ShadesOfGray(p=max(p, 1)))(image) == prepare.plain(image, name, p)).all()


def test_competitors_run_in_turn_and_the_order_turns():
    ran = []
    seconds = common.timed({name: lambda name=name: ran.append(name) for name in "abc"}, rounds=3)
    assert "".join(ran) == "abc" + "bca" + "cab" + "abc"
    assert {name: len(found) for name, found in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_the_median_of_the_rounds():
    seconds = {"ours": np.array([1.0, 3.0, 3.0]), "b": np.array([2.0, 9.0, 30.0])}
    row = common.ratio("x", seconds, ("ours", "b"), 10, "step", wanted=3)
    assert row == ["x", "300 ms/step", "b 900 ms/step", "3 [2, 10] ×", "≥ 3 ×", "yes", "3 rounds of 10 steps"]
    seconds = {"feed": np.array([2.0]), "held": np.array([1.0])}
    row = common.ratio("x", seconds, ("feed", "held"), 1, "step", "≤", 1.5)
    assert row[3:6] == ["2 [2, 2] ×", "≤ 1.5 ×", "**no**"]
    assert common.ratio("x", seconds, ("feed", "held"), 1, "step")[3:6] == ["0.5 [0.5, 0.5] ×", "–", "–"]


def test_the_page_keeps_what_was_not_run_again():
    old = bench.page(bench.page(bench.page("", "gone", "why\n"), "dag", "two\n\n"), "prepare", "one")
    new = bench.page(old, "feed", "new\n")
    assert new == f"{bench.INTRO}## prepare\n\none\n\n## feed\n\nnew\n\n## dag\n\ntwo\n\n## gone\n\nwhy\n"
    assert bench.page(new, "feed", "new") == new


def test_every_benchmark_is_run_by_make_bench():
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert files - {"__init__", "__main__", "common", "data"} == set(bench.NAMES)

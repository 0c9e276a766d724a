"""Each benchmark at its smallest size: that it runs, and what it says of equality; not how fast anything is."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import common, prepare, step
from lesions import params
from tests.conftest import ROOT

EXACT = {  # what must hold on every machine
    "prepare": ("– largest difference from Pillow's", "– bytes that differ"),
    "jobs": ("dvc.lock differs",),
    "gan": ("largest difference of the losses, at once − ours",),
}


def rows(name: str) -> list[common.Row]:
    """Of a benchmark in a process of its own, as `make bench` runs it."""
    code = (
        "import dataclasses, json, sys; from importlib import import_module\n"
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
        assert row.value > 0 or row.unit in ("levels", "bytes", ""), row
    assert {row.what for row in exact} == set(EXACT.get(name, ()))
    assert [row for row in exact if row.met() != "yes"] == []


def test_competitors_run_in_turn_and_the_order_turns():
    ran = []
    seconds = common.timed({name: lambda name=name: ran.append(name) for name in "abc"}, rounds=3, warm=1)
    assert "".join(ran) == "abc" + "bca" + "cab" + "abc"
    assert {name: len(found) for name, found in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_the_median_of_the_rounds():
    row = common.ratio("x", np.array([2.0, 9.0, 30.0]), np.array([1.0, 3.0, 3.0]), "", "", "", at_least=3)
    assert (row.value, row.low, row.high, row.met()) == (3, 2, 10, "yes")
    assert common.ratio("x", np.array([2.0]), np.array([1.0]), "", "", "", at_most=1.5).met() == "**no**"


def test_the_verdict_on_a_switch_is_its_mean_gain():
    def row(value, *key):
        return common.Row("x", "", "", value, value, value, "", key=key)

    one = [row(0.9, "cpu", "a", "fused"), row(1.2, "cpu", "a", "fused")]
    other = [row(0.9, "cpu", "b", "fused"), row(1.1, "cpu", "b", "amp")]
    assert step.verdict([row(0.7), *one, *other]) == '`slower: {"cpu": {"b": ["fused"]}}`'
    assert step.verdict([*one, row(0.5, "cpu", "a", "compile")]) == '`slower: {"cpu": {"a": ["compile"]}}`'
    assert step.verdict(one) == '`slower: {"cpu": {}}`'


def test_params_yaml_says_what_the_page_found():
    """By its table, not by belief: after `make bench ONLY=step` its last line belongs into params.yaml."""
    said = re.search(r"^`slower: (.*)`$", (ROOT / bench.PAGE).read_text(encoding="utf-8"), re.M)
    (device, found) = json.loads(said[1]).popitem()
    asked = params.load(ROOT / "params.yaml").slower[device]
    assert {name: list(switches) for name, switches in asked.items()} == found


def test_peak_memory_is_that_of_the_command(tmp_path):
    """And of its children; a file that is mapped and read counts apart."""
    (tmp_path / "file").write_bytes(b"x" * 200_000_000)
    code = (
        "import mmap, os, time; mapped = mmap.mmap(os.open('file', os.O_RDONLY), 0, prot=mmap.PROT_READ)\n"
        "touched = [mapped[i] for i in range(0, len(mapped), 4096)]\n"
        "child = os.fork() == 0; held = b'x' * 150_000_000; time.sleep(2)\n"
        "child or os.wait()"
    )
    whole, own = common.peak([sys.executable, "-c", code], tmp_path)
    assert 3e8 < own < 3.5e8 and own + 2e8 < whole < 6e8
    with pytest.raises(subprocess.CalledProcessError):
        common.peak([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


@pytest.mark.parametrize(("slope", "found"), [(1e-3, [1.0, 1.0]), (1e-4, []), (-1e-3, [])])
def test_what_a_further_image_costs_is_said_where_it_can_be_told(monkeypatch, slope, found):
    """A start of three seconds is not in it; less than a second for all of them is no measurement."""
    said = [1_000, 6_000, 11_000]
    timed = {count: np.full((5, 2), 3 + slope * count) for count in said}
    monkeypatch.setattr(prepare, "timed", lambda *args, **options: timed)
    rows = prepare.cost("resize", [], dict.fromkeys(said), 5)
    assert [row.value for row in rows] == pytest.approx(found)
    assert all("1 ms" in row.ours and row.met() == "yes" for row in rows)


def test_the_page_keeps_what_was_not_run_again(tmp_path):
    path, old = tmp_path / "bench.md", {"prepare": "one\n\n", "dag": "two\n\n"}
    path.write_text(bench.page(old))
    assert bench.held(path) == old
    again = bench.page(bench.held(path) | {"feed": "new\n\n"})
    assert [again.index(text) for text in ("one", "new", "two")] == sorted(
        again.index(t) for t in ("one", "new", "two")
    )


def test_every_benchmark_is_run_by_make_bench():
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert files - {"__init__", "__main__", "common", "data", "plain_gan"} == set(bench.NAMES)

"""Stages side by side, on a small DVC project of shell one-liners."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.lock import make_lock

from lesions.cluster import joining, plan
from tests.conftest import ROOT, hear_sigint

pytestmark = pytest.mark.slow

# root -> a, b, c -> end; each leaves when it began and ended in times/, which DVC does not know. c is the first to end.
STAGES = """
stages:
  end:
    cmd: ./stage end "" out/a out/b out/c
    deps: [stage, out/a, out/b, out/c]
    outs: [out/end]
  middle:
    foreach: ${middle}
    do:
      cmd: ./stage ${key} "${item}" out/root
      params: ["middle.${key}"]
      deps: [stage, out/root]
      outs: ["out/${key}"]
  root:
    cmd: ./stage root "" in
    deps: [stage, in]
    outs: [out/root]
  lone:
    cmd: ./stage lone "" in
    deps: [stage, in]
    outs: [out/lone]
"""
STAGE = """#!/bin/sh
set -e
name=$1; mkdir -p out times; date +%s.%N > times/$name.begun
did=$2; eval "$did"
shift 2; cat "$@" > out/$name; echo $name $did >> out/$name
echo "gpu ${CUDA_VISIBLE_DEVICES:-none}"; date +%s.%N > times/$name.ended
"""
SLOW, FAST, BAD = "sleep 5", "sleep 0.1", "false"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1", "PYTHONHASHSEED": "0"}
for name in ("CUDA_VISIBLE_DEVICES", "DVC_ROOT", "DVC_STAGE"):
    ENVIRONMENT.pop(name, None)
COMMAND = [sys.executable, "-m", "lesions.tools.parallel"]


def set_middle(folder: Path, **commands: str) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump({"middle": commands}, sort_keys=False))


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """The project, of which nothing has run."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / "stage").write_text(STAGE)
    (folder / "stage").chmod(0o755)
    (folder / "in").write_text("in\n")
    (folder / ".gitignore").write_text("/out\n/runs\n/times\n")
    set_middle(folder, a=SLOW, b=SLOW, c=FAST)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    return folder


@pytest.fixture
def project(empty, tmp_path) -> Path:
    return Path(shutil.copytree(empty, tmp_path / "project"))


def repro(folder: Path, *options: str, command: list[str] = COMMAND, rc: int = 0, **more: str) -> str:
    done = subprocess.run(
        [*command, *options], cwd=folder, env=ENVIRONMENT | more, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == rc and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def serial(empty, tmp_path_factory) -> bytes:
    """dvc.lock as dvc repro leaves it."""
    folder = Path(shutil.copytree(empty, tmp_path_factory.mktemp("serial") / "project"))
    repro(folder, "repro", command=[sys.executable, "-m", "dvc"])
    return (folder / "dvc.lock").read_bytes()


def times(folder: Path) -> dict[str, tuple[float, float]]:
    read = {path.name: float(path.read_text()) for path in (folder / "times").iterdir()}
    names = {name.partition(".")[0] for name in read}
    return {name: (read[f"{name}.begun"], read[f"{name}.ended"]) for name in names}


def most_at_once(spans) -> int:
    return max(sum(begun <= moment < ended for begun, ended in spans) for moment, _ in spans)


def locked(folder: Path) -> list[str]:
    return list(yaml.safe_load((folder / "dvc.lock").read_text())["stages"])


def test_side_by_side_in_order_to_the_same_lock_and_then_nothing_to_do(project, serial):
    said = repro(project, "--jobs", "4")
    ran = times(project)
    assert set(ran) == {"root", "a", "b", "c", "end", "lone"}
    for name in "abc":
        assert ran["root"][1] < ran[name][0] and ran[name][1] < ran["end"][0]
    assert max(ran["a"][0], ran["b"][0]) < min(ran["a"][1], ran["b"][1])
    assert (project / "dvc.lock").read_bytes() == serial
    assert "0 of 6 stages are up to date" in said and said.count(": begun") == said.count(": done") == 6
    assert "Running stage 'middle@a'" in (project / "runs/parallel/middle-a.log").read_text()
    begun = (project / "runs/parallel/middle-a.log").stat().st_mtime_ns
    assert "6 of 6 stages are up to date" in repro(project, "--jobs", "4")
    assert (project / "runs/parallel/middle-a.log").stat().st_mtime_ns == begun


def test_at_most_so_many_at_once_and_only_what_a_target_needs(project):
    set_middle(project, a=FAST, b=SLOW, c=SLOW)
    repro(project, "--jobs", "2", "end")
    ran = times(project)
    assert set(ran) == {"root", "a", "b", "c", "end"}
    assert most_at_once(ran.values()) == 2


def test_only_what_changed_runs_and_a_new_stage_goes_where_a_serial_run_from_nothing_puts_it(project):
    repro(project, "--jobs", "3")
    set_middle(project, a=FAST, new=FAST, b=SLOW, newer="sleep 0", c=FAST)
    other = Path(shutil.copytree(project, project.with_name("other"), symlinks=True))
    said = repro(project, "--jobs", "3")
    assert {line.split()[1] for line in said.splitlines() if line.endswith("begun")} == {
        "middle@a:", "middle@new:", "middle@newer:", "end:",
    }  # fmt: skip
    (other / "dvc.lock").unlink()
    repro(other, "repro", command=[sys.executable, "-m", "dvc"])
    assert (project / "dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()


def test_what_most_depends_on_is_most_urgent():
    graph = {"short": set(), "long": set(), "after": {"short"}, "last": {"after", "long"}}
    found = plan.urgency(graph, {"short": 1, "long": 4, "after": 5})
    assert found == {"short": 6, "long": 4, "after": 5, "last": 0}


def test_a_machine_that_sleeps_goes_on_with_what_it_was_at(project, serial):
    """Longer than Dask waits for a sign of life."""
    short = ENVIRONMENT | {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "2s"}
    head = subprocess.Popen([*COMMAND, "--jobs", "2"], cwd=project, env=short, stdout=subprocess.PIPE, text=True)
    wait_for((project / "times/a.begun").exists)
    asleep = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
    for process in asleep:
        process.suspend()
    time.sleep(5)
    for process in asleep:
        process.resume()
    said = head.communicate(timeout=60)[0]
    assert head.returncode == 0 and said.count("middle@a: begun") == 1 and (project / "dvc.lock").read_bytes() == serial


def test_a_failure_lets_the_others_finish_and_is_one_line(project, serial):
    set_middle(project, a=BAD, b=SLOW, c="sleep 0.2")
    said = repro(project, "--jobs", "3", "end", rc=1)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "middle@a: failed: " in line and "(runs/parallel/middle-a.log)" in line
    assert "exited with 1" in line
    assert sorted(locked(project)) == ["middle@b", "middle@c", "root"]
    set_middle(project, a=SLOW, b=SLOW, c=FAST)
    repro(project, "--jobs", "3")
    assert (project / "dvc.lock").read_bytes() == serial


def test_after_a_failure_it_begins_nothing_unless_told_to_keep_going(project):
    set_middle(project, a=BAD, b=FAST, c=FAST)
    repro(project, "--jobs", "1", "end", rc=1)
    assert locked(project) == ["root"]
    repro(project, "--jobs", "1", "--keep-going", rc=1)
    assert sorted(locked(project)) == ["lone", "middle@b", "middle@c", "root"]


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds; it must within a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running(folder: Path) -> list[Path]:
    """Processes whose working directory is the project."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder and (process / "cmdline").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_it_leaves_nothing_running_and_goes_on_to_the_same_lock(project, serial, sign):
    runner = subprocess.Popen(
        [*COMMAND, "--jobs", "2"], cwd=project, env=ENVIRONMENT, stderr=subprocess.PIPE, preexec_fn=hear_sigint
    )
    wait_for((project / "times/a.begun").exists)
    runner.send_signal(sign)
    runner.communicate(timeout=30)
    assert runner.returncode == {signal.SIGKILL: -9}.get(sign, 128 + sign)
    if sign == signal.SIGKILL:  # children end with it, and real stages with them (core/process.py); this shell does not
        wait_for(lambda: not running(project))
    assert running(project) == []
    assert not (project / "times/a.ended").exists() or sign == signal.SIGKILL
    repro(project, "--jobs", "2")
    assert (project / "dvc.lock").read_bytes() == serial


def test_it_ends_though_another_process_holds_dvcs_lock(project, serial):
    runner = subprocess.Popen(
        [*COMMAND, "--jobs", "2"], cwd=project, env=ENVIRONMENT, stderr=subprocess.PIPE, preexec_fn=hear_sigint
    )
    wait_for((project / "times/a.begun").exists)
    with make_lock(str(project / ".dvc/tmp/lock"), str(project / ".dvc/tmp")):
        runner.send_signal(signal.SIGINT)
        runner.communicate(timeout=30)
    assert runner.returncode == 128 + signal.SIGINT
    repro(project, "--jobs", "2")
    assert (project / "dvc.lock").read_bytes() == serial


def test_a_second_run_waits_for_the_first(project, serial):
    first, second = (
        subprocess.Popen([*COMMAND, "--jobs", "2"], cwd=project, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    said = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert sorted(out.count(": done") for out in said) == [0, 6]
    assert (project / "dvc.lock").read_bytes() == serial


def test_gpus_are_dealt_out(project):
    repro(project, "--jobs", "3", "end", CUDA_VISIBLE_DEVICES="4,GPU-x")
    given = [(project / f"runs/parallel/middle-{name}.log").read_text().split("gpu ")[1].split()[0] for name in "ab"]
    assert sorted(given) == ["4", "GPU-x"]


def test_what_depends_on_a_change_runs_and_nothing_else():
    graph = {"root": set(), "a": {"root"}, "b": {"root"}, "end": {"a", "b"}, "lone": set()}
    assert plan.to_run(list(graph), graph, {"a"}) == {"a": set(), "end": {"a"}}
    assert plan.to_run(list(graph), graph, {"root"}) == {name: graph[name] for name in ("root", "a", "b", "end")}
    assert plan.to_run(list(graph), graph, set()) == {}


def test_one_gpu_or_none_is_left_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert joining.gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert joining.gpus() == ["2"]


@pytest.mark.parametrize(("options", "said"), [(["--jobs", "0"], "1 or more"), (["--jobs", "1", "nothing"], "nothing")])
def test_wrong_options_are_one_line(project, options, said):
    assert said in repro(project, *options, rc=2 if "0" in options else 1)


def test_the_lock_is_written_on_the_way_too(project, serial):
    """Each time that a stage has ended, between the reads of those that run."""
    (project / "often.py").write_text(
        "from lesions.cluster import head\n"
        "from lesions.core.errors import run\n"
        "from lesions.tools import parallel\n\n"
        'if __name__ == "__main__":\n'
        "    head.WRITE_EVERY, written, write = 0, [], head.dump_yaml\n"
        "    head.dump_yaml = lambda path, held: written.append(len(held['stages'])) or write(path, held)\n"
        "    run(parallel.main)\n"
        '    print("written:", written)\n'
    )
    said = repro(project, command=[sys.executable, "often.py"])
    counts = [int(count) for count in said.split("written: [")[1].split("]")[0].split(",")]
    assert counts == sorted(set(counts)) and len(counts) > 2 and counts[-1] == 6
    assert (project / "dvc.lock").read_bytes() == serial

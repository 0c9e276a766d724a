"""What is pruned, and what is not."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lesions.core.errors import InputError
from lesions.tools import prune

STAGES = """
stages:
  train:
    foreach: ${blocks}
    do:
      cmd: mkdir -p models/${key} data/out && echo ${item} > models/${key}/w && echo ${item} > data/out/${key}.csv
      outs: ["models/${key}", "data/out/${key}.csv"]
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Two blocks reproduced, of which one is then taken out; logs of each, of a second seed, and a stranger's file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(STAGES)
    (tmp_path / "params.yaml").write_text("blocks: {stays: 1, goes: 2}")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "repro"]):
        program = [sys.executable, "-m", *command] if command[0] == "dvc" else command
        done = subprocess.run(program, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for name in ("train-stays", "train-stays-1", "train-goes", "train-goes-1"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("train-stays.log", "train-goes.log"):
        (tmp_path / "runs/parallel").mkdir(exist_ok=True)
        (tmp_path / "runs/parallel" / name).touch()
    (tmp_path / "data/out/mine.csv").write_text("not DVC's")
    (tmp_path / "params.yaml").write_text("blocks: {stays: 1}")
    return tmp_path


def pruned(monkeypatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["prune", *options])
    prune.main()


def below(folder: Path) -> set[str]:
    return {
        str(p.relative_to(folder))
        for top in ("models", "data", "runs")
        for p in (folder / top).rglob("*")
        if p.name[0] != "."
    }


def test_what_no_stage_owns_goes(project, monkeypatch, capsys):
    before, lock = below(project), (project / "dvc.lock").read_bytes()
    pruned(monkeypatch, "--dry")
    assert below(project) == before and (project / "dvc.lock").read_bytes() == lock
    pruned(monkeypatch)
    assert "1 entries of dvc.lock, 5 files and folders removed" in capsys.readouterr().out
    assert below(project) == {
        "models/stays", "models/stays/w", "data/out", "data/out/stays.csv", "data/out/mine.csv",
        "runs/train-stays", "runs/train-stays-1", "runs/parallel", "runs/parallel/train-stays.log",
    }  # fmt: skip
    assert list(yaml.safe_load((project / "dvc.lock").read_text())["stages"]) == ["train@stays"]
    said = subprocess.run([sys.executable, "-m", "dvc", "status"], capture_output=True, text=True, check=True)
    assert "up to date" in said.stdout


def test_the_block_that_comes_back_is_served_from_the_cache(project, monkeypatch):
    pruned(monkeypatch)
    (project / "params.yaml").write_text("blocks: {stays: 1, goes: 2}")
    subprocess.run([sys.executable, "-m", "dvc", "repro"], check=True, capture_output=True)
    assert (project / "models/goes/w").read_text() == "2\n"


def test_what_another_stage_writes_stays():
    locked = {"old": {"outs": [{"path": "models/a"}, {"path": "models"}, {"path": "models/a/b"}, {"path": "data/x"}]}}
    assert prune.left(locked, {"new"}, {Path("models/a")}) == {"old": [Path("data/x")]}


def test_a_broken_dag_is_one_line(project, monkeypatch):
    (project / "params.yaml").write_text("block: {}")
    with pytest.raises(InputError, match=r"^dvc\.yaml: .*; mend it before pruning$"):
        pruned(monkeypatch)


def test_what_a_stage_of_one_set_keeps_under_its_own_name_stays(tmp_path):
    for name in ("segment", "augment_gan", "train-gone"):
        (tmp_path / name).mkdir()
    names = {"segment@isic2018", "augment_gan@isic2019", "train@lite0"}
    assert [path.name for path in prune.orphans(tmp_path, names)] == ["train-gone"]
    assert len(prune.orphans(tmp_path, {"train@lite0"})) == 3

"""dvc.yaml against the sources: a stage declares what it imports and the parameters it reads; no more, no less."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from tests import dag
from tests.conftest import STREWN

STAGES = dag.stages()


@pytest.mark.parametrize("name", STAGES)
def test_declared_sources_are_those_imported(name):
    expected = dag.needed(dag.script(STAGES[name]))
    assert dag.sources(STAGES[name]) == expected and len(expected) > 2


@pytest.mark.parametrize("name", STAGES)
def test_declared_params_are_those_read(name):
    assert dag.declared_params(STAGES[name]) == dag.read_params(dag.script(STAGES[name]))


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_says_what_it_does(name):
    assert STAGES[name]["desc"]
    script = dag.script(STAGES[name])
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{script.stem}", "--help"], cwd=dag.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and f"python -m stages.{script.stem}" in done.stdout


def test_only_keras_stages_import_tensorflow():
    """What any of a stage's sources imports, at its head or inside of a function."""
    heavy = set()
    for name, stage in STAGES.items():
        script = dag.script(stage)
        for source in (script, *(dag.ROOT / path for path in dag.imported(script))):
            if {"tensorflow", "keras"} & {one.partition(".")[0] for one in dag.imports(source)}:
                heavy.add(name)
    assert heavy == {"augment_gan", "base_model"}


def test_the_lock_is_of_one_run():
    """A file has the same hash wherever dvc.lock names it: what one stage wrote is what the next one read."""
    lock = yaml.safe_load((dag.ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    hashes: dict[str, set[str]] = {}
    for stage in lock.values():
        for entry in [*stage.get("deps", []), *stage.get("outs", [])]:
            hashes.setdefault(entry["path"], set()).add(entry["md5"])
    assert {path: found for path, found in hashes.items() if len(found) > 1} == {}


def test_what_dvc_reads_stays_short():
    """dvc.yaml: 190 lines for 16 stages, 15 for each more; dvc.lock: 100 a stage."""
    made = yaml.safe_load((dag.ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    for name, most in (("dvc.yaml", 190 + 15 * (len(STAGES) - 16)), ("dvc.lock", 100 * len(made))):
        assert len((dag.ROOT / name).read_text(encoding="utf-8").splitlines()) <= most


def test_bytecode_and_litter_change_no_status(tmp_path, monkeypatch):
    """What Python, systems and editors strew into a wing; a source that is put there does."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(dag.ROOT / "lesions/isic", "isic", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(dag.ROOT / ".dvcignore", ".")
    Path("dvc.yaml").write_text("stages: {x: {cmd: 'true', deps: [isic]}}")
    Repo.init(no_scm=True).commit(force=True)
    for name in (*STREWN, "__pycache__/x.pyc", ".ipynb_checkpoints/x.py", ".x.py.swp", "x.py~"):
        Path("isic", name).parent.mkdir(parents=True, exist_ok=True)
        Path("isic", name).write_text("x")
    assert Repo().status() == {}
    Path("isic/more.py").write_text("x")
    assert list(Repo().status()) == ["x"]

"""dvc.yaml against the sources: a stage declares what it imports and the parameters it reads; no more, no less."""

import ast
import subprocess
import sys

import pytest
import yaml

from tests import dag

STAGES = dag.stages()


@pytest.mark.parametrize("name", STAGES)
def test_declared_modules_are_those_imported(name):
    body = STAGES[name]
    script = dag.script(body)
    expected = dag.imported(script) | {str(script.relative_to(dag.ROOT))}
    assert dag.modules(body) == expected, "python tests/dag.py mends dvc.yaml"


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
    """What any of a stage's modules imports, at its head or inside of a function."""
    heavy = set()
    for name, stage in STAGES.items():
        for module in dag.modules(stage):
            nodes = list(ast.walk(ast.parse((dag.ROOT / module).read_text(encoding="utf-8"))))
            found = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
            found += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
            if {"tensorflow", "keras"} & {one.partition(".")[0] for one in found}:
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


def test_dvc_yaml_stays_short():
    assert len((dag.ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) < 200

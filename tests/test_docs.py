"""What the documents say of the repository is so."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from dvc.utils.hydra import apply_overrides

from lesions import networks
from lesions.core.config import PARAMS, read_yaml
from lesions.networks import build
from lesions.tools import check
from tests import dag
from tests.conftest import ROOT
from tests.test_wings import MAY_IMPORT

PAGES = sorted(
    ROOT / name
    for name in subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, text=True)
    .strip()
    .splitlines()
)
MADE = ("metrics/", "docs/results/studies_")  # pages that a stage wrote, with the code of their day
OURS = [page for page in PAGES if not str(page.relative_to(ROOT)).startswith(MADE)]
NOW = [
    page for page in OURS if page.name != "CHANGELOG.md" and "results" not in page.parts
]  # say what is, not what was
FOLDERS = ("lesions", "stages", "tests", "benchmarks", "docs", "settings", "published", ".ci", ".github")
OUTPUTS = ("data", "models", "metrics", "plots")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def named(text: str, folders: tuple[str, ...]) -> set[str]:
    """Return the paths below one of `folders` that stand in backticks; what is in <…> or {…} may be anything."""
    paths = {path for quoted in re.findall(r"`([^`\n]+)`", text) for path in re.findall(r"[^\s,;:()]+", quoted)}
    found = {re.sub(r"<[^>]+>|\{[^}]+\}", "*", path).rstrip("/") for path in paths}
    return {path for path in found if "/" in path and path.split("/")[0] in folders}


def made() -> list[str]:
    """Return what stages write, as dvc.yaml says, with `*` for what params.yaml gives."""
    stages = dag.stages().values()
    outs = [out for stage in stages for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    return [re.sub(r"\$\{[^}]+\}", "*", next(iter(out)) if isinstance(out, dict) else out) for out in outs]


def is_made(path: str, outs: list[str]) -> bool:
    """Return whether `path` is an output, lies in one, or has one in it."""
    return any(fnmatch(path, each) for out in outs for each in (out, f"{out}/*")) or any(
        fnmatch(out, f"{path}/*") or fnmatch(out, path) for out in outs
    )


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", OURS, ids=ids)
def test_links_and_make_targets_lead_somewhere(page):
    text, makefile = text_of(page), text_of(ROOT / "Makefile")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    outs = made()
    assert [
        link
        for link in links
        if not (page.parent / link).exists()
        and not is_made(str((page.parent / link).resolve().relative_to(ROOT)), outs)
    ] == []
    targets = {target for line in re.findall(r"(?:^|`)make ((?:[a-z]+ ?)+)", text, re.M) for target in line.split()}
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.M)} == set()


@pytest.mark.parametrize("page", NOW, ids=ids)
def test_anchors_modules_settings_and_paths_that_are_named_exist(page):
    text = text_of(page)
    for file, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
        headings = re.findall(r"^#+ (.+)$", text_of(page.parent / file if file else page), re.M)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert [name for name in re.findall(r"python -m ([\w.]+)", text) if find_spec(name) is None] == []
    assert [name for name in re.findall(r"\bNAME=(\w+)", text) if not (ROOT / f"settings/{name}.yaml").exists()] == []
    assert {path for path in named(text, FOLDERS) if not list(ROOT.glob(path.partition("::")[0]))} - {
        "lesions/networks/mine.py"  # CONTRIBUTING.md's example
    } == set()
    outs = made()
    assert {path for path in named(text, OUTPUTS) if not (ROOT / path).exists() and not is_made(path, outs)} == set()


def test_what_the_tests_of_names_look_for_is_found():
    text = "`lesions/none.py`, `data/raw`, `models/train/<name>/scores.csv`, `data/none/x`"
    assert named(text, FOLDERS) == {"lesions/none.py"}
    assert {path for path in named(text, OUTPUTS) if not is_made(path, made())} == {"data/none/x"}
    assert sum(len(named(text_of(page), FOLDERS + OUTPUTS)) for page in NOW) > 60


@pytest.mark.parametrize("page", OURS, ids=ids)
def test_no_gap_is_left_to_fill(page):
    assert re.findall(r"FILL\([^)]*\)?", text_of(page)) == []


def test_the_readme_is_read_in_minutes():
    text = text_of(ROOT / "README.md")
    assert len(text.splitlines()) <= 130 and text.count("```mermaid") + text.count("![") == 1


EXPERIMENTS = sorted(
    {
        line
        for page in NOW
        for line in re.findall(r"^dvc exp run .+$", text_of(page), re.M)
        if "family: mine" not in line
    }
)


@pytest.mark.parametrize("command", EXPERIMENTS)
def test_every_experiment_that_is_shown_is_sound(command, tmp_path):
    """The blocks that it adds and the keys that it changes, laid over params.yaml by DVC itself."""
    words, params = shlex.split(command, comments=True), tmp_path / PARAMS
    changes = [words[number + 1] for number, word in enumerate(words) if word == "-S"]
    assert changes
    shutil.copy(ROOT / PARAMS, params)
    apply_overrides(params, changes)
    before, after = read_yaml(ROOT / PARAMS)["classifiers"], check.load(params).classifiers
    for name in after.keys() - before.keys():
        build.find(after[name].family, after[name].network)
    assert read_yaml(params) != read_yaml(ROOT / PARAMS)


def test_the_network_of_ones_own_that_contributing_shows_is_one(tmp_path, monkeypatch):
    (source,) = re.findall(r"```python\n(.+?)```", text_of(ROOT / "CONTRIBUTING.md"), re.S)
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path)])
    monkeypatch.setattr(build, "__file__", str(tmp_path / "build.py"))
    assert build.build("mine", "small", 8, (32, 32))(torch.zeros(2, 3, 32, 32)).shape == (2, 8)
    sys.modules.pop("lesions.networks.mine")


def test_the_wings_of_the_design_are_those_that_there_are_from_the_ground_up():
    table = text_of(ROOT / "docs/design.md").partition("## Wings")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    above: list[str] = []
    for wing, _, files, imports in rows:
        name, may = wing.strip("`"), MAY_IMPORT[wing.strip("`")].split()
        modules = sorted(path.stem for path in (ROOT / "lesions" / name).glob("*.py") if path.stem != "__init__")
        assert (files, imports) == (", ".join(modules), "all" if name == "tools" else ", ".join(may) or "–")
        assert {one.partition(".")[0] for one in may} <= {*above, name}
        above.append(name)
    assert sorted(above) == dag.WINGS


def test_every_package_says_what_it_is_for():
    pins = "\n".join(text_of(path) for path in sorted(ROOT.glob("requirements*.in")))
    table = text_of(ROOT / "docs/design.md").partition("## Packages")[2]
    cells = " ".join(line.split(" | ")[0] for line in table.splitlines() if line.startswith("| "))
    packages = re.findall(r"^([\w.-]+)==", pins, re.M)
    assert len(packages) > 20 and [name for name in packages if name not in re.findall(r"[\w.-]+", cells)] == []


def test_pre_commit_has_the_very_commands_of_make_lint():
    (lint,) = re.findall(r"^lint:.*\n((?:\t.+\n)+)", text_of(ROOT / "Makefile"), re.M)
    hooks = yaml.safe_load(text_of(ROOT / ".pre-commit-config.yaml"))["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == [line.strip() for line in lint.splitlines()]


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load(text_of(ROOT / ".github/workflows/ci.yml"))
    runs = [step["run"] for step in workflow["jobs"]["run"]["steps"] if "run" in step]
    assert runs == [".ci/run"] and (ROOT / ".ci/run").stat().st_mode & 0o100


def test_data_and_models_stand_in_a_fresh_clone_and_what_stages_write_is_ignored():
    ignored = ["data/raw", "data/weights/lite0", "data/generated/AK.npy", "data/checked", "models/train", "models/x"]
    kept = [
        "data/.gitignore",
        "models/.gitignore",
        "data/checksums.json",
        "data/weights/none",
        "data/generated/none.npy",
    ]
    told = subprocess.run(
        ["git", "check-ignore", "--no-index", *ignored, *kept], cwd=ROOT, capture_output=True, text=True
    )
    assert told.stdout.split() == ignored


def test_every_row_of_bad_input_names_its_test():
    tried = text_of(ROOT / "docs/bad_input.md").partition("## Fuzzing")[0]
    rows = [line for line in tried.splitlines() if line.startswith("| ") and not line.startswith("| input")]
    assert len(rows) > 50 and len(NAMED) > 50
    assert [row for row in rows if row.count(" | ") != 2 or "`tests/" not in row.rpartition(" | ")[2]] == []


NAMED = sorted(set(re.findall(r"`tests/(\w+)\.py::([\w:]+)`", text_of(ROOT / "docs/bad_input.md"))))


@pytest.mark.parametrize(("module", "name"), NAMED)
def test_every_test_that_is_named_exists(module, name):
    body = ast.parse(text_of(ROOT / f"tests/{module}.py")).body
    for part in name.split("::"):
        (found,) = [node for node in body if getattr(node, "name", None) == part]
        body = found.body
    assert isinstance(found, ast.FunctionDef) and part.startswith("test_")

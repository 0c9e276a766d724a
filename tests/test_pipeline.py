"""The whole DAG with DVC, each kind of stage once, and what a change reruns."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
MORE = ("residual_gan", "c_b0", "d_snap", "d_crop", "e_m0")


def sh(folder: Path, *command: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def ran(output: str) -> set[str]:
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def edit(folder: Path, change) -> None:
    path = folder / "params.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")


def add_more(found: dict) -> None:
    """What the smoke run leaves out and this file asks about: generated images, a crop, 2020, a pair of `attention`."""
    whole = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    found["mask"] = {**found["mask"], "sets": ["isic2019"]}
    for section, name in (("masked", "isic2019_crop"), ("attention", "b0"), *(("classifiers", n) for n in MORE)):
        found.setdefault(section, {})[name] = whole[section][name]
    found["masked"].pop("isic2017_grey")
    found["data"]["isic2020"], found["resize"]["merged"] = True, whole["resize"]["merged"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the repository with the smoke run's settings, reproduced once."""
    folder = tmp_path_factory.mktemp("project")
    names = ["stages", "lesions", "published", "dvc.yaml", "params.yaml", "settings", ".gitignore", ".dvcignore"]
    for name in [*names, "data/weights/none", "data/generated/none.npy", "data/checksums.json"]:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    sh(folder, sys.executable, "-m", "lesions.settings", "settings/smoke.yaml")
    edit(folder, add_more)
    sh(folder, "git", "init", "-q")
    sh(folder, "dvc", "init", "-q")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    sh(folder, "dvc", "repro")
    sh(folder, "git", "add", "-A")
    sh(folder, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "smoke")
    return folder


def test_everything_ran_and_status_is_clean(project):
    assert "up to date" in sh(project, "dvc", "status")
    compared = json.loads((project / "metrics/compare.json").read_text(encoding="utf-8"))
    assert 0 <= compared["standard"]["residual"]["bma"] <= 1
    assert (project / "metrics/compare.md").read_text(encoding="utf-8").count("not run") > 5
    paths = ("masks/isic2019.npy", "resized/merged/classify.npy", "generated/AK.npy", "predictions/train/e_m0.csv")
    for path in ("models/train/residual/bma.pt", *(f"data/{path}" for path in paths)):
        assert (project / path).exists()


def test_a_learning_rate_reruns_its_classifier_and_reverting_is_served_from_cache(project):
    edit(project, lambda p: p["classifiers"]["e_m0"].update(lr=2e-4))
    assert ran(sh(project, "dvc", "repro")) == {"train@e_m0", "compare"}
    edit(project, lambda p: p["classifiers"]["e_m0"].pop("lr"))
    assert ran(sh(project, "dvc", "repro")) == {"compare"}  # whose tables are in git, not in the cache
    assert "up to date" in sh(project, "dvc", "status")


NEW = (
    "architecture: residual, recipe: a, set: isic2019, images: resized/isic2019/classify, split: standard, "
    "generated: none, weights: data/weights/none, epochs: 1, seed: 7"
)


def test_a_new_classifier_is_one_block_and_runs_only_it(project):
    edit(project, lambda p: p["classifiers"].update(again=yaml.safe_load(f"{{{NEW}}}")))
    assert ran(sh(project, "dvc", "repro")) == {"train@again", "compare"}
    assert "again" in json.loads((project / "metrics/compare.json").read_text(encoding="utf-8"))["standard"]


def test_a_new_classifier_is_one_option_of_an_experiment(project):
    found = sh(project, "dvc", "exp", "run", "-n", "one-more", "-S", f"+classifiers.other={{{NEW}}}")
    assert ran(found) == {"train@other", "compare"}
    assert "other" in json.loads((project / "metrics/compare.json").read_text(encoding="utf-8"))["standard"]
    assert "one-more" in sh(project, "dvc", "exp", "show", "--md", "--only-changed")


def test_two_versions_are_set_side_by_side(project):
    assert "standard.again.bma" in sh(project, "dvc", "metrics", "diff", "HEAD", "--md")
    assert "index.html" in sh(project, "dvc", "plots", "show")


def test_the_same_stage_again_gives_the_same_bytes(project):
    lock = (project / "dvc.lock").read_text(encoding="utf-8")
    stages = ["download", "sort", "resize@merged", "segment", "unet34@0", "augment_gan", "train@residual"]
    stages += ["train@c_b0_arl", "attention@b0", "compare"]
    sh(project, "dvc", "repro", "-f", "-s", *stages)
    assert (project / "dvc.lock").read_text(encoding="utf-8") == lock

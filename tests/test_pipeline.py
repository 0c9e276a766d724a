"""The whole DAG with DVC, each kind of stage once, and what a change reruns."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from lesions.isic.names import canonical
from lesions.training import checkpoints
from tests.conftest import ROOT
from tests.test_cluster import Cluster
from tests.test_resume import KILLS, killed_until_done

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
    found["predict_masks"] = {**found["predict_masks"], "sets": {"isic2019": "unet34"}}
    for section, name in (("masked", "isic2019_crop"), ("attention", "b0"), *(("classifiers", n) for n in MORE)):
        found.setdefault(section, {})[name] = whole[section][name]
    found["masked"].pop("isic2017_grey")
    found["cross_validate"]["residual-1"]["keep"] = True
    found["score"]["residual-1"] = {**found["score"]["residual"], "trained": "cross_validate"}
    found["ensembles"]["folds"] = {"members": ["residual", "residual-1"]}
    found["data"]["isic2020"], found["resize"]["merged"] = True, whole["resize"]["merged"]


def fresh(folder: Path, chosen: str) -> Path:
    """A copy of the repository with some settings, in a git repository of its own, nothing reproduced."""
    names = ["stages", "lesions", "published", "dvc.yaml", "params.yaml", "settings", ".gitignore", ".dvcignore"]
    names += [f"data/{name}" for name in (".gitignore", "checksums.json", "generated/none.npy", "weights/none")]
    for name in [*names, "models/.gitignore", "plots/base_model/.gitkeep"]:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    sh(folder, sys.executable, "-m", "lesions.tools.settings", chosen)
    sh(folder, "git", "init", "-q")
    sh(folder, "dvc", "init", "-q")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the repository with the smoke run's settings, reproduced by two workers with caches of their own."""
    folder = fresh(tmp_path_factory.mktemp("project"), "settings/smoke.yaml")
    edit(folder, add_more)
    sh(folder, "dvc", "remote", "add", "--default", "store", str(tmp_path_factory.mktemp("remote")))
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        for name in ("m1", "m2"):
            cluster.join(name)
        sh(folder, sys.executable, "-m", "lesions.tools.parallel", "--jobs", "1", "--scheduler", cluster.address)
    finally:
        cluster.end()
        shutil.rmtree(cluster.folder)
    sh(folder, "git", "add", "-A")
    sh(folder, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "smoke")
    return folder


def test_everything_ran_and_status_is_clean(project):
    assert "up to date" in sh(project, "dvc", "status")
    trained = json.loads((project / "metrics/train/residual.json").read_text(encoding="utf-8"))
    assert list(trained) == ["bma", "auc", "accuracy", "loss"] and 0 <= trained["bma"] <= 1
    assert (project / "metrics/compare.md").read_text(encoding="utf-8").count("not run") > 5
    paths = ("masks/isic2019.npy", "resized/merged/classify.npy", "generated/AK.npy", "predictions/train/e_m0.csv")
    for path in ("models/train/residual/bma.pt", *(f"data/{path}" for path in paths)):
        assert (project / path).exists()


def test_folds_are_scored_by_the_model_that_has_not_seen_the_lesion(project):
    """A fold has its own parts, and its own word on what it has seen; a test image that validates none is judged."""
    table = pd.read_csv(project / "data/sorted/isic2019.csv").set_index("image")
    said = {name: pd.read_csv(project / f"data/predictions/tests/{name}.csv") for name in ("residual", "residual-1")}
    for fold, of in enumerate(said.values()):
        role = table[f"cv{fold}"]
        for part in ("val", "test"):
            assert set(of.loc[of["set"] == part, "image"]) == set(role.index[role == part])
        official = of[~of["set"].isin(["val", "test"])]
        learnt = {canonical(image) for image in role.index[role != "test"]}
        assert official["seen"].to_list() == [canonical(image) in learnt for image in official["image"]]
        assert official["seen"].any()
    both = pd.read_csv(project / "data/predictions/ensemble/folds.csv").query("checkpoint == 'balanced'")
    val, test = (set(both.loc[both["split"] == part, "image"]) for part in ("val", "test"))
    tested = [set(of.loc[of["set"] == "test", "image"]) for of in said.values()]
    assert not val & test and test == (tested[0] | tested[1]) - val and not tested[0] & tested[1]
    assert (project / "models/cross_validate/residual-1/bma.pt").exists()
    places = ("train/residual", "cross_validate/residual-1")
    first, fold = (checkpoints.load(project / f"models/{place}/bma.pt") for place in places)
    assert any(not torch.equal(value, fold[key]) for key, value in first.items())


def test_a_learning_rate_reruns_its_classifier_and_reverting_is_served_from_cache(project):
    edit(project, lambda p: p["classifiers"]["e_m0"].update(lr=2e-4))
    assert ran(sh(project, "dvc", "repro")) == {"check", "train@e_m0", "compare"}
    edit(project, lambda p: p["classifiers"]["e_m0"].pop("lr"))
    assert ran(sh(project, "dvc", "repro")) == {"compare"}  # whose tables are in git, not in the cache
    assert "up to date" in sh(project, "dvc", "status")


NEW = (
    "family: residual, network: residual, recipe: a, set: isic2019, images: resized/isic2019/classify, "
    "split: standard, generated: none, weights: data/weights/none, epochs: 1, seed: 7"
)


def test_a_new_classifier_is_one_block_and_runs_only_it(project):
    edit(project, lambda p: p["classifiers"].update(again=yaml.safe_load(f"{{{NEW}}}")))
    assert ran(sh(project, "dvc", "repro")) == {"check", "train@again", "compare"}
    assert ",again," in (project / "metrics/compare.csv").read_text(encoding="utf-8")


def test_a_new_classifier_is_one_option_of_an_experiment(project):
    found = sh(project, "dvc", "exp", "run", "-n", "one-more", "-S", f"+classifiers.other={{{NEW}}}")
    assert ran(found) == {"check", "train@other", "compare"}
    assert ",other," in (project / "metrics/compare.csv").read_text(encoding="utf-8")
    assert "one-more" in sh(project, "dvc", "exp", "show", "--md", "--only-changed")


def test_two_versions_are_set_side_by_side(project):
    shown = sh(project, "dvc", "metrics", "show", "--md").splitlines()
    assert shown[0].count("|") - 1 <= 14  # a row a stage, and no more columns than a screen has
    changed = [line for line in sh(project, "dvc", "metrics", "diff", "HEAD", "--md").splitlines() if ".json" in line]
    assert 4 <= len(changed) <= 8 * 2 and any("metrics/train/again.json" in line for line in changed)  # two new blocks
    shown = sh(project, "dvc", "plots", "show")
    assert "index.html" in shown and "failed to load" not in shown


def test_each_kind_of_stage_again_alone_gives_the_same_bytes(project):
    names = sh(project, "dvc", "stage", "list", "--name-only").split()
    one = {name.partition("@")[0]: name for name in names}
    said = sh(project, sys.executable, "-m", "lesions.tools.verify", *one.values())
    assert f"{len(one)} stages, network" in said and said.count("same bytes") == len(one) > 12


def broken(project: Path, stage: str) -> str:
    """What verify says of a stage that does not come out the same."""
    command = [sys.executable, "-m", "lesions.tools.verify", stage]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    return done.stderr


def test_what_a_stage_does_not_declare_makes_it_fail_by_name(project):
    """An undeclared parameter, file and module, and an output of other bytes."""
    source, whole = project / "stages/color_correct.py", (project / "dvc.yaml").read_text(encoding="utf-8")
    stage, text = "color_correct@isic2017-ben_graham", source.read_text(encoding="utf-8")
    main = "def main() -> None:\n"
    for line, message in (
        ('    config.section("sort")\n', "params.yaml: sort: read by a stage"),
        ('    Path("data/sorted/isic2017.csv").read_text()\n', "data/sorted/isic2017.csv"),
        ("    from lesions.raw import tables\n", "raw"),
    ):
        source.write_text(text.replace(main, main + line), encoding="utf-8")
        said = broken(project, stage)
        assert stage in said and message in said
    source.write_text(text, encoding="utf-8")
    (project / "dvc.yaml").write_text(
        whole.replace("color_correct.py, lesions/core, lesions/pictures,", "color_correct.py, lesions/core,"),
        encoding="utf-8",
    )
    assert "pictures" in broken(project, stage)
    (project / "dvc.yaml").write_text(whole, encoding="utf-8")
    picture = project / "plots/color/isic2017-ben_graham.png"
    kept = picture.read_bytes()
    picture.write_bytes(kept + b"0")
    assert f"{stage}: plots/color/isic2017-ben_graham.png: other bytes than here" in broken(project, stage)
    picture.write_bytes(kept)
    assert "same bytes" in sh(project, sys.executable, "-m", "lesions.tools.verify", stage)


def trainings(project: Path) -> list[str]:
    """Stages that run in the project now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if "-m stages." in command and (process / "cwd").resolve() == project:
                found.append(command)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_dvc_killed_at_random_moments_leaves_nothing_running_and_ends_with_the_same_lock(project):
    edit(project, lambda p: p["classifiers"]["residual"].update(epochs=80))
    sh(project, "dvc", "repro", "train@residual")
    lock = (project / "dvc.lock").read_text(encoding="utf-8")
    kinds = cycle([(os.kill, signal.SIGKILL), (os.killpg, signal.SIGKILL), (os.kill, signal.SIGTERM),
                   (os.killpg, signal.SIGINT), (os.killpg, signal.SIGTERM)])  # fmt: skip
    left = []

    def kill(process: subprocess.Popen) -> None:
        by, sign = next(kinds)
        with suppress(ProcessLookupError):
            by(process.pid, sign)
        process.wait(timeout=60)
        time.sleep(0.5)
        left.extend(trainings(project))

    command = [str(Path(sys.executable).parent / "dvc"), "repro", "-f", "-s", "train@residual"]
    said = killed_until_done(command, project, kill, KILLS, seed=1)
    assert left == []
    assert (project / "dvc.lock").read_text(encoding="utf-8") == lock
    assert said.count("going on from") >= KILLS / 3

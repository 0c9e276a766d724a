"""What a change reruns, no more and no less: each kind of change tried in a reproduced folder.

DVC itself decides; `check` is run; what another stage's command would do is stood in for: it writes, as each of its
outputs, a digest of the parameters and data that it declares, and of the lines of its sources that say `other bytes`.
So a row says what follows where a change of code changes bytes, and where it does not.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

import dvc.dvcfile
import dvc.stage.run
import pytest
import yaml
from dvc.dependency import ParamsDependency
from dvc.exceptions import ReproductionError
from dvc.repo import Repo

from lesions.core.errors import InputError
from lesions.tools import check, settings
from stages import check as check_stage
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")]  # DVC's
COPIED = ("dvc.yaml", ".dvcignore", "lesions", "stages", "published", "data/weights/none", "data/generated/none.npy")
MINE = {"network": "convnext_atto", "recipe": "a", "set": "isic2019", "images": "resized/isic2019/classify",
        "split": "standard", "generated": "none", "weights": "data/weights/none"}  # fmt: skip
TRAINED = {"segment", "unet34", "train", "cross_validate"}  # kinds of stages: with batches and training
READ = {"ensemble_masks", "predict_masks", "masked", "compare"}  # what reads those
PICTURES = {"color_correct", "masked", "examples"}
NETS = {"predict_masks", "score", "score_masks", "export", "export_unet"}  # what reads trained networks
OF_ARRAYS = {"weights", "color_correct", "masked", "predict_masks", "examples"}  # what knows nothing of labels
MADE = {"ensemble", "compare"}  # of their predictions
KINDS = (
    TRAINED
    | READ
    | PICTURES
    | NETS
    | MADE
    | {"check", "download", "weights", "sort", "resize", "augment_gan", "base_model"}
)


def digest(stage) -> str:
    """Return what stands for the bytes that a stage writes."""
    found = hashlib.sha256()
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            found.update(repr(sorted(dep.read_params().items())).encode())
        else:
            top = Path(dep.fs_path).relative_to(Path.cwd())
            source = top.parts[0] in ("lesions", "stages")
            for path in sorted(path for path in (top, *top.rglob("*")) if path.is_file()):
                lines = path.read_bytes().splitlines()
                found.update(b"".join(line for line in lines if b"other bytes" in line or not source))
    return found.hexdigest()


def standing_in(patch: pytest.MonkeyPatch) -> list[str]:
    """Let DVC write digests in place of running commands; return the list that names the stages that it ran.

    dvc.lock is written as JSON, which is YAML too: DVC's own way keeps comments, and takes most of a stage's time.
    """
    ran: list[str] = []
    read = [Path(dep.fs_path) for stage in Repo().index.stages for dep in stage.deps]

    def run(stage, dry: bool = False, run_env: dict | None = None) -> None:
        ran.append(stage.addressing)
        if stage.name == "check":
            return check_stage.main()
        said = digest(stage)
        for out in (Path(out.fs_path) for out in stage.outs):
            for path in {path for path in read if out in path.parents} or {out}:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{path.name} {said}", encoding="utf-8")

    @contextmanager
    def modified(path: str, fs=None) -> Iterator[dict]:
        lock = json.loads(Path(path).read_bytes()) if Path(path).exists() else {}
        yield lock
        Path(path).write_text(json.dumps(lock), encoding="utf-8")

    patch.setattr(sys, "argv", ["check"])
    patch.setattr(dvc.stage.run, "cmd_run", run)
    patch.setattr(dvc.dvcfile, "modify_yaml", modified)
    return ran


def chosen() -> dict:
    """Return params.yaml with the smoke run's settings, and blocks of kinds that those leave out."""
    base, smoke = (settings.read(ROOT / name) for name in ("params.yaml", "settings/smoke.yaml"))
    found = settings.overlaid(base, smoke)
    for name in ("residual", "c_graham", "c_masked_grey", "d_snap", "d_crop"):
        found["classifiers"][name] = base["classifiers"][name]
    found["predict_masks"], found["masked"] = base["predict_masks"], base["masked"]
    return found


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory) -> Path:
    """A folder in which everything is up to date."""
    folder = tmp_path_factory.mktemp("rerun")
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(chosen()), encoding="utf-8")
    check.load(folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Repo.init(no_scm=True)
        ran = standing_in(patch)
        Repo().reproduce()
        assert set(ran) == expanded(KINDS) and Repo().status() == {}
    return folder


@pytest.fixture
def project(reproduced, tmp_path, monkeypatch) -> None:
    """A copy of that folder, as the working directory."""
    shutil.copytree(reproduced, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(check, "NETWORKS", tmp_path / "project/lesions/networks")


def expanded(named: set[str]) -> set[str]:
    """Return the stages that are named, those of a kind (before the @) by its name."""
    names = {stage.addressing for stage in Repo().index.stages}
    assert {name for name in named if "@" in name} <= names
    return {name for name in names if {name, name.partition("@")[0]} & named}


def params(path: str, value) -> Callable[[], None]:
    """Return a change of params.yaml: the key a.b.c gets another value."""

    def change() -> None:
        found = settings.read(Path("params.yaml"))
        *parents, last = path.split(".")
        reduce(lambda section, key: section[key], parents, found)[last] = value
        Path("params.yaml").write_text(yaml.safe_dump(found), encoding="utf-8")
        check.load(Path("params.yaml"))

    return change


def line(path: str, text: str) -> Callable[[], None]:
    """Return a change of a source: a line of comment more."""

    def change() -> None:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"# {text}\n")

    return change


def network_of_ones_own() -> None:
    shutil.copy("lesions/networks/residual.py", "lesions/networks/mine.py")
    params("classifiers.mine", MINE | {"family": "mine", "network": "residual"})()


def weights_of_ones_own() -> None:
    params("weights.mine", "torchvision:resnet18")()
    params("classifiers.mine", MINE | {"family": "timm", "weights": "data/weights/mine"})()


def block(*names: str) -> set[str]:
    """Return what a new or changed block of classifiers touches."""
    return {"check", *(f"train@{name}" for name in names)}


SAME, OTHER = "same bytes", "other bytes"
ON_PICTURES = {"train@c_graham", "train@c_masked_grey", "train@d_crop", "compare"}
CHANGES: dict[str, tuple[Callable[[], None], set[str], set[str]]] = {  # the change, what it touches, what follows
    **{
        f"a network of timm's, {name}": (
            params("classifiers.mine", MINE | {"family": "timm", "network": name}), block("mine"), {"compare"})
        for name in ("convnext_atto", "mobilenetv4_conv_small", "vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    },
    "a network of one's own": (network_of_ones_own, block("mine"), {"compare"}),
    "weights of one's own": (weights_of_ones_own, block("mine") | {"weights@mine"}, {"compare"}),
    "weight decay": (params("classifiers.c_graham.weight_decay", 0.5), block("c_graham"), {"compare"}),
    "a learning rate, cross-validated": (
        params("classifiers.residual.lr", 0.5),
        block("residual") | {"cross_validate@residual-1", "score@residual"}, MADE),
    "weight decay, started from": (
        params("classifiers.d_snap.weight_decay", 0.5), block("d_snap"), {"train@d_crop", "compare"}),
    "an augmentation in a recipe": (
        params("recipes.d.augment", ["hflip"]), block("d_snap", "d_crop"), {"examples", "compare"}),
    "a colour method": (
        params("color_correct.methods.max_rgb", {}),
        {"check", "color_correct@isic2017-max_rgb", "examples", "score"}, MADE),
    "the size of images": (
        params("resize.isic2017.arrays.classify.shape", [48, 48]), {"check", "resize@isic2017"},
        {"color_correct", "predict_masks@isic2017", "masked@isic2017_flat", "masked@isic2017_grey", "train@c_graham",
         "train@c_masked_grey", "train@c_b0_arl", "examples", "compare"}),
    "another source of data": (
        params("data.source", "isic"), {"check", "download", "export", "export_unet"}, KINDS - {"check", "weights"}),
    "compare": (line("lesions/compare/pages.py", OTHER), {"compare"}, set()),
    "batches": (line("lesions/batches/augment.py", OTHER), TRAINED | NETS | {"examples"}, READ | MADE),
    "batches, same bytes": (line("lesions/batches/augment.py", SAME), TRAINED | NETS | {"examples"}, set()),
    "training": (line("lesions/training/loop.py", OTHER), TRAINED | NETS, READ | MADE),
    "classify": (
        line("lesions/classify/experiment.py", OTHER), {"train", "cross_validate", "score"}, {"export"} | MADE),
    "segment": (line("lesions/segment/pairs.py", OTHER),
                {"segment", "unet34", "predict_masks", "score_masks", "export_unet"},
                READ | {"train@c_masked_grey", "train@d_crop"}),
    "one family of networks": (line("lesions/networks/residual.py", OTHER),
                               {"check", "train@residual", "cross_validate@residual-1", "score@residual"}, MADE),
    "the head and weights of networks": (line("lesions/networks/build.py", OTHER), TRAINED | NETS | {"check"},
                                         READ | MADE | {"train@c_masked_grey", "train@d_crop"}),
    "the head and weights of networks, same bytes": (
        line("lesions/networks/build.py", SAME), TRAINED | NETS | {"check"}, set()),
    "pictures": (line("lesions/pictures/color.py", OTHER), PICTURES | {"score"}, ON_PICTURES | MADE),
    "pictures, same bytes": (line("lesions/pictures/color.py", SAME), PICTURES | {"score"}, set()),
    "gan": (line("lesions/gan/dcgan.py", OTHER), {"augment_gan", "base_model"}, {"compare"}),
    "raw, same bytes": (
        line("lesions/raw/zips.py", SAME), {"download", "sort", "resize", "score", "score_masks"}, set()),
    "download, same bytes": (line("lesions/download/fetch.py", SAME), {"download", "weights"}, set()),
    "sample, same bytes": (line("lesions/sample/scene.py", SAME), {"download"}, set()),
    "isic": (line("lesions/isic/splits.py", OTHER), KINDS - OF_ARRAYS, OF_ARRAYS - {"weights"}),
    "isic, same bytes": (line("lesions/isic/splits.py", SAME), KINDS - OF_ARRAYS, set()),
    "core, same bytes": (line("lesions/core/files.py", SAME), KINDS, set()),
    "predict, same bytes": (
        line("lesions/predict/ensembles.py", SAME), {"score", "ensemble", "export", "export_unet"}, set()),
    "an ensemble": (params("ensembles.best.members", ["lite0"]), {"check", "ensemble"}, {"compare"}),
    "tools": (line("lesions/tools/doctor.py", OTHER), set(), set()),
    "a stage, same bytes": (line("stages/sort.py", SAME), {"sort"}, set()),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_what_it_touches(project, monkeypatch, name):
    change, touched, follows = CHANGES[name]
    change()
    assert set(Repo().status()) == expanded(touched)
    ran = standing_in(monkeypatch)
    Repo().reproduce()
    assert set(ran) == expanded(touched | follows) and len(ran) == len(set(ran))
    assert Repo().status() == {}


def test_what_was_there_before_is_served_from_the_cache(project, monkeypatch):
    before = Path("params.yaml").read_bytes()
    params("classifiers.c_graham.weight_decay", 0.5)()
    ran = standing_in(monkeypatch)
    Repo().reproduce()
    Path("params.yaml").write_bytes(before)
    ran.clear()
    Repo().reproduce()
    assert ran == ["compare"]  # whose tables are in git, not in the cache


def test_what_contradicts_itself_stops_before_a_byte_is_fetched(project, monkeypatch):
    with pytest.raises(InputError, match="c_graham"):
        params("classifiers.c_graham.set", "isic2019")()
    ran = standing_in(monkeypatch)
    with pytest.raises(ReproductionError, match="failed to reproduce 'check'"):
        Repo().reproduce()
    assert ran == ["check"] and not Path("data/checked").exists()

"""What the doctor finds, each by its cause."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lesions.pictures.config import ColorCorrect
from lesions.raw.config import Data, Resize, Sample
from lesions.segment.config import PredictMasks
from lesions.tools import check, doctor, sizes
from lesions.tools.check import Params
from lesions.tools.settings import overlaid
from tests.conftest import ROOT

BASE = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def chosen(folder: Path, over: dict) -> Params:
    (folder / "params.yaml").write_text(yaml.safe_dump(overlaid(BASE, over)))
    return check.load(folder / "params.yaml")


def test_python():
    assert doctor.python("3.11") == doctor.python("3.13") == []
    assert doctor.python("3.14") == ["Python 3.14: expected one of 3.11, 3.12, 3.13; make .venv with one of these"]


def installed(monkeypatch, versions: dict[str, str]) -> None:
    def distributions(name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(version=versions[name])] if name in versions else []

    monkeypatch.setattr(doctor.metadata, "distributions", distributions)


def test_packages(monkeypatch):
    pinned = "torch==2.15.0\nscikit-learn==1.9.1\ntqdm==4.70.1\n# numpy==1.0\n"
    installed(monkeypatch, {"torch": "2.15.0+cu130", "scikit-learn": "1.9.1", "tqdm": "4.70.1"})
    assert doctor.packages(pinned) == []
    installed(monkeypatch, {"torch": "2.1.0", "tqdm": "4.70.10"})
    torch, sklearn, tqdm = doctor.packages(pinned)
    assert "2.1.0 is installed, 2.15.0 is pinned" in torch and "4.70.10 is installed" in tqdm
    assert sklearn.startswith("scikit-learn: no version is installed, 1.9.1 is pinned; pip install")


def test_every_pin_is_looked_at(monkeypatch):
    installed(monkeypatch, {})
    lines = [line for line in (ROOT / "requirements.in").read_text().splitlines() if line[0] != "#"]
    assert len(doctor.packages((ROOT / "requirements.in").read_text())) == len(lines) > 15


def test_room_by_hand(tmp_path):
    """One array of 10×10 a set, no more: 25,331 + 2,150 + 31,265 images of 300 bytes and 2,594 of 400."""
    found = chosen(tmp_path, {}).model_copy(
        update={
            "data": Data(source="isic", isic2020=True, sample=BASE["data"]["sample"]),
            "resize": {
                name: Resize(crop_border=False, arrays={"small": {"shape": [10, 10], "fit": "squeeze"}})
                for name in sizes.OFFICIAL
            },
            "color_correct": ColorCorrect(sets=(), methods={}),
            "predict_masks": PredictMasks(sets={}, checkpoint="jaccard", threshold=0.5),
            "masked": {},
        }
    )
    assert sizes.needed(found) == 50e9 + 58_746 * 300 + 2_594 * 400
    less = found.model_copy(update={"data": found.data.model_copy(update={"isic2020": False})})
    assert sizes.needed(less) == 27e9 + 52_812 * 300 + 2_594 * 400


def test_the_full_study_needs_more_than_its_archives(tmp_path):
    full = yaml.safe_load((ROOT / "settings/full.yaml").read_text(encoding="utf-8"))
    sample, isic = sizes.needed(chosen(tmp_path, {})), sizes.needed(chosen(tmp_path, full))
    assert sample < 1e9 < 50e9 + (25_331 + 31_265) * 3 * 256**2 < isic < 1.1e11


def test_a_folder_is_counted(raw):
    data = Data(source=str(raw), isic2020=False, sample=Sample(seed=0, images=200, pairs=40))
    found = {"isic2019": 96, "isic2018": 2594, "isic2017": 36, "merged": 96}
    assert sizes.images(data) == found
    assert sizes.images(data.model_copy(update={"isic2020": True})) == found | {"merged": 96 + 5934}


def test_nothing_is_wrong_with_the_sample_and_a_folder_that_lacks_archives_is_named(tmp_path):
    shutil.copy(ROOT / "requirements.in", tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for command in (["init", "-q"], ["config", "user.name", "me"], ["config", "user.email", "me@example.org"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = {
        "cwd": tmp_path,
        "env": os.environ | {"PYTHONPATH": str(ROOT), "PATH": path},
        "capture_output": True,
        "text": True,
    }
    done = subprocess.run([sys.executable, "-m", "lesions.tools.doctor"], **told)
    assert done.returncode == 0 and done.stdout.endswith("nothing is wrong\n"), done.stderr
    chosen(tmp_path, {"data": {"source": "/nonexistent"}})
    done = subprocess.run([sys.executable, "-m", "lesions.tools.doctor"], **told)
    assert done.returncode == 1 and "data.source: '/nonexistent' is not sample" in done.stderr
    (tmp_path / "requirements.in").unlink()
    done = subprocess.run([sys.executable, "-m", "lesions.tools.doctor"], **told)
    assert done.returncode == 1 and done.stderr.startswith("error: requirements.in: not found; run from")


def test_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    assert doctor.disk(2**30) == []
    assert doctor.disk(2 * 2**30)[0].startswith("disk: 1.0 GiB free, at least 2.0 GiB needed for the archives")


def test_cut_off(tmp_path):
    (tmp_path / "x/2019").mkdir(parents=True)
    (tmp_path / "x/2019/a.zip.part").write_bytes(bytes(2_000_000))
    (tmp_path / "x/2019/b.zip").write_bytes(b"whole")
    (line,) = doctor.cut_off(tmp_path)
    assert "a.zip.part was cut off at 2 MB" in line


def test_it_says_all_that_is_wrong_and_fails(tmp_path):
    (tmp_path / "requirements.in").write_text("torch==0.0.1\n")
    (tmp_path / "params.yaml").write_text("train: 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "lesions.tools.doctor"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    wrong = [line for line in done.stderr.splitlines() if line.startswith("wrong: ")]
    assert [line.split(":")[1].strip() for line in wrong] == ["torch", "git", "python", "params.yaml"]
    assert done.stdout.endswith("4 to mend\n")


def test_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for key in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(key, "/dev/null")
    monkeypatch.setenv("EMAIL", "")
    assert "no repository here" in doctor.git()[0]
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "config", "user.useConfigOnly", "true"], check=True)
    assert "nobody to commit as" in doctor.git()[0]
    subprocess.run(["git", "config", "user.name", "me"], check=True)
    subprocess.run(["git", "config", "user.email", "me@example.org"], check=True)
    assert doctor.git() == []
    (tmp_path / "lesions").mkdir()
    (tmp_path / "lesions/a.py").write_bytes(b"x = 1\r\n")
    subprocess.run(["git", "add", "."], check=True)
    assert "line ends of Windows" in doctor.git()[0]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_repository_of_another_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    subprocess.run(["git", "init", "-q"], check=True)
    os.chown(tmp_path, 65534, 65534)
    os.chown(tmp_path / ".git", 65534, 65534)
    assert "safe.directory" in doctor.git()[0]


def test_another_python_than_the_stages_would_call(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert doctor.interpreter() == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not found, but the environment is" in doctor.interpreter()[0]

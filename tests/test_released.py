"""The models in released/: the very files that their cards name, with answers that stay what they were."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from lesions.export import card, graph
from lesions.predict import familiarity
from tests.conftest import ROOT

RELEASED = sorted(path.parent for path in (ROOT / "released").glob("*/card.json"))


def drawn(size: tuple[int, int]) -> np.ndarray:
    """A pale ground, the same with a dark disc, and with a bright one: uint8 3×H×W×3."""
    y, x = np.indices(size)
    disc = np.hypot((y / size[0]) - 0.5, (x / size[1]) - 0.5) < 0.25
    ground = np.full((*size, 3), (210, 170, 150), np.uint8)
    return np.array([ground, np.where(disc[..., None], (90, 60, 50), ground), np.where(disc[..., None], 250, ground)])


@pytest.mark.parametrize("folder", RELEASED, ids=lambda path: path.name)
def test_a_release_is_what_its_card_says(folder):
    """card.read holds the files to the card's hashes; 12 MB at most, with its licence, limits and commit."""
    told = card.read(folder)
    assert (folder / "model.onnx").stat().st_size <= 12e6
    assert told["licence"] and told["not_for"] and told["attribution"] and not told["data"]["sample"]
    assert len(told["release"]["commit"].removesuffix("-dirty")) == 40 and told["scores"]


@pytest.mark.parametrize("folder", RELEASED, ids=lambda path: path.name)
def test_its_answers_are_those_recorded(folder):
    """Of three drawn pictures: probabilities of a classifier, the share of lesion of a U-Net."""
    told = json.loads((folder / "card.json").read_text())
    images = drawn(tuple(told["size"])).astype(np.uint8)
    first = graph.session(folder / "model.onnx").run(None, {"images": images})[0]
    found = first.mean(axis=(1, 2)) if told["kind"] == "unet" else np.exp(first) / np.exp(first).sum(axis=1)[:, None]
    recorded = json.loads((ROOT / "tests/released.json").read_text())[folder.name]
    assert found == pytest.approx(np.array(recorded), abs=2e-3)


def test_a_released_classifier_knows_what_it_has_not_seen():
    """Noise is further away than validation's ninety-ninth percentile."""
    for folder in (path for path in RELEASED if (path / "familiarity.npz").exists()):
        told = card.read(folder)
        noise = np.random.default_rng(0).integers(256, size=(2, *told["size"], 3), dtype=np.uint8)
        features = graph.session(folder / "model.onnx").run(["features"], {"images": noise})[0]
        known = familiarity.Familiarity(**np.load(folder / "familiarity.npz", allow_pickle=False))
        assert (known.distance(features, noise) > told["familiarity"]["threshold"]).all()
    assert len(RELEASED) == 2


def test_a_release_is_fetched_by_its_tag(tmp_path):
    """As docs/experiments.md says: an annotated tag of a commit, whose dvc.yaml lists the artifact."""
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org", "-C", str(tmp_path / "project")]
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if name.startswith((".dvc/", "released/", "dvc.yaml", "params.yaml")):
            (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "project" / name)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", "-a", "unet@v1.0.0", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    command = ["dvc", "artifacts", "get", "project", "unet", "-o", "unet"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "unet/card.json").read_bytes() == (ROOT / "released/unet/card.json").read_bytes()

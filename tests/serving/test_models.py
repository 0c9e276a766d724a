"""Predictions: views, calibration, familiarity, sizes; what is said of pictures before they are decoded; settings."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving import models, prepare, settings
from serving.settings import InputError, Settings
from tests.serving import toy
from tests.serving.conftest import ROOT


def opened(path: Path) -> models.Model:
    return models.Model(models.Found(path, (path / "card.json").read_text()), 1)


def images(count: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, *size, 3), dtype=np.uint8)


def test_probabilities_are_calibrated_as_the_card_says(served: Path) -> None:
    model, pixels = opened(served / "quick"), images(3)
    logits = model.session.run(["logits"], {"images": pixels})[0].astype(float)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    powers = np.clip(p, 1e-7, 1) ** (1 / 2.0)
    expected = powers / powers.sum(axis=1, keepdims=True)
    found = model.predict(pixels, [[0, 0, 1, 1]] * 3)
    order = [toy.CLASSES.index(name) for name in ("AK", "BCC", "BKL", "DF", "SCC", "VASC", "MEL", "NV")]
    assert np.allclose([list(a["probabilities"].values()) for a in found], expected[:, order], atol=1e-5)
    shares = np.array([(i + 1) / 36 for i in range(8)])
    even = expected / shares / (expected / shares).sum(axis=1, keepdims=True)
    assert np.allclose([list(a["balanced"].values()) for a in found], even[:, order], atol=1e-5)


def test_eight_views_give_a_turned_picture_the_same_answer(served: Path) -> None:
    model, pixels = opened(served / "views"), images(1)
    turned = [pixels, np.rot90(pixels, 1, (1, 2)), np.flip(pixels, 1), pixels.transpose(0, 2, 1, 3)]
    answers = [model.predict(np.ascontiguousarray(p), [[0, 0, 1, 1]])[0]["probabilities"] for p in turned]
    for answer in answers[1:]:
        assert answer == pytest.approx(answers[0], abs=1e-5)
    assert len({view.tobytes() for view in models.views(pixels, 8)}) == 8
    assert [view.shape for view in models.views(images(1, (8, 16)), 4)] == [(1, 8, 16, 3)] * 4


def test_a_batch_answers_as_its_pictures_alone(served: Path) -> None:
    model, pixels = opened(served / "quick"), images(5)
    together = model.predict(pixels, [[0, 0, 1, 1]] * 5)
    alone = [model.predict(pixels[i : i + 1], [[0, 0, 1, 1]])[0] for i in range(5)]
    assert [a["probabilities"] for a in together] == [pytest.approx(a["probabilities"], abs=1e-5) for a in alone]


def test_distances_are_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    count = 3 + models.surface(images(1)).shape[1]
    known = {
        "mean": np.ones(4), "components": np.eye(2, 4), "scale": np.full(count, 2.0), "center": np.full(count, 0.5),
        "precision": np.eye(count),
    }  # fmt: skip
    features, pixels = rng.normal(size=(6, 4)), images(6)
    left = np.linalg.norm(features[:, 2:] - 1, axis=1, keepdims=True)
    at = np.concatenate([features[:, :2] - 1, left, models.surface(pixels)], axis=1)
    assert np.allclose(models.distances(features, pixels, known), np.linalg.norm(at / 2 - 0.5, axis=1))


def test_folders_that_cannot_be_served_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    toy.model(tmp_path / "a/good")
    toy.model(tmp_path / "b/good", network="another")
    toy.model(tmp_path / "b/border", crop_border=True)
    (tmp_path / "b/broken").mkdir()
    (tmp_path / "b/broken/card.json").write_text("{")
    found = models.find(Settings(models=f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/none"))
    assert list(found) == ["good"] and found["good"].card["network"] == "toy"
    assert "border" in caplog.text and "broken" in caplog.text


def test_pictures_are_turned_upright_cut_and_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert prepare.decoded(toy.picture(size=(60, 40), exif=exif), 50).size == (40, 60)
    assert prepare.box(100, 50, (32, 32), "crop") == (25, 0, 75, 50)
    assert prepare.box(100, 50, (32, 32), "squeeze") == (0, 0, 100, 50)
    pixels, seen = prepare.fitted(prepare.decoded(toy.picture(size=(100, 50)), 50), (24, 32), "crop")
    assert pixels.shape == (24, 32, 3) and pixels.dtype == np.uint8
    assert seen == [0.16, 0, 0.83, 1]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16"])
def test_pngs_of_all_modes_are_read(mode: str) -> None:
    file = io.BytesIO()
    image = Image.new("I;16", (20, 10), 40000) if mode == "I;16" else Image.new("RGB", (20, 10), "white").convert(mode)
    image.save(file, "PNG")
    pixels = np.asarray(prepare.decoded(file.getvalue(), 50))
    assert pixels.shape == (10, 20, 3) and pixels[0, 0, 0] == (40000 >> 8 if mode == "I;16" else 255)


def test_settings_are_read_and_checked() -> None:
    found = settings.read({"LESIONS_IMAGE_MB": "2.5", "LESIONS_BATCH": "4", "OTHER": "1", "LESIONS_THREADS": "0"})
    assert (found.image_mb, found.batch, found.lease) == (2.5, 4, 30)
    for name, value in {"BATCH": "2.5", "LEASE": "0", "KEEP": "-1", "TRIES": "x", "IMAGE_MB": "nan"}.items():
        with pytest.raises(InputError, match=f"LESIONS_{name}={value}: expected"):
            settings.read({f"LESIONS_{name}": value})


def table(folder: Path, out: Path, served: Path, model: str = "quick") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "serving.predict", str(folder), "--model", model, "--out", str(out)]
    environment = {"LESIONS_MODELS": str(served), "PATH": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_folder_becomes_a_table_that_goes_on_where_it_stopped(tmp_path: Path, served: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out/table.csv"
    (folder / "deep").mkdir(parents=True)
    for i in range(10):
        (folder / f"{i}.jpg").write_bytes(toy.picture(i))
    (folder / "=cmd.png").write_bytes(toy.picture(3, kind="PNG"))
    (folder / "deep/bad\n,.JPG").write_bytes(b"text")
    assert (done := table(folder, out, served)).returncode == 0, done.stderr
    text = out.read_text()
    lines = text.splitlines()
    assert len(lines) == 13 and lines[0].startswith("name,prediction,label,target,familiar,distance,p_AK,")
    assert "\n'=cmd.png," in text and "neither JPEG nor PNG" in text and "Not a medical device" in lines[1]
    for cut in (len(text) - 5, len(text) // 2):
        out.write_text(text[:cut])
        assert table(folder, out, served).returncode == 0
        assert out.read_text() == text
    wrong = table(folder, out, served, "views")
    assert (
        wrong.returncode == 1
        and wrong.stderr == f"error: {out}: not a table of this model; name another file, or delete it\n"
    )


def test_wrong_models_and_folders_are_one_line(tmp_path: Path, served: Path) -> None:
    for folder, model, says in ((tmp_path / "none", "quick", "no such folder"), (tmp_path, "quick", "no picture"),
                                (tmp_path, "quack", "unknown model 'quack'; there is quick")):  # fmt: skip
        done = table(folder, tmp_path / "table.csv", served, model)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and says in done.stderr


def test_an_api_and_a_table_say_the_same(tmp_path: Path, served: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.jpg").write_bytes(toy.picture())
    table(tmp_path / "pictures", tmp_path / "t.csv", served)
    model = opened(served / "quick")
    pixels, seen = prepare.fitted(prepare.decoded(toy.picture(), 50), model.size, model.fit)
    [answer] = model.predict(pixels[None], [seen])
    line = (tmp_path / "t.csv").read_text().splitlines()[1]
    assert ",".join(map(str, answer["probabilities"].values())) in line
    assert json.dumps(answer)

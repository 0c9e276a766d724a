"""What masks are put to: colour outside taken away, the lesion's box cut out; the folds' ensemble."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from lesions.core.errors import InputError
from lesions.pictures import color, sheets
from stages import ensemble_masks, examples, masked, unet34
from stages.check import augmented
from tests.conftest import ROOT

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)
MASK = np.zeros((24, 32), np.uint8)
MASK[6:18, 8:28] = 1
BOX = np.array([6, 8, 18, 28])
EMPTY = np.zeros_like(MASK)


def test_colour_stays_inside_and_goes_outside():
    found = masked.styled("grey", IMAGE, MASK, BOX)
    assert (found[MASK > 0] == IMAGE[MASK > 0]).all()
    outside = found[MASK == 0].astype(int)
    assert (outside.max(axis=1) == outside.min(axis=1)).all()
    pillow = np.asarray(Image.fromarray(IMAGE).convert("L"))[MASK == 0].astype(int)
    assert abs(outside[:, 0] - pillow).max() <= 1


def test_flat_is_128():
    found = masked.styled("flat", IMAGE, MASK, BOX)
    assert (found[MASK > 0] == IMAGE[MASK > 0]).all() and (found[MASK == 0] == 128).all() and found.dtype == np.uint8


def test_an_image_without_a_lesion_stays():
    whole = np.array([0, 0, 24, 32])
    for style in ("grey", "flat", "crop"):
        assert (masked.styled(style, IMAGE, EMPTY, whole) == IMAGE).all()


def test_a_crop_is_the_box_at_the_images_size():
    flat = IMAGE.copy()
    flat[6:18, 8:28] = (10, 200, 30)
    found = masked.styled("crop", flat, MASK, BOX)
    assert found.shape == flat.shape and (found == (10, 200, 30)).all()


def lay_out(folder, masks) -> None:
    for name in ("resized/isic2017", "masks"):
        (folder / "data" / name).mkdir(parents=True)
    np.save(folder / "data/resized/isic2017/classify.npy", np.stack([IMAGE] * 3))
    np.save(folder / "data/masks/isic2017.npy", masks)
    boxes = pd.DataFrame([[0, 0, 24, 32]] * 3, columns=["top", "left", "bottom", "right"])
    boxes.to_csv(folder / "data/masks/isic2017.csv", index=False)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")


def test_the_stage_writes_every_image(tmp_path, monkeypatch):
    lay_out(tmp_path, np.stack([MASK, EMPTY, MASK]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["masked", "isic2017_flat"])
    masked.main()
    found = np.load("data/masked/isic2017_flat.npy")
    assert (found[1] == IMAGE).all() and (found[0] == masked.styled("flat", IMAGE, MASK, BOX)).all()
    assert (tmp_path / "plots/masked/isic2017_flat.png").is_file()


def test_masks_of_another_set_are_named(tmp_path, monkeypatch):
    lay_out(tmp_path, np.stack([MASK] * 2))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["masked", "isic2017_flat"])
    with pytest.raises(InputError, match=r"run stages\.predict_masks"):
        masked.main()
    assert not (tmp_path / "data/masked/isic2017_flat.npy").exists()


def test_no_fold_sees_the_test_part_or_its_own_images():
    table = pd.DataFrame({"split": ["train", "val", "test"] * 10, "fold": [i % 3 for i in range(30)]})
    table["fold"] = np.random.default_rng(1).permutation(table["fold"])
    parts = [unet34.parts(table, fold) for fold in range(3)]
    own = np.concatenate([part["val"] for part in parts])
    assert len(own) == len(set(own)) == 20
    for part in parts:
        assert not set(part["train"]) & (set(part["val"]) | set(part["test"]))
        assert (table["split"].iloc[part["test"]] == "test").all() and len(part["test"]) == 10


def test_the_ensemble_is_the_mean_of_the_folds(tmp_path, monkeypatch):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    for name in ("sorted", "resized/isic2018", "predictions/unet34"):
        (tmp_path / "data" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"image": list("abc"), "split": ["train", "test", "test"]}).to_csv("data/sorted/isic2018.csv")
    truth = np.zeros((3, 4, 4), np.uint8)
    truth[1:, :2] = 1
    np.save("data/resized/isic2018/large_masks.npy", truth)
    np.save("data/resized/isic2018/large.npy", np.zeros((3, 4, 4, 3), np.uint8))
    votes = np.zeros((3, 2, 4, 4), np.uint8)  # fold, image: two folds of three see the upper half of the first image
    votes[:2, 0, :2] = 255
    votes[2, 1] = 255  # one of three sees all of the second
    for fold in range(3):
        np.save(f"data/predictions/unet34/{fold}.npy", votes[fold])
        own = pd.DataFrame({"image": ["a"], "jaccard": [0.5], "dice": [0.6]})
        own.to_csv(f"data/predictions/unet34/{fold}.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["ensemble_masks"])
    ensemble_masks.main()
    found = pd.read_csv("data/predictions/unet34.csv").set_index(["fold", "image"])["jaccard"]
    assert found["ensemble", "b"] == 1 and found["ensemble", "c"] == 0 and found["0", "a"] == 0.5
    assert (tmp_path / "plots/unet34.png").read_bytes().startswith(b"\x89PNG")


def test_every_colour_method_and_augmentation_is_drawn_once(tmp_path, monkeypatch):
    """Pictures as they are stand above what is made of them; a block without augmentation draws nothing."""
    for name in ("sorted", "resized/isic2017", "resized/isic2019"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for name in ("isic2017", "isic2019"):
        pd.DataFrame({"label": ["MEL", "NV"] * 4}).to_csv(tmp_path / f"data/sorted/{name}.csv")
        np.save(tmp_path / f"data/resized/{name}/classify.npy", RNG.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8))
    blocks = {"one": ("heavy",), "two": ("heavy",), "three": ("hflip", "zoom"), "four": (), "five": ("vflip",)}
    images = dict.fromkeys(blocks, "resized/isic2019/classify") | {"five": "color/isic2019-max_rgb"}
    blocks = {name: SimpleNamespace(images=images[name], augment=of) for name, of in blocks.items()}
    found = augmented(SimpleNamespace(classifiers=blocks))
    (tmp_path / "data/augmented.json").write_text(json.dumps(found))
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    drawn = {}
    monkeypatch.setattr(
        examples, "beside", lambda title, rows: drawn.update({title: rows}) or sheets.beside(title, rows)
    )
    monkeypatch.setattr(sys, "argv", ["examples"])
    examples.main()
    files = {path.stem for path in Path("plots/examples").iterdir()}
    assert files == {"colours_isic2017", "colours_isic2019", "heavy", "hflip-zoom"}
    images, rows = np.load("data/resized/isic2017/classify.npy"), drawn["isic2017"]
    assert len(rows) == 10 and all(of.shape == (4, 16, 16, 3) for of in rows.values())
    assert (rows["melanomas, as they are"] == images[::2]).all()
    wanted = color.method("max_rgb", None)(images[1])
    assert (rows["others, max_rgb"][0] == wanted).all()
    heavy = drawn["heavy: of one and classifiers like it"]
    assert heavy["as they are"].dtype == heavy["drawn, 1"].dtype == np.uint8
    assert (heavy["drawn, 1"] != heavy["drawn, 2"]).any()

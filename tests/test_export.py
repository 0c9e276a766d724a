"""What leaves the pipeline: ONNX files against the pipeline's own predictions, cards, familiarity, releases."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from scipy.special import softmax

from lesions.batches.feed import Feed
from lesions.classify import experiment
from lesions.classify.config import classifier
from lesions.core.errors import InputError
from lesions.core.files import write_csv
from lesions.export import card, graph
from lesions.export.unet_graph import Unet
from lesions.isic.names import CLASSES
from lesions.networks import build
from lesions.predict import familiarity
from lesions.predict.features import features
from lesions.raw.config import Official, Own
from lesions.segment import unet
from lesions.tools import release
from lesions.training import checkpoints, hardware
from lesions.training.config import Compute
from serving import models
from stages import export, export_unet
from tests.conftest import ROOT

COMPUTE = Compute(threads=1, amp=False, compile=False, deterministic=True)
COUNT = 240


def drawn(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A dark spot on skin, uint8 count×size×3: its place, size and colours differ."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / np.array(size)[:, None, None]
    center, radius = rng.uniform(0.4, 0.6, (2, count, 1, 1)), rng.uniform(0.1, 0.3, (count, 1, 1))
    spot = 1 / (1 + np.exp(40 * (np.hypot(y - center[0], x - center[1]) - radius)))[..., None]
    skin, mark = rng.normal((205, 160, 140), 12, (count, 1, 1, 3)), rng.normal((100, 65, 50), 12, (count, 1, 1, 3))
    pixels = skin * (1 - spot) + mark * spot + rng.normal(0, 4, (count, *size, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def settled(model: torch.nn.Module, size: tuple[int, int]) -> torch.nn.Module:
    """Let batch normalisation see a few images, so that a network of random weights tells them apart."""
    images = torch.from_numpy(drawn(64, size)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        for _ in range(20):
            model.train()(images if not hasattr(model, "segmentation_head") else unet.padded(images))
    return model.eval()


def served(family: str, network: str, size: tuple[int, int]) -> graph.Classifier:
    torch.manual_seed(0)
    found = build.find(family, network)
    model = settled(build.build(family, network, 8, size), size)
    return graph.Classifier(model, found.mean, found.std, size)


@pytest.mark.parametrize(
    ("family", "network", "size", "maps"),
    [
        ("timm", "tf_efficientnet_lite0", (64, 64), (2, 2)),
        ("torchvision", "resnet18", (64, 96), (2, 3)),
        ("residual", "residual", (32, 32), None),
    ],
)
def test_onnx_runtime_predicts_what_the_pipeline_does(tmp_path, family, network, size, maps):
    hardware.prepare(COMPUTE, 0)
    of = served(family, network, size)
    graph.export(of, size, tmp_path / "model.onnx")
    graph.export(of, size, tmp_path / "again.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    assert content == (tmp_path / "again.onnx").read_bytes()
    assert not any(word in content for word in (b"/work", str(ROOT).encode(), b"pytorch", b".py", b"site-packages"))

    images = drawn(5, size, seed=1)
    block = classifier("residual", ROOT / "params.yaml").model_copy(update={"family": family, "network": network})
    predict = experiment.Predictor(block, hardware.switches(COMPUTE, torch.device("cpu")))
    expected = predict(of.model, Feed([images], torch.device("cpu")), np.arange(5))
    session = graph.session(tmp_path / "model.onnx")
    assert [output.name for output in session.get_outputs()] == list(of.names)
    for batch in (5, 1):
        found = dict(zip(of.names, session.run(None, {"images": images[:batch]}), strict=True))
        p = softmax(found["logits"], axis=1)
        assert np.abs(p - expected[:batch]).max() < 1e-3 and p.dtype == np.float32
        assert (p.argmax(axis=1) == expected[:batch].argmax(axis=1)).all()
        last = of.last[0]
        weight, bias = (value.detach().numpy() for value in (last.weight, last.bias))
        np.testing.assert_allclose(found["features"] @ weight.T + bias, found["logits"], atol=1e-3)
        assert ("maps" in found) == bool(maps)
        if maps:
            assert found["maps"].shape == (batch, 8, *maps)
            np.testing.assert_allclose(found["maps"].mean(axis=(2, 3)) + bias, found["logits"], atol=1e-3)


def test_a_unets_file_pads_and_predicts_what_the_pipeline_does(tmp_path):
    hardware.prepare(COMPUTE, 0)
    size = (48, 72)
    model = settled(unet.build("unet", "resnet18", size), size)
    graph.export(Unet(model, *unet.statistics("resnet18")), size, tmp_path / "model.onnx")
    images = drawn(5, size, seed=1)
    expected = unet.probabilities(model, torch.from_numpy(images).permute(0, 3, 1, 2), COMPUTE).numpy()
    session = graph.session(tmp_path / "model.onnx")
    for batch in (5, 1):
        (masks,) = session.run(None, {"images": images[:batch]})
        assert masks.shape == (batch, *size) and np.abs(masks - expected[:batch]).max() < 1e-3


@pytest.mark.parametrize(
    ("family", "network", "maps"),
    [
        ("torchvision", "squeezenet1_1", False),
        ("torchvision", "vgg11", False),
        ("torchvision", "resnet50_concat", False),
        ("attention", "resnet50_arl", True),
        ("timm", "convnext_atto", False),
        ("timm", "vit_tiny_patch16_224", False),
        ("timm", "swin_tiny_patch4_window7_224", True),
    ],
)
def test_networks_of_other_ends_have_features_and_maps_only_where_these_make_the_logits(family, network, maps):
    size = (224, 224) if "224" in network else (64, 64)
    torch.manual_seed(0)
    found = build.find(family, network)
    of = graph.Classifier(build.build(family, network, 3, size), found.mean, found.std, size)
    outputs = dict(zip(of.names, graph.outputs(of, drawn(2, size)), strict=True))
    assert outputs["features"].ndim == 2 and ("maps" in outputs) == maps
    if maps:
        bias = of.last[0].bias.detach().numpy()
        np.testing.assert_allclose(outputs["maps"].mean(axis=(2, 3)) + bias, outputs["logits"], atol=1e-4)


def test_familiarity_flags_what_is_no_such_picture(tmp_path):
    hardware.prepare(COMPUTE, 0)
    size = (64, 64)
    of = served("torchvision", "resnet18", size)

    def distance(by, images):
        return by.distance(graph.outputs(of, images)[1], images)

    learnt = drawn(400, size)
    images = np.concatenate([learnt, drawn(200, size, seed=1)])
    rows = {"train": np.arange(400), "val": np.arange(400, 600)}
    backwards = np.arange(599, 200, -1)
    watched = features(of.model, lambda index: graph.outputs(of, images, index), backwards)
    np.testing.assert_allclose(watched, graph.outputs(of, images, backwards)[1], rtol=1e-5, atol=1e-6)
    known, edge = familiarity.learnt(lambda index: graph.outputs(of, images, index)[1], images, rows)
    known.save(tmp_path / "familiarity.npz")
    again = tmp_path / "again.npz"
    familiarity.fit(graph.outputs(of, learnt)[1], learnt).save(again)
    assert again.read_bytes() == (tmp_path / "familiarity.npz").read_bytes()
    assert again.stat().st_size < 1_000_000
    loaded = familiarity.Familiarity(**np.load(again, allow_pickle=False))

    noise = np.random.default_rng(0).integers(256, size=(4, *size, 3), dtype=np.uint8)
    flat = [np.full((1, *size, 3), value, np.uint8) for value in (0, 255)]
    others = np.concatenate([noise, *flat])
    assert (distance(loaded, others) > edge).all()
    assert (distance(loaded, drawn(200, size, seed=2)) > edge).mean() < 0.05
    found = graph.outputs(of, others)[1]
    with np.load(again) as file:  # serving computes the same without lesions/
        np.testing.assert_allclose(models.distances(found, others, dict(file)), loaded.distance(found, others))


@pytest.mark.parametrize("count", [512, 4096])
def test_familiarity_stays_small_for_wide_networks(tmp_path, count):
    known = familiarity.fit(np.random.default_rng(0).normal(size=(300, count)).astype(np.float32), drawn(300, (32, 32)))
    known.save(tmp_path / "f.npz")
    assert (tmp_path / "f.npz").stat().st_size < 1_000_000 and len(known.components) <= 128


def test_a_picture_s_surface_is_its_colours_contrast_and_grain():
    """A chart of four stripes: the cells' means are its colours, in opponent axes; nothing changes from row to row."""
    stripes = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]], np.uint8)
    found = familiarity.surface(np.broadcast_to(stripes.repeat(8, axis=0), (1, 32, 32, 3)))[0]
    cells = found[:48].reshape(4, 4, 3)
    lightness, red_green, yellow_blue = cells[2].T * 3 * 255
    np.testing.assert_allclose(lightness, stripes.sum(axis=1, dtype=int), rtol=1e-4)
    np.testing.assert_allclose(red_green, [255, -255, 0, 0], atol=0.1)
    np.testing.assert_allclose(yellow_blue, [255, 255, -510, 0], atol=0.1)
    np.testing.assert_allclose(np.exp(found[51:]), 0.001, rtol=1e-3)
    assert np.exp(found[48]) - 0.01 < 0.01 and (np.exp(found[49:51]) > 0.05).all()


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder in which the residual network and a U-Net stand trained, on 240 small images."""
    folder, size = tmp_path_factory.mktemp("project"), (32, 32)
    shutil.copy(ROOT / "params.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        device = hardware.prepare(COMPUTE, 0)
        names, labels = [f"ISIC_{i:07d}" for i in range(COUNT)], [CLASSES[i % 8] for i in range(COUNT)]
        roles = np.repeat(["train", "val", "test"], [160, 40, 40])
        table = pd.DataFrame({"image": names, "lesion": [f"L{i // 2}" for i in range(COUNT)], "label": labels})
        write_csv(Path("data/sorted/isic2019.csv"), table.assign(cv0=roles))
        images = drawn(COUNT, size)
        for path in ("isic2019/classify", "isic2018/segment"):
            Path("data/resized", path).parent.mkdir(parents=True)
            np.save(f"data/resized/{path}.npy", images)
        block = classifier("residual")
        model = settled(build.build(block.family, block.network, 8, size), size)
        checkpoints.save(Path("models/train/residual"), {"bma": (1, model.state_dict())})
        rows = np.arange(160, COUNT)
        predict = experiment.Predictor(block, hardware.switches(COMPUTE, device))
        p = pd.DataFrame(predict(model, Feed([images], device), rows), columns=[f"p_{c}" for c in CLASSES])
        keys = table[["image", "label"]].iloc[rows].reset_index(drop=True)
        keys = keys.assign(split=roles[rows], seed=block.seed, checkpoint="bma")
        write_csv(Path("data/predictions/train/residual.csv"), keys.join(p))

        write_csv(Path("data/sorted/isic2018.csv"), pd.DataFrame({"image": names, "mask": names, "split": roles}))
        checkpoints.save(Path("models/segment"), {"jaccard": (1, unet.build("unet", "resnet18", size).state_dict())})
        scored = pd.DataFrame({"image": names[200:], "checkpoint": "jaccard", "jaccard": np.linspace(0.5, 1, 40)})
        write_csv(Path("data/predictions/segment.csv"), scored.assign(dice=0.9))
        for command in (["init", "-q"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"]):
            subprocess.run(["git", *command, *["--allow-empty"] * ("commit" in command)], check=True)
    return folder


def run(stage, patch: pytest.MonkeyPatch, *arguments: str) -> None:
    patch.setattr("sys.argv", [stage.__name__, *arguments])
    stage.main()


def test_the_stage_writes_a_model_and_a_card_of_the_same_bytes_twice(project, monkeypatch):
    monkeypatch.chdir(project)
    folder, written = Path("models/served/residual"), []
    for _ in range(2):
        run(export, monkeypatch, "residual")
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1] and set(written[0]) == {"model.onnx", "card.json", "familiarity.npz"}

    told = card.read(folder)
    assert list(told) == sorted(told) and str(project) not in (folder / "card.json").read_text(encoding="utf-8")
    assert told["data"] == {"source": "sample", "sample": True, "warning": card.SAMPLE}
    assert (told["classes"], told["size"], told["views"]) == (list(CLASSES), [32, 32], 1)
    assert told["images"] == {"train": 160, "val": 40, "test": 40}
    for score in told["scores"].values():
        assert score["low"] <= score["value"] <= score["high"]
    assert sum(sum(row.values()) for row in told["confusion"].values()) == 40
    assert told["calibration"]["temperature"] > 0 and told["familiarity"]["threshold"] > 0

    predictions = pd.read_csv("data/predictions/train/residual.csv")
    (logits, _) = graph.session(folder / "model.onnx").run(
        None, {"images": np.load("data/resized/isic2019/classify.npy")[160:]}
    )
    found = softmax(logits, axis=1)
    expected = predictions[[f"p_{c}" for c in CLASSES]].to_numpy()
    assert np.abs(found - expected).max() < 1e-3 and (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    fitted = told["calibration"]  # the card's scores are of the balanced output
    bias, shares = (np.array([fitted[key][c] for c in CLASSES]) for key in ("bias", "shares"))
    balanced = np.log(expected[40:]) / fitted["temperature"] + bias - np.log(shares)
    right = [CLASSES[g] for g in balanced.argmax(axis=1)] == predictions["label"][40:]
    assert told["scores"]["accuracy"]["value"] == pytest.approx(np.mean(right), abs=1e-6)


def test_a_release_is_half_as_large_and_says_where_it_comes_from(project, monkeypatch):
    monkeypatch.chdir(project)
    for stage, arguments, of in ((export, ["residual"], "residual"), (export_unet, [], "unet")):
        run(stage, monkeypatch, *arguments)
        run(release, monkeypatch, of, "--as", f"small_{of}")
        full, small = Path(f"models/served/{of}"), Path(f"released/small_{of}")
        assert (small / "model.onnx").stat().st_size < 0.52 * (full / "model.onnx").stat().st_size
        told = card.read(small)
        assert told["name"] == f"small_{of}" and told["sha256"] != card.read(full)["sha256"]
        assert told["release"]["command"] == f"python -m lesions.tools.release {of} --as small_{of}"
        assert len(told["release"]["commit"].removesuffix("-dirty")) == 40 and told["release"]["test_images"] == 40
        changed = told["release"].get("classes_changed", told["release"].get("pixels_changed"))
        assert 0 <= changed <= (2 if of == "residual" else 400)
        images = drawn(3, (32, 32), seed=5)
        outputs = [graph.session(at / "model.onnx").run(None, {"images": images})[0] for at in (full, small)]
        np.testing.assert_allclose(*outputs, atol=0.02)
        onnx.checker.check_model(onnx.load(small / "model.onnx"), full_check=True)


def test_files_that_a_card_does_not_name_are_refused(project, monkeypatch):
    monkeypatch.chdir(project)
    run(export_unet, monkeypatch)
    told = json.loads(Path("models/served/unet/card.json").read_text(encoding="utf-8"))
    assert told["kind"] == "unet" and told["scores"]["jaccard"]["value"] == pytest.approx(0.75)
    with Path("models/served/unet/model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"its files are not those that card\.json names"):
        card.read(Path("models/served/unet"))


@pytest.mark.parametrize(
    ("of", "isic2020", "licence", "named"),
    [
        ("isic2019", False, "CC-BY-NC-4.0", "BCN20000"),
        ("merged", True, "CC-BY-NC-4.0", "ISIC 2020"),
        ("isic2017", False, "CC0-1.0", "ISIC 2017"),
        ("isic2018", False, "CC0-1.0", "ISIC 2018"),
    ],
)
def test_a_model_has_the_licence_of_its_images(of, isic2020, licence, named):
    rights = card.rights(of, Official(), False, isic2020)
    assert rights["licence"] == licence and any(named in line for line in rights["attribution"])
    assert card.rights(of, Official(), True, isic2020)["attribution"] == []


def test_a_set_of_ones_own_says_its_licence():
    told = {"pictures": ["a.zip"], "table": "list.csv"}
    assert card.rights("clinic", Own(**told), False, False)["licence"] == "that of its pictures"
    rights = card.rights("clinic", Own(**told, licence="CC-BY-4.0", attribution=["Clinic X"]), False, False)
    assert (rights["licence"], rights["attribution"]) == ("CC-BY-4.0", ["Clinic X"])


def test_a_source_of_ones_own_is_not_told():
    assert "home" not in json.dumps(card.source("/home/me/isic"))
    assert card.source("isic") == {"source": "isic", "sample": False}

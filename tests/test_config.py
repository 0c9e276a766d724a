"""params.yaml and the settings laid over it: what is accepted, and how what is not is told."""

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lesions.classify.config import Recipe, classifier
from lesions.core import config
from lesions.core.errors import InputError
from lesions.raw.config import Array, Sort
from lesions.tools import check, settings
from lesions.tools.check import Params
from stages import train
from tests.conftest import ROOT

BASE = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def changed(path: str, value) -> dict:
    """params.yaml with one key (a.b.c) set, or removed where the value is None."""
    found = copy.deepcopy(BASE)
    *parents, last = path.split(".")
    section = found
    for part in parents:
        section = section[part]
    if value is None:
        del section[last]
    else:
        section[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trian", {}, "trian: unknown key"),
        ("train.learning_rate", 0.1, "train.learning_rate: unknown key"),
        ("classifiers.vgg16.epoch", 3, "classifiers.vgg16.epoch: unknown key"),
        ("train.lr", None, "lr: missing"),
        ("train.lr", 0, "greater than 0"),
        ("train.lr", "fast", "valid number"),
        ("train.epochs", 0, "greater than or equal to 1"),
        ("train.optimizer", "sgdm", "'sgd', 'adam' or 'adamw'"),
        ("train.augment", "hflip", "valid tuple"),
        ("sort.validation", 1.5, "less than 1"),
        ("sort.folds", 1, "greater than or equal to 2"),
        ("resize.isic2020", {"crop_border": False, "arrays": {}}, "isic2020"),
        ("resize.isic2019.arrays.classify.size", [32, 32], "classify.size: unknown key; expected one of fit, shape"),
        ("resize.isic2019.arrays.size", {}, "DVC does not compare keys of this name"),
        ("resize.isic2019.arrays.classify.fit", "stretch", "'squeeze' or 'crop'"),
        ("color_correct.methods.grey_edge", {}, "color_correct.methods.grey_edge: unknown key"),
        ("color_correct.methods.shades_of_gray.p", 0, "greater than or equal to 1"),
        ("classifiers.vgg16.images", "resized/isic2019/large", "no array 'resized/isic2019/large'"),
        (
            "classifiers.vgg16.split",
            "thirds",
            "'standard', 'balanced', 'eighty', 'ham', 'ham_1', 'ham_2' or 'melanoma'",
        ),
        (
            "recipes.d.phases",
            [{"epochs": 3, "lr": "range", "train": "all"}],
            "epochs 3 in 2 cycles: expected a multiple",
        ),
        ("segment.cycles", 3, "segment: epochs 8 in 3 cycles: expected a multiple"),
        ("classifiers.c_graham.lr", 0.5, "classifiers.c_graham: lr beside phases, which have their own"),
        ("recipes.d.epochs", 3, "recipes.d: epochs beside phases, which have their own"),
        ("resize.isic2018.crop_border", True, "resize.isic2018: isic2018_task1_val asks for whole pictures"),
        ("classifiers.vgg16.generated", "DF", "expected none or AK"),
        ("classifiers.vgg16.family", None, "family: missing"),
        ("classifiers.vgg16.family", "torch-vision", "should match pattern"),
        ("classifiers.vgg16_balanced.generated", "AK", "generated: needs split standard"),
        ("classifiers.vgg16.weights", "data/weights/vgg16", "'vgg16' is not in the section weights"),
        ("segment.weights", "resnet20", "segment.weights: 'resnet20' is not in the section weights"),
        ("base_model.weights", "keras_resnet50", "base_model.weights: 'keras_resnet50' is not in"),
        ("cross_validate.residual-1.fold", 2, "expected <classifier>-<fold>"),
        ("cross_validate.residual-1.classifier", "vgg99", "no block 'vgg99'"),
        ("classifiers.d_crop.weights", "models/train/vgg16/bma.pt", "no other block of that name and network"),
        ("classifiers.d_crop.split", "eighty", "expected a block of the same set and test part"),
        ("classifiers.d_snap.split", "eighty", "expected a block of the same set and test part"),
        ("classifiers.vgg16.recipe", "b", "no 'b' in recipes"),
        ("classifiers.c_base.split", "standard", "set isic2017, images resized/isic2017/classify and split standard"),
        ("classifiers.e_m0.split", "standard", "set merged, images resized/merged/classify and split standard"),
        ("classifiers.e_m0.set", "isic2019", "set isic2019, images resized/merged/classify and split eighty"),
        ("classifiers.e_m0.images", "resized/isic2019/classify", "set merged, images resized/isic2019/classify"),
        ("data.isic2020", "some", "data.isic2020"),
        ("data.isic2020", None, "data.isic2020: missing"),
        ("resize.merged", None, "no array 'resized/merged/classify'"),
        ("classifiers.c_masked_grey.images", "masked/isic2017_pink", "no array 'masked/isic2017_pink'"),
        ("recipes.e.phase", [], "recipes.e.phase: unknown key"),
        ("unet34.phases", [], "at least 1 item"),
        ("unet34.folds", [0, 3], "less than or equal to 2"),
        ("attention.b0.with", "vgg16", "expected a block of classifiers with split melanoma"),
        ("attention.b0.with", "c_resnet_arl", "c_resnet_arl: expected network efficientnet_b0_arl"),
        ("attention.b0.with", "c_b0", "c_b0: expected network efficientnet_b0_arl"),
        (
            "classifiers.c_b0.images",
            "color/isic2017-ben_graham",
            "c_b0: expected family attention and images resized/isic2017/classify",
        ),
        ("classifiers.c_b0.family", "torchvision", "c_b0: expected family attention and images"),
        ("predict_masks.sets", {"isic2019": "segment"}, "masked.isic2017_flat.set: isic2017 has no masks"),
        ("predict_masks.sets", dict.fromkeys(("isic2019", "isic2017", "merged", "isic2018"), "segment"), "isic2018"),
        ("predict_masks.sets.isic2017", "unet34", "predict_masks.sets.isic2017: unet34 takes squeezed pictures alone"),
        ("recipes.e.lr_min", 0.5, "lr_min: 0.5: expected less than lr, 0.001"),
        (
            "recipes.c.phases",
            [{"epochs": 1, "lr": "rnage", "train": "all"}],
            "above 0 and at most 10, or range, got 'rnage'",
        ),
        ("recipes.c.phases", [{"epochs": 1, "lr": 1e-3, "train": "head", "body_lr": 1e-4}], "in which the body learns"),
        ("score.lite0.classifier", "residual", "score.lite0.classifier: expected lite0"),
        ("score.lite0.trained", "cross_validate", "expected cross_validate.lite0, a fold of lite0, with keep: true"),
        ("resize.merged.arrays", {}, "classifiers.e_m0.images: no array 'resized/merged/classify'"),
        ("resize.isic2018.arrays.segment", None, "segment: no array 'segment'"),
        ("resize.isic2019.arrays.gan.shape", [32, 32], "gan.shape: expected [64, 64]"),
        ("base_models.base_64.images", "resized/merged/classify", "expected an array of isic2019"),
        ("weights", {"lite0.1": "torchvision:resnet18"}, "weights.lite0.1.[key]: String should match pattern"),
        ("classifiers.d_snap.snapshots", False, "weights: d_snap keeps loss, accuracy, bma, not snapshot_2.pt"),
        ("classifiers.d_snap.cycles", 1, "weights: d_snap keeps loss, accuracy, bma, snapshot_1, not snapshot_2.pt"),
        ("classifiers.d_snap.weights", "models/train/d_snap/bma.pt", "no other block of that name"),
        ("classifiers.d_crop.images", "resized/merged/classify", "disagree"),
        ("sort.folds", 2, "d_crop_2.split: ham_2: expected sort.folds above 2"),
        ("resize.isic2018.arrays.segment.fit", "crop", "segment.fit: expected squeeze"),
        ("classifiers.vgg16.predict", ["val"], "predict: expected test among them"),
        ("classifiers.c_base.predict", ["test"], "predict: expected val among them"),
        ("classifiers.e_m0.predict", ["test"], "predict: expected train, val, test among them"),
        ("keras", None, "keras: missing"),
        ("segment.seeed", 1, "segment.seeed: unknown key"),
        ("classifiers.vgg16_balanced.images", "masked/isic2019_crop", "the U-Net has learnt on this test part's"),
        ("classifiers.residual.images", "masked/isic2019_crop", "cross_validate.residual-1: residual: the U-Net has"),
        ("cross_validate.residual-1.recipe", "e", "recipe: expected a, as classifiers has"),
        ("cross_validate.residual-1.family", "torchvision", "family: expected residual, as classifiers has"),
        ("compare.confidence", 95, "less than 1"),
        ("classifiers.vgg16.family", "torchvison", "no lesions/networks/torchvison.py; expected one of attention"),
        ("segment.encodr", "x", "segment.encodr: unknown key; expected one of encoder"),
        ("weights.none", "keras:resnet50", "weights.none: none stands for random weights"),
        ("weights.lite0", "torchvsion:resnet18", "weights.lite0: String should match"),
        ("base_model.weights", "lite0", "is of another library than the network"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path, path, value, message):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(InputError) as caught:
        check.load(tmp_path / "params.yaml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_colour_method_without_settings_is_no_method(tmp_path):
    """DVC would make a stage of it all the same."""
    text = (ROOT / "params.yaml").read_text().replace("gray_world: {}", "gray_world: null")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"methods\.gray_world: Input should be a valid dictionary"):
        check.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("classifiers.vgg16.recipe", [], "recipe: Input should be a valid string"),
        ("resize.isic2018", None, "segment: no array 'segment'"),
        ("train.lr", float("nan"), "train.lr: "),
        ("train.weight_decay", float("nan"), "train.weight_decay: "),
        ("train.batch", float("inf"), "train.batch: "),
        ("compute.device", "gpu", "'auto', 'cpu' or 'cuda'"),
        ("keras.backend", "theano", "'tensorflow' or 'torch'"),
        ("x" * 500, list(range(10_000)), "unknown key"),
    ],
)
def test_what_the_fuzzer_puts_in_is_told_shortly(tmp_path, path, value, message):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(InputError) as caught:
        check.load(tmp_path / "params.yaml")
    assert message in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 'line 3: found duplicate key "a"'),
        ("train: {lr: 1, batch: 2, lr: 3}", 'line 1: found duplicate key "lr"'),
        ("a: !!int", "not YAML: IndexError"),
        ("a: !!bool maybe", "not YAML: KeyError"),
        ("a: !!timestamp x", "line 1: failed to construct timestamp"),
        ("a: 2001-99-99", "not YAML: ValueError"),
        ("[" * 5000, "line 2: did not find expected node content"),
        ("a: !!python/name:os.abort", "line 1: could not determine a constructor"),
        ("a: 1\n\tb: 2", "line 2: "),
    ],
)
def test_odd_yaml_is_one_line(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    for read in (check.load, settings.read):
        with pytest.raises(InputError) as caught:
            read(tmp_path / "params.yaml")
        assert f"params.yaml: {message}" in str(caught.value)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_few_aliases_are_read(tmp_path):
    (tmp_path / "s.yaml").write_text("a: &x {lr: 1, batch: 2}\nb: {<<: *x, lr: 3}\nc: *x\n")
    block = {"lr": 1, "batch": 2}
    assert settings.read(tmp_path / "s.yaml") == {"a": block, "b": {"lr": 3, "batch": 2}, "c": block}


@pytest.mark.parametrize("text", ["a: [", "", "- 1", "\x00"])
def test_what_is_not_a_params_file_is_told(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"params\.yaml"):
        check.load(tmp_path / "params.yaml")


def test_an_array_with_the_name_of_a_set_is_not_that_set(tmp_path):
    found = changed("resize.isic2019.arrays.merged", {"shape": [32, 32], "fit": "squeeze"})
    found["classifiers"]["e_m0"]["images"] = "resized/isic2019/merged"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(found))
    with pytest.raises(InputError, match="set merged, images resized/isic2019/merged and split eighty disagree"):
        check.load(tmp_path / "params.yaml")


@pytest.mark.parametrize("images", ["color/merged-max_rgb", "resized/merged/classify"])
def test_the_merged_set_can_be_corrected(tmp_path, images):
    found = changed("color_correct.sets", ["merged", "isic2017", "isic2019"])
    found["classifiers"]["e_m0"]["images"] = images
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(found))
    assert check.load(tmp_path / "params.yaml").classifiers["e_m0"].images == images


def test_a_block_is_completed_from_train(monkeypatch):
    monkeypatch.chdir(ROOT)
    chosen = classifier("c_base")
    assert chosen == check.load().classifiers["c_base"]
    assert chosen.weight_decay == BASE["train"]["weight_decay"] and chosen.batch == BASE["recipes"]["c"]["batch"]
    assert classifier("residual").epochs == BASE["classifiers"]["residual"]["epochs"] != BASE["train"]["epochs"]
    with pytest.raises(InputError, match="classifiers: no 'vgg61'; expected one of vgg16"):
        classifier("vgg61")


def test_a_section_is_read_by_its_schema_and_no_other_is_looked_at(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed("train.lr", -1)))
    assert config.read("sort", Sort, path) == Sort(**BASE["sort"])
    with pytest.raises(InputError, match=r"params\.yaml: train\.lr: Input should be greater than 0"):
        config.read("train", Recipe, path)
    with pytest.raises(InputError, match=r"params\.yaml: no 'srot'; expected one of sort"):
        config.read("srot", Sort, path)


NAMES = {  # what only the code that has them knows: told by a stage before it reads an image
    "family": ("torchvison", "family 'torchvison': no file lesions/networks/torchvison.py; expected one of"),
    "network": ("vgg61", "network 'vgg61': unknown in family torchvision; expected one of vgg19, vgg16"),
    "augment": (["hflip", "spin"], "augment: 'spin' is unknown; expected one of"),
}


@pytest.mark.parametrize("key", NAMES)
def test_a_name_that_code_resolves_is_told_by_the_stage(tmp_path, monkeypatch, key):
    value, message = NAMES[key]
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(changed(f"classifiers.vgg16.{key}", value)))
    monkeypatch.setattr(sys, "argv", ["train", "vgg16"])
    with pytest.raises(InputError) as caught:
        train.main()
    assert str(caught.value).startswith(f"params.yaml: {message}") and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_params_are_frozen(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match="frozen"):
        check.load().train.lr = 1.0


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "settings").glob("*.yaml")))
def test_every_setting_fits_the_schema(tmp_path, monkeypatch, name):
    target = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", target)
    monkeypatch.setattr(sys, "argv", ["settings", str(ROOT / "settings" / name), "--params", str(target)])
    settings.main()
    assert check.load(target) != check.load(ROOT / "params.yaml")


def test_settings_replace_add_and_remove():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": {"one": {"k": 1}, "two": {"k": 2}}}
    over = {"a": {"y": [3]}, "b": {"two": None, "three": {"k": 3}}}
    assert settings.overlaid(base, over) == {"a": {"x": 1, "y": [3]}, "b": {"one": {"k": 1}, "three": {"k": 3}}}


def test_full_settings_are_the_papers(tmp_path):
    full = settings.overlaid(BASE, yaml.safe_load((ROOT / "settings/full.yaml").read_text(encoding="utf-8")))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(full))
    found = check.load(tmp_path / "params.yaml")
    study_a = {"vgg16", "alexnet", "residual", "resnet101", "wide_resnet"}
    assert all(found.classifiers[n].epochs == 100 for n in study_a | {f"{n}_balanced" for n in study_a})
    assert found.resize["isic2019"].arrays["classify"].shape == (256, 256)
    assert found.resize["isic2018"].arrays["segment"].shape == (768, 1024)
    pretrained = {n for n in study_a if found.classifiers[n].weights != "data/weights/none"}
    assert pretrained == {"resnet101", "wide_resnet"}
    gan, base = found.augment_gan, found.base_model
    assert (gan.epochs, gan.batch, gan.latent, gan.lr, gan.beta1, gan.images) == (1000, 32, 100, 1.5e-4, 0.5, 80)
    assert (base.epochs, base.steps, base.validation_steps, base.batch) == (25, 250, 60, 24)


def test_full_settings_are_those_of_studies_c_d_and_e(tmp_path):
    full = settings.overlaid(BASE, yaml.safe_load((ROOT / "settings/full.yaml").read_text(encoding="utf-8")))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(full))
    found = check.load(tmp_path / "params.yaml")
    c = {name: block for name, block in found.classifiers.items() if name.startswith("c_")}
    assert len(c) == 13 and all((b.runs, b.batch, b.schedule) == (10, 16, "onecycle") for b in c.values())
    first = {"c_plain", "c_masked_grey", "c_masked_flat"}  # experiment 1; experiments 2 to 4 oversample
    assert {name for name, block in c.items() if block.sampler == "uniform"} == first
    for block in c.values():
        assert [(p.epochs, p.lr, p.train) for p in block.phases] == [(4, 3e-3, "head"), (20, 3e-4, "all")]
    assert found.resize["isic2017"].arrays["classify"] == Array(shape=(224, 224), fit="crop")
    e = [found.classifiers[f"e_m{k}"] for k in range(8)]
    assert [b.schedule for b in e] == ["none", "step", "cosine", "restarts"] * 2
    assert [b.epochs for b in e] == [20] * 4 + [40] * 4 and all(b.tta and b.split == "eighty" for b in e)
    assert found.data.isic2020 and found.resize["merged"].arrays["classify"].shape == (256, 256)
    assert {(b.set, b.images) for b in e} == {("merged", "resized/merged/classify")}
    assert [b.augment for b in e] == [()] * 4 + [("heavy",)] * 4
    assert [b.batch for b in e] == [400] * 4 + [1024] * 4  # this line and the next: the author's notebooks
    assert {(b.optimizer, b.lr) for b in e} == {("sgd", 1e-3)} and [b.dropout for b in e] == [0] * 4 + [0.5] * 3 + [0]
    assert [b.epochs // b.cycles for b in (e[3], e[7])] == [5, 5]
    assert [e[k].drop_every for k in (1, 5)] == [15, 15] and [e[k].lr_min for k in (2, 3, 6, 7)] == [2e-4, 1e-4] * 2
    assert {b.dropouts for b in e[4:7]} == {5}
    for name in ("d_snap", "d_crop", "d_crop_1", "d_crop_2"):
        phases, block = found.classifiers[name].phases, found.classifiers[name]
        assert [(p.lr, p.train) for p in phases] == [("range", "head"), ("range", "all_but_norm")]
        assert (block.schedule, block.optimizer, block.snapshots, "rotate35" in block.augment) == (
            "restarts",
            "adam",
            True,
            True,
        )
    assert found.predict_masks.sets == {"isic2019": "unet34", "isic2017": "segment"}
    sizes = [found.resize["isic2018"].arrays[phase.array].shape for phase in found.unet34.phases]
    assert sizes == [(128, 128)] * 2 + [(256, 256)] * 2 and all(p.epochs == 30 for p in found.unet34.phases)
    assert found.unet34.folds == (0, 1, 2) and found.unet34.encoder == "resnet34"


def test_a_bad_setting_leaves_params_as_they_were(tmp_path, monkeypatch):
    target = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", target)
    (tmp_path / "bad.yaml").write_text("train: {lr: -1}")
    monkeypatch.setattr(sys, "argv", ["settings", str(tmp_path / "bad.yaml"), "--params", str(target)])
    with pytest.raises(InputError):
        settings.main()
    assert target.read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.yaml", "params.yaml"]


def test_a_stage_ends_with_one_line_and_code_1(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed("sort.seeds", 1)))
    done = subprocess.run(
        [sys.executable, "-m", "stages.sort", "isic2019"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: params.yaml: sort.seeds: unknown key; expected one of folds, leave_out, seed, validation (got 1)"
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["params.yaml"]


def test_a_key_that_is_not_declared_cannot_be_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("LESIONS_DECLARED", "sort classifiers.vgg16 segment.encoder")
    assert config.section("segment.encoder") == "resnet18" and config.read("sort", Sort).folds == 5
    for key in ("train", "classifiers.vgg16_balanced", "classifiers", "segment", "segment.epochs"):
        with pytest.raises(InputError, match=f"params.yaml: {key}: read by a stage whose params in dvc.yaml do not"):
            config.section(key)


def test_a_fold_does_not_start_from_what_has_seen_it():
    found = changed("classifiers.d_snap.split", "standard")
    for name in ("d_crop", "d_crop_1", "d_crop_2"):
        del found["classifiers"][name]
    start = {"family": "torchvision", "weights": "models/train/d_snap/bma.pt"}
    found["classifiers"]["residual"] |= start | {"network": "resnet50_concat"}
    for fold in found["cross_validate"].values():
        fold |= start
    with pytest.raises(ValueError, match=r"residual-1.weights: models/train/d_snap/bma\.pt has seen the fold"):
        Params.model_validate(found)


def test_dvc_compares_every_key():
    """A stage would be restored as it was before its `size` changed: DVC's run cache leaves such keys out."""
    sections = [config.Section]
    for section in sections:
        sections += section.__subclasses__()
    found = [one for one in sections if one.__module__.endswith("config")]  # of params.yaml
    assert len(found) > 25 and not {"size", "nfiles"} & {key for one in found for key in one.model_fields}

"""The compare stage on made-up predictions whose scores are known, and the published numbers against themselves."""

import copy
import json
import shutil
import sys
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import classification_report

from lesions.classify.config import classifier
from lesions.compare import intervals, measured, pages, scorecard, shortfalls, significance
from lesions.compare.config import Chosen
from lesions.core import config
from lesions.core.errors import InputError
from lesions.core.files import write_json
from lesions.isic.names import BALANCED_CLASSES, CLASSES, MERGED, RARE
from lesions.tools.check import Params
from lesions.tools.settings import overlaid
from stages import compare

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "published"
FOLDS, EACH = 5, 4  # images of a class in a fold
STANDARD = ("vgg16", "alexnet", "residual", "resnet101", "residual_shades")
BALANCED = ("vgg16_balanced", "residual_balanced")
HISTORY = pd.DataFrame({"epoch": [1, 2], "lr": 1e-3, "train_loss": [2.0, 1.0], "val_loss": [2.1, 1.9]})
OF_KERAS = HISTORY.rename(columns={"train_loss": "loss"}).assign(accuracy=[0.2, 0.6], val_accuracy=0.5)
SKILL = {"vgg16": 0.0, "alexnet": 0.25, "residual": 0.5, "resnet101": 0.75, "residual_shades": 1.0}  # known BMAs


def sorted_table() -> pd.DataFrame:
    """Eight classes alike in number, two images a lesion, dealt out in turn to the folds."""
    rows = []
    for label in CLASSES:
        for fold in range(FOLDS):
            for i in range(EACH):
                rows.append((f"ISIC_{len(rows):07d}", f"{label}_{fold}_{i // 2}", label, fold))
    table = pd.DataFrame(rows, columns=["image", "lesion", "label", "fold"])
    return table.assign(cv0="train", balanced="train", eighty="train")


def predictions(images: pd.DataFrame, labels: pd.Series, right: np.ndarray, classes, checkpoints) -> pd.DataFrame:
    """Probability .72 for the true class where `right`, else for the next one."""
    truth = labels.map({c: i for i, c in enumerate(classes)}).to_numpy()
    guess = np.where(right, truth, (truth + 1) % len(classes))
    rest = 0.28 / (len(classes) - 1)
    p = np.where(np.arange(len(classes)) == guess[:, None], 0.72, rest)
    parts = []
    for checkpoint in checkpoints:
        for split in ("val", "test"):  # the validation rows are all wrong: they must not count
            q = p if split == "test" else np.roll(np.eye(len(classes))[truth], 1, axis=1)
            keys = {"image": images["image"] + ("" if split == "test" else "v"), "split": split, "seed": 0}
            table = pd.DataFrame({**keys, "checkpoint": checkpoint, "label": labels})
            parts.append(table.assign(**{f"p_{c}": q[:, i] for i, c in enumerate(classes)}))
    return pd.concat(parts)


def skilled(labels: pd.Series, part: float) -> np.ndarray:
    """The first `part` of each class is right."""
    place = labels.groupby(labels).cumcount()
    return (place < part * labels.map(labels.value_counts())).to_numpy()


def write(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def run() -> None:
    """Run compare on what check hands on, but for what check would refuse."""
    found = {key: value for key, value in config.read_yaml(config.PARAMS).items() if key in Chosen.model_fields}
    found |= {
        "source": config.read("data.source", str),
        "sets": tuple(config.section("data.sets")),
        "classifiers": {name: classifier(name) for name in config.section("classifiers")},
    }
    write_json(Path("data/chosen.json"), Chosen(**found).model_dump(mode="json"))
    compare.main()


def settings() -> dict:
    """The project's params.yaml with fewer classifiers."""
    chosen = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    blocks = chosen["classifiers"]
    chosen["classifiers"] = {k: blocks[k] for k in (*STANDARD, *BALANCED)}
    folds = chosen["cross_validate"]
    two, numbers = ("alexnet", "residual"), range(1, 5)
    chosen["cross_validate"] = {f"{n}-{k}": folds[f"residual-{k}"] | {"classifier": n} for n in two for k in numbers}
    chosen["base_models"] = {k: chosen["base_models"][k] for k in ("base_64", "base_64_ak")}
    chosen["attention"] = {}  # names blocks that are not here
    chosen["data"]["source"] = "sample"
    chosen |= {"score": {}, "ensembles": {}}
    return chosen


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """A folder with params.yaml and every prediction that the stage reads; the current directory."""
    monkeypatch.chdir(tmp_path)
    Path("published").symlink_to(PUBLISHED)
    monkeypatch.setattr(sys, "argv", ["compare"])
    monkeypatch.setattr(intervals, "RESAMPLES", 50)  # enough for what is asked here
    monkeypatch.setattr(significance, "RESAMPLES", 50)
    Path("params.yaml").write_text(yaml.safe_dump(settings()), encoding="utf-8")
    table, data = sorted_table(), Path("data/predictions")
    write(Path("data/sorted/isic2019.csv"), table)
    write(Path("data/sorted/merged.csv"), table.assign(archive="isic2019"))
    write(Path("data/sorted/isic2018.csv"), table[["image"]][:9])
    write(Path("data/sorted/isic2017.csv"), table[:9].assign(image="old_" + table["image"], split="train"))
    test = table[table["fold"] == 0].reset_index(drop=True)
    three = ("loss", "accuracy", "bma")
    for name in STANDARD:
        right = skilled(test["label"], SKILL[name])
        write(data / f"train/{name}.csv", predictions(test, test["label"], right, CLASSES, three))
    merged = test["label"].where(~test["label"].isin(RARE), MERGED)
    for name, part in zip(BALANCED, (0.0, 0.5), strict=True):
        right = skilled(merged, part)
        write(data / f"train/{name}.csv", predictions(test, merged, right, BALANCED_CLASSES, three))
    for name in ("alexnet", "residual"):
        for fold in range(1, FOLDS):
            part = table[table["fold"] == fold].reset_index(drop=True)
            right = skilled(part["label"], fold / 4)
            write(data / f"cross_validate/{name}-{fold}.csv", predictions(part, part["label"], right, CLASSES, three))
    jaccards = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    masks = [(f"ISIC_{i:07d}", c, j, 2 * j / (1 + j)) for c in ("loss", "jaccard") for i, j in enumerate(jaccards)]
    write(data / "segment.csv", pd.DataFrame(masks, columns=["image", "checkpoint", "jaccard", "dice"]))
    masks = [(f"ISIC_{i:07d}", fold, j, j) for fold in (0, "ensemble") for i, j in enumerate([0.9, 0.7, 0.5])]
    write(data / "unet34.csv", pd.DataFrame(masks, columns=["image", "fold", "jaccard", "dice"]))
    write(data / "tests_masks.csv", pd.DataFrame(columns=["test", "model", "image", "jaccard", "dice"]))
    for name in (*STANDARD, *BALANCED):
        write(Path(f"plots/train/{name}/history.csv"), HISTORY)
    for name, part in (("base_64", 0.25), ("base_64_ak", 0.5)):
        write(Path(f"plots/base_model/{name}.csv"), OF_KERAS)
        right = skilled(test["label"], part)
        write(data / f"base_model/{name}.csv", predictions(test, test["label"], right, CLASSES, ["last"]))
    return tmp_path


@pytest.fixture
def undrawn(world, monkeypatch) -> Path:
    """The same, without the pictures, which take longest."""
    monkeypatch.setattr(compare.figures, "draw", lambda *args: None)
    monkeypatch.setattr(pages, "picture", lambda *args: "")
    return world


def test_a_set_of_ones_own_has_tables_of_its_own(world):
    """Ten classes, one a number, with experts' masks; half of each class right; its patients are in no file."""
    chosen, classes = settings(), tuple(sorted(map(str, range(10))))
    alike = chosen["classifiers"]["alexnet"] | {"set": "mine", "images": "resized/mine/classify"}
    chosen["data"]["sets"]["mine"] = {"pictures": ["mine"], "table": "mine.csv"}
    chosen["classifiers"]["own"] = alike
    Path("params.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    table = pd.DataFrame({"image": [f"{i:04d}" for i in range(40)], "label": [classes[i % 10] for i in range(40)]})
    write(Path("data/sorted/mine.csv"), table.assign(lesion=[f"Smith{i // 2}" for i in range(40)], cv0="test"))
    right = skilled(table["label"], 0.5)
    write(Path("data/predictions/train/own.csv"), predictions(table, table["label"], right, classes, ["bma"]))
    write(Path("plots/train/own/history.csv"), HISTORY)
    masks = pd.DataFrame({"image": ["a", "b"], "jaccard": [0.9, 0.5], "dice": [0.9, 0.5]})
    write(Path("data/predictions/tests_masks.csv"), masks.assign(test="mine", model="segment"))
    run()
    card = pd.read_csv("metrics/compare.csv").query("study == 'ours'").set_index(["table", "run", "metric"])["ours"]
    assert card["mine", "own", "bma"] == pytest.approx(0.5) and card["mine", "own", "accuracy"] == pytest.approx(0.5)
    assert card["mine: masks", "segment", "jaccard_thresholded"] == pytest.approx(0.45)
    pages = [Path(f"metrics/{name}").read_text(encoding="utf-8") for name in ("compare.md", "scorecard.html")]
    assert all("mine, a set of one" in page and "0.450" in page and "Smith" not in page for page in pages)
    assert Path("plots/compare/losses_mine.png").exists() and "mine" not in Path("metrics/leaderboards.csv").read_text()


def test_an_ensemble_and_official_sets_stand_in_the_report(undrawn):
    """The ensemble's BMA is of its balanced output; a test set of the sample has a place, and says that it is drawn."""
    chosen = settings() | {"ensembles": {"best": {"members": ["alexnet"]}}}
    chosen["score"] = {"alexnet": SCORED}
    Path("params.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    table, folder = pd.read_csv("data/sorted/isic2019.csv"), Path("data/predictions/ensemble")
    test = table[table["fold"] == 0].reset_index(drop=True)
    outputs = {"calibrated": 0.0, "balanced": 0.75}
    of = [predictions(test, test["label"], skilled(test["label"], part), CLASSES, [k]) for k, part in outputs.items()]
    write(folder / "best.csv", pd.concat(of))
    tests = of[1].query("split == 'test'").drop(columns=["split", "seed"]).assign(set="isic2019_test", seen=False)
    strange = {"label": "UNK", "unfamiliarity": [1.1, 0.9]}  # one is found
    write(folder / "best_tests.csv", pd.concat([tests.assign(unfamiliarity=0.5), tests[-2:].assign(**strange)]))
    write(Path("data/predictions/tests/alexnet.csv"), tests.assign(unfamiliarity=0.5))
    people = test[["image"]].assign(sex=["female", "male"] * (len(test) // 2), age=[30, 70] * (len(test) // 2))
    write(Path("data/sorted/people/isic2019.csv"), people[4:])
    masks = pd.DataFrame({"image": ["a", "b"], "jaccard": [0.9, 0.5], "dice": [0.9, 0.5]})
    write(Path("data/predictions/tests_masks.csv"), masks.assign(test="isic2018_task1_test", model="segment"))
    run()
    card = pd.read_csv("metrics/compare.csv").query("study == 'ours'").set_index("metric")
    assert card.loc["bma", "ours"] == pytest.approx(0.75) and card.loc["bma", "run"] == "best"
    places = pd.read_csv("metrics/leaderboards.csv").query("model != 'alexnet'").set_index(["test", "metric"])
    assert places.loc[("isic2018_task1_test", "jaccard_thresholded"), "ours"] == pytest.approx(0.45)
    nine, eight = (places.loc[("isic2019_test", metric)] for metric in ("bma", "bma of eight classes"))
    assert nine["ours"] == pytest.approx((8 * 0.75 + 0.5) / 9) and eight["ours"] == pytest.approx(0.75)
    assert nine[["place", "known", "comparable"]].to_list() == [1, 10, "drawn sample"]
    assert eight["comparable"] == "drawn sample; without the class UNK" and pd.isna(eight["place"])
    for first, (sex, age) in enumerate(PEOPLE):
        there = test["label"][4 + first :: 2]
        lacking = f", {there.nunique()} of 8 classes" * (there.nunique() < 8)
        assert card.loc[[f"bma {sex}{lacking}", f"bma age {age}{lacking}"], "n"].to_list() == [len(there)] * 2
        assert f"| best | age {age}{lacking} | " in Path("metrics/compare.md").read_text()
    assert "| ISIC 2018 Task 1 | isic2018_task1_test | segment |" in Path("metrics/compare.md").read_text()


SCORED = {"classifier": "alexnet", "trained": "train", "recipe": "a", "family": "torchvision", "set": "isic2019"}
SCORED |= {"images": "resized/isic2019/classify"}
PEOPLE = (("female", "0 to 39"), ("male", "60 and over"))


def melanoma_runs(images: pd.Series, wrong: dict[int, int], checkpoints=("loss", "accuracy")) -> pd.DataFrame:
    """Study C: of `images`, one in four is a melanoma; the last wrong[seed], none of which is, are called one at .6.

    Under all checkpoints but `accuracy`, everything is wrong.
    """
    melanoma, parts = np.arange(len(images)) % 4 == 0, []
    order = np.argsort(~melanoma, kind="stable")
    for seed, count in wrong.items():
        for checkpoint in checkpoints:
            p = np.where(melanoma, 0.9, 0.1)
            p[order[len(images) - count :]] = 0.6
            p = p if checkpoint == "accuracy" else 1 - p
            table = pd.DataFrame({"image": images, "split": "val", "seed": seed, "checkpoint": checkpoint})
            table["label"] = np.where(melanoma, "MEL", "OTHER")
            parts.append(table.assign(p_OTHER=1 - p, p_MEL=p))
    return pd.concat(parts)


def areas(table: pd.DataFrame, parts: dict[str, float]) -> pd.DataFrame:
    """Study E: by split, predictions whose macro AUC is that: the share of images with p 1 for the truth; else 1/8."""
    rows = []
    for number, (split, share) in enumerate(parts.items()):
        part = table[table["fold"] == number]
        truth = part["label"].map({c: i for i, c in enumerate(CLASSES)}).to_numpy()
        sure = skilled(part["label"], share)
        p = np.where(sure[:, None], np.eye(8)[truth], 1 / 8)
        keys = pd.DataFrame({"image": part["image"], "split": split, "seed": 0, "checkpoint": "auroc"})
        rows.append(keys.assign(label=part["label"], **{f"p_{c}": p[:, i] for i, c in enumerate(CLASSES)}))
    return pd.concat(rows)


SURE = {"e_m0": 0.0, "e_m1": 0.25, "e_m2": 0.5, "e_m3": 1.0, "e_m5": 0.5}  # share of sure predictions in the test part


@pytest.fixture
def five(undrawn) -> Path:
    """The same, with some blocks of studies C, D and E."""
    chosen, folder = settings(), Path("data/predictions/train")
    table = pd.read_csv("data/sorted/isic2019.csv")
    wrong = {"c_plain": {0: 6, 1: 8}, "c_masked_grey": {0: 4, 1: 8}, "c_base": {3: 4, 4: 8, 5: 4, 6: 8}}
    wrong["c_graham"] = {3: 2, 4: 6, 5: 4, 6: 4, 7: 0}
    test = table[table["fold"] == 0].reset_index(drop=True)
    for name, of in wrong.items():
        write(folder / f"{name}.csv", melanoma_runs(test["image"].str.replace("ISIC_0000000", "old_ISIC_0000000"), of))
    right = {name: skilled(test["label"], part) for name, part in (("d_crop", 0.5), ("d_crop_1", 0.75))}
    for name in right:
        write(folder / f"{name}.csv", predictions(test, test["label"], right[name], CLASSES, ["bma"]))
    snapshots = [predictions(test, test["label"], right["d_crop"], CLASSES, ["bma", "snapshot_1"])]
    snapshots.append(predictions(test, test["label"], skilled(test["label"], 1.0), CLASSES, ["snapshot_2"]))
    write(folder / "d_snap.csv", pd.concat(snapshots))
    for name, share in SURE.items():
        write(folder / f"{name}.csv", areas(table, {"train": 1.0, "val": 0.0, "test": share}))
    block = chosen["classifiers"]["residual"] | {"epochs": 40, "epoch_images": 0, "sampler": "uniform"}
    chosen["classifiers"] |= dict.fromkeys([*right, "d_snap"], block | {"split": "ham"})
    chosen["classifiers"] |= dict.fromkeys(SURE, block | {"split": "eighty", "predict": ["train", "val", "test"]})
    chosen["weights"] = {"resnet18": "torchvision:resnet18"}
    for name in (*wrong, *right, "d_snap", *SURE):
        write(Path(f"plots/train/{name}/history.csv"), HISTORY.assign(seed=3))
    melanoma = {"set": "isic2017", "images": "resized/isic2017/classify", "split": "melanoma", "predict": ["val"]}
    pretrained = block | melanoma | {"family": "torchvision", "network": "resnet18", "weights": "data/weights/resnet18"}
    pretrained["sampler"] = "balanced"
    chosen["classifiers"] |= dict.fromkeys(wrong, pretrained)
    chosen["classifiers"]["c_graham"] = block | melanoma
    for name, side in (("isic2017", 224), ("merged", 256)):
        chosen["resize"][name]["arrays"]["classify"]["shape"] = [side, side]
    Path("params.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    return undrawn


def result() -> pd.DataFrame:
    return pd.read_csv("metrics/compare.csv", keep_default_na=False, na_values={"ours": [""], "published": [""]})


def line(table: pd.DataFrame, where: str, run: str, metric: str) -> pd.Series:
    found = table[(table["table"] == where) & (table["run"] == run) & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_known_scores(undrawn):
    run()
    table = result()
    for name in STANDARD:
        assert all(line(table, "Table 6.1", name, metric)["ours"] == SKILL[name] for metric in ("bma", "accuracy"))
    assert line(table, "Table 6.1", "residual_shades", "loss")["ours"] == pytest.approx(-np.log(0.72), abs=1e-6)
    assert line(table, "Table 6.2", "residual_balanced", "bma5")["ours"] == 0.5
    assert line(table, "Table 6.2", "residual_balanced", "bma")["ours"] == 0.5 * 5 / 8
    assert line(table, "Table 6.6", "unet", "jaccard")["ours"] == pytest.approx(0.65)
    assert line(table, "Table 6.6", "unet", "jaccard_thresholded")["ours"] == pytest.approx(0.4)
    assert line(table, "Figure 6.1", "base_64", "AK f1")["ours"] == 0.25
    assert line(table, "Chapter 5", "base_64", "train accuracy")["ours"] == 0.6
    assert line(table, "Figure 6.1", "difference", "accuracy")["ours"] == 0.25


def test_the_metrics_are_four_counts(undrawn):
    run()
    found, table = json.loads(Path("metrics/compare.json").read_text(encoding="utf-8")), result()
    given = (table["published"].notna() | table["published_low"].ne("")) & table["study"].ne("leaderboard")
    rerun = given & table["ours"].notna()
    assert found == {"printed": 333, "rerun": rerun.sum(), "reproduced": 0, "outside": 0} and 0 < rerun.sum() < 333


def test_fold_0_is_the_train_run(undrawn):
    run()
    table = result()
    for name, first in (("alexnet", 0.25), ("residual", 0.5)):
        folds = [line(table, "Table 6.4", name, f"fold_{k}")["ours"] for k in range(FOLDS)]
        assert folds == [first, 0.25, 0.5, 0.75, 1.0]
    found = line(table, "Table 6.3", "alexnet", "accuracy")
    assert line(table, "Table 6.4", "alexnet", "mean")["ours"] == found["ours"] == 0.55
    bounds = intervals.normal(0.55, 8 * FOLDS * EACH, 0.95)
    assert (float(found["low"]), float(found["high"])) == pytest.approx(bounds, abs=1e-6)
    ours = table[table["table"].eq("Table 6.4") & table["ours"].notna()]
    assert set(ours["run"]) == {"alexnet", "residual"}


def test_rows_nobody_ran_and_rows_nobody_published(undrawn):
    run()
    table = result()
    missing = line(table, "Table 6.1", "wide_resnet", "bma")
    assert missing["comparable"] == "not run" and np.isnan(missing["ours"]) and missing["inside"] == ""
    extra = line(table, "Table 6.1", "residual_shades", "bma")
    assert np.isnan(extra["published"]) and extra["ours"] == 1 and extra["comparable"] == ""
    text = Path("metrics/compare.md").read_text(encoding="utf-8")
    (row,) = [r for r in text.splitlines() if r.startswith("| Wide ResNet |") and "0.726" in r]
    assert row.count("not run") == 3


def test_sample_data_compares_with_nothing(undrawn):
    run()
    table = result()
    ours = table[table["ours"].notna() & table["published"].notna()]
    assert len(ours) and set(ours["comparable"]) == {"sample data"}
    assert set(table["inside"]) == {""}
    text = Path("metrics/compare.md").read_text(encoding="utf-8")
    captions = [r for r in text.splitlines() if r.startswith("**") and r.endswith("**") and pages.SAMPLE in r]
    assert text.splitlines()[2] == f"> **{pages.SAMPLE}**" and len(captions) >= 11


def test_collapse_is_said(undrawn):
    """All images into one class: the stage names the run, as it explains the paper's VGG16."""
    path = Path("data/predictions/train/vgg16.csv")
    table = pd.read_csv(path)
    table[[f"p_{c}" for c in CLASSES]] = np.eye(8)[1]
    write(path, table)
    run()
    assert "one class only: vgg16." in Path("metrics/compare.md").read_text(encoding="utf-8")
    assert line(result(), "Table 6.1", "vgg16", "bma")["ours"] == 0.125


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("train/residual.csv", "stages.train residual"),
        ("cross_validate/alexnet-3.csv", "stages.cross_validate alexnet-3"),
        ("segment.csv", "stages.segment"),
        ("unet34.csv", "stages.ensemble_masks"),
        ("base_model/base_64_ak.csv", "stages.base_model base_64_ak"),
        ("plots/train/residual/history.csv", "stages.train residual"),
        ("plots/base_model/base_64.csv", "stages.base_model base_64"),
    ],
)
def test_missing_file(undrawn, file, stage):
    (Path(file) if file.startswith("plots") else Path("data/predictions") / file).unlink()
    with pytest.raises(InputError, match=rf"{file}: not found; run python -m {stage}$"):
        run()
    assert not Path("metrics").exists()


def test_stale_predictions(undrawn):
    path = Path("data/predictions/train/residual.csv")
    table = pd.read_csv(path)
    write(path, table.assign(image="ISIC_9999999"))
    with pytest.raises(InputError, match="ISIC_9999999 is not in the sorted table"):
        run()
    write(path, pd.concat([table, table]))
    with pytest.raises(InputError, match="stands twice"):
        run()
    write(path, table.drop(columns="p_AK"))
    with pytest.raises(InputError, match="no column p_AK"):
        run()


def test_some_folds_have_no_mean(undrawn):
    """The mean of three folds is not what Table 6.4 calls the mean."""
    chosen = settings()
    del chosen["cross_validate"]["alexnet-4"], chosen["cross_validate"]["alexnet-2"]
    Path("params.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    run()
    table = result()
    assert line(table, "Table 6.4", "alexnet", "fold_3")["ours"] == 0.75
    for where, metric in (
        ("Table 6.4", "fold_2"),
        ("Table 6.4", "mean"),
        ("Table 6.3", "accuracy"),
        ("Table 6.5", "bma"),
    ):
        assert line(table, where, "alexnet", metric)["comparable"] == "not run"
        assert line(table, where, "residual", metric)["ours"] > 0


def test_losses_are_drawn_a_line_a_seed(tmp_path):
    """Two panels of a study; two seeds of training and validation in the first, from the first epoch to the last."""
    seeds = pd.concat([HISTORY.assign(seed=3), HISTORY.assign(seed=4, val_loss=[3.0, 2.5])])
    figure = compare.figures.curves_figure("Study C", {"c_base": seeds, "c_b0": HISTORY.assign(seed=0)}, "")
    first, second = figure.axes
    assert [axis.get_title() for axis in (first, second)] == ["c_base", "c_b0"] and len(second.lines) == 2
    assert [list(drawn.get_ydata()) for drawn in first.lines] == [[2.0, 1.0], [2.1, 1.9], [2.0, 1.0], [3.0, 2.5]]
    assert first.get_xlim()[0] < 1 and first.get_xlim()[1] > 2 and first.get_ylim()[0] == 0
    assert "Study C" in figure.get_suptitle()


def test_nothing_but_masks(world):
    """params.yaml without any classifier: all of it is not run, and the pictures say so."""
    Path("params.yaml").write_text(
        yaml.safe_dump(settings() | {"classifiers": {}, "cross_validate": {}, "base_models": {}}), encoding="utf-8"
    )
    run()
    table = result()
    rows = table[table["study"].isin(["B", "E"]) & (table["run"] != "") & (table["table"] != "Table 3.2")]
    assert set(rows["comparable"]) <= {"not run", ""}
    assert set(table.loc[table["table"] == "Table 3.2", "ours"]) == {0.125}  # as many of each class
    assert line(table, "Table 6.6", "unet", "jaccard")["ours"] == pytest.approx(0.65)
    assert Path("plots/compare/scorecard.png").exists() and not Path("plots/compare/roc.png").exists()


def test_an_image_in_two_folds(undrawn):
    folder = Path("data/predictions/cross_validate")
    shutil.copy(folder / "alexnet-1.csv", folder / "alexnet-2.csv")
    with pytest.raises(InputError, match="test part of two folds"):
        run()


def test_the_names_say_which_study(five):
    run()
    table = result()
    assert set(table.loc[table["table"] == "Table 6.1", "run"]) == {*STANDARD, "wide_resnet"}
    state = table[table["table"] == "Section III-E"].set_index(["row", "metric"])["ours"]
    assert state["CropBest", "bma"] == 0.5 and state["d_crop_1", "bma"] == 0.75
    both = ("SnapEnsemble", "KFoldCrop")  # where one member is wrong they tie, which counts as wrong
    assert [state[name, "accuracy"] for name in both] == [0.5, 0.5]
    where = "Section II-E"
    assert line(table, where, "d_unet34", "jaccard")["ours"] == pytest.approx(0.7)
    assert line(table, where, "d_unet34", "jaccard_thresholded")["ours"] == pytest.approx(1.6 / 3, abs=1e-6)
    assert line(table, where, "d_unet34, fold 0", "dice")["ours"] == pytest.approx(0.7)


def test_seeds_of_study_c(five):
    run()
    table = result()
    for metric, expected in (("mean", 1 - 6 / 32), ("q25", 0.75), ("q50", 1 - 6 / 32), ("max", 0.875)):
        assert line(table, "Table 4.2", "c_base", f"accuracy {metric}")["ours"] == expected
    area = line(table, "Table 4.3", "c_base", "auroc mean")
    assert (area["ours"], area["reason"]) == (1.0, "epoch")
    assert line(table, "Table 4.1", "c_plain", "auroc mean")["ours"] == 1.0  # not published: beside its accuracy
    assert line(table, "Table 4.2", "c_base", "accuracy max")["reason"] == "seeds"
    assert line(table, "Table 4.2", "c_graham", "accuracy mean")["reason"] == "scratch"
    assert float(line(table, "Table 4.2", "c_graham", "accuracy std")["high"]) > 0
    tests = pd.read_csv("metrics/significance.csv", keep_default_na=False)
    tests = tests[(tests["metric"] == "accuracy") & (tests["test"] == "paired t")].set_index("second")
    assert (tests.loc["c_graham", "n"], float(tests.loc["c_graham", "difference"])) == (4, 2 / 32)
    assert tests.loc["c_masked_grey", "note"] == "too few seeds" and tests.loc["c_shades", "note"] == "not run"
    text = Path("metrics/compare.md").read_text(encoding="utf-8")
    (row,) = [r for r in text.splitlines() if "(c_masked_grey − c_plain) | accuracy" in r]
    assert row.count("too few seeds") == 3


def test_the_auroc_of_its_own_epoch(five):
    """Where there is a checkpoint of the highest AUROC it is taken, and compares."""
    path = Path("data/predictions/train/c_base.csv")
    table = pd.read_csv(path)
    write(path, pd.concat([table, table[table["checkpoint"] == "loss"].assign(checkpoint="auroc")]))
    run()
    area = line(result(), "Table 4.3", "c_base", "auroc mean")
    assert (area["ours"], area["reason"]) == (0.0, "")


def test_areas_of_study_e(five):
    """A sure positive beats all; another beats sure negatives and ties with the rest: s + (1 − s)(s + (1 − s)/2)."""
    run()
    table = result()
    areas = {name: s + (1 - s) * (s + (1 - s) / 2) for name, s in SURE.items()}
    for name, area in areas.items():
        found = [line(table, "Table 3", name, f"{split} auc")["ours"] for split in ("train", "val", "test")]
        assert found == pytest.approx([1, 0.5, area], abs=1e-6)
    four = [areas[f"e_m{k}"] for k in range(4)]
    assert line(table, "Table 3", "e_m0_m3", "test auc mean")["ours"] == pytest.approx(np.mean(four), abs=1e-6)
    assert line(table, "Table 3", "e_m0_m3", "test auc sd")["ours"] == pytest.approx(np.std(four, ddof=1), abs=1e-6)
    assert line(table, "Table 3", "e_m4_m7", "test auc mean")["comparable"] == "not run"  # M5 alone was
    assert line(table, "Table 3", "e_m3", "test auc")["ours"] == 1.0
    recalls = [line(table, "Test part", name, "recall")["ours"] for name in SURE]
    assert recalls == pytest.approx(list(SURE.values()))  # the others are ties


MERGED_SET = {"set": "merged", "images": "resized/merged/classify", "split": "eighty"}


def of_2020(table: pd.DataFrame) -> pd.DataFrame:
    """The images of one fold again, as other images of other lesions: what 2020 adds to the merged set."""
    more = table[table["fold"] == 2]
    return more.assign(image=more["image"].str.replace("ISIC_0", "ISIC_5"), lesion="IL_" + more["lesion"])


def merge(names: tuple[str, ...], weights: str) -> None:
    """Put these blocks on the merged set: in params.yaml, and in predictions of which the test part is of 2020."""
    chosen, table = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")), sorted_table()
    both = pd.concat([table.assign(archive="isic2019"), of_2020(table).assign(archive="isic2020")])
    write(Path("data/sorted/merged.csv"), both)
    for name in names:
        chosen["classifiers"][name] = chosen["classifiers"][name] | MERGED_SET | {"weights": weights}
        chosen["classifiers"][name] |= {"family": "torchvision", "network": "resnet18"}
        path = Path(f"data/predictions/train/{name}.csv")
        found = pd.read_csv(path)
        new = dict(zip(table["image"][table["fold"] == 2], of_2020(table)["image"], strict=True))
        write(path, found.assign(image=found["image"].replace(new)))
    Path("params.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")


def test_the_merged_set_compares_with_the_papers(five, monkeypatch):
    """Blocks on it find their lesions there; those on 2019 alone, or from random weights, compare with nothing."""
    alike = dict.fromkeys("ABCDE", "")
    monkeypatch.setattr(scorecard, "data_kinds", lambda *args: alike)
    merge(("e_m0", "e_m1", "e_m2", "e_m3"), "data/weights/resnet18")
    merge(("e_m2",), "data/weights/none")
    run()
    table = result()
    found = {name: line(table, "Table 3", name, "test auc") for name in SURE}
    found["e_m0_m3"] = line(table, "Table 3", "e_m0_m3", "test auc mean")
    reasons = {name: one["reason"] for name, one in found.items()}
    assert reasons == {"e_m0": "", "e_m1": "", "e_m2": "scratch", "e_m3": "", "e_m5": "merged", "e_m0_m3": "scratch"}
    assert {name for name, one in found.items() if one["inside"] != ""} == {"e_m0", "e_m1", "e_m3"}
    assert found["e_m5"]["comparable"] == "ISIC 2018 to 2020 there, 2019 here"
    tests = pd.read_csv("metrics/significance.csv")
    tests = tests[tests["family"].str.startswith("E")]
    assert {*tests["first"], *tests["second"]} == {"e_m0", "e_m1", "e_m2", "e_m3"}  # e_m5's images are others


def test_the_merged_set_without_2020_is_2019(five, monkeypatch):
    monkeypatch.setattr(scorecard, "data_kinds", lambda *args: dict.fromkeys("ABCDE", ""))
    merge(("e_m0", "e_m1"), "data/weights/resnet18")
    write(Path("data/sorted/merged.csv"), sorted_table())
    for name in SURE:
        write(Path(f"data/predictions/train/{name}.csv"), areas(sorted_table(), {"train": 1, "val": 0, "test": 0.5}))
    run()
    table = result()
    assert {line(table, "Table 3", name, "test auc")["reason"] for name in SURE} == {"merged"}
    assert line(table, "Table 3", "e_m0_m3", "test auc mean")["comparable"] == "not run"  # of two sets


def test_any_block_finds_its_lesions_in_the_merged_set(five):
    chosen = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    chosen["classifiers"]["mine"] = chosen["classifiers"]["e_m0"]
    Path("params.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    shutil.copy("data/predictions/train/e_m3.csv", "data/predictions/train/mine.csv")
    shutil.copytree("plots/train/e_m3", "plots/train/mine")
    merge(("mine",), "data/weights/none")
    run()
    assert line(result(), "Table 3", "mine", "test auc")["ours"] == 1


def test_errors_of_studies_c_to_e(five):
    folder = Path("data/predictions/train")
    for name, wrong, message in (
        ("d_snap", {"checkpoint": "bma"}, "no checkpoint snapshot_1; set classifiers.d_snap.snapshots"),
        ("c_base", {"checkpoint": "loss"}, "no checkpoint accuracy"),
        ("c_base", {"split": "test"}, "no val images"),
        ("e_m2", {"split": "test"}, "no train images; run python -m stages.train e_m2"),
    ):
        path = folder / f"{name}.csv"
        kept = path.read_bytes()
        table = pd.read_csv(path).assign(**wrong)
        write(path, table.drop_duplicates(["image", "seed"]))
        with pytest.raises(InputError, match=f"{name}.csv: {message}"):
            run()
        path.write_bytes(kept)


def test_the_same_bytes_twice(world):
    run()
    first = {p: p.read_bytes() for folder in ("metrics", "plots/compare") for p in Path(folder).rglob("*.*")}
    assert {p.name for p in first if p.parent.name == "compare"} >= {
        "losses_a.png",
        "losses_b.png",
        "accuracies_b.png",
        "roc.png",
    }
    run()
    assert {p: p.read_bytes() for p in first} == first


def row(metric: str, ours: float, low: float, high: float, table="Table 6.1", run="residual") -> dict:
    return measured.scored("A", table, run, 100, {metric: (ours, low, high)})[0]


def test_inside_and_reasons():
    rows = [row("bma", 0.5, 0.4, 0.6), row("accuracy", 0.5, 0.4, 0.6), row("loss", 0.1, 0.0, 0.2)]
    rows.append(row("jaccard", 0.75, 0.7, 0.8, "Table 6.6", "unet"))
    table = scorecard.beside(PUBLISHED, rows, dict.fromkeys("ABCDE", ""))
    found = [line(table, "Table 6.1", "residual", m) for m in ("bma", "accuracy", "loss")]
    assert [(f["comparable"], f["inside"]) for f in found] == [
        ("yes", "yes"),  # .547 in [.4, .6]
        ("yes", "no"),  # .703
        ("loss of unknown normalisation", ""),
    ]
    assert line(table, "Table 6.6", "unet", "jaccard")["inside"] == "yes"
    board = table[table["study"] == "leaderboard"].set_index(["table", "row"])["comparable"]
    assert board["ISIC 2019 Task 1", "DAISYLab"] == "8 classes here, 9 there"
    assert board["ISIC 2018 Task 1", "MT"].startswith("own test part")
    reports = table[table["table"] == "Figure 6.1"]
    assert set(reports["comparable"]) == {"not run"} and "shuffled" in set(reports["reason"])
    assert set(scorecard.beside(PUBLISHED, rows, dict.fromkeys("ABCDE", "other data"))["inside"]) == {""}


def test_data_kinds():
    full = pd.Series(np.repeat(list(scorecard.ISIC_2019), list(scorecard.ISIC_2019.values())))
    alike = dict.fromkeys("ABCDE", "")
    assert scorecard.data_kinds("isic", full, 2594, {"OTHER": 120, "MEL": 30}, 5934) == alike
    assert scorecard.data_kinds("/mirror", full, 2594, None, 0) == alike
    assert scorecard.data_kinds("/mirror", full, 2594, None, 5934 - 60) == alike | {"E": "other data"}
    assert scorecard.data_kinds("/mirror", full, 2594, None, 5934 + 59) == alike
    assert scorecard.data_kinds("sample", full, 2594, None, 5934) == dict.fromkeys("ABCDE", "sample data")
    few = scorecard.data_kinds("/mirror", full[1:], 2594, {"OTHER": 119, "MEL": 30}, 5934)
    assert few == {"A": "other data", "B": "other data", "C": "other data", "D": "", "E": "other data"}
    assert scorecard.data_kinds("isic", full, 100, None, 5934) == alike | {"D": "other data"}


def test_normal_interval():
    low, high = intervals.normal(0.631, 25331, 0.95)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.631 * 0.369 / 25331), rel=1e-4)
    assert intervals.normal(0.0, 10, 0.95) == (0.0, 0.0)


def made(truth: np.ndarray, probabilities: np.ndarray, lesions: np.ndarray, classes=CLASSES) -> measured.Tested:
    return measured.Tested(classes, np.arange(len(truth)).astype(str), lesions, truth, probabilities)


def test_bootstrap_agrees_with_the_formula():
    """Each image its own lesion: the percentile interval is near the normal one."""
    right = np.arange(2000) < 1400
    drawn = intervals.resample(right[:, None].astype(float), np.arange(2000))
    assert intervals.percentile(drawn[:, 0] / 2000, 0.95) == pytest.approx(intervals.normal(0.7, 2000, 0.95), abs=0.003)


def test_bootstrap_by_lesion_is_wider():
    """Four copies of each image: by image the interval is half as wide as by lesion, as if there were more to know."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(300) < 0.6, 4)[:, None].astype(float)
    width = {}
    for name, groups in (("lesion", np.repeat(np.arange(300), 4)), ("image", np.arange(1200))):
        low, high = intervals.percentile(intervals.resample(right, groups)[:, 0] / 1200, 0.95)
        width[name] = high - low
    assert width["lesion"] / width["image"] == pytest.approx(2, rel=0.15)


def test_matrix_scores_are_scikit_learns():
    rng = np.random.default_rng(1)
    truth = np.concatenate([np.arange(8), rng.integers(0, 8, 200)])
    probabilities = rng.dirichlet(np.ones(8), len(truth))
    probabilities[:, 5] = 0  # a class that is never predicted
    probabilities[:3] = 1 / 8  # ties
    one = made(truth, probabilities, np.arange(len(truth)))
    found = measured.report(one.confusion(), CLASSES)
    expected = classification_report(
        truth, one.guess, labels=range(8), target_names=CLASSES, output_dict=True, zero_division=0
    )
    for label, name in [*((c, c) for c in CLASSES), ("macro", "macro avg"), ("weighted", "weighted avg")]:
        for metric, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert found[f"{label} {metric}"] == pytest.approx(expected[name][theirs])
    assert one.confusion()[:, 8].sum() == 3
    assert measured.accuracy(one.confusion()) == np.mean(one.guess == truth)
    for value, low, high in measured.classification(one, 0.95).values():
        assert low < value < high


def test_shuffled_is_the_mean_over_permutations():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 8, 60)
    probabilities = np.eye(8)[np.where(rng.random(60) < 0.8, truth, rng.integers(0, 8, 60))]
    mean = np.mean(
        [made(rng.permutation(truth), probabilities, truth).confusion() for _ in range(2000)],
        axis=0,
    )
    expected = measured.shuffled(made(truth, probabilities, truth).confusion())
    np.testing.assert_allclose(mean, expected, atol=0.12)


def test_paired_difference_of_the_same_predictions_is_nothing():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 8, 100)
    one = made(truth, rng.dirichlet(np.ones(8), 100), truth)
    assert set(measured.difference(one, one, 0.95).values()) == {(0.0, 0.0, 0.0)}


def published(where: str, run: str, metric: str) -> float:
    numbers = pd.read_csv(PUBLISHED / "numbers.csv", keep_default_na=False)
    return float(line(numbers, where, run, metric)["value"])


def test_published_numbers():
    """A few by hand, and what must follow from others."""
    assert published("Table 6.1", "wide_resnet", "bma") == 0.651
    assert published("Table 6.2", "residual_balanced", "accuracy") == 0.344
    assert published("Table 6.3", "resnet101", "accuracy") == 0.733
    assert published("Table 6.6", "unet", "jaccard") == 0.773
    assert published("Figure 6.1", "base_64_ak", "AK precision") == 0.06
    assert published("Figure 6.1", "base_64", "accuracy") == 0.30
    for name in ("vgg16", "alexnet", "residual", "resnet101", "wide_resnet"):
        folds = [published("Table 6.4", name, f"fold_{k}") for k in range(FOLDS)]
        assert published("Table 6.4", name, "mean") == pytest.approx(np.mean(folds), abs=0.00051)
        assert folds[0] == published("Table 6.1", name, "bma")
    assert scorecard.ISIC_2019["NV"] / 25331 == pytest.approx(published("Table 6.1", "vgg16", "accuracy"), abs=5e-4)
    assert sum(scorecard.ISIC_2019.values()) == 25331


@pytest.mark.parametrize("run", ["base_64", "base_64_ak"])
def test_published_reports_add_up(run):
    support = np.array([published("Figure 6.1", run, f"{c} support") for c in sorted(CLASSES)])
    assert support.sum() == 5062
    for metric in ("precision", "recall", "f1"):
        each = np.array([published("Figure 6.1", run, f"{c} {metric}") for c in sorted(CLASSES)])
        assert published("Figure 6.1", run, f"macro {metric}") == pytest.approx(each.mean(), abs=0.0101)
        assert published("Figure 6.1", run, f"weighted {metric}") == pytest.approx(each @ support / 5062, abs=0.0101)


def test_a_run_that_falls_short_is_shown_but_not_judged(undrawn, monkeypatch):
    monkeypatch.setattr(scorecard, "data_kinds", lambda *args: dict.fromkeys("ABCDE", ""))
    chosen, enough = settings(), {"epochs": 100, "epoch_images": 0, "sampler": "uniform"}
    chosen["resize"]["isic2019"]["arrays"]["classify"]["shape"] = [256, 300]
    for name in ("vgg16", "alexnet", "resnet101"):
        chosen["classifiers"][name] |= enough
    chosen["classifiers"]["alexnet"]["epoch_images"] = len(sorted_table()) - 1
    chosen["classifiers"]["residual"] |= enough | {"epochs": 99}
    Path("params.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    run()
    table = result()
    found = {name: line(table, "Table 6.1", name, "bma") for name in STANDARD[:4]}
    assert {name: one["reason"] for name, one in found.items()} == {
        "vgg16": "", "alexnet": "shortened", "residual": "shortened", "resnet101": "scratch"
    }  # fmt: skip
    assert [name for name, one in found.items() if one["inside"]] == ["vgg16"]
    assert line(table, "Table 6.4", "alexnet", "mean")["reason"] == "shortened"
    assert line(table, "Table 6.4", "residual", "fold_1")["reason"] == "folds"
    assert line(table, "Table 6.6", "unet", "jaccard")["comparable"] == "fewer epochs, images or pixels"


def test_every_run_that_is_judged_has_what_it_needs():
    numbers = pd.read_csv(PUBLISHED / "numbers.csv", keep_default_na=False)
    needed = pd.read_csv(PUBLISHED / "training.csv", keep_default_na=False)
    judged = numbers[(numbers["reason"] == "") & (numbers["value"] != "") & (numbers["run"] != "")]
    groups = {"e_m0_m3", "e_m4_m7"}  # of several runs
    assert (
        set(judged["run"]) - groups - set(CLASSES) <= set(needed["run"]) <= set(numbers["run"])
        and needed["run"].is_unique
    )
    assert set(needed["weights"]) == {"none", "imagenet"} and (needed["epochs"] > 0).all()


FULL = overlaid(
    yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")),
    yaml.safe_load((ROOT / "settings/full.yaml").read_text(encoding="utf-8")),
)


def lacking(path: str = "", value=None) -> dict[str, str]:
    """Why runs of settings/full.yaml, with one key (a.b.c) changed, fall short: by run, those that do."""
    chosen = copy.deepcopy(FULL)
    *parents, last = path.split(".")
    if path:
        reduce(dict.__getitem__, parents, chosen)[last] = value
    chosen = config.validated(Params, chosen, Path("full.yaml"))
    labels = {"isic2017": ["MEL"] * 374 + ["NV"] * 1626, "isic2019": ["NV"] * 30 + ["MEL"] * 10}
    labels["merged"] = labels["isic2019"]
    tables = {name: pd.DataFrame({"label": of, "split": "train", "cv0": "train"}) for name, of in labels.items()}
    tables = {name: table.assign(balanced="train", eighty="train") for name, table in tables.items()}
    found = shortfalls.reasons(PUBLISHED, chosen, tables)
    assert set(found) == set(pd.read_csv(PUBLISHED / "training.csv")["run"])
    return {name: reason for name, reason in found.items() if reason}


def test_the_full_settings_fall_short_of_nothing():
    assert lacking() == {}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("classifiers.vgg16.epochs", 99, {"vgg16": "shortened"}),
        ("classifiers.vgg16.epoch_images", 39, {"vgg16": "shortened"}),
        ("classifiers.vgg16.epoch_images", 40, {}),
        ("classifiers.vgg16.sampler", "balanced", {"vgg16": "sampler"}),
        ("classifiers.c_base.sampler", "uniform", {"c_base": "sampler"}),
        ("classifiers.c_base.epoch_images", 3251, {"c_base": "shortened"}),
        ("classifiers.c_base.epoch_images", 3252, {}),
        ("classifiers.c_b0.phases", [{"epochs": 23, "lr": 1e-3, "train": "all"}], {"c_b0": "shortened"}),
        ("classifiers.c_b0.weights", "data/weights/none", {"c_b0": "scratch"}),
        ("classifiers.e_m0.weights", "models/train/e_m1/bma.pt", {"e_m0": "weights"}),
        ("classifiers.e_m5.epochs", 39, {"e_m5": "shortened"}),
        ("segment.weights", "resnet34", {"unet": "weights"}),
        ("segment.epochs", 99, {"unet": "shortened"}),
        ("resize.isic2018.arrays.segment.shape", [767, 1024], {"unet": "shortened"}),
        ("resize.isic2019.arrays.base.shape", [223, 224], {"base_224": "shortened"}),
        ("base_model.batch", 23, dict.fromkeys(("base_224", "base_64", "base_64_ak"), "shortened")),
        ("base_model.weights", "none", dict.fromkeys(("base_224", "base_64", "base_64_ak"), "scratch")),
    ],
)
def test_what_falls_short_says_why(path, value, expected):
    assert lacking(path, value) == expected


def test_published_files_are_whole():
    reasons = pd.read_csv(PUBLISHED / "reasons.csv", keep_default_na=False)
    numbers = pd.read_csv(PUBLISHED / "numbers.csv", keep_default_na=False)
    boards = pd.read_csv(PUBLISHED / "leaderboards.csv", keep_default_na=False)
    assert not numbers[["study", "table", "row", "metric"]].duplicated().any()
    assert {*numbers["reason"], *boards["reason"]} - {""} <= set(reasons["reason"])
    for challenge, board in boards[boards["place"] != ""].groupby("challenge"):
        assert board["value"].is_monotonic_decreasing and len(board) == {"ISIC 2018 Task 3": 5}.get(challenge, 10)

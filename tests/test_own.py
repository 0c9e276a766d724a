"""Sets of one's own, and HAM10000 as everyone has it: fetched, sorted, dealt out, and the whole DAG on one."""

import shutil
import sys
import zipfile
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lesions.core import config
from lesions.core.errors import InputError
from lesions.core.files import read_csv, write_csv
from lesions.isic import splits
from lesions.raw.config import Data, Own, Sample, Sort
from lesions.raw.own import read_own, together
from lesions.raw.zips import PICTURES, members
from lesions.tools import check, doctor, settings
from stages import download, resize, score_masks, sort
from tests.conftest import ROOT, jpeg, png, write_zip
from tests.test_pipeline import fresh, ran, sh

SORT = Sort(seed=0, folds=5, validation=0.125)
HAM = settings.read(ROOT / "settings/ham.yaml")
OF_HAM = HAM["data"]["sets"]["ham"]
DX = [*OF_HAM["labels"]]


def ham(folder: Path, shape: str) -> Path:
    """HAM10000 in small: 140 images of 70 lesions, ten lesions a class, as the Dataverse has it, unpacked or nested."""
    rng, lines = np.random.default_rng(0), ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    folder.mkdir(parents=True)
    for part in (1, 2):
        names = [f"ISIC_{i:07d}" for i in range(70 * part - 70, 70 * part)]
        files = {f"{name}.jpg": jpeg(rng) for name in names}
        lines += [f"HAM_{int(n[5:]) // 2:07d},{n},{DX[int(n[5:]) // 20]},histo,50.0,male,back" for n in names]
        name = f"HAM10000_images_part_{part}"
        if shape == "zip":
            with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
                for file, content in files.items():
                    archive.writestr(file, content)
            continue
        inner = folder / name / name if shape == "nested" else folder / name
        inner.mkdir(parents=True)
        for file, content in files.items():
            (inner / file).write_bytes(content)
        (inner / ".DS_Store").write_bytes(b"x")
    (folder / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def own(**changes) -> Own:
    return Own(**({"pictures": ["mine"], "table": "mine.csv"} | changes))


def laid(folder: Path, lines: list[str], pictures: list[str] | None = None) -> Path:
    """data/raw with mine.csv of these lines, and mine.zip of the pictures, by default all that the lines name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.csv").write_text("\n".join(lines) + "\n")
    names = [line.split(",")[0] for line in lines[1:]] if pictures is None else pictures
    with zipfile.ZipFile(folder / "mine.zip", "w") as archive:
        for name in names:
            archive.writestr(f"some where/{name}.JPG", b"x")
    return folder


def plain(label_of=lambda i: "ab"[i % 2], count: int = 60, more: str = "", of=lambda i: "") -> list[str]:
    return [f"image,label{more}", *(f"p{i},{label_of(i)}{of(i)}" for i in range(count))]


@pytest.mark.parametrize("shape", ["zip", "unpacked", "nested"])
def test_ham_is_fetched_sorted_and_resized_zipped_unpacked_and_nested(shape, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = ham(tmp_path / "copy", shape)
    data = Data(source=str(source), sets={"ham": OF_HAM}, isic2020=False, sample=Sample(seed=0, images=640, pairs=160))
    download.download(data)
    assert sorted(p.name for p in Path("data/raw").rglob("*")) == sorted(Path(file).name for file in data.files)
    table = sort.sort_own(Path("data/raw"), data.sets["ham"], SORT)
    assert len(table) == 140 and set(table["label"]) == set(splits.HAM_CLASSES)
    assert table.groupby("lesion")["cv0"].nunique().max() == 1 and table["lesion"].nunique() == 70
    assert splits.classes("ham", "standard", table["label"]) == tuple(sorted(splits.HAM_CLASSES))
    assert (splits.ham(table) == table["cv0"]).all()  # study D's split
    people = sort.people("ham", Path("data/raw"), table["image"], data.sets, False)
    assert people["image"].equals(table["image"]) and set(people["sex"]) == {"male"} and set(people["age"]) == {50}
    table.to_csv("ham.csv", index=False)
    Path("params.yaml").write_text(yaml.safe_dump({"resize": {"ham": {"crop_border": False, "arrays": {
        "small": {"shape": [8, 8], "fit": "squeeze"}}}}}))  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["resize", "ham", "--sorted", ".", "--workers", "1"])
    resize.main()
    pixels = np.load("data/resized/ham/small.npy")
    assert pixels.shape == (140, 8, 8, 3) and len(np.unique(pixels.reshape(140, -1), axis=0)) == 140


@pytest.mark.filterwarnings("error")
def test_who_pictures_show_may_be_unsaid_and_words_for_ages_are_told(tmp_path, capsys):
    raw = laid(tmp_path, ["image,label,who,years", "p0.jpg,a,F,70", "p1.jpg,b,0,80+", "p2.jpg,a,,NA"])
    images = pd.Series(["p0", "p1", "p2"], name="image")
    found = sort.people("mine", raw, images, {"mine": own(sex="who", age="years")}, False)
    assert found.fillna("").to_numpy().tolist() == [["p0", "female", 70.0], ["p1", "0", ""]]
    assert "1 of years are no numbers of years and left out, '80+' the first" in capsys.readouterr().err
    assert sort.people("mine", raw, images, {"mine": own()}, False).empty


def test_a_folder_that_lies_deeper_is_named_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ham(tmp_path / "downloads/ham", "unpacked")
    data = Data(source="downloads", sets={"ham": OF_HAM}, isic2020=False, sample=Sample(seed=0, images=640, pairs=160))
    with pytest.raises(InputError, match=r"HAM10000_metadata\.csv: not found; .*say 'downloads/ham', which has it"):
        download.download(data)
    assert not Path("data/raw").exists()


def test_names_of_pictures_come_as_people_write_them(tmp_path):
    lines = ["n;file;dx", "1;C:\\pictures\\p0.JPG;a b", "2;some/p1.jpeg;c+d", "3;p2;a b", "4;p3.v2;a b"]
    raw = laid(tmp_path, [line.replace(";", "\t") for line in lines], ["p0", "p1", "p2", "p3.v2"])
    table = read_own(raw / "mine.csv", own(image="file", label="dx"), dict.fromkeys(["p0", "p1", "p2", "p3.v2"], "mine.zip"))  # fmt: skip  # noqa: E501
    assert table["image"].to_list() == ["p0", "p1", "p2", "p3.v2"] and set(table["label"]) == {"a b", "c+d"}
    assert (table["lesion"] == table["image"]).all()


def test_a_patient_stays_in_one_part_whatever_the_labels(tmp_path):
    """Four pictures a lesion, the patient blank on one; three lesions a patient, of two labels."""
    rows = plain(lambda i: "ab"[i % 3 == 0], 180, ",l,p", lambda i: f",{i // 4},{'' if i % 4 == 1 else i // 12}")
    table = sort.sort_own(laid(tmp_path, rows), own(lesion="l", patient="p"), SORT)
    truth = pd.DataFrame({"lesion": [i // 4 for i in range(180)], "patient": [i // 12 for i in range(180)]})
    for column in ("cv0", "cv4"):
        assert table[column].groupby(truth["lesion"]).nunique().max() == 1
        assert table[column].groupby(truth["patient"]).nunique().max() == 1
        assert set(table[column]) == {"train", "val", "test"}
    assert table["lesion"].nunique() == 15 and table["lesion"][0] == "patient 0"


def test_lesions_and_patients_hold_together_in_a_chain_and_names_of_both_are_two():
    of = {"lesion": ["1", "1", "2", "2", "3", "", ""], "patient": ["a", "b", "b", "", "1", "", "c"]}
    found = together(Path("t.csv"), pd.DataFrame({"image": [*"tuvwxyz"]} | of))
    assert found.to_list() == ["patient b"] * 4 + ["patient 1", "lesion y", "patient c"]


def test_names_and_labels_that_look_like_numbers_stay_as_they_are(tmp_path):
    write_csv(
        tmp_path / "t.csv", pd.DataFrame({"image": ["0000", "0001"], "label": ["0", "True"], "lesion": ["1", "2"]})
    )
    found = read_csv(tmp_path / "t.csv", ("image",), "stages.sort mine")
    assert found.to_numpy().tolist() == [["0000", "0", "1"], ["0001", "True", "2"]]
    assert own(labels={0: "benign", 1: "MEL"}).labels == {"0": "benign", "1": "MEL"}


def test_a_split_of_the_table_is_kept_and_gets_a_validation_part_where_it_has_none(tmp_path):
    of = lambda i: ",Testing" if i % 5 == 4 else ",Train"  # noqa: E731
    table = sort.sort_own(laid(tmp_path, plain(count=80, more=",part", of=of)), own(split="part"), SORT)
    assert list(table) == ["image", "archive", "lesion", "label", "cv0"]
    assert table["cv0"].value_counts().to_dict() == {"train": 56, "test": 16, "val": 8}
    assert (table["cv0"][4::5] == "test").all()
    of = lambda i: "," + ("val", "dev", "test", "train")[i // 2 % 4]  # noqa: E731
    table = sort.sort_own(laid(tmp_path, plain(count=80, more=",part", of=of)), own(split="part"), SORT)
    assert table["cv0"].value_counts().to_dict() == {"val": 40, "train": 20, "test": 20}


def test_rows_without_a_named_label_and_pictures_without_a_row_are_left_out_and_told(tmp_path, capsys):
    raw = laid(tmp_path, plain(lambda i: "abc"[i % 3], 60), [f"p{i}" for i in range(61)])
    table = sort.sort_own(raw, own(labels={"a": "one", "b": "two"}), SORT)
    said = capsys.readouterr().err
    assert len(table) == 40 and set(table["label"]) == {"one", "two"}
    assert "left out 20 images of labels without a name in labels: c" in said
    assert "left out 21 pictures without a row, p11 the first" in said


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        (plain(lambda i: "" if i == 3 else "ab"[i % 2]), {}, r"line 5: label ''; expected letters"),
        (plain(lambda i: "a" if i else "../a"), {}, r"line 2: label '\.\./a'"),
        (plain(lambda i: "a"), {}, "label has 1 of the classes that are asked for; expected two at least"),
        (plain(more=",s", of=lambda i: ",train" if i % 3 else ",val"), {"split": "s"}, "class a: s has no test image"),
        (plain(more=",s", of=lambda i: ",test" if i % 2 else ",train"), {"split": "s"}, "b: s has no train image"),
        (plain(more=",x", of=lambda i: ",y"), {"lesion": "image", "patient": "image", "label": "z"}, "no column z"),
        (plain(), {"label": "dx"}, "no column dx; expected image, dx"),
        (plain(count=8), {}, "class a: no image in the val part of cv0; expected lesions"),
        ([*plain(), "nowhere,a"], {}, "image nowhere: not in mine.zip"),
        ([*plain(), "p3.png,a"], {}, "line 62: image p3 stands twice"),
        (plain(more=",l", of=lambda i: ",NA"), {"lesion": "l"}, "line 2: lesion NA; expected an id, or nothing"),
        (plain(more=",s", of=lambda i: ",holdout"), {"split": "s"}, "line 2: s 'holdout'; expected train, val or test"),
        (
            plain(more=",l,s", of=lambda i: f",{i // 2},{'train' if i % 2 else 'test'}"),
            {"lesion": "l", "split": "s"}, "0 is in two parts of s",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_one_line(tmp_path, lines, changes, message):
    raw = laid(tmp_path, lines, [f"p{i}" for i in range(60)])
    with pytest.raises(InputError, match=message) as error:
        sort.sort_own(raw, own(**changes), SORT)
    assert "mine" in str(error.value) and "\n" not in str(error.value)


def test_a_picture_in_two_archives_is_refused(tmp_path):
    raw = laid(tmp_path, plain())
    shutil.copy(raw / "mine.zip", raw / "more.zip")
    with pytest.raises(InputError, match=r"more\.zip: picture p0 is in mine\.zip too"):
        sort.sort_own(raw, own(pictures=["mine", "more.zip"]), SORT)


BASE = reduce(settings.overlaid, [settings.read(ROOT / "params.yaml"), *settings.layers(ROOT / "settings/ham.yaml")])


def changed(key: str, value) -> dict:
    found = yaml.safe_load(yaml.safe_dump(BASE))
    *above, last = key.split(".")
    inner = found
    for name in above:
        inner = inner[name]
    inner[last] = value
    return found


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.sets.ham.pictures", ["../../etc"], "expected a path below data.source"),
        ("data.sets.ham.pictures", ["/etc"], "expected a path below data.source"),
        ("data.sets.ham.pictures", [], "at least 1 item"),
        ("data.sets.ham.tabel", "x", "tabel: unknown key"),
        ("data.sets.mine", {}, "mine: expected {} for isic2019, isic2018, isic2017, merged"),
        ("data.sets.isic2019", OF_HAM, "isic2019: expected {} for isic2019"),
        ("data.sets.A", OF_HAM, "A: a study, a test set or a part has this name"),
        ("data.sets.Ham", OF_HAM, "two names that differ in their letters' size alone"),
        ("data.sets.ham.masks", "masks", "data: ham has masks, to test U-Nets on; expected unets"),
        ("data.tests", ["isic2018_task1_val"], "data: isic2018_task1_val has masks"),
        ("data.source", "isic", "data.sets: ham: expected data.source to be the folder or the URL"),
        ("data.sets.merged", {}, "merged: made of isic2019 and isic2017"),
        ("data.source", "sample", "data.sets: ham: expected data.source to be the folder or the URL"),
        ("resize.isic2019", BASE["resize"]["ham"], "resize: isic2019: not in data.sets"),
        ("color_correct.sets", ["hma"], "color_correct.sets: hma: not in data.sets.*ham"),
        ("unets", ["isic2018"], "unets: isic2018: not in data.sets"),
        ("unet34.folds", [0], r"unet34.folds: expected folds where unets names a set"),
        ("predict_masks.sets", {"ham": "segment"}, "predict_masks.sets: masks are a U-Net's"),
        ("classifiers.lite0.split", "balanced", "set ham, images resized/ham/base and split balanced disagree"),
        ("classifiers.lite0.generated", "AK", "generated: expected none"),
        ("data.sets.ham.split", "part", "the table of ham has a split, and so no folds"),
    ],
)
def test_what_does_not_go_together_is_named_before_anything_is_fetched(tmp_path, key, value, message):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed(key, value)))
    with pytest.raises(InputError, match=message):
        check.load(path)


def test_experts_masks_test_the_unets_on_lesions_that_they_have_not_learnt(tmp_path, monkeypatch):
    """Of three lesions of two images, one image is learnt, one is held out, and one image has no mask."""
    monkeypatch.chdir(tmp_path)
    Path("data/sorted").mkdir(parents=True)
    names, lesions = [f"i{k}" for k in range(6)], ["a", "a", "b", "b", "c", "c"]
    pd.DataFrame({"image": names, "archive": "x.zip", "lesion": lesions}).to_csv("data/sorted/ham.csv", index=False)
    pairs = pd.DataFrame({"image": ["i0", "i2", "other"], "split": ["val", "test", "train"]})
    pairs.to_csv("data/sorted/isic2018.csv", index=False)
    with zipfile.ZipFile("masks.zip", "w") as archive:
        for name in names[:5]:
            archive.writestr(f"{name}_segmentation.png", png(np.zeros((9, 9), np.uint8)))
    assert list(score_masks.unseen("ham", Path("masks.zip"))) == ["i2", "i3", "i4"]

    with pytest.raises(InputError, match=r"other\.zip: no mask of an image of ham"):
        write_zip(Path("other.zip"), {"mask_i0.png": png(np.zeros((9, 9), np.uint8))})
        score_masks.unseen("ham", Path("other.zip"))


def test_a_folder_that_changes_after_it_was_packed_is_named_and_taken_when_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "cut_off", lambda store: [])
    source = ham(tmp_path / "copy", "unpacked")
    data = Data(source=str(source), sets={"ham": OF_HAM}, isic2020=False, sample=Sample(seed=0, images=640, pairs=160))
    download.download(data)
    assert doctor.changed(data) == [] == doctor.of_own(data)
    (source / "HAM10000_images_part_1/more.jpg").write_bytes(jpeg(np.random.default_rng(1)))
    (said,) = doctor.changed(data)
    assert said.endswith("python -m stages.download --accept HAM10000_images_part_1.zip")
    with pytest.raises(InputError, match="HAM10000_images_part_1: changed since it was packed; accept the new one"):
        download.download(data)
    download.renew(data, ["HAM10000_images_part_1.zip"])
    assert "more" in members(Path("data/raw/HAM10000_images_part_1.zip"), PICTURES) and doctor.changed(data) == []
    (source / "HAM10000_metadata.csv").write_text("image,label\n")
    assert "no column image_id" in doctor.of_own(data)[0]


@pytest.mark.parametrize(
    ("over", "message"),
    [("lone", "over: 'lone'; expected one of alone"), ("../x", "over: '../x'"), ("twice", "lies over")],
)
def test_settings_lie_over_one_file_that_there_is(tmp_path, over, message):
    (tmp_path / "alone.yaml").write_text("a: 1")
    (tmp_path / "twice.yaml").write_text("over: mine")
    (tmp_path / "mine.yaml").write_text(f"over: {over}")
    with pytest.raises(InputError, match=message):
        settings.layers(tmp_path / "mine.yaml")


@pytest.mark.slow
def test_the_whole_dag_runs_on_ham_alone(tmp_path):
    """The stages of settings/ham.yaml and no others, for an epoch; its table and tests stand in compare.md."""
    ham(tmp_path / "ham", "nested")
    folder = fresh(tmp_path / "project", "settings/ham.yaml")
    found = config.read_yaml(folder / "params.yaml")
    for array in found["resize"]["ham"]["arrays"].values():
        array["shape"] = [32, 32]
    found["recipes"]["a"]["epochs"] = 1
    for block in found["classifiers"].values():
        block |= {"epoch_images": 8, "batch": 4, "cycles": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(found, sort_keys=False))
    done = ran(sh(folder, "dvc", "repro"))
    assert {name for name in done if "@" not in name} == {"check", "download", "examples", "compare"}
    assert {"sort@ham", "train@d_snap", "cross_validate@residual-4", "export@lite0", "ensemble@best"} <= done
    assert "up to date" in sh(folder, "dvc", "status")
    text = (folder / "metrics/compare.md").read_text(encoding="utf-8")
    assert "## ham, a set of one's own" in text and "cv BMA" in text
    table = pd.read_csv(folder / "metrics/compare.csv").query("study == 'ours' and table == 'ham'")
    assert set(table["run"]) == {"lite0", "residual", "residual_shades", "d_snap"}
    assert table.query("metric == 'cv_bma'")["n"].to_list() == [140]
    assert "ham, a set of one's own" in (folder / "metrics/scorecard.html").read_text(encoding="utf-8")

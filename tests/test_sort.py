"""The official CSVs read and checked; the tables they become."""

import re

import numpy as np
import pandas as pd
import pytest

from lesions.core.errors import InputError
from lesions.isic import names as isic
from lesions.raw import tables
from lesions.raw.config import Official, Sort
from lesions.raw.zips import PICTURES, members
from stages import sort
from tests.conftest import jpeg, write_zip

SORT = Sort(seed=0, folds=5, validation=0.125)


def edit(path, change):
    """Change the text of a file."""
    path.write_bytes(change(path.read_bytes().decode()).encode())


def test_one_row_an_image_with_label_lesion_and_roles(raw):
    table = sort.sort_2019(raw, SORT)
    assert list(table) == ["image", "lesion", "label", *(f"cv{k}" for k in range(5)), "balanced", "eighty"]
    assert len(table) == 96 and table["label"].value_counts().eq(12).all()
    unknown = table["lesion"].str.startswith("ISIC_")
    assert unknown.sum() == 8 and not table.loc[unknown, "lesion"].str.contains("downsampled").any()


def test_pairs_play_the_part_they_have_in_2019(raw):
    table = sort.sort_2019(raw, SORT)
    melanoma = sort.sort_2017(raw, table)
    pairs = sort.sort_2018(raw, table, melanoma, SORT)
    part = dict(zip(table["image"].map(isic.canonical), table["cv0"], strict=True))
    shared = pairs[pairs["image"].isin(part)]
    assert len(pairs) == 60 and len(shared) == 59
    validated = shared["image"].isin(melanoma.loc[melanoma["split"] == "val", "image"])
    assert validated.sum() == 12 and (shared.loc[validated, "split"] == "test").all()
    assert (shared["split"] == shared["image"].map(part))[~validated].all()


def test_the_unet_does_not_learn_from_other_photographs_of_a_validated_lesion(raw):
    """Two photographs of one lesion, of which ISIC 2017 validates one: both pairs are test."""
    table = sort.sort_2019(raw, SORT)
    melanoma = sort.sort_2017(raw, table)
    image = melanoma.loc[(melanoma["split"] == "val") & melanoma["lesion"].str.startswith("HAM_"), "image"].iloc[0]
    only = melanoma[(melanoma["image"] == image) | (melanoma["split"] == "train")]
    lesion = table.loc[table["image"] == image, "lesion"].item()
    both = table.loc[table["lesion"] == lesion, "image"].map(isic.canonical)
    for role in ("train", "val"):
        pairs = sort.sort_2018(raw, table.assign(cv0=table["cv0"].where(table["lesion"] != lesion, role)), only, SORT)
        assert len(both) == 2 and (pairs.loc[pairs["image"].isin(both), "split"] == "test").all()


def test_three_folds_of_equal_size_hold_lesions_together(raw):
    table = sort.sort_2019(raw, SORT)
    melanoma = sort.sort_2017(raw, table)
    pairs = sort.sort_2018(raw, table, melanoma, SORT)
    sizes = pairs["fold"].value_counts()
    assert set(sizes.index) == {0, 1, 2} and sizes.max() - sizes.min() <= 1
    lesion = sort.lesions(pairs["image"], table)
    assert pairs["fold"].groupby(lesion).nunique().max() == 1
    other = sort.sort_2018(raw, table, melanoma, SORT.model_copy(update={"seed": 1}))
    assert not pairs["fold"].equals(other["fold"])


def test_isic_2017_keeps_its_parts_and_takes_2019s_labels_and_lesions(raw):
    table = sort.sort_2019(raw, SORT)
    melanoma = sort.sort_2017(raw, table)
    assert list(melanoma) == ["image", "archive", "lesion", "label", "split"]
    assert melanoma["archive"].value_counts().to_dict() == {"train": 24, "validation": 12}
    assert (melanoma["split"] == melanoma["archive"].replace("validation", "val")).all()
    in_2019 = table.assign(image=table["image"].map(isic.canonical)).set_index("image").loc[melanoma["image"]]
    assert melanoma["label"].tolist() == in_2019["label"].tolist()
    assert melanoma["lesion"].tolist() == in_2019["lesion"].tolist()
    alone = sort.sort_2017(raw, table[table["image"] != "ISIC_0000000"])
    assert alone.loc[alone["image"] == "ISIC_0000000", "lesion"].item() == "ISIC_0000000"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("1.0,0.0", "1.0,1.0", 1), r"line 2 \(ISIC_0000000\): 2 labels; expected one at most"),
        (lambda t: t + "ISIC_0000000,0.0,0.0\r\n", "ISIC_0000000 stands twice"),
        (lambda t: t + "ISIC_0555555,1.0,0.0\r\n", "1 rows without image in the archive, ISIC_0555555"),
        (lambda t: t.replace("ISIC_0000000,1.0,0.0\r\n", ""), "1 images of the archive without row, ISIC_0000000"),
        (lambda t: t.replace("1.0", "2.0", 1), "expected 0.0 or 1.0"),
        (lambda t: t.replace("image_id", "image", 1), "no column image_id"),
        (lambda t: t.replace("1.0,0.0", "0.0,0.0"), "class MEL: no image; expected images with and without melanoma"),
    ],
)
def test_a_bad_row_of_2017_is_named(raw, change, message):
    edit(raw / isic.TRUTH_2017["train"], change)
    with pytest.raises(InputError, match=message) as error:
        sort.sort_2017(raw, sort.sort_2019(raw, SORT))
    assert str(raw / isic.TRUTH_2017["train"]) in str(error.value)


def test_an_image_in_both_parts_of_2017_is_named(raw):
    truth, archive = raw / isic.TRUTH_2017["validation"], raw / isic.IMAGES_2017["validation"]
    edit(truth, lambda t: t.replace("ISIC_0000064", "ISIC_0000000"))
    names = pd.read_csv(truth)["image_id"]
    write_zip(archive, {f"{name}.jpg": jpeg(np.random.default_rng(0)) for name in names})
    with pytest.raises(InputError, match="image ISIC_0000000 is in the training part too"):
        sort.sort_2017(raw, sort.sort_2019(raw, SORT))


def test_the_merged_set_is_2019_and_the_labelled_images_of_2020(raw):
    """Of 24 images 6 have another diagnosis, and one is a duplicate: 2 MEL, 3 NV, 12 BKL."""
    table = sort.sort_2019(raw, SORT)
    merged = sort.sort_merged(raw, table, sort.sort_2017(raw, table), SORT, isic2020=True)
    assert list(merged) == ["image", "archive", "lesion", "label", "eighty"]
    pd.testing.assert_frame_equal(merged.loc[:95, ["image", "lesion", "label"]], table[["image", "lesion", "label"]])
    more = merged[merged["archive"] == "isic2020"].set_index("image")
    assert len(merged) == 96 + 17 and more["label"].value_counts().to_dict() == {"MEL": 2, "NV": 3, "BKL": 12}
    assert "ISIC_1000000" in more.index and "ISIC_1000008" not in more.index
    assert more.loc["ISIC_1000001", "lesion"] == more.loc["ISIC_1000009", "lesion"] == "IL_1_0"
    assert more.loc["ISIC_1000020", "lesion"] == "ISIC_1000020"
    counted = pd.concat([sort.count("isic2019", table), sort.count("merged", merged)])
    counted = counted.set_index(["set", "column", "part", "label"])
    counted = counted["images"].sort_index()
    assert counted["merged", "archive", "isic2019"].to_dict() == dict.fromkeys(sorted(isic.CLASSES), 12)
    assert counted["merged", "archive", "isic2020"].to_dict() == {"BKL": 12, "MEL": 2, "NV": 3}
    assert set(counted["isic2019", "balanced"].index.get_level_values("label")) == set(isic.BALANCED_CLASSES)
    assert all(counted["isic2019", f"cv{fold}"].sum() == len(table) for fold in range(5))


DIAGNOSED = [("melanoma", "MEL"), ("nevus", "NV"), ("seborrheic keratosis", "BKL"), ("lichenoid keratosis", "BKL")]
DIAGNOSED += [("solar lentigo", "BKL"), ("lentigo NOS", "BKL"), ("unknown", None), ("cafe-au-lait macule", None)]
DIAGNOSED += [("atypical melanocytic proliferation", None), ("", None)]


@pytest.mark.parametrize(("diagnosis", "label"), DIAGNOSED)
def test_a_diagnosis_is_a_class_or_left_out(raw, diagnosis, label):
    lines = ["image_name,lesion_id,diagnosis", "ISIC_1,IL_1,nevus", f"ISIC_2,IL_2,{diagnosis}"]
    (raw / isic.TRUTH_2020).write_text("\n".join(lines))
    found = tables.read_2020(raw / isic.TRUTH_2020, raw / isic.DUPLICATES_2020, ["ISIC_1", "ISIC_2"])
    assert found["label"].tolist() == ["NV", *([label] if label else [])]


def test_the_merged_split_is_its_own_and_holds_lesions_together(raw):
    """Also a lesion of both years, or of two labels; a part's share of the whole is that of study E."""
    table = sort.sort_2019(raw, SORT)
    edit(raw / isic.TRUTH_2020, lambda t: t.replace("IL_0_0", "IL_1_0").replace("IL_2_0", "HAM_4_0"))
    merged = sort.sort_merged(raw, table, sort.sort_2017(raw, table), SORT, isic2020=True)
    assert merged.loc[merged["lesion"] == "IL_1_0", "label"].nunique() == 2
    assert set(merged.loc[merged["lesion"] == "HAM_4_0", "archive"]) == {"isic2019", "isic2020"}
    assert merged.groupby("lesion")["eighty"].nunique().max() == 1
    assert not merged.loc[:95, "eighty"].equals(table["eighty"])
    shares = merged["eighty"].value_counts(normalize=True)
    assert [shares[part] for part in ("train", "val", "test")] == pytest.approx([0.8, 0.1, 0.1], abs=0.1)
    again = sort.sort_merged(raw, table, sort.sort_2017(raw, table), SORT, isic2020=True)
    pd.testing.assert_frame_equal(merged, again)


def test_without_2020_the_merged_set_is_2019_with_its_split(raw):
    for file in isic.FILES_2020:
        (raw / file).unlink()
    table = sort.sort_2019(raw, SORT)
    merged = sort.sort_merged(raw, table, sort.sort_2017(raw, table), SORT, isic2020=False)
    columns = ["image", "lesion", "label", "eighty"]
    pd.testing.assert_frame_equal(merged[columns], table[columns])
    assert set(merged["archive"]) == {"isic2019"}
    with pytest.raises(InputError, match=r"ISIC_2020_Training_JPEG\.zip: not found; run the download stage"):
        sort.sort_merged(raw, table, sort.sort_2017(raw, table), SORT, isic2020=True)


def test_an_image_of_2020_that_is_in_2019_is_taken_once(raw):
    table = sort.sort_2019(raw, SORT)
    names = [f"ISIC_{i:07d}.jpg" for i in [3, *range(1_000_001, 1_000_024)]]  # …3_downsampled is in 2019
    write_zip(raw / isic.IMAGES_2020, {name: jpeg(np.random.default_rng(0)) for name in names})
    edit(raw / isic.TRUTH_2020, lambda t: t.replace("ISIC_1000000", "ISIC_0000003"))
    merged = sort.sort_merged(raw, table, sort.sort_2017(raw, table), SORT, isic2020=True)
    assert merged["image"].map(isic.canonical).is_unique and len(merged) == 96 + 16


@pytest.mark.parametrize("names", ["image_name_1,image_name_2", "ISIC_id,ISIC_id_paired"])
def test_the_second_of_a_pair_is_left_out_under_either_naming(raw, names):
    edit(raw / isic.DUPLICATES_2020, lambda t: t.replace("image_name_1,image_name_2", names) + t.split("\n")[1])
    images = tables.read_rows(raw / isic.TRUTH_2020, ["image_name"])["image"]
    found = tables.read_2020(raw / isic.TRUTH_2020, raw / isic.DUPLICATES_2020, images)
    assert len(found) == 17 and "ISIC_1000008" not in set(found["image"])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (isic.TRUTH_2020, lambda t: t.replace("diagnosis", "finding"), "no column diagnosis"),
        (isic.TRUTH_2020, lambda t: t + "ISIC_1000000,,,nevus\n", "ISIC_1000000 stands twice"),
        (isic.TRUTH_2020, lambda t: t + "ISIC_0555555,,,nevus\n", "1 rows without image in the archive, ISIC_0555555"),
        (isic.TRUTH_2020, lambda t: t[: t.index("ISIC_1000023")], "1 images of the archive without row, ISIC_1000023"),
        (isic.DUPLICATES_2020, lambda t: t.replace("_2\n", "_b\n"), "no column image_name_2"),
        (isic.DUPLICATES_2020, lambda t: "", "not a CSV"),
    ],
)
def test_a_bad_table_of_2020_is_named(raw, file, change, message):
    edit(raw / file, change)
    with pytest.raises(InputError, match=message) as error:
        table = sort.sort_2019(raw, SORT)
        sort.sort_merged(raw, table, sort.sort_2017(raw, table), SORT, isic2020=True)
    assert str(raw / file) in str(error.value)


def test_a_table_of_2020_without_a_known_diagnosis_is_named(raw):
    edit(raw / isic.TRUTH_2020, lambda t: "".join(line[: line.rindex(",")] + ",benign\n" for line in t.splitlines()))
    edit(raw / isic.TRUTH_2020, lambda t: t.replace("benign", "diagnosis", 1))
    with pytest.raises(InputError, match="no image with a diagnosis among melanoma, nevus, "):
        table = sort.sort_2019(raw, SORT)
        sort.sort_merged(raw, table, sort.sort_2017(raw, table), SORT, isic2020=True)


def test_twins_are_one_lesion(raw, tmp_path):
    lines = ["image,age_approx,anatom_site_general,lesion_id,sex", "ISIC_0067980,,,,", "ISIC_0069013,,,,"]
    (tmp_path / "metadata.csv").write_text("\r\n".join(lines))
    assert tables.read_lesions(tmp_path / "metadata.csv")["lesion"].nunique() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("0.0,1.0", "1.0,1.0", 1), "2 labels; expected exactly one"),
        (lambda t: t.replace("ISIC_0000000,1.0", "ISIC_0000000,0.0", 1), "0 labels; expected exactly one"),
        (lambda t: t + "ISIC_0000000" + ",0.0" * 4 + ",1.0" + ",0.0" * 4 + "\r\n", "ISIC_0000000 stands twice"),
        (lambda t: t + "ISIC_0000003,1.0" + ",0.0" * 8 + "\r\n", "ISIC_0000003 stands twice"),  # …_downsampled is there
        (lambda t: t + "ISIC_0555555,1.0" + ",0.0" * 8 + "\r\n", "rows without image in the archive, ISIC_0555555"),
        (lambda t: t.replace("ISIC_0000001,", "ISIC_0444444,", 1), "ISIC_0444444"),
        (lambda t: t.replace("MEL", "MELANOMA", 1), "no column MEL"),
        (lambda t: t.replace("1.0", "yes", 1), "expected 0.0 or 1.0"),
        (lambda t: t.replace("1.0", "", 1), "expected 0.0 or 1.0"),
        (lambda t: t.replace("ISIC_0000001,", ",", 1), "no image name"),
        (lambda t: "", "not a CSV"),
    ],
)
def test_a_bad_row_is_named(raw, change, message):
    edit(raw / isic.TRUTH_2019, change)
    with pytest.raises(InputError, match=message):
        sort.sort_2019(raw, SORT)


def test_an_image_without_row_is_named(raw):
    edit(raw / isic.TRUTH_2019, lambda t: "\r\n".join(t.split("\r\n")[:-2]) + "\r\n")
    with pytest.raises(InputError, match="images of the archive without row, ISIC_0000095"):
        sort.sort_2019(raw, SORT)


TABLES = (isic.TRUTH_2019, isic.METADATA_2019, isic.TRUTH_2017["train"])


def sorted_all(raw):
    table = sort.sort_2019(raw, SORT)
    return table, sort.sort_2017(raw, table)


@pytest.mark.parametrize("file", TABLES)
@pytest.mark.parametrize(
    "change",
    [
        lambda t: "\ufeff" + t,
        lambda t: t.replace("\r\n", "\n"),
        lambda t: t.replace("\r\n", "\r"),
        lambda t: t.replace("\r\n", "\r\n \r\n"),
        lambda t: t.replace("ISIC_0000001,", "ISIC_0000001.jpg,"),
        lambda t: "\r\n".join(f"{line},extra" if line else line for line in t.split("\r\n")),
        lambda t: t.replace(",", " , "),
        lambda t: t.rstrip(),
        lambda t: t.replace(",", ";"),
        lambda t: t.replace(",", "\t"),
    ],
    ids=["BOM", "LF", "CR", "blank lines", ".jpg in ids", "extra column", "spaces", "no last line end", ";", "tab"],
)
def test_harmless_oddities_change_nothing(raw, file, change):
    before = sorted_all(raw)
    edit(raw / file, change)
    for old, new in zip(before, sorted_all(raw), strict=True):
        pd.testing.assert_frame_equal(old, new)


def line_changed(number: int, change):
    """The text with its line of that number (from 1) changed."""

    def changed(text: str) -> str:
        lines = text.split("\r\n")
        lines[number - 1] = change(lines[number - 1])
        return "\r\n".join(lines)

    return changed


@pytest.mark.parametrize("file", TABLES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (line_changed(3, lambda line: line + ","), r"line 3: \d+ fields; expected \d+, as in the header"),
        (line_changed(4, lambda line: line.rpartition(",")[0]), r"line 4: \d+ fields; expected \d+, as in the header"),
        (lambda t: re.sub(r"(?<=\d)(?=\r\n)|(?<=,)(?=\r\n)", ",", t), "fields; expected"),  # all but the header
        (line_changed(1, lambda line: line + "," + line.split(",")[1]), r"column \w+ stands twice"),
        (line_changed(1, lambda line: line.replace(",", ";")), "line 2: 1 fields; expected"),
        (line_changed(2, lambda line: '"' + line), "not a CSV in UTF-8: unexpected end of data"),
        (lambda t: "\r\n\r\n" + line_changed(4, lambda line: "," + line.partition(",")[2])(t), "line 6: no image name"),
        (lambda t: t.replace("ISIC_0000001", "ISIC_0000001.png", 1), r"ISIC_0000001\.png"),
        (lambda t: t.replace("ISIC_0000001", "NaN", 1), "without image in .*, NaN the first|rows without image"),
        (lambda t: "", "no line in it"),
    ],
)
def test_a_bad_line_is_named(raw, file, change, message):
    edit(raw / file, change)
    with pytest.raises(InputError, match=message) as error:
        sorted_all(raw)
    assert str(raw / file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(raw, encoding):
    path = raw / isic.METADATA_2019
    path.write_bytes(path.read_bytes().decode().replace("HAM_1", "é").encode(encoding))
    with pytest.raises(InputError, match="not a CSV in UTF-8"):
        sorted_all(raw)


def test_sex_and_age_of_whom_images_show_are_kept_where_they_are_known(raw):
    """2019's word counts for an image that 2020 has too, and for one that another set has under its short name."""
    edit(raw / isic.METADATA_2019, lambda t: t.replace("ISIC_0000001,,,HAM_1_0,", "ISIC_0000001,55.0,,HAM_1_0,Female"))
    edit(raw / isic.METADATA_2019, lambda t: t.replace("_downsampled,,,HAM_3_0,", "_downsampled,,,HAM_3_0,m"))
    sets, names = dict.fromkeys(isic.SETS, Official()), ["ISIC_1000000", "ISIC_0000001", "ISIC_0000002", "ISIC_0000003"]

    def found(isic2020: bool) -> list:
        people = sort.people("merged", raw, pd.Series(names, name="image"), sets, isic2020)
        return people.fillna("").to_numpy().tolist()

    known = [["ISIC_0000001", "female", 55.0], ["ISIC_0000003", "male", ""]]
    assert found(isic2020=False) == known == found(isic2020=True)  # whose table has no such columns here
    edit(raw / isic.TRUTH_2020, lambda t: t.replace("patient_id", "sex,age_approx").replace("IP_1", "male,"))
    edit(raw / isic.TRUTH_2020, lambda t: t.replace("ISIC_1000001", "ISIC_0000001"))
    assert found(isic2020=True) == [["ISIC_1000000", "male", ""], *known]


@pytest.mark.parametrize("value", ["nan", "1.0.0", "inf", "True"])
def test_a_score_that_is_none_is_named(raw, value):
    edit(raw / isic.TRUTH_2019, line_changed(2, lambda line: line.replace("1.0", value)))
    with pytest.raises(InputError, match=r"line 2 \(ISIC_0000000\): expected 0\.0 or 1\.0 in each class column"):
        sorted_all(raw)


@pytest.mark.parametrize("blank", ["NaN", "NA", "null"])
def test_a_lesion_id_that_means_none_is_named(raw, blank):
    """Or all images without one would be one lesion."""
    edit(raw / isic.METADATA_2019, line_changed(96, lambda line: line.replace(",,,,", f",,,{blank},")))
    with pytest.raises(InputError, match=rf"line 96: lesion_id {blank}; expected an id, or nothing"):
        sorted_all(raw)


@pytest.mark.parametrize("blank", ["NaN", "NA", "null"])
def test_a_lesion_id_of_2020_that_means_none_is_named(raw, blank):
    edit(raw / isic.TRUTH_2020, lambda t: t.replace("IL_1_0", blank))
    table = sort.sort_2019(raw, SORT)
    with pytest.raises(InputError, match=rf"line 3: lesion_id {blank}; expected an id, or nothing"):
        sort.sort_merged(raw, table, sort.sort_2017(raw, table), SORT, isic2020=True)


@pytest.mark.parametrize("end", ["", "_Segmentation", "_mask"])
def test_masks_of_other_names_are_found(raw, end):
    names = sorted(members(raw / isic.IMAGES_2018, PICTURES))
    write_zip(raw / isic.MASKS_2018, {f"{name}{end}.png": b"x" for name in names})
    table = sort.sort_2019(raw, SORT)
    pairs = sort.sort_2018(raw, table, sort.sort_2017(raw, table), SORT)
    assert (pairs["mask"] == pairs["image"] + end).all()


def test_a_lesion_with_two_labels_is_named(raw):
    edit(raw / isic.METADATA_2019, lambda t: t.replace("HAM_0_0", "HAM_1_0"))
    with pytest.raises(InputError, match="lesion HAM_1_0 has the labels MEL, NV"):
        sort.sort_2019(raw, SORT)


def test_a_pair_without_mask_is_named(raw):
    rng = np.random.default_rng(0)
    write_zip(raw / isic.IMAGES_2018, {"ISIC_0000777.jpg": jpeg(rng)})
    with pytest.raises(InputError, match="rows without image in the images"):
        table = sort.sort_2019(raw, SORT)
        sort.sort_2018(raw, table, sort.sort_2017(raw, table), SORT)


def test_a_class_without_an_image_is_named(raw):
    truth = pd.read_csv(raw / isic.TRUTH_2019)
    truth["MEL"], truth["SCC"] = truth["MEL"] + truth["SCC"], 0.0
    truth.to_csv(raw / isic.TRUTH_2019, index=False)
    with pytest.raises(InputError, match=r"class SCC: no image; expected 5 lesions"):
        sort.sort_2019(raw, SORT)


def test_lesions_of_a_test_set_that_is_left_out_play_no_part(raw):
    """The images of the test archive and all others of their lesions have no part, and the rest is dealt as before."""
    before = sort.sort_2019(raw, SORT)
    seen = before["lesion"].value_counts().index[0]
    image = before.loc[before["lesion"] == seen, "image"].iloc[0]
    write_zip(raw / isic.TESTS["isic2017_test"][0], {f"{isic.canonical(image)}.jpg": jpeg(np.random.default_rng(0))})
    chosen = SORT.model_copy(update={"leave_out": ("isic2017_test",)})
    table = sort.sort_2019(raw, chosen)
    merged = sort.sort_merged(raw, table, sort.sort_2017(raw, table), chosen, isic2020=False)
    roles = table[["cv0", "cv4", "eighty"]]
    assert (before["lesion"] == seen).sum() > 1
    assert (roles[table["lesion"] == seen] == "").all(axis=None) and (roles[table["lesion"] != seen] != "").all(
        axis=None
    )
    assert ((merged["eighty"] == "") == (merged["lesion"] == seen)).all()
    assert table["image"].equals(before["image"])

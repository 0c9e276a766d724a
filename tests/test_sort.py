"""The official CSVs read and checked; the tables they become."""

import numpy as np
import pandas as pd
import pytest

from lesions import isic, params, tables
from lesions.errors import InputError
from stages import sort
from tests.conftest import jpeg, write_zip

SORT = params.Sort(seed=0, folds=5, validation=0.125)


def edit(path, change):
    """Change the text of a file."""
    path.write_bytes(change(path.read_bytes().decode()).encode())


def test_one_row_an_image_with_label_lesion_and_roles(raw):
    table = sort.sort_2019(raw, SORT)
    assert list(table) == ["image", "lesion", "label", *(f"cv{k}" for k in range(5)), "balanced"]
    assert len(table) == 96 and table["label"].value_counts().eq(12).all()
    unknown = table["lesion"].str.startswith("ISIC_")
    assert unknown.sum() == 8 and not table.loc[unknown, "lesion"].str.contains("downsampled").any()


def test_pairs_play_the_part_they_have_in_2019(raw):
    table = sort.sort_2019(raw, SORT)
    pairs = sort.sort_2018(raw, table, SORT)
    part = dict(zip(table["image"].map(isic.canonical), table["cv0"], strict=True))
    shared = pairs[pairs["image"].isin(part)]
    assert len(pairs) == 60 and len(shared) == 59
    assert (shared["split"] == shared["image"].map(part)).all()


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


@pytest.mark.parametrize(
    "change",
    [
        lambda t: "\ufeff" + t,
        lambda t: t.replace("\r\n", "\n"),
        lambda t: t.replace("\r\n", "\r\n\r\n"),
        lambda t: t.replace("ISIC_0000001,", "ISIC_0000001.jpg,"),
        lambda t: "\r\n".join(f"{line},extra" if line else line for line in t.split("\r\n")),
    ],
    ids=["BOM", "LF", "blank lines", ".jpg in ids", "extra column"],
)
def test_harmless_oddities_change_nothing(raw, change):
    before = sort.sort_2019(raw, SORT)
    edit(raw / isic.TRUTH_2019, change)
    pd.testing.assert_frame_equal(before, sort.sort_2019(raw, SORT))


def test_a_lesion_with_two_labels_is_named(raw):
    edit(raw / isic.METADATA_2019, lambda t: t.replace("HAM_0_0", "HAM_1_0"))
    with pytest.raises(InputError, match="lesion HAM_1_0 has the labels MEL, NV"):
        sort.sort_2019(raw, SORT)


def test_a_pair_without_mask_is_named(raw):
    rng = np.random.default_rng(0)
    write_zip(raw / isic.IMAGES_2018, {"ISIC_0000777.jpg": jpeg(rng)})
    with pytest.raises(InputError, match="rows without image in the images"):
        sort.sort_2018(raw, sort.sort_2019(raw, SORT), SORT)


def test_a_class_without_an_image_is_named(raw):
    truth = pd.read_csv(raw / isic.TRUTH_2019)
    truth["MEL"], truth["SCC"] = truth["MEL"] + truth["SCC"], 0.0
    truth.to_csv(raw / isic.TRUTH_2019, index=False)
    with pytest.raises(InputError, match=r"class SCC: no image; expected 5 lesions"):
        sort.sort_2019(raw, SORT)

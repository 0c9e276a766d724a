"""Splits at full size: counts, percentages, lesions on one side, every class in every fold."""

import numpy as np
import pandas as pd
import pytest

from lesions.core.errors import InputError
from lesions.isic import splits
from lesions.isic.names import BALANCED_CLASSES, CLASSES, HAM_CLASSES, MERGED
from lesions.raw import tables
from tests.conftest import COUNTS, FULL_CSVS

# Table 3.2 of study B.
PERCENT = {"MEL": 17.85, "NV": 50.83, "BCC": 13.12, "AK": 3.42, "BKL": 10.36, "DF": 0.94, "VASC": 1.0, "SCC": 2.48}


def made_up() -> pd.DataFrame:
    """25,331 rows with Table 5.1's counts and lesions of 1 to 31 images, about as the real ones are spread."""
    rng, rows = np.random.default_rng(5), []
    for label, count in COUNTS.items():
        lesion = 0
        while count:
            size = min(count, int(rng.choice([1, 2, 3, 4, 6, 31], p=[0.55, 0.25, 0.1, 0.06, 0.038, 0.002])))
            rows += [(f"{('HAM', 'BCN')[lesion % 2]}_{label}_{lesion}", label)] * size
            lesion, count = lesion + 1, count - size
    table = pd.DataFrame(rows, columns=["lesion", "label"]).sample(frac=1, random_state=1, ignore_index=True)
    return table.assign(image=[f"ISIC_{i:07d}" for i in range(len(table))])


def official() -> pd.DataFrame:
    truth, metadata = FULL_CSVS / "ISIC_2019_Training_GroundTruth.csv", FULL_CSVS / "ISIC_2019_Training_Metadata.csv"
    if not truth.exists():
        pytest.skip(f"the official CSVs are not in {FULL_CSVS} (set ISIC_CSVS)")
    return tables.read_2019(truth, metadata, tables.read_labels(truth)["image"])


@pytest.fixture(scope="module", params=[made_up, official], ids=["made up", "official"])
def full(request) -> pd.DataFrame:
    table, rng = request.param(), np.random.default_rng(0)
    table = table.join(splits.folds(table, 5, 0.125, rng))
    table = table.assign(balanced=splits.balanced(table, 0.125, 0.2, rng))
    return table.assign(eighty=splits.eighty(table, np.random.default_rng(1)))


def test_counts_of_table_5_1_and_percentages_of_table_3_2(full):
    assert full["label"].value_counts().to_dict() == COUNTS
    for label, percent in PERCENT.items():
        assert 100 * COUNTS[label] / len(full) == pytest.approx(percent, abs=0.011)


@pytest.mark.parametrize(
    "split", ["standard", "holdout", "balanced", "eighty", *splits.HAM_SPLITS, "cv0", "cv1", "cv2", "cv3", "cv4"]
)
def test_no_lesion_on_two_sides(full, split):
    chosen = full.assign(role=splits.roles(full, split)).query("role != ''")
    assert chosen.groupby("lesion")["role"].nunique().max() == 1


def test_every_class_has_its_share_of_every_fold(full):
    for fold in range(5):
        roles = splits.roles(full, f"cv{fold}")
        for label in CLASSES:
            shares = roles[full["label"] == label].value_counts(normalize=True)
            assert shares["test"] == pytest.approx(0.2, abs=0.02)
            assert shares["val"] == pytest.approx(0.1, abs=0.02)
            assert shares["train"] == pytest.approx(0.7, abs=0.02)


def test_the_folds_test_each_image_once(full):
    tested = sum((full[f"cv{fold}"] == "test").astype(int) for fold in range(5))
    assert (tested == 1).all()


def test_standard_is_fold_0_and_holdout_shares_its_test_part(full):
    assert (splits.roles(full, "standard") == full["cv0"]).all()
    holdout = splits.roles(full, "holdout")
    assert set(holdout) == {"train", "test"}
    assert ((holdout == "test") == (full["cv0"] == "test")).all()


def test_balanced_has_1987_of_each_of_five_classes(full):
    chosen = full[splits.roles(full, "balanced") != ""]
    counts = splits.labels(chosen, "balanced").value_counts()
    assert counts.to_dict() == dict.fromkeys(BALANCED_CLASSES, 1987)
    assert counts.index.isin([*BALANCED_CLASSES]).all() and MERGED in counts
    shares = splits.roles(chosen, "balanced").value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.2, abs=0.01)


def test_eighty_ten_ten_in_every_class(full):
    roles = splits.roles(full, "eighty")
    for label in CLASSES:
        shares = roles[full["label"] == label].value_counts(normalize=True)
        assert [shares[part] for part in ("train", "val", "test")] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_ham_is_cv0_without_the_other_sources(full):
    roles, of_ham = splits.roles(full, "ham"), full["lesion"].str.startswith("HAM_")
    assert (roles[of_ham] == full.loc[of_ham, "cv0"]).all() and (roles[~of_ham] == "").all()
    labels = splits.labels(full, "ham")
    for part in ("train", "val", "test"):
        assert set(labels[roles == part]) == set(splits.classes("isic2019", "ham", labels)) == set(HAM_CLASSES)
    assert (labels[full["label"].isin(["AK", "SCC"])] == "AKIEC").all()


def test_the_folds_of_ham_share_the_test_part_and_validate_on_other_lesions(full):
    roles = [splits.roles(full, split) for split in splits.HAM_SPLITS]
    held = [set(full["lesion"][found == "val"]) for found in roles]
    assert all((found == "test").equals(roles[0] == "test") for found in roles)
    assert all((found == "").equals(roles[0] == "") for found in roles)
    assert not held[0] & set(full["lesion"][roles[0] == "train"])
    for fold in (1, 2):
        assert not held[fold] & set(full["lesion"][roles[fold].isin(["train", "test"])])
        assert set(full["label"][roles[fold] == "val"]) == set(CLASSES)
    assert not held[1] & held[2]


def test_ham_is_the_training_set_of_isic_2018_task_3():
    """10,015 images; the counts of its seven classes are the challenge's."""
    table = official()
    labels = splits.labels(table, "ham")[table["lesion"].str.startswith("HAM_")]
    expected = {"MEL": 1113, "NV": 6705, "BCC": 514, "AKIEC": 327, "BKL": 1099, "DF": 115, "VASC": 142}
    assert labels.value_counts().to_dict() == expected


def test_a_class_of_few_ham_lesions_reaches_every_part():
    """DF is in the training part only: its smallest lesion goes to test, the next to val; other classes stay."""
    rows = [("HAM_a", "DF", "train")] * 3 + [("HAM_b", "DF", "train")] * 2 + [("HAM_c", "DF", "train")]
    rows += [(f"HAM_{part}", "NV", part) for part in ("train", "val", "test")] + [("BCN_d", "DF", "test")]
    table = pd.DataFrame(rows, columns=["lesion", "label", "cv0"])
    roles = splits.roles(table, "ham").groupby(table["lesion"]).unique().str.join(" ").to_dict()
    assert roles == {
        "HAM_a": "train", "HAM_b": "val", "HAM_c": "test",
        "HAM_train": "train", "HAM_val": "val", "HAM_test": "test", "BCN_d": "",
    }  # fmt: skip
    assert table["cv0"].eq("train").sum() == 7
    fold = splits.roles(table.assign(cv1="train"), "ham_1").groupby(table["lesion"]).unique().str.join(" ").to_dict()
    assert fold == roles | {"HAM_train": "val", "HAM_val": "train"}


def test_melanoma_against_the_rest_in_the_official_parts():
    table = pd.DataFrame({"label": ["MEL", "BKL", "NV"], "split": ["train", "val", "val"]})
    assert splits.classes("isic2017", "melanoma", table["label"]) == ("OTHER", "MEL")
    assert splits.labels(table, "melanoma").tolist() == ["MEL", "OTHER", "OTHER"]
    assert splits.roles(table, "melanoma").tolist() == ["train", "val", "val"]
    with pytest.raises(InputError, match="no split 'melanoma'"):
        splits.roles(table.drop(columns="split"), "melanoma")


def test_large_lesions_do_not_gather_in_one_part(full):
    lesions = full.groupby("lesion").agg(size=("image", "size"), part=("cv0", "first"))
    means = lesions.groupby("part")["size"].mean()
    assert means.max() / means.min() < 1.25


def test_same_seed_same_split_other_seed_other_split():
    table = made_up().head(2000)
    first, again, other = (splits.folds(table, 5, 0.125, np.random.default_rng(seed)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_a_class_with_fewer_lesions_than_folds_is_named():
    table = pd.DataFrame({"lesion": list("aabbccdd"), "label": "DF"})
    with pytest.raises(InputError, match="class DF: 4 lesions for 5 folds"):
        splits.folds(table, 5, 0.125, np.random.default_rng(0))


@pytest.mark.parametrize("lesions", [5, 6, 7, 12])
def test_few_lesions_still_reach_every_part(lesions):
    table = pd.DataFrame({"lesion": [f"l{i // 2}" for i in range(2 * lesions)], "label": "DF"})
    roles = splits.folds(table, 5, 0.125, np.random.default_rng(0))
    assert all(set(roles[column]) == {"train", "val", "test"} for column in roles)


def test_an_unknown_split_is_named():
    with pytest.raises(InputError, match="no split 'cv9'"):
        splits.roles(pd.DataFrame({"cv0": ["train"]}), "cv9")

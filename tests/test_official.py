"""The challenges' own rules (against the official scorer), submission files, calibration, ensembles."""

import io

import numpy as np
import pandas as pd
import pytest
from isic_challenge_scoring.classification import ClassificationMetric, ClassificationScore
from sklearn.metrics import roc_auc_score

from lesions.compare import boards
from lesions.core.errors import InputError
from lesions.isic import official
from lesions.isic.names import CLASSES, HAM_CLASSES
from lesions.predict import calibration, ensembles

MASKS = pd.DataFrame(columns=["test", "model", "image", "jaccard", "dice"])
METRIC = ClassificationMetric.BALANCED_ACCURACY


def drawn(classes: tuple[str, ...], count: int = 200, seed: int = 0) -> tuple[pd.Series, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    labels = pd.Series([*classes, *rng.choice(classes, count - len(classes))])
    logits = rng.normal(size=(count, len(classes))) + 1.5 * np.eye(len(classes))[labels.map(classes.index)]
    p = np.exp(logits)
    return labels, pd.DataFrame(p / p.sum(axis=1, keepdims=True), columns=list(classes))


def written(table: pd.DataFrame) -> io.StringIO:
    return io.StringIO(table.to_csv(index=False))


def score(labels: pd.Series, submission: pd.DataFrame) -> float:
    """Score a submission file with the official scorer."""
    truth = pd.DataFrame({c: (labels == c).astype(float) for c in submission.columns[1:]})
    truth.insert(0, "image", submission["image"])
    return ClassificationScore.from_stream(written(truth), written(submission), METRIC).overall


@pytest.mark.parametrize("test", ["isic2018_test", "isic2019_test"])
def test_our_score_of_a_submission_is_the_official_scorers(test):
    """Of 2019 with UNK, which is said of what is unfamiliar and of nothing else."""
    labels, p = drawn(HAM_CLASSES if test == "isic2018_test" else (*CLASSES, "UNK"))
    unfamiliarity = p["UNK"] / 0.3 if "UNK" in p else None
    terms = official.in_terms(test, p.drop(columns="UNK", errors="ignore"), unfamiliarity)
    if unfamiliarity is not None:
        assert 0 < (unfamiliarity > 1).mean() < 1
        assert ((terms.idxmax(axis=1) == "UNK") == (unfamiliarity > 1)).all()
    submission = official.submission(test, pd.Series([f"ISIC_{i}" for i in range(len(p))]), terms)
    assert official.scores(test, labels, terms)["bma"][0] == pytest.approx(score(labels, submission), abs=1e-12)


def test_eight_classes_become_those_of_2018_and_of_2017():
    _, p = drawn(CLASSES)
    assert official.in_terms("isic2018_val", p)["AKIEC"].equals(p["AK"] + p["SCC"])
    assert list(official.in_terms("isic2017_test", p)) == ["MEL", "BKL"]
    assert official.in_terms("isic2019_test", p.drop(columns="SCC")) is None
    assert official.in_terms("isic2018_val", p[["MEL"]]) is None


def test_a_melanoma_classifier_has_2017s_melanoma_auc_alone():
    labels, p = drawn(("OTHER", "MEL"))
    terms = official.in_terms("isic2017_test", p)
    assert set(official.scores("isic2017_test", labels, terms)) == {"MEL auc"}
    file = official.submission("isic2017_test", labels.index.to_series().astype(str), terms)
    assert list(file) == ["image_id", "melanoma", "seborrheic_keratosis"]


def test_2017s_scores_are_scikit_learns():
    labels, p = drawn(("MEL", "BKL", "NV"))
    found = official.scores("isic2017_test", labels, official.in_terms("isic2017_test", p))
    expected = [roc_auc_score(labels == c, p[c]) for c in ("MEL", "BKL")]
    assert found["MEL auc"][0] == pytest.approx(expected[0]) and found["mean auc"][0] == pytest.approx(
        np.mean(expected)
    )


def test_without_unk_its_images_are_left_out_and_weights_count_images_again():
    labels, p = drawn((*CLASSES, "UNK"))
    eight = official.in_terms("isic2019_test", p.drop(columns="UNK"))
    known = labels != "UNK"
    direct = official.scores("isic2019_test", labels[known], eight[known])["bma"]
    assert official.scores("isic2019_test", labels, eight)["bma"] == pytest.approx(direct)
    twice = np.repeat(np.arange(len(labels)), 2)
    weights = np.full((len(labels), 1), 2)
    again = official.scores("isic2019_test", labels[twice], eight.iloc[twice])["bma"]
    assert official.scores("isic2019_test", labels, eight, weights)["bma"] == pytest.approx(again)


def test_calibration_lowers_the_error_of_overconfident_probabilities():
    labels, p = drawn(("A", "B", "C"), 4000)
    truth, sharp = labels.map("ABC".index).to_numpy(), p.to_numpy() ** 3
    sharp /= sharp.sum(axis=1, keepdims=True)
    fitted = calibration.fit(truth[:2000], sharp[:2000])
    before, after = (
        calibration.ece(truth[2000:], sharp[2000:]),
        calibration.ece(truth[2000:], fitted.calibrated(sharp[2000:])),
    )
    assert after < 0.04 < before and fitted.temperature > 1.5


def test_the_balanced_output_gives_every_class_the_same_share():
    """Of one vague image each, the likeliest class is the one that is likelier than its share."""
    fitted = calibration.Calibration(1.0, np.zeros(2), np.array([0.9, 0.1]))
    p = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert fitted.balanced(p) == pytest.approx(np.array([[0.5, 0.5], [4 / 13, 9 / 13]]), abs=1e-3)


def test_risk_at_full_coverage_is_the_error_and_reliability_counts_each_image():
    labels, p = drawn(("A", "B"), 300)
    truth = labels.map("AB".index).to_numpy()
    risk = calibration.risk_coverage(truth, p.to_numpy())
    assert risk["risk"].iloc[-1] == pytest.approx((p.to_numpy().argmax(axis=1) != truth).mean())
    assert calibration.reliability(truth, p.to_numpy())["images"].sum() == 300


def said(images: str, p: float, of: str = "val", **changes) -> pd.DataFrame:
    """What a member says of images of a set: p for class A."""
    table = pd.DataFrame({"set": of, "image": [*images], "label": "A", "seen": False, "unfamiliarity": ""})
    return table.assign(p_A=p, p_B=1 - p, **changes)


def test_an_ensemble_is_the_mean_whatever_the_order_and_refuses_other_images():
    table = pd.concat(
        [said("ab", 0.9), said("cd", 0.8, "test"), said("xy", 0.4, "isic2019_test", unfamiliarity=[1, 3])]
    )
    other = table.assign(p_A=table["p_B"], p_B=table["p_A"], unfamiliarity=["", "", "", "", 2, 6]).iloc[::-1]
    mean = ensembles.mean({"one": table, "two": other})
    assert mean[["p_A", "p_B"]].to_numpy() == pytest.approx(0.5) and mean["image"].to_list() == [*"abcdxy"]
    assert mean["unfamiliarity"].to_list()[4:] == [1.5, 4.5] and mean["unfamiliarity"][:4].isna().all()
    for wrong in (other.replace({"image": {"c": "z"}}), other[other["image"] != "x"]):
        with pytest.raises(InputError, match="its images and parts are not those of one"):
            ensembles.mean({"one": table, "two": wrong})
    with pytest.raises(InputError, match="two: its classes"):
        ensembles.mean({"one": table, "two": other.rename(columns={"p_A": "p_C"})})


def test_folds_speak_of_their_own_images_and_together_of_official_ones():
    """No image is judged by a fold that learnt from it; one that validates a fold stays in validation."""
    both = [said("xy", 0.2, "isic2019_test", seen=[True, False]), said("xy", 0.8, "isic2019_test")]
    one, two = said("ab", 0.9), said("cd", 0.8, "test")
    folds = {"one": pd.concat([one, two, both[0]]), "two": pd.concat([one, two, both[0]])}  # both of fold 0
    folds["one-1"] = pd.concat([said("c", 0.6), said("efa", 0.5, "test"), both[1]])
    mean = ensembles.mean(folds).set_index(["set", "image"])
    assert mean.loc["val"]["p_A"].to_dict() == pytest.approx({"a": 0.9, "b": 0.9, "c": 0.6})
    assert mean.loc["test"]["p_A"].to_dict() == pytest.approx({"d": 0.8, "e": 0.5, "f": 0.5})
    assert mean.loc["isic2019_test"]["p_A"].to_numpy() == pytest.approx(0.4)  # of three members
    assert mean.loc["isic2019_test"]["seen"].to_dict() == {"x": True, "y": False}
    crossed = pd.concat([said("b", 0.5), said("a", 0.5, "test")])
    for wrong, message in (
        (crossed, "one: each of its test images validates another fold"),
        (pd.concat([said("b", 0.5), said("bc", 0.5, "test")]), "share test images"),
        (pd.concat([crossed, both[0]]), "one-1: its images and parts are not those of one"),
        (pd.concat([crossed, crossed[:1]]), "one-1: an image stands twice or has no probabilities"),
        (crossed.assign(p_A=np.nan), "one-1: an image stands twice or has no probabilities"),
    ):
        with pytest.raises(InputError, match=message):
            ensembles.mean({"one": pd.concat([said("a", 0.9), said("b", 0.9, "test")]), "one-1": wrong})


def test_a_place_counts_the_entries_above_and_says_why_it_does_not_compare(tmp_path):
    (tmp_path / "leaderboards.csv").write_text(
        "challenge,metric,place,team,entry,value,reason\n"
        + "".join(f"ISIC 2017 Part 3,mean auc,1,,,{v},\n" for v in (0.99, 0.5))
    )
    labels, p = drawn(("MEL", "BKL", "NV"), 600)
    rows = p.add_prefix("p_").assign(test="isic2017_test", image=range(600), label=labels, seen=False, unfamiliarity=0)
    table = boards.table({"one": rows}, MASKS, tmp_path, False, 0.95).set_index("metric")
    assert table.loc["mean auc", ["place", "known", "comparable"]].to_list() == [2, 2, "yes"]
    assert pd.isna(table.loc["MEL auc", "place"])
    assert set(table.loc[[""], "comparable"]) == {boards.NOT_RUN}
    rows.loc[3, "seen"] = True
    assert boards.table({"one": rows}, MASKS, tmp_path, False, 0.95)["comparable"][0] == "1 images seen in training"

"""Tests of differences against values worked out by hand and against scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lesions.compare import intervals, measured, significance
from lesions.compare.significance import BOOTSTRAP, MCNEMAR, STUDENT, WELCH, WILCOXON, holm, mcnemar
from lesions.isic.names import CLASSES


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 400)


def classifier(right: np.ndarray, prefix: str = "ISIC_") -> measured.Tested:
    """As many images of each class, two a lesion; probability 1 for the true class where `right`, else for the next."""
    truth = np.arange(len(right)) % len(CLASSES)
    guess = np.where(right, truth, (truth + 1) % len(CLASSES))
    images = np.array([f"{prefix}{i}" for i in range(len(right))])
    return measured.Tested(CLASSES, images, np.arange(len(right)) // 16 * 8 + truth, truth, np.eye(len(CLASSES))[guess])


def test_mcnemar_by_hand():
    """Two images for the first, eight for the second: 2·(1 + 10 + 45)/2¹⁰."""
    first = np.array([True] * 2 + [False] * 8 + [True] * 20 + [False] * 5)
    second = np.array([False] * 2 + [True] * 8 + [True] * 20 + [False] * 5)
    assert mcnemar(first, second) == (2, 8, pytest.approx(112 / 1024))
    assert mcnemar(second, first) == (8, 2, pytest.approx(112 / 1024))
    assert mcnemar(first, first) == (0, 0, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_scipys_binomial(seed):
    first, second = np.random.default_rng(seed).random((2, 60)) < 0.6
    only_first, only_second, p = mcnemar(first, second)
    assert p == pytest.approx(min(1, 2 * stats.binom.cdf(min(only_first, only_second), only_first + only_second, 0.5)))


def test_holm_by_hand():
    """.005·4, .01·3, .03·2, then .04·1, which may not be below .03·2."""
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.5, np.nan, 0.6])), [1.0, np.nan, 1.0])
    assert holm(np.array([])).size == 0 and np.isnan(holm(np.array([np.nan]))).all()


def test_bootstrap_p_by_hand():
    """One of nine on the far side of 0: 2·(1 + 1)/(9 + 1). None: 2·1/10. As many on both: no more than 1."""
    assert significance.bootstrap_p(np.array([-1.0] + [1.0] * 8)) == pytest.approx(0.4)
    assert significance.bootstrap_p(np.ones(9)) == significance.bootstrap_p(-np.ones(9)) == pytest.approx(0.2)
    assert significance.bootstrap_p(np.zeros(9)) == 1.0
    assert significance.bootstrap_p(np.array([np.nan, *np.ones(9)])) == pytest.approx(0.2)


def test_a_classifier_does_not_differ_from_itself():
    one = classifier(np.arange(160) % 3 > 0)
    lines = significance.corrected(significance.pairs("A", {"one": one, "same": one}, 0.95))
    assert set(lines["test"]) == {MCNEMAR, BOOTSTRAP}
    assert (lines[["difference", "low", "high"]] == 0).all(axis=None) and (lines[["p", "p_holm"]] == 1).all(axis=None)


def test_equal_skill_on_other_images_is_no_difference_and_much_more_skill_is_one():
    rng = np.random.default_rng(0)
    alike = {name: classifier(rng.random(800) < 0.6) for name in ("one", "other")}
    lines = significance.corrected(significance.pairs("A", alike | {"better": classifier(rng.random(800) < 0.9)}, 0.95))
    lines = lines.set_index(["first", "second", "metric"])
    for metric in ("accuracy", "bma"):
        same, better = lines.loc[("one", "other", metric)], lines.loc[("one", "better", metric)]
        assert same["low"] < 0 < same["high"] and same["p"] > 0.05
        assert 0.2 < better["low"] < better["difference"] < better["high"] < 0.4 and better["p_holm"] < 0.05
    assert len(lines) == 3 * 2


def test_the_draws_are_those_of_the_intervals(monkeypatch):
    """Each classifier's resampled scores are as if it stood alone: the draws are shared."""
    monkeypatch.setattr(intervals, "RESAMPLES", significance.RESAMPLES)
    rng = np.random.default_rng(1)
    members = [classifier(rng.random(160) < skill) for skill in (0.3, 0.8)]
    accuracies, _ = significance.resampled(members)
    for column, member in enumerate(members):
        matrices, _ = member.resampled()
        alone = np.trace(matrices, axis1=1, axis2=2) / matrices.sum(axis=(1, 2))
        np.testing.assert_allclose(accuracies[:, column], alone)


def test_only_the_same_images_are_compared_and_corrected_together():
    found = {name: classifier(np.arange(160) % k > 0) for name, k in (("a", 2), ("b", 3), ("c", 5))}
    found |= {name: classifier(np.arange(160) % k > 0, "other") for name, k in (("d", 2), ("e", 9))}
    found["alone"] = classifier(np.arange(160) % 2 > 0, "third")
    lines = significance.corrected(significance.pairs("A", found, 0.95))
    lines = lines[lines["test"] == MCNEMAR]
    assert {*zip(lines["first"], lines["second"], strict=True)} == {("a", "b"), ("a", "c"), ("b", "c"), ("d", "e")}
    alone = lines[lines["first"] == "d"].iloc[0]
    assert alone["p_holm"] == alone["p"]
    three = lines[lines["first"] != "d"]
    np.testing.assert_allclose(three["p_holm"], holm(three["p"].to_numpy()))
    assert three["p_holm"].min() == pytest.approx(3 * three["p"].min())


NUMBERS = pd.DataFrame(
    [
        ("C", "c_base", "accuracy mean", "0.874"), ("C", "c_base", "accuracy std", "0.00663"),
        ("C", "c_graham", "accuracy mean", "0.887333"), ("C", "c_graham", "accuracy std", "0.012746"),
        ("C", "c_masked_flat", "accuracy mean", ""),
    ],
    columns=["study", "run", "metric", "value"],
)  # fmt: skip


def seeded(values: dict[str, list[float]], first: int = 0) -> dict[str, pd.Series]:
    return {run: pd.Series(of, index=range(first, first + len(of))) for run, of in values.items()}


def lines_of(values: dict[str, dict[str, pd.Series]], second: str, test: str) -> pd.Series:
    lines = significance.corrected(significance.seeds(values, NUMBERS, 0.95))
    (line,) = (one for _, one in lines[(lines["second"] == second) & (lines["test"] == test)].iterrows())
    return line


def test_seeds_by_hand():
    """Differences .02, .04, .06: t = .04/(.02/√3) = 2√3; with two degrees of freedom p = 1 − t/√(t² + 2)."""
    values = {"accuracy": seeded({"c_base": [0.80, 0.82, 0.84], "c_graham": [0.82, 0.86, 0.90]})}
    line, t = lines_of(values, "c_graham", STUDENT), 2 * np.sqrt(3)
    assert (line["first"], line["n"], line["difference"]) == ("c_base", 3, pytest.approx(0.04))
    assert line["p"] == line["p_holm"] == pytest.approx(1 - t / np.sqrt(t**2 + 2))
    assert line["high"] - line["difference"] == pytest.approx(4.302653 * 0.02 / np.sqrt(3))
    assert lines_of(values, "c_graham", WILCOXON)["p"] == pytest.approx(2 / 8)  # all of one sign


def test_ties_are_ties():
    """Five differences of the same 1/150, up to the last bits: signed ranks are equal, so p counts signs alone."""
    base = np.array([130, 127, 131, 128, 126]) / 150
    values = {"accuracy": seeded({"c_base": list(base), "c_graham": list(base + 1 / 150)})}
    assert lines_of(values, "c_graham", WILCOXON)["p"] == pytest.approx(2 / 2**5)
    assert lines_of(values, "c_graham", STUDENT)["p"] == 0
    same = {"accuracy": seeded({"c_base": list(base), "c_graham": list(base)})}
    assert lines_of(same, "c_graham", WILCOXON)["p"] == lines_of(same, "c_graham", STUDENT)["p"] == 1


def test_pairs_of_seeds_and_too_few():
    base = seeded({"c_base": [0.1, 0.2, 0.3, 0.4]})
    three = {"accuracy": base | seeded({"c_graham": [0.5, 0.6, 0.6, 0.9]}, first=1)}  # seeds 1, 2, 3 are in both
    assert lines_of(three, "c_graham", STUDENT)["n"] == 3
    two = {"accuracy": base | seeded({"c_graham": [0.5, 0.6, 0.6, 0.9]}, first=2)}
    for test in (STUDENT, WILCOXON):
        line = lines_of(two, "c_graham", test)
        assert (line["n"], line["note"]) == (2, "too few seeds") and np.isnan([line["p"], line["p_holm"]]).all()
        line = lines_of(two, "c_shades", test)
        assert line["note"] == "not run" and np.isnan([line["difference"], line["p"], line["p_holm"]]).all()


def test_a_baseline_that_was_not_run_has_a_stand_in():
    values = seeded({"c_base": [0.80, 0.82, 0.84], "c_resnet_arl": [0.82, 0.86, 0.90], "c_b0_arl": [0.7, 0.8, 0.9]})
    line = lines_of({"accuracy": values}, "c_resnet_arl", STUDENT)
    assert (line["first"], line["n"], line["difference"]) == ("c_base", 3, pytest.approx(0.04))
    assert lines_of({"accuracy": values}, "c_b0_arl", STUDENT)["note"] == "not run"  # no ResNet stands in for b0
    own = values | seeded({"c_resnet_base": [0.9, 0.9, 0.9]})
    assert lines_of({"accuracy": own}, "c_resnet_arl", STUDENT)["first"] == "c_resnet_base"


def test_every_experiment_has_its_baseline():
    lines = significance.corrected(significance.seeds({"accuracy": {}, "auroc": {}}, NUMBERS, 0.95))
    lines = lines[lines["test"] == STUDENT]
    assert len(lines) == 2 * 9 and set(lines["note"]) == {"not run"}
    assert set(lines["first"]) == {"c_plain", "c_base", "c_resnet_base", "c_b0"}


def test_published_difference_by_hand():
    """Welch's t and degrees of freedom from the printed means and deviations of ten runs each."""
    line = lines_of({"accuracy": {}}, "c_graham", WELCH)
    a, b = 0.012746**2 / 10, 0.00663**2 / 10
    t, freedom = 0.013333 / np.sqrt(a + b), (a + b) ** 2 / (a**2 / 9 + b**2 / 9)
    assert line["difference"] == pytest.approx(0.013333) and line["n"] == 10
    assert line["p"] == pytest.approx(2 * stats.t.sf(t, freedom))
